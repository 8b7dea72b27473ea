"""Unpacking what was downloaded, from a real HTTP server in this process."""

import asyncio
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mitosis.artifacts.transfer import Transfers
from mitosis.client.downloads import Downloaded
from mitosis.client.extraction import download_and_extract, target_folder
from mitosis.contract.queries import AttachmentLink
from mitosis.errors import CorruptData, InvalidInput, MitosisError, TooLarge
from mitosis.testing.waiting import eventually


class Store(http.server.ThreadingHTTPServer):
    """Serves one archive, and counts how often it was fetched."""

    archive = b""
    fetched = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        self.server.fetched += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.archive)))
        self.end_headers()
        self.wfile.write(self.server.archive)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def archive(*members: tuple[str, bytes | str]) -> bytes:
    """Files with their content (bytes), and links with their target (text)."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            if isinstance(content, str):
                header.type, header.linkname = tarfile.SYMTYPE, content
                tar.addfile(header)
            else:
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return made.getvalue()


GOOD = archive(("result/a", b"1"), ("result/deep/b", b"22"), ("result/link", "a"))


async def extract(store: Store, folder: Path, max_bytes: int = 1 << 20) -> Downloaded:
    async def find() -> AttachmentLink:
        size, digest = len(store.archive), hashlib.sha256(store.archive).hexdigest()
        url = f"http://127.0.0.1:{store.server_port}/"
        return AttachmentLink("g", "k", size, digest, url)

    return await download_and_extract(
        Transfers(tries=1), find, target_folder(folder), "result", max_bytes=max_bytes
    )


async def test_an_archive_is_unpacked_and_nothing_else_is_left(
    store: Store, tmp_path: Path
) -> None:
    store.archive = GOOD
    done = await extract(store, tmp_path / "new")
    assert done.path == str(tmp_path / "new")
    assert done.extracted is not None
    assert (done.extracted.members, done.extracted.size_bytes) == (3, 3)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["result"]
    assert (tmp_path / "new/result/deep/b").read_bytes() == b"22"
    assert (tmp_path / "new/result/link").readlink() == Path("a")


@pytest.mark.parametrize(
    ("content", "error", "why"),
    [
        (archive(("result/a", b"1"), ("../owned", b"1")), CorruptData, "leads out"),
        (archive(("result/a", b"1"), ("/tmp/owned", b"1")), CorruptData, "leads out"),
        (archive(("result/a", bytes(1 << 20)), ("result/b", b"1")), TooLarge, "limited to 1.0 MB"),
        (archive(("result/a", b"1"), ("result/a", b"2")), InvalidInput, "File exists"),
        (archive(("result/a", b"1"), ("result/a/b", b"2")), InvalidInput, "cannot unpack"),
        (archive(("result/" + "n" * 300, b"1")), CorruptData, "a name of more than 255 bytes"),
        (GOOD[:-20], CorruptData, "damaged"),
        (gzip.compress(b"no tar" * 200), CorruptData, "no gzip tar"),
        (b"", CorruptData, "no gzip tar"),
    ],
)
async def test_what_cannot_be_unpacked_leaves_nothing(
    store: Store, tmp_path: Path, content: bytes, error: type[MitosisError], why: str
) -> None:
    store.archive = content
    with pytest.raises(error, match=why):
        await extract(store, tmp_path / "out", max_bytes=1 << 20)
    assert list((tmp_path / "out").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


async def test_what_exists_is_not_touched_and_nothing_is_fetched_for_nothing(
    store: Store, tmp_path: Path
) -> None:
    store.archive = GOOD
    (tmp_path / "result").mkdir()
    with pytest.raises(InvalidInput, match="exists already: move it away"):
        await extract(store, tmp_path)
    assert list((tmp_path / "result").iterdir()) == []
    assert store.fetched == 0
    store.archive = archive(("other/a", b"1"), ("other2", b"1"))
    (tmp_path / "result").rmdir()
    (tmp_path / "other2").symlink_to("/nowhere")
    with pytest.raises(InvalidInput, match="other2 exists already"):
        await extract(store, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other2"]


async def test_an_interrupted_unpacking_leaves_nothing(store: Store, tmp_path: Path) -> None:
    store.archive = archive(*((f"result/{number}", b"") for number in range(20_000)))
    running = asyncio.create_task(extract(store, tmp_path / "out"))
    await eventually(lambda: list(tmp_path.glob("out/.mito-extract-*/content/result/0")))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert list((tmp_path / "out").iterdir()) == []


def test_a_target_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="file: it is no folder"):
        target_folder(tmp_path / "file")
    with pytest.raises(InvalidInput, match="No such file or directory"):
        target_folder(tmp_path / "a" / "b")
