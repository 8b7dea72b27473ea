import asyncio
import hashlib
import os
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import urllib3

from mitosis.artifacts.copies import put
from mitosis.artifacts.names import artifact_object
from mitosis.artifacts.pieces import TransferStopped
from mitosis.artifacts.s3 import S3Settings, S3Store
from mitosis.artifacts.sweeper import MARGIN, sweep
from mitosis.artifacts.transfer import Transfers
from mitosis.bootstrap import objects_of
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.domain.task import ArtifactKind
from mitosis.errors import CorruptData, Misconfigured, NotAllowed, NotFound, ObjectsUnavailable

Changed = Callable[..., S3Settings]


@pytest.fixture
def transfers() -> Transfers:
    return Transfers(tries=3, first_delay_seconds=0.01)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(300_000))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_check_makes_the_buckets_and_may_be_repeated(
    changed_settings: Changed, prefix: str
) -> None:
    changed = {"artifacts_bucket": f"{prefix}-a", "attachments_bucket": f"{prefix}-b"}
    for _ in range(2):
        store = S3Store(changed_settings(**changed))
        await store.check()
        assert await store.artifacts.size_of("nothing") is None
        await store.close()


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"access_key": "nobody"}, "s3_access_key"), ({"secret_key": "wrong"}, "s3_secret_key")],
)
async def test_a_wrong_key_is_a_setting_to_correct(
    changed_settings: Changed, changed: dict[str, str], named: str
) -> None:
    store = S3Store(changed_settings(**changed))
    with pytest.raises(Misconfigured, match=named) as caught:
        await store.check()
    await store.close()
    assert "wrong" not in caught.value.message


async def test_a_store_that_is_away_is_unavailable(
    changed_settings: Changed, unused_tcp_port: int
) -> None:
    store = S3Store(changed_settings(url=f"http://127.0.0.1:{unused_tcp_port}"))
    with pytest.raises(ObjectsUnavailable, match="s3_url"):
        await store.check()
    await store.close()


async def test_an_upload_and_a_download_by_url(
    store: S3Store, transfers: Transfers, source: Path, tmp_path: Path, prefix: str
) -> None:
    name = artifact_object(prefix, 1, "u", ArtifactKind.RESULT)
    sent: list[int] = []
    bucket = store.artifacts
    assert await bucket.size_of(name) is None
    await asyncio.to_thread(
        transfers.upload, bucket.presign_put(name), source, progress=sent.append
    )
    assert sum(sent) == 300_000
    assert await bucket.size_of(name) == 300_000
    target = tmp_path / "got"
    target.write_text("older")
    url = bucket.presign_get(name, "result.tar.gz")
    await asyncio.to_thread(
        transfers.download, url, target, sha256=digest(source), size_bytes=300_000
    )
    assert target.read_bytes() == source.read_bytes()
    headers = (await asyncio.to_thread(urllib3.request, "GET", url)).headers
    assert headers["content-disposition"] == 'attachment; filename="result.tar.gz"'


async def test_an_empty_file_travels_too(
    store: S3Store, transfers: Transfers, tmp_path: Path, prefix: str
) -> None:
    (tmp_path / "empty").touch()
    url = store.attachments.presign_put(f"{prefix}/u")
    await asyncio.to_thread(transfers.upload, url, tmp_path / "empty")
    assert await store.attachments.size_of(f"{prefix}/u") == 0


async def test_wrong_bytes_are_found_and_not_kept(
    store: S3Store, transfers: Transfers, source: Path, tmp_path: Path, prefix: str
) -> None:
    name = f"{prefix}/u"
    await asyncio.to_thread(transfers.upload, store.attachments.presign_put(name), source)
    url = store.attachments.presign_get(name)
    target = tmp_path / "got"
    target.write_text("older")
    for sha256, size in (("0" * 64, 300_000), (digest(source), 299_999), (digest(source), 300_001)):
        with pytest.raises(CorruptData, match="not those that were stored"):
            await asyncio.to_thread(transfers.download, url, target, sha256=sha256, size_bytes=size)
    assert target.read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["got", "source"]


