"""The coordinator must not serve where strangers may do more than log in."""

import time

import pytest

from mitosis.errors import Misconfigured, StoreUnavailable, Unavailable
from mitosis.nats.connection import Connection
from mitosis.services.auth import service
from mitosis.services.auth.key_files import load_keys
from mitosis.services.auth.probe import refuse_open_server
from mitosis.services.auth.service import Authentication
from tests.integration.nats.conftest import (
    SERVICE,
    SYSTEM,
    MemoryAccounts,
    error_of,
    kill,
    write_pair,
)


async def test_an_open_server_is_refused_with_what_a_stranger_could_do(open_server):
    error = await error_of(lambda: refuse_open_server(open_server))
    assert isinstance(error, Misconfigured)
    assert "'mito.events.>'" in error.message
    assert "$JS.API.INFO" in error.message
    assert "mito nats-config" in error.message


async def test_a_server_with_the_callout_is_accepted_with_and_without_responder(
    platform, own_server
):
    assert await refuse_open_server(platform.url) is True
    assert await refuse_open_server(own_server.url) is False


async def test_authentication_does_not_start_on_an_open_server(open_server, keys):
    error = await error_of(lambda: _start(open_server, keys))
    assert isinstance(error, Misconfigured)


async def test_authentication_does_not_start_on_a_server_that_asks_somebody_else(
    tmp_path, keys, own_server
):
    folder = tmp_path / "other"
    folder.mkdir()
    foreign = load_keys(*write_pair(folder))
    error = await error_of(lambda: _start(own_server.url, foreign))
    assert isinstance(error, Misconfigured)
    assert "issuer" in error.message


async def test_authentication_that_may_decide_nothing_just_now_does_not_blame_the_server(
    own_server, keys
):
    """In doubt whether it leads, a coordinator answers nobody: it took that for a wrong server."""
    error = await error_of(lambda: _start(own_server.url, keys, is_sure=lambda: False))
    assert isinstance(error, Unavailable)


async def test_authentication_asks_a_server_once_more_that_has_let_nobody_in(
    own_server, keys, monkeypatch
):
    """A server that stands still for a moment lets nobody in, either."""
    answers = [False, True]

    async def lets_in(*_: object, **__: object) -> bool:
        return answers.pop(0)

    monkeypatch.setattr(service, "refuse_open_server", lets_in)
    await _start(own_server.url, keys)
    assert not answers


async def _start(url: str, keys, is_sure=lambda: True) -> None:
    async with (
        await Connection.open([url], SERVICE, name="coordinator") as service,
        await Connection.open([url], SYSTEM, name="system") as system,
    ):
        authentication = Authentication(
            MemoryAccounts(),
            keys,
            service,
            system,
            server=url,
            term=lambda: 1,
            session_seconds=60,
            clock=time.time,
            on_worker_gone=lambda _: None,
            is_sure=is_sure,
        )
        await authentication.start()
        await authentication.stop()


@pytest.mark.parametrize("probe", [True, False])
async def test_a_server_that_is_down_is_named_with_its_address(own_server, probe):
    await kill(own_server)
    if probe:
        error = await error_of(lambda: refuse_open_server(own_server.url))
        assert isinstance(error, Unavailable)
    else:
        error = await error_of(lambda: Connection.open([own_server.url], SERVICE, name="x"))
        assert isinstance(error, StoreUnavailable)
        assert "start it, or correct nats_url" in error.message
    assert own_server.url in error.message
