"""A place that was granted is good for one object: nobody replaces later what was stored there."""

import asyncio
import hashlib
import http.client
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
import urllib3

from mitosis.artifacts.s3 import S3Settings, S3Store
from mitosis.artifacts.transfer import Transfers
from mitosis.testing.servers import S3Server

SENDER = Transfers(tries=3, first_delay_seconds=0.01)
CONTENT = bytes(range(256)) * 20_000  # more than what sockets hold
ONLY_NEW = {"If-None-Match": "*"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


class Lossy(BaseHTTPRequestHandler):
    """A way to the real store on which the first answer to a PUT is lost."""

    store: ClassVar[str] = ""
    statuses: ClassVar[list[int]] = []

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        connection = http.client.HTTPConnection(self.store)
        connection.request("PUT", self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.statuses.append(answer.status)
        if len(self.statuses) == 1:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def lossy(s3_server: S3Server) -> Iterator[str]:
    Lossy.store, Lossy.statuses[:] = urlsplit(s3_server.url).netloc, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Lossy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
async def lossy_store(
    changed_settings: Callable[..., S3Settings], lossy: str
) -> AsyncIterator[S3Store]:
    store = S3Store(changed_settings(public_url=lossy))
    await store.check()
    yield store
    await store.close()


async def test_what_was_uploaded_cannot_be_replaced_by_its_url(
    store: S3Store, source: Path, prefix: str
) -> None:
    bucket, name = store.attachments, f"{prefix}/u"
    url = bucket.presign_put(name, len(CONTENT))
    await asyncio.to_thread(SENDER.upload, url, source)
    for headers, status in ((ONLY_NEW, 412), ({}, 403), ({"If-None-Match": '"other"'}, 403)):
        other = await asyncio.to_thread(
            urllib3.request, "PUT", url, body=CONTENT[::-1], headers=headers, retries=False
        )
        assert other.status == status
    held = await asyncio.to_thread(urllib3.request, "GET", bucket.presign_get(name))
    assert held.data == CONTENT


async def test_an_upload_whose_answer_was_lost_succeeds_when_it_is_repeated(
    lossy_store: S3Store, source: Path, prefix: str
) -> None:
    bucket, name = lossy_store.attachments, f"{prefix}/u"
    sent: list[int] = []
    url = bucket.presign_put(name, len(CONTENT))
    digest = await asyncio.to_thread(SENDER.upload, url, source, progress=sent.append)
    assert Lossy.statuses == [200, 412]
    assert digest.hexdigest() == hashlib.sha256(CONTENT).hexdigest()
    assert sum(sent) == len(CONTENT)
    assert await bucket.size_of(name) == len(CONTENT)