async def test_an_expired_url_and_one_for_another_object_are_refused_with_advice(
    store: S3Store, transfers: Transfers, source: Path, prefix: str
) -> None:
    good = store.artifacts.presign_put(f"{prefix}/u", valid_seconds=1)
    other = good.replace(f"{prefix}/u?", f"{prefix}/v?")
    with pytest.raises(NotAllowed, match="expired"):
        await asyncio.to_thread(transfers.upload, other, source)
    signed = datetime.strptime(good.split("X-Amz-Date=")[1][:16] + "+0000", "%Y%m%dT%H%M%SZ%z")
    # Signed times are whole seconds of the wall clock: the wait is for that clock to pass.
    await asyncio.sleep((signed + timedelta(seconds=2) - datetime.now(UTC)).total_seconds())
    with pytest.raises(NotAllowed, match="s3_public_url") as caught:
        await asyncio.to_thread(transfers.upload, good, source)
    assert "Signature" not in caught.value.message
    assert await store.artifacts.size_of(f"{prefix}/u") is None
    assert await store.artifacts.size_of(f"{prefix}/v") is None


async def test_an_object_that_is_gone_is_not_found(
    store: S3Store, transfers: Transfers, tmp_path: Path, prefix: str
) -> None:
    url = store.artifacts.presign_get(f"{prefix}/u")
    with pytest.raises(NotFound):
        await asyncio.to_thread(
            transfers.download, url, tmp_path / "x", sha256="0" * 64, size_bytes=1
        )


async def test_deleting_twice_is_no_error(
    store: S3Store, transfers: Transfers, source: Path, prefix: str
) -> None:
    name = f"{prefix}/u"
    await asyncio.to_thread(transfers.upload, store.artifacts.presign_put(name), source)
    for _ in range(2):
        await store.artifacts.delete([name])
        assert await store.artifacts.size_of(name) is None


async def test_listing_and_sweeping_remove_what_nothing_names(
    store: S3Store, transfers: Transfers, tmp_path: Path, prefix: str
) -> None:
    (tmp_path / "small").write_bytes(b"12345")
    names = [f"{prefix}/{attempt}/u/result.tar.gz" for attempt in range(1, 5)]
    for name in names:
        url = store.artifacts.presign_put(name)
        await asyncio.to_thread(transfers.upload, url, tmp_path / "small")
    listed = await store.artifacts.list_prefix(f"{prefix}/")
    assert [(item.name, item.size_bytes) for item in listed] == [(name, 5) for name in names]
    after = await store.artifacts.list_prefix(f"{prefix}/", start_after=names[1])
    assert [item.name for item in after] == names[2:]
    life = timedelta(hours=1)
    everything_else = {item.name for item in await store.artifacts.list_prefix()} - set(names)

    async def kept(_: Sequence[str]) -> set[str]:
        return everything_else | set(names[:2])

    async def swept_at(now: datetime) -> int:
        return await sweep(store.artifacts, kept, lambda: now, life)

    assert await swept_at(datetime.now(UTC)) == 0
    assert await swept_at(datetime.now(UTC) + life + MARGIN + timedelta(seconds=5)) == 2
    assert [item.name for item in await store.artifacts.list_prefix(f"{prefix}/")] == names[:2]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_seventy_mebibytes_stream_through_flat_memory(
    store: S3Store, transfers: Transfers, tmp_path: Path, prefix: str
) -> None:
    size = 70 << 20
    big = tmp_path / "big"
    block = os.urandom(1 << 20)
    with big.open("wb") as out:
        for number in range(70):
            out.write(bytes([number]) + block[1:])
    with big.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    seen: list[int] = []
    before = resident_bytes()

    def watch(_: int) -> None:
        seen.append(resident_bytes())

    name = f"{prefix}/u"
    put = store.artifacts.presign_put(name)
    await asyncio.to_thread(transfers.upload, put, big, progress=watch)
    assert await store.artifacts.size_of(name) == size
    get = store.artifacts.presign_get(name)
    await asyncio.to_thread(
        transfers.download, get, tmp_path / "back", sha256=sha256, size_bytes=size, progress=watch
    )
    assert len(seen) > 200
    assert max(seen) - before < 12 << 20
    await store.artifacts.delete([name])


