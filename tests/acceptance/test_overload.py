"""Ten times more submits than can be stored: turned away with a time to wait, or slowed down."""

import asyncio
import contextlib
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from mitosis import MitoClient
from mitosis.config.client import CreateUserArgs, GetWorkersArgs
from mitosis.contract import subjects
from mitosis.contract.commands import SubmitTask, Submitted
from mitosis.contract.wire import Request, encode
from mitosis.domain.platform import TermStarted
from mitosis.domain.task import Outcome, TaskSubmitted
from mitosis.domain.worker import WorkerLost
from mitosis.errors import Overloaded
from mitosis.nats.connection import Connection, Msg
from mitosis.nats.rpc import RETRY_AFTER_SECONDS
from mitosis.testing.waiting import eventually

from .conftest import Platform, in_shell
from .standby import stored_commits

FLOODERS = 3
IN_FLIGHT = 64
TICK_SECONDS = 0.01
SETTLE_SECONDS = 60.0
LEASE_SECONDS = 6
ALLOWED_MB, ALLOWED_MB_A_TASK = 48, 0.008  # a task that waits is kept in memory


class Answer(msgspec.Struct):
    """What of a reply is looked at."""

    result: Submitted | None = None
    error: dict[str, object] | None = None


_decode = msgspec.json.Decoder(Answer).decode


class Flooder:
    """A client that sends submits without waiting for the answers, by the SDK's own connection."""

    def __init__(self, connection: Connection, user: str) -> None:
        self._connection = connection
        self._subject = subjects.command(user, "task", "submit")
        body = encode(Request(SubmitTask(("true",), key="KEY-PLACE"), "ID-PLACE"))
        self._head, self._middle, self._tail = re.split(b"KEY-PLACE|ID-PLACE", body)
        self.sent = 0
        self.stored: set[str] = set()
        self.refused: Counter[str] = Counter()
        self.waits: set[float] = set()

    async def listen(self) -> None:
        """Count the answers."""
        await self._connection.subscribe(f"{self._connection.inbox}flood", self._hear)

    def send(self, count: int) -> None:
        """Send some submits of new tasks."""
        for _ in range(count):
            self.sent += 1
            mark = b"%d" % self.sent
            data = b"".join((self._head, mark, self._middle, mark, self._tail))
            self._connection.publish(self._subject, data, f"{self._connection.inbox}flood")

    @property
    def answered(self) -> int:
        """How many answers have come."""
        return len(self.stored) + self.refused.total()

    def _hear(self, message: Msg) -> None:
        answer = _decode(message.data)
        if answer.result is not None:
            self.stored.add(answer.result.task)
        else:
            assert answer.error is not None
            self.refused[str(answer.error["code"])] += 1
            details = answer.error["details"]
            assert isinstance(details, dict)
            self.waits.add(details.get("retry_after_seconds", 0.0))


async def sustainable(flooder: Flooder, seconds: float) -> float:
    """How many submits a second are stored while a fixed number is on its way."""
    began, before = time.monotonic(), flooder.answered
    flooder.send(IN_FLIGHT)
    while time.monotonic() - began < seconds:
        await asyncio.sleep(0)
        flooder.send(IN_FLIGHT - (flooder.sent - flooder.answered))
    return (flooder.answered - before) / (time.monotonic() - began)


