import secrets
from collections.abc import AsyncIterator, Callable

import pytest

from mitosis.artifacts.s3 import S3Settings, S3Store
from mitosis.testing.servers import S3Server


@pytest.fixture
def changed_settings(s3_server: S3Server) -> Callable[..., S3Settings]:
    """Settings of the real server, with some of them changed."""
    keys = s3_server.keys

    def settings(**changed: str) -> S3Settings:
        values = {
            "url": s3_server.url,
            "access_key": keys.access_key,
            "secret_key": keys.secret_key,
        } | changed
        return S3Settings(**values, retries=0)  # type: ignore[arg-type]

    return settings


@pytest.fixture
async def store(changed_settings: Callable[..., S3Settings]) -> AsyncIterator[S3Store]:
    store = S3Store(changed_settings())
    await store.check()
    yield store
    await store.close()


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(6)}"
