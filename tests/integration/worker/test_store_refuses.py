"""A store that does not take everything: a reason on the task, and the others are stored."""

import http.client
import http.server
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mitosis.artifacts.s3 import S3Settings, S3Store
from mitosis.contract.work import (
    CancelAttempt,
    Reports,
    UploadGranted,
    UploadWanted,
    Verdicts,
)
from mitosis.domain.task import ArtifactKind, EndCause
from mitosis.errors import ObjectsUnavailable
from mitosis.nats.rpc import Caller
from mitosis.testing.servers import S3Server
from mitosis.testing.waiting import eventually

from .conftest import Coordinator, Working, coordinating

LIMIT_BYTES = 1_000_000
_REFUSAL = b"<?xml version='1.0'?><Error><Code>EntityTooLarge</Code></Error>"


class SmallStore(http.server.ThreadingHTTPServer):
    """In front of an S3 store; refuses objects above its limit, and may not answer at all."""

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(behind).netloc
        self.refused: list[int] = []
        self.silent = threading.Event()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: SmallStore
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        size = int(self.headers["Content-Length"])
        if self.server.silent.is_set():
            self.server.ended.wait(60)
            self.close_connection = True
            return
        body = self.rfile.read(size)
        if size > LIMIT_BYTES:
            self.server.refused.append(size)
            self._answer(400, _REFUSAL)
            return
        far = http.client.HTTPConnection(self.server.behind, timeout=30)
        far.request("PUT", self.path, body, dict(self.headers))
        response = far.getresponse()
        self._answer(response.status, response.read())
        far.close()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def small_store(s3_server: S3Server) -> Iterator[SmallStore]:
    with SmallStore(s3_server.url) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


@pytest.fixture
async def bench(
    nats_url: str, s3_server: S3Server, small_store: SmallStore, tmp_path: Path
) -> AsyncIterator[tuple[Any, Callable[..., Working]]]:
    """A coordinator whose URLs lead to the small store, and what makes the worker."""
    keys = s3_server.keys
    real = S3Store(S3Settings(s3_server.url, keys.access_key, keys.secret_key))
    await real.check()
    urls = S3Store(S3Settings(small_store.url, keys.access_key, keys.secret_key))
    made: list[Working] = []
    async with coordinating(nats_url, urls) as coordinator:

        def work(**settings: Any) -> Working:
            made.append(Working(coordinator, tmp_path / "work", **settings))
            return made[-1]

        yield coordinator, work
        for one in made:
            await one.leave(force=True)
    await real.close()
    await urls.close()


SCRIPT = "head -c 2M /dev/urandom > $MITO_RESULT_DIR/large; echo log > $MITO_EXEC_DIR/small"


@pytest.mark.parity("R-13")
async def test_an_output_that_the_store_finds_too_large_is_named_with_its_size_and_others_come(
    bench: tuple[Any, Callable[..., Working]], small_store: SmallStore, tmp_path: Path
) -> None:
    coordinator, work = bench
    await work().ready()
    told = await coordinator.over(coordinator.assign("sh", "-c", SCRIPT))
    assert told.committed
    assert [artifact.kind for artifact in told.artifacts] == [ArtifactKind.EXEC_LOG]
    (warning,) = told.warnings
    assert warning.startswith("result: 2.1 MB were not stored: ")
    assert "(400 EntityTooLarge)" in warning
    assert told.unstored == warning, "the task must not succeed without its result"
    assert len(small_store.refused) == 1, "it is not sent again for nothing"
    assert list((tmp_path / "work" / "outbox").iterdir()) == []


@pytest.mark.parity("D-050")
async def test_the_time_for_outputs_is_a_setting_and_what_is_late_is_named(
    bench: tuple[Any, Callable[..., Working]], small_store: SmallStore
) -> None:
    coordinator, work = bench
    small_store.silent.set()
    await work(upload_timeout=timedelta(seconds=1)).ready()
    try:
        told = await coordinator.over(coordinator.assign("sh", "-c", SCRIPT))
    finally:
        small_store.silent.clear()
        small_store.ended.set()
    assert told.committed
    assert told.artifacts == []
    assert told.warnings == ["outputs: not all could be stored within 1 s"]
    assert told.unstored == told.warnings[0]


@pytest.mark.parity("D-050")
@pytest.mark.parametrize("missing", ["place", "verdict"])
async def test_the_time_for_outputs_also_ends_while_the_coordinator_says_that_the_store_is_away(
    storing_coordinator: Coordinator, storing_work: Callable[..., Working], missing: str
) -> None:
    """As it says of outputs in parts, and when the store is gone once the bytes are there."""
    coordinator = storing_coordinator
    grants, judges = coordinator.upload, coordinator.report

    def upload(caller: Caller, body: UploadWanted) -> UploadGranted:
        if missing == "place":
            raise ObjectsUnavailable("the S3 store does not answer")
        return grants(caller, body)

    def report(caller: Caller, body: Reports) -> Verdicts:
        if any(one.artifacts for one in body.reports):
            raise ObjectsUnavailable("the S3 store does not answer")
        return judges(caller, body)

    await coordinator.go_away()
    coordinator.upload, coordinator.report = upload, report  # type: ignore[method-assign]
    await coordinator.serve()
    await storing_work(upload_timeout=timedelta(seconds=1)).ready()
    told = await coordinator.over(coordinator.assign("sh", "-c", "echo log > $MITO_EXEC_DIR/small"))
    assert (told.committed, told.artifacts) == (True, [])
    assert told.warnings == ["outputs: not all could be stored within 1 s"]
    assert told.unstored == told.warnings[0]


@pytest.mark.parity("D-050")
async def test_outputs_that_are_not_packed_in_time_are_named_and_cost_the_task_no_new_run(
    bench: tuple[Any, Callable[..., Working]],
) -> None:
    """A timeout is an error of the system for Python, as a full disk is."""
    coordinator, work = bench
    await work(upload_timeout=timedelta(milliseconds=50)).ready()
    script = "head -c 150M /dev/urandom > $MITO_RESULT_DIR/x"
    told = await coordinator.over(coordinator.assign("sh", "-c", script))
    assert told.fault == ""
    assert told.committed
    assert told.warnings == ["outputs: not all could be stored within 0.05 s"]


async def test_a_cancel_ends_an_upload_that_does_not_come_to_its_end(
    bench: tuple[Any, Callable[..., Working]], small_store: SmallStore, tmp_path: Path
) -> None:
    coordinator, work = bench
    small_store.silent.set()
    await work().ready()
    task = coordinator.assign("sh", "-c", SCRIPT)
    try:
        await eventually(lambda: any(told.exit for told in coordinator.of(task)))
        await eventually(lambda: list((tmp_path / "work" / "outbox").iterdir()))
        coordinator.order(CancelAttempt(task, 1))
        told = await coordinator.over(task)
    finally:
        small_store.silent.clear()
        small_store.ended.set()
    assert (told.exit.cause, told.exit.number) == (EndCause.OWN, 0)
    assert (told.committed, told.cut_short, told.artifacts) == (True, True, [])
    assert told.warnings == ["outputs: not all are stored: the task was cancelled meanwhile"]
    assert list((tmp_path / "work" / "outbox").iterdir()) == []
    # The slot is free again.
    assert (await coordinator.over(coordinator.assign("true"))).exit.number == 0