async def flood(flooders: list[Flooder], rate: float, seconds: float) -> None:
    """Send at a rate, whatever is answered."""
    began = time.monotonic()
    first = sum(one.sent for one in flooders)
    while (now := time.monotonic()) - began < seconds:
        due = int(rate * (now - began)) - (sum(one.sent for one in flooders) - first)
        for one in flooders:
            one.send(due // len(flooders))
        await asyncio.sleep(TICK_SECONDS)


def memory_mb(pid: int, key: str = "VmRSS") -> float:
    """Memory of a process."""
    found = re.findall(rf"{key}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[0]) / 1024


@contextlib.asynccontextmanager
async def flooders_of(platform: Platform, admin: MitoClient) -> AsyncIterator[list[Flooder]]:
    """Connected users whose groups no worker serves."""
    async with AsyncExitStack() as stack:
        flooders = []
        for number in range(FLOODERS):
            name, password = f"flood-{number}", secrets.token_hex(8)
            await admin.create_user(CreateUserArgs(username=name, password=password))
            client = await stack.enter_async_context(MitoClient(platform.config(name, password)))
            flooders.append(Flooder(await client.session.open(), name))
            await flooders[-1].listen()
        yield flooders


class Bystander:
    """Another user, who reads and submits one thing after the other."""

    def __init__(self, client: MitoClient) -> None:
        self._client = client
        self.submitted: list[Submitted] = []
        self.worker_states: set[str] = set()

    async def work(self) -> None:
        """Go on until cancelled; whatever is not answered is an error."""
        while True:
            self.submitted.append(await self._client.submit_task(in_shell("true")))
            view = await self._client.get_task(self.submitted[-1].task)
            assert view.number == self.submitted[-1].number
            page = await self._client.get_workers(GetWorkersArgs())
            self.worker_states |= {worker.state for worker in page.workers}


@pytest.mark.timeout(600)
async def test_ten_times_more_submits_than_fit_are_refused_and_nothing_else_suffers(
    make_platform: Callable[..., Platform], tmp_path: Path, scaled: Callable[[int, int], int]
) -> None:
    """What was answered with ok is stored, once; tasks run, renewals and reads are answered."""
    platform = make_platform(workers=1, slots=2)
    settings = platform.home.folder / ".config/mitosis/config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[coordinator]\nheartbeat_timeout = "{LEASE_SECONDS}s"\n')
    await platform.start()
    coordinator, ledger = platform.child("mitosis coordinator"), tmp_path / "ledger"
    ledger.touch()
    seconds = scaled(LEASE_SECONDS + 2, 60)
    async with (
        MitoClient(platform.config()) as admin,
        flooders_of(platform, admin) as flooders,
    ):
        rate = await sustainable(flooders[0], 2.0)
        work = await admin.submit_many([in_shell(f"sleep 0.4; echo >> {ledger}")] * 5 * seconds)
        before, ended_before = memory_mb(coordinator), ledger.stat().st_size
        bystander = Bystander(admin)
        standing_by = asyncio.create_task(bystander.work())
        await flood(flooders, 10 * rate, seconds)
        assert not standing_by.done(), standing_by
        standing_by.cancel()
        ended_meanwhile = ledger.stat().st_size - ended_before
        await eventually(
            lambda: all(one.answered == one.sent for one in flooders), seconds=SETTLE_SECONDS
        )
        views = await admin.wait_for_tasks(work)
        grown = memory_mb(coordinator, "VmHWM") - before
        commits = await stored_commits(platform)
    stored = Counter(task for one in flooders for task in one.stored)
    refused = sum((one.refused for one in flooders), Counter[str]())
    assert set(refused) == {Overloaded.code}, refused
    assert {wait for one in flooders for wait in one.waits} == {RETRY_AFTER_SECONDS}
    events = [event for one in commits for event in one.events]
    submits = Counter(
        e.task for e in events if isinstance(e, TaskSubmitted) and e.creator.startswith("flood-")
    )
    assert submits == stored, "what was refused is stored, or what was answered with ok is not"
    assert {(view.outcome, view.attempt) for view in views} == {(Outcome.SUCCEEDED, 1)}
    assert ended_meanwhile >= seconds / 2
    assert len(bystander.submitted) >= seconds / 4
    assert bystander.worker_states == {"normal"}
    assert not [event for event in events if isinstance(event, WorkerLost)]
    assert len([event for event in events if isinstance(event, TermStarted)]) == 1
    assert grown < ALLOWED_MB + ALLOWED_MB_A_TASK * len(stored), (grown, len(stored))