async def test_a_stopped_upload_leaves_no_object(
    store: S3Store, transfers: Transfers, tmp_path: Path, prefix: str
) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(8 << 20))
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    url = store.artifacts.presign_put(f"{prefix}/u")
    with pytest.raises(TransferStopped):
        await asyncio.to_thread(transfers.upload, url, big, stop=stop)
    assert await store.artifacts.size_of(f"{prefix}/u") is None


class Broken(BaseHTTPRequestHandler):
    """Follows a script of faults, then takes everything. It stands for a bad network only."""

    faults: ClassVar[list[str]] = []
    bodies: ClassVar[list[bytes]] = []

    def do_PUT(self) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "reset":
            self.connection.close()
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert not [name for name in self.headers if name.lower().startswith("x-amz-meta")]
        if not fault:
            self.bodies.append(body)
        self.send_response(int(fault or 200))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"01234" if self.faults and self.faults.pop(0) else b"0123456789")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # resets are the point


@pytest.fixture
def broken() -> Iterator[str]:
    Broken.faults.clear()
    Broken.bodies.clear()
    socketserver.TCPServer.allow_reuse_address = True
    with Server(("127.0.0.1", 0), Broken) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/object?secret=1"
        server.shutdown()
        thread.join()


def test_an_upload_begins_again_after_a_fault_with_the_whole_body(
    broken: str, transfers: Transfers, source: Path
) -> None:
    Broken.faults[:] = ["503", "reset"]
    transfers.upload(broken, source)
    assert Broken.bodies == [source.read_bytes()]


async def test_who_copies_objects_outlasts_the_failures_of_a_store_that_has_just_started(
    broken: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An embedded one has been seen to answer with 500 for some seconds, and a backup ended."""
    monkeypatch.setattr(urllib3.Retry, "sleep", lambda *_: None)
    config = CoordinatorConfig(
        s3_url=broken.rpartition("/object")[0], s3_access_key="key", s3_secret_key="secret-key"
    )
    hasty, patient = objects_of(config), objects_of(config, patient=True)
    try:
        Broken.faults[:] = ["500"] * 3
        with pytest.raises(ObjectsUnavailable):
            await put(hasty.artifacts, "object", source)
        Broken.faults[:] = ["500"] * 6
        await put(patient.artifacts, "object", source)
        assert len(Broken.bodies) == 1
    finally:
        await hasty.close()
        await patient.close()


def test_tries_are_bounded_and_the_error_does_not_show_the_url(
    broken: str, transfers: Transfers, source: Path
) -> None:
    Broken.faults[:] = ["503", "500", "503", "503"]
    with pytest.raises(ObjectsUnavailable, match="503") as caught:
        transfers.upload(broken, source)
    assert len(Broken.faults) == 1
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_refusal_that_cannot_change_is_not_repeated(
    broken: str, transfers: Transfers, source: Path
) -> None:
    Broken.faults[:] = ["400", "503"]
    with pytest.raises(ObjectsUnavailable, match="400"):
        transfers.upload(broken, source)
    assert Broken.faults == ["503"]


def test_a_download_that_is_cut_begins_again(
    broken: str, transfers: Transfers, tmp_path: Path
) -> None:
    Broken.faults[:] = ["cut"]
    sha256 = hashlib.sha256(b"0123456789").hexdigest()
    transfers.download(broken, tmp_path / "x", sha256=sha256, size_bytes=10)
    assert (tmp_path / "x").read_bytes() == b"0123456789"
