"""Downloads from a real HTTP server in this process."""

import asyncio
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mitosis.artifacts.transfer import Transfers
from mitosis.client.downloads import Downloaded, download, target_path
from mitosis.contract.queries import AttachmentLink
from mitosis.errors import CorruptData, InvalidInput, ObjectsUnavailable

CONTENT = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/missing":
            self.send_error(404)
            return
        if path == "/cut-once" and not self.headers["Range"]:
            self.server.ranges.append(None)  # type: ignore[attr-defined]
            path = "/cut"
        elif path == "/cut-once":
            wanted = self.headers["Range"]
            self.server.ranges.append(wanted)  # type: ignore[attr-defined]
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Length", str(len(CONTENT) - first))
            self.end_headers()
            self.wfile.write(CONTENT[first:])
            return
        if path == "/expired":
            self.send_response(403)
            self.end_headers()
            self.wfile.write(b"<Error><Code>AccessDenied</Code></Error>")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if path == "/cut" else CONTENT)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True, params=[0, 1 << 30], ids=["aside", "in-place"])
def checksum(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the checksum of each file by a thread of its own, and in place."""
    monkeypatch.setattr("mitosis.artifacts.pieces.ASIDE_BYTES", request.param)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ranges = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def fetch(url: str, target: Path, sha256: str = SHA256) -> Downloaded:
    async def find() -> AttachmentLink:
        return AttachmentLink("lab", "file", len(CONTENT), sha256, url)

    return await download(Transfers(tries=2, first_delay_seconds=0.01), find, target)


async def test_a_file_arrives_whole_and_alone(store: str, tmp_path: Path) -> None:
    target = tmp_path / "result.tar.gz"
    target.write_text("old")
    await fetch(f"{store}/file?X-Amz-Signature=1", target)
    assert target.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("path", "sha256", "error"),
    [
        ("missing", SHA256, ObjectsUnavailable),
        ("expired", SHA256, ObjectsUnavailable),
        ("cut", SHA256, ObjectsUnavailable),
        ("file", "0" * 64, CorruptData),
    ],
)
async def test_a_failed_download_leaves_what_was_there(
    store: str, tmp_path: Path, path: str, sha256: str, error: type[Exception]
) -> None:
    target = tmp_path / "result.tar.gz"
    target.write_text("old")
    with pytest.raises(error):
        await fetch(f"{store}/{path}", target, sha256)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


async def test_a_broken_download_goes_on_where_it_stopped(store: str, tmp_path: Path) -> None:
    done = await fetch(f"{store}/cut-once", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert done == Downloaded(len(CONTENT), SHA256, str(tmp_path / "x"))


async def test_a_store_that_is_away_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ObjectsUnavailable, match=r"no answer from the S3 store at 127\.0\.0\.1:1 "):
        await fetch("http://127.0.0.1:1/file?secret=1", tmp_path / "x")


async def test_errors_never_show_the_signed_part_of_the_url(store: str, tmp_path: Path) -> None:
    with pytest.raises(ObjectsUnavailable) as caught:
        await fetch(f"{store}/expired?X-Amz-Signature=s3cr3t", tmp_path / "x")
    assert "403 AccessDenied" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


async def test_a_target_that_cannot_be_written_is_named(store: str) -> None:
    with pytest.raises(InvalidInput, match="/proc/x cannot be written"):
        await fetch(f"{store}/file", Path("/proc/x"))


async def test_an_abandoned_download_leaves_nothing(store: str, tmp_path: Path) -> None:
    task = asyncio.create_task(fetch(f"{store}/file", tmp_path / "x"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.get_running_loop().shutdown_default_executor()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_a_folder_gets_the_usual_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert target_path(tmp_path, "std-log.tar.gz") == tmp_path / "std-log.tar.gz"
    assert target_path(tmp_path / "mine.tgz", "result.tar.gz") == tmp_path / "mine.tgz"
    monkeypatch.chdir(tmp_path)
    assert target_path(None, "result.tar.gz") == Path("result.tar.gz")
    with pytest.raises(InvalidInput, match="/dev/null is no file"):
        target_path(Path("/dev/null"), "x")
    with pytest.raises(InvalidInput, match="there is no folder"):
        target_path(tmp_path / "none" / "x", "result.tar.gz")
