"""Every exception of the SDK and of its HTTP library is mapped."""

import inspect
from typing import Any

import minio.error
import pytest
import urllib3.exceptions
from urllib3 import HTTPResponse

from mitosis.artifacts.s3 import S3Settings, S3Store, mapped_errors
from mitosis.errors import Misconfigured, MitosisError, ObjectsUnavailable


def classes(module: Any, base: type[Exception]) -> list[type[Exception]]:
    found = [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, base)]
    assert len(found) > 3 or base is minio.error.MinioException
    return found


@pytest.mark.parametrize(
    "kind",
    [
        *classes(minio.error, minio.error.MinioException),
        *classes(urllib3.exceptions, urllib3.exceptions.HTTPError),
    ],
)
def test_no_exception_of_a_library_passes(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    if isinstance(error, minio.error.S3Error):
        error = s3_error("InternalError")
    elif isinstance(error, minio.error.ServerError):
        error = minio.error.ServerError("no", 503)
    elif isinstance(error, urllib3.exceptions.InvalidChunkLength):
        error.length, error.partial = b"x", 1  # type: ignore[assignment]
    elif isinstance(error, urllib3.exceptions.IncompleteRead):
        error = urllib3.exceptions.IncompleteRead(1, 2)
    with pytest.raises(ObjectsUnavailable), mapped_errors("http://s3"):
        raise error


def s3_error(code: str) -> minio.error.S3Error:
    return minio.error.S3Error(HTTPResponse(), code, "text", "/", "1", "2", "bucket", "name")


@pytest.mark.parametrize(
    ("code", "setting"),
    [
        ("InvalidAccessKeyId", "s3_access_key"),
        ("SignatureDoesNotMatch", "s3_secret_key"),
        ("AccessDenied", "s3_access_key"),
    ],
)
def test_a_refused_key_names_the_setting(code: str, setting: str) -> None:
    with pytest.raises(Misconfigured, match=setting), mapped_errors("http://s3"):
        raise s3_error(code)


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), mapped_errors("http://s3"):
        raise ZeroDivisionError


@pytest.mark.parametrize("url", ["", "127.0.0.1:9000", "ftp://x", "http://h/path", "http://u:p@h"])
def test_an_address_that_cannot_be_one_names_the_setting(url: str) -> None:
    with pytest.raises(MitosisError, match="s3_url"):
        S3Store(S3Settings(url, "a", "s"))


def test_settings_do_not_print_their_keys() -> None:
    assert "hidden" not in repr(S3Settings("http://s3", "hidden-a", "hidden-s"))


async def test_urls_are_signed_for_the_public_address_without_the_network() -> None:
    # Port 1 answers nobody: a look-up of the region would fail.
    store = S3Store(
        S3Settings("http://127.0.0.1:1", "a", "s", public_url="https://files.example:8443")
    )
    put = store.artifacts.presign_put("t/1/u/result.tar.gz")
    get = store.artifacts.presign_get("t/1/u/result.tar.gz", 'x".tar.gz')
    await store.close()
    assert put.startswith("https://files.example:8443/mitosis-artifacts/t/1/u/result.tar.gz?")
    assert "X-Amz-Expires=3600" in put
    assert "x.tar.gz" in get
