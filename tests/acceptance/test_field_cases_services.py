"""Cases from the field about coordinator, NATS, Postgres and S3: away, slow, deaf, restarted.

All tests of a site share its processes, each of which stands behind a link that can be cut; each
test leaves the site whole. Sizes are small here and those of the cases with `--full`.
"""

import asyncio
import os
import random
import re
import secrets
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from msgspec.structs import replace

from mitosis import ClientConfig, MitoClient
from mitosis.artifacts.s3 import S3Settings, S3Store
from mitosis.config.client import GetTasksArgs, GetWorkersArgs, SubmitTaskArgs, WatchArgs
from mitosis.contract.commands import Submitted
from mitosis.contract.queries import TaskView
from mitosis.domain.event import Event
from mitosis.domain.task import (
    Outcome,
    TaskAssigned,
    TaskReady,
    TaskRequeued,
    TaskState,
    TaskSubmitted,
)
from mitosis.errors import OutcomeUnknown, Unavailable
from mitosis.projections.commit import Commit
from mitosis.runtime import CLOCK_OFFSET_VARIABLE
from mitosis.services.projector.decoding import decode
from mitosis.testing.chaos.collect import read_stream
from mitosis.testing.chaos.parts import Part, Service
from mitosis.testing.chaos.proxy import Cut
from mitosis.testing.chaos.site import LAB, Shape, Site
from mitosis.testing.disks import ScratchDisk, can_mount, scratch_disk
from mitosis.testing.views import folded_rows, stored_rows
from mitosis.testing.waiting import eventually

from .conftest import in_shell

pytestmark = pytest.mark.asyncio(loop_scope="module")

T = TypeVar("T")
PATIENT = timedelta(seconds=60)
LONG_LEASE_SECONDS = 900.0  # more than NATS is away
SHORT_LEASE_SECONDS = 3.0
HOUR, YEARS = 3_600, 2 * 365 * 86_400
ZONES = {
    "coordinator1": "Asia/Shanghai", "coordinator2": "UTC", "projector": "America/Lima",
    "worker1": "Asia/Shanghai", "worker2": "UTC",
}  # fmt: skip


@asynccontextmanager
async def serving(shape: Shape, kind: type[Site] = Site) -> AsyncIterator[Site]:
    """A whole site with its group and its workers."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    clocks = {
        name: {CLOCK_OFFSET_VARIABLE: str(folder / f"{name}.offset"), "TZ": zone}
        for name, zone in ZONES.items()
    }
    try:
        async with kind(folder / "site", replace(shape, environment=clocks)) as made:
            await until(lambda: succeeds(with_group(made)), seconds=60)
            await made.start_workers()
            await whole(made)
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def with_group(site: Site) -> None:
    async with MitoClient(site.client_config()) as client:
        await client.create_group(LAB)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Workers keep their leases whatever happens here."""
    slots = 25 if request.config.getoption("--full") else 4
    async with serving(Shape(workers=2, slots=slots, lease_seconds=LONG_LEASE_SECONDS)) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def client(site: Site) -> AsyncIterator[MitoClient]:
    async with MitoClient(site.client_config(timeout=PATIENT)) as made:
        try:
            yield made
        finally:
            await site.heal()


async def until(question: Callable[[], Awaitable[T]], seconds: float = 30.0) -> T:
    """The first true answer.

    Raises:
        AssertionError: None in this time.
    """
    deadline = time.monotonic() + seconds
    while not (answer := await question()):
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds} s"
        await asyncio.sleep(0.1)
    return answer


async def succeeds(work: Awaitable[object]) -> bool:
    """Whether something can be had by now."""
    try:
        await work
    except Unavailable:
        return False
    return True


async def whole(site: Site) -> None:
    """Wait until everything runs and all workers can be given work."""
    await site.heal()
    for part in site.of_kind("coordinator"):
        await until(lambda part=part: listens(site, part), seconds=60)  # type: ignore[misc]

    async def reachable() -> bool:
        try:
            async with MitoClient(site.client_config()) as client:
                found = (await client.get_workers(GetWorkersArgs())).workers
        except Unavailable:
            return False
        return [one.state for one in found] == ["normal"] * site.shape.workers

    await until(reachable, seconds=60)


def address_of(site: Site, part: Part) -> tuple[str, int]:
    """Host and port of the HTTP endpoint of a coordinator."""
    config = tomllib.loads((site.root / "config" / f"{part.name}.toml").read_text())
    host, _, port = config["coordinator"]["bind"].rpartition(":")
    return host, int(port)


async def listens(site: Site, part: Part) -> bool:
    """Whether a coordinator has come so far that it needs Postgres no more."""
    try:
        _, writer = await asyncio.open_connection(*address_of(site, part))
    except OSError:
        return False
    writer.close()
    return True


def pids(site: Site, *kinds: str) -> dict[str, int | None]:
    """The processes of these kinds."""
    return {part.name: part.pid() for part in site.of_kind(*kinds)}


def active(site: Site) -> Service:
    """The coordinator of the newest term."""
    terms = {
        part: [int(n) for n in re.findall(r"term (\d+): serving", part.log.path.read_text())]
        for part in site.services
        if part.kind == "coordinator"
    }
    return max(terms, key=lambda part: max(terms[part], default=0))


async def stored(site: Site) -> list[Commit]:
    """The whole stream."""
    return [decode(*one) for one in await read_stream(site)]


def events(commits: list[Commit], kind: type[Event]) -> Counter[str]:
    """How many events of a kind each task has."""
    return Counter(
        commit.tail.rpartition(".")[2]
        for commit in commits
        for event in commit.events
        if isinstance(event, kind)
    )


def quick(**options: object) -> SubmitTaskArgs:
    return SubmitTaskArgs(command=("true",), group=LAB, **options)  # type: ignore[arg-type]


def succeeded(views: list[TaskView]) -> bool:
    """Whether all ended well, and none was begun twice; one sent ahead may have come back."""
    begun = [former for view in views for former in view.former_attempts if former.started_at]
    return not begun and {(view.outcome, view.losses) for view in views} == {(Outcome.SUCCEEDED, 0)}


class Waiting:
    """Tasks that note when they start and end, and end when they are told to."""

    def __init__(self, folder: Path, name: str) -> None:
        self.ledger, self.gate = folder / f"{name}.ledger", folder / f"{name}.gate"

    @property
    def script(self) -> str:
        until = f"until [ -e {self.gate} ]; do sleep 0.1; done"
        return f"echo start $MITO_TASK >> {self.ledger}; {until}; echo end >> {self.ledger}"

    async def submit(self, client: MitoClient, count: int = 1) -> list[Submitted]:
        """Submit so many, and wait until all of them run."""
        tasks = await client.submit_many([in_shell(self.script, group=LAB)] * count)
        await eventually(lambda: self.lines("start") == count, seconds=60)
        return tasks

    def lines(self, word: str) -> int:
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return sum(line.startswith(word) for line in text.splitlines())


# --- NATS ---------------------------------------------------------------------------------------


@pytest.mark.parity("F-22")
async def test_a_submit_whose_stored_answer_is_lost_is_one_task_and_its_client_learns_it(
    site: Site, client: MitoClient, scaled: Callable[[int, int], int]
) -> None:
    """Requests reach the store, its acknowledgements are lost: elsewhere "timeout", and stored."""
    lost_seconds = scaled(2, 10)
    keys = [secrets.token_hex(8) for _ in range(100)]
    link = site.links[active(site).name]
    answers: dict[str, Submitted] = {}
    unknown: set[str] = set()

    async def submit(key: str) -> None:
        try:
            answers[key] = await client.submit_task(quick(key=key))
        except OutcomeUnknown:
            unknown.add(key)

    link.lose_answers(to=b"mito-coordinator-store")
    submits = [asyncio.create_task(submit(key)) for key in keys]
    await asyncio.sleep(lost_seconds)  # the length of the fault, as the case says
    assert not answers, "acknowledged without the store's word"
    during = events(await stored(site), TaskSubmitted)
    link.heal()
    await asyncio.gather(*submits)
    again = [await client.submit_task(quick(key=key)) for key in keys]
    for key, task in zip(keys, again, strict=True):
        assert key in unknown or answers[key].task == task.task
    numbers = sorted(task.number for task in again)
    assert numbers == list(range(numbers[0], numbers[0] + 100))
    assert succeeded(list(await client.wait_for_tasks(again)))
    times = events(await stored(site), TaskSubmitted)
    assert [times[task.task] for task in again] == [1] * 100
    assert sum(during[task.task] for task in again) > 0, "nothing was stored while it was deaf"


@pytest.mark.parity("F-23")
async def test_while_nats_is_away_work_goes_on_and_afterwards_an_idle_worker_gets_tasks_at_once(
    site: Site, client: MitoClient, tmp_path: Path, scaled: Callable[[int, int], int]
) -> None:
    """Elsewhere the subscription of an idle worker stays dead while it looks connected."""
    before = pids(site, "coordinator", "projector", "worker")
    waiting, at_once = Waiting(tmp_path, "away"), await latency(client)
    (running,) = await waiting.submit(client)
    (nats,) = site.of_kind("nats")
    await nats.kill()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await hasty(site)
    assert time.monotonic() - began < 15, "it has waited beyond its deadline"
    later = asyncio.create_task(client.submit_task(quick()))
    waiting.gate.touch()
    await eventually(lambda: waiting.lines("end") == 1)  # tasks do not need NATS
    await asyncio.sleep(max(0.0, began + scaled(3, 300) - time.monotonic()))  # as the case says
    if later.done():  # its own deadline came first
        with pytest.raises(Unavailable):
            later.result()
    await nats.start()
    views = [*await client.wait_for_tasks([running])]
    if not later.done() or later.exception() is None:
        views += await client.wait_for_tasks([await later])
    assert succeeded(views)
    assert waiting.lines("start") == waiting.lines("end") == 1
    await whole(site)
    assert pids(site, "coordinator", "projector", "worker") == before
    assert await latency(client) < max(10 * at_once, 2.0)
    repeated = {t: n for t, n in events(await stored(site), TaskSubmitted).items() if n > 1}
    assert not repeated


async def hasty(site: Site) -> None:
    """A client that has three seconds."""
    async with MitoClient(site.client_config(timeout=timedelta(seconds=3))) as client:
        await client.submit_task(quick())


async def latency(client: MitoClient) -> float:
    """Seconds from submit to end, the best of three."""
    best = 60.0
    for _ in range(3):
        began = time.monotonic()
        await client.wait_for_tasks([await client.submit_task(quick())])
        best = min(best, time.monotonic() - began)
    return best


# --- coordinator --------------------------------------------------------------------------------


@pytest.mark.parity("F-25", "D-030")
async def test_all_coordinators_killed_and_started_later_leave_running_and_ready_tasks_as_they_were(
    site: Site, client: MitoClient, tmp_path: Path, scaled: Callable[[int, int], int]
) -> None:
    """Elsewhere a stop of the server loses all jobs. Queues are in the stream, not in memory."""
    count = site.shape.workers * site.shape.slots
    waiting, order = Waiting(tmp_path, "kept"), tmp_path / "order"
    running = await waiting.submit(client, count)
    ready = await client.submit_many(
        [in_shell(f"echo {n} >> {order}", group=LAB, priority=n % 2) for n in range(count)]
    )
    coordinators = site.of_kind("coordinator")
    for part in coordinators:
        await part.kill()
    await asyncio.sleep(scaled(1, 20))  # as the case says
    for part in coordinators:
        await part.start()

    async def all_are_ready() -> bool:  # soon, as some may have been sent ahead before
        page = await client.get_tasks(GetTasksArgs(group=LAB, states=(TaskState.READY,), limit=100))
        return {view.uuid for view in page.tasks} == {task.task for task in ready}

    await until(all_are_ready)
    one_by_one = await client.submit_task(in_shell(f"echo last >> {order}", group=LAB, priority=-1))
    waiting.gate.touch()
    assert succeeded(list(await client.wait_for_tasks([*running, *ready, one_by_one], PATIENT)))
    assert (waiting.lines("start"), waiting.lines("end")) == (count, count)
    lines = order.read_text().split()
    assert sorted(lines) == sorted([*map(str, range(count)), "last"])
    numbers = [task.number for task in [*running, *ready, one_by_one]]
    assert numbers == list(range(numbers[0], numbers[0] + 2 * count + 1))
    starts = await started_order(site, [task.task for task in ready])
    assert starts == [task.task for task in [*ready[1::2], *ready[0::2]]]  # priority 1, then 0
    await whole(site)


async def started_order(site: Site, tasks: list[str]) -> list[str]:
    """The tasks in the order in which they were given to workers, for the last time."""
    wanted, given = set(tasks), dict[str, None]()
    for commit in await stored(site):
        name = commit.tail.rpartition(".")[2]
        if name in wanted and any(isinstance(event, TaskAssigned) for event in commit.events):
            given.pop(name, None)
            given[name] = None
    return list(given)


@pytest.mark.parity("D-020")
async def test_a_task_is_given_to_a_worker_by_one_event_with_all_that_it_takes(
    site: Site, client: MitoClient
) -> None:
    """Elsewhere two writes: between them a task belongs to a worker that does not have it."""
    task = await client.submit_task(quick())
    assert succeeded(list(await client.wait_for_tasks([task])))
    mine = [one for one in await stored(site) if one.tail.endswith(task.task)]
    (given,) = [one for one in mine if any(isinstance(e, TaskAssigned) for e in one.events)]
    kinds = [type(event) for event in given.events]
    assert kinds == [TaskSubmitted, TaskReady, TaskAssigned]  # submit and assignment: all or none
    assigned = given.events[-1]
    assert isinstance(assigned, TaskAssigned)
    assert (assigned.attempt, assigned.lease_seconds) == (1, LONG_LEASE_SECONDS)
    (view,) = await client.wait_for_tasks([task])
    assert view.worker == assigned.worker


async def test_coordinators_that_start_on_a_full_disk_say_so_and_serve_when_there_is_space(
    tmp_path: Path,
) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this user may not mount")
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    try:
        site = Site(folder / "site", Shape(workers=0))
        with scratch_disk(site.root / "nats1", size_bytes=96 << 20) as disk:
            async with site:
                await starts_on_a_full_disk(site, disk)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def starts_on_a_full_disk(site: Site, disk: ScratchDisk) -> None:
    full, coordinators = "no space left on device", site.of_kind("coordinator")
    await until(lambda: succeeds(with_group(site)), seconds=60)
    disk.fill()
    # Its last file has room for some more; and who is in haste may be refused for that.
    while not any(full in part.log.path.read_text() for part in coordinators):
        await succeeds(hasty(site))
    for part in coordinators:
        await part.kill()
    logs = {part: part.log.path.stat().st_size for part in site.services if part in coordinators}
    for part in coordinators:
        await part.start()

    def says(part: Service) -> bool:
        return full in part.log.path.read_text()[logs[part] :]

    await eventually(lambda: all(map(says, logs)), seconds=60)
    await until(lambda: not_ready(site), seconds=30)
    before = pids(site, "coordinator")
    disk.heal()
    (nats,) = site.of_kind("nats")
    await nats.kill()  # which only its owner can do
    await nats.start()
    await until(lambda: succeeds(hasty(site)), seconds=60)
    assert pids(site, "coordinator") == before


async def not_ready(site: Site) -> bool:
    """Whether a coordinator says that it cannot serve because of NATS."""
    for part in site.of_kind("coordinator"):
        reader, writer = await asyncio.open_connection(*address_of(site, part))
        writer.write(b"GET /ready HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        if b" 503 " in answer.partition(b"\r\n")[0] and b"unavailable.store" in answer:
            return True
    return False


# --- clocks -------------------------------------------------------------------------------------


def set_clock(site: Site, offset_seconds: int, *names: str) -> None:
    """Let the wall clocks of some processes be wrong, at once."""
    for name in names:
        (site.root.parent / f"{name}.offset").write_text(str(offset_seconds))


async def link_again(site: Site) -> None:
    """Let all workers and clients connect anew."""
    for name in ("worker1", "worker2", "client"):
        site.links[name].cut(Cut.DROP)
        site.links[name].heal()
    await whole(site)


def last_line_at(part: Part) -> datetime:
    """When a service says that it wrote its last line."""
    assert isinstance(part, Service)
    stamp = part.log.path.read_text().splitlines()[-1][:19]
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC)


@pytest.mark.parity("F-46")
async def test_clocks_that_are_wrong_and_jump_end_no_task_and_shut_nobody_out(
    site: Site, client: MitoClient, tmp_path: Path
) -> None:
    """Elsewhere tokens become invalid and clients stay away for ever; zones are read as drift."""
    names = [part.name for part in site.of_kind("coordinator")]
    minute = timedelta(minutes=1)
    set_clock(site, -HOUR, "worker1")
    set_clock(site, HOUR, "worker2")
    await link_again(site)  # which they write into their logs, with their clocks
    for name, hours in (("worker1", -1), ("worker2", 1)):
        wrong = last_line_at(site.parts[name]) - datetime.now(UTC)
        assert abs(wrong - timedelta(hours=hours)) < minute
    waiting = Waiting(tmp_path, "clocks")
    tasks = await waiting.submit(client, site.shape.workers * site.shape.slots)
    watch = WatchArgs(tasks[0].task, "ExecFinished", timedelta(hours=1))
    watcher = await client.submit_task(quick(watch=watch))
    for view in [await client.get_task(task.task) for task in tasks]:
        assert view.started_at is not None
        for at in (view.created_at, view.started_at):
            assert at.utcoffset() == timedelta(0)
            assert abs(at - datetime.now(UTC)) < minute  # nobody's clock but the coordinator's
    for offset in (YEARS, 0):
        set_clock(site, offset, *names)  # it jumps while they run ...
        for restarted in (False, True):  # ... and is so when they start
            if restarted:
                for part in site.of_kind("coordinator"):
                    await part.kill()
                    await part.start()
            await link_again(site)  # with the tokens of before
            late = await client.submit_task(quick(priority=1))
            view = await client.get_task(late.task)
            at = datetime.now(UTC) + timedelta(seconds=offset)
            assert abs(view.created_at - at) < minute
            async with MitoClient(site.client_config()) as other:  # logs in
                assert (await other.get_task(watcher.task)).state is TaskState.PENDING
    assert waiting.lines("start") == len(tasks)
    waiting.gate.touch()
    views = await client.wait_for_tasks([*tasks, watcher], PATIENT)
    assert succeeded(list(views))
    assert waiting.lines("start") == waiting.lines("end") == len(tasks)
    mine = {task.task for task in tasks}
    assert not mine & set(events(await stored(site), TaskRequeued))
    workers = (await client.get_workers(GetWorkersArgs())).workers
    assert len(workers) == site.shape.workers, "somebody has registered anew"


# --- Postgres and S3 ----------------------------------------------------------------------------


@pytest.mark.parity("F-28", "D-022")
async def test_postgres_is_killed_under_load_and_stays_away_and_only_reads_notice(
    site: Site, client: MitoClient, scaled: Callable[[int, int], int]
) -> None:
    """Elsewhere workers crash, or only polling works afterwards."""
    at_once = await latency(client)
    before = pids(site, "coordinator", "projector", "worker")
    (postgres,) = site.of_kind("postgres")
    first = await client.submit_many([quick()] * 100)
    await postgres.kill()  # harder than `-m immediate`
    await postgres.start()
    first += await client.submit_many([quick()] * 100)
    await postgres.kill()
    began, later = time.monotonic(), []
    while time.monotonic() - began < scaled(3, 60):
        later.append(await client.submit_task(quick()))
    async with MitoClient(site.client_config(timeout=timedelta(seconds=3))) as short:
        with pytest.raises(Unavailable):
            await short.get_task(first[0].task)
        later.append(await short.submit_task(quick()))
    assert pids(site, "coordinator", "projector", "worker") == before
    await postgres.start()
    assert succeeded(list(await client.wait_for_tasks([*first, *later], PATIENT)))
    assert await latency(client) < max(10 * at_once, 2.0)
    assert pids(site, "coordinator", "projector", "worker") == before
    await same_rows(site, client)


@pytest.mark.parity("F-29")
async def test_many_submitters_over_a_jittering_link_and_a_killed_projector_leave_no_gap(
    site: Site, client: MitoClient, scaled: Callable[[int, int], int]
) -> None:
    """Elsewhere a follower that has passed a late commit never sees it."""
    each, kills = scaled(10, 500), scaled(3, 10)
    draw = random.Random(29)  # noqa: S311
    link = site.links[active(site).name]
    projector = site.parts["projector"]

    async def submit() -> list[Submitted]:
        return [await client.submit_task(quick()) for _ in range(each)]

    async def jitter() -> None:
        while True:
            link.cut(Cut.DELAY, delay_seconds=draw.uniform(0.0, 0.2))
            await asyncio.sleep(0.1)

    jittering = asyncio.create_task(jitter())
    submits = [asyncio.create_task(submit()) for _ in range(20)]
    for _ in range(kills):
        await asyncio.sleep(draw.uniform(0.2, 0.6))
        await projector.kill()
        await projector.start()
    tasks = [task for done in await asyncio.gather(*submits) for task in done]
    jittering.cancel()
    link.heal()
    assert succeeded(list(await client.wait_for_tasks(tasks, 4 * PATIENT)))
    assert len({task.task for task in tasks}) == 20 * each
    await same_rows(site, client)
    total = events(await stored(site), TaskSubmitted)
    assert (await client.get_group(LAB)).task_count == len(total)


async def same_rows(site: Site, client: MitoClient) -> None:
    """Read models are what a fresh fold of the stream says."""
    await client.get_group(LAB)  # includes all that was stored before

    async def same() -> bool:
        rows = await asyncio.to_thread(stored_rows, site.postgres.url)
        return rows == folded_rows(await stored(site))

    await until(same)


@pytest.mark.parity("D-019")
async def test_nobody_waits_without_a_bound_for_somebody_who_is_silent(
    site: Site, client: MitoClient, tmp_path: Path
) -> None:
    """Elsewhere requests have no timeout: a coordinator, a NATS or an S3 that only listens."""
    listener = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]

    async def ask(kind: str) -> float:
        began = time.monotonic()
        config = ClientConfig(
            coordinator_addr=f"{kind}://127.0.0.1:{port}", user="somebody", password="x",
            credential_path=tmp_path / kind, timeout=timedelta(seconds=2),
        )  # fmt: skip
        with pytest.raises(Unavailable):
            async with MitoClient(config) as one:
                await one.whoami()
        return time.monotonic() - began

    async with listener:
        assert max(await asyncio.gather(ask("http"), ask("nats"))) < 4
    site.links["store"].cut(Cut.SILENT)
    script = "echo kept > $MITO_RESULT_DIR/it"
    keeps = await client.submit_task(in_shell(script, group=LAB))
    others = await client.submit_many([quick()] * 10)
    assert succeeded(list(await client.wait_for_tasks(others)))
    assert (await client.get_task(keeps.task)).state is TaskState.RUNNING
    site.links["store"].heal()
    (view,) = await client.wait_for_tasks([keeps], PATIENT)
    assert (view.outcome, len(view.artifacts)) == (Outcome.SUCCEEDED, 1)


class OwnWay(Site):
    """Workers reach S3 past the link `store`, which only the coordinators take."""

    def _coordinator(self, name: str, port: int) -> list[str]:
        settings = {**self.shape.settings, name: {"s3_public_url": self.s3.url}}
        self.shape = replace(self.shape, settings=settings)
        return super()._coordinator(name, port)


async def test_a_store_that_is_silent_to_the_coordinator_holds_up_only_what_needs_it() -> None:
    """An output is there and cannot be looked at: the other tasks of its worker end meanwhile."""
    shape = Shape(workers=1, slots=2, lease_seconds=LONG_LEASE_SECONDS)
    async with (
        serving(shape, OwnWay) as site,
        MitoClient(site.client_config(timeout=PATIENT)) as client,
    ):
        site.links["store"].cut(Cut.SILENT)
        script = "echo kept > $MITO_RESULT_DIR/it"
        keeps = await client.submit_task(in_shell(script, group=LAB))
        keys = site.credentials.s3
        store = S3Store(S3Settings(site.s3.url, keys.access_key, keys.secret_key))
        await until(lambda: store.artifacts.list_prefix(keeps.task))
        await store.close()
        for _ in range(2):  # also while it is reported again
            others = await client.submit_many([quick()] * 10)
            views = await client.wait_for_tasks(others, timedelta(seconds=15))
            assert succeeded(list(views))
        assert (await client.get_task(keeps.task)).state is TaskState.RUNNING
        site.links["store"].heal()
        (view,) = await client.wait_for_tasks([keeps], PATIENT)
        assert (view.outcome, len(view.artifacts)) == (Outcome.SUCCEEDED, 1)


# --- somebody who is stuck ----------------------------------------------------------------------


async def test_a_stuck_client_that_never_reads_harms_nobody_else(
    site: Site, client: MitoClient, tmp_path: Path
) -> None:
    """A follower is stopped while its task writes much more than any buffer between takes."""
    gate = tmp_path / "gate"
    script = f"until [ -e {gate} ]; do head -c 200000 /dev/zero | tr '\\0' x; echo; done"
    noisy = await client.submit_task(in_shell(script, group=LAB))
    config = site.client_config()
    stuck = Service(
        "client", "stuck", ["client", "-c", config.coordinator_addr, "follow", noisy.task],
        site.root,
        {
            **{key: os.environ[key] for key in ("PATH",) if key in os.environ},
            "HOME": str(site.root), "PYTHONPATH": os.pathsep.join(sys.path),
            "MITO_USER": config.user or "", "MITO_PASSWORD": config.password or "",
            "MITO_CREDENTIAL_PATH": str(tmp_path / "session"),
        },
    )  # fmt: skip
    at_once = await latency(client)
    await stuck.start()
    try:
        await eventually(lambda: stuck.log.path.exists() and stuck.log.path.stat().st_size > 1e6)
        stuck.freeze()
        memory = resident(site)
        tasks = await client.submit_many([quick()] * 100)
        assert succeeded(list(await client.wait_for_tasks(tasks)))
        assert await latency(client) < max(10 * at_once, 2.0)
        assert (await client.get_task(noisy.task)).state is TaskState.RUNNING
        grown = {name: size - memory[name] for name, size in resident(site).items()}
        assert max(grown.values()) < 64 << 20, grown
        gate.touch()
        assert succeeded(list(await client.wait_for_tasks([noisy], PATIENT)))
    finally:
        gate.touch()
        await stuck.close()


def resident(site: Site) -> dict[str, int]:
    """Bytes in memory of each process that a client can reach."""
    found = {}
    for name, pid in pids(site, "coordinator", "projector", "nats").items():
        text = Path(f"/proc/{pid}/statm").read_text()
        found[name] = int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return found


@pytest_asyncio.fixture(loop_scope="module")
async def hurried() -> AsyncIterator[Site]:
    """Leases are short here."""
    shape = Shape(workers=2, slots=2, lease_seconds=SHORT_LEASE_SECONDS)
    async with serving(shape) as made:
        yield made


@pytest.mark.parity("D-021")
async def test_a_stuck_worker_harms_nobody_else_and_its_lease_ends_also_while_nothing_can_be_stored(
    hurried: Site, tmp_path: Path
) -> None:
    """Elsewhere an error while a heartbeat expires is dropped: its task stays assigned for ever."""
    site = hurried
    async with MitoClient(site.client_config(timeout=PATIENT)) as client:
        for nats_is_away in (False, True):
            waiting = Waiting(tmp_path, f"stuck-{nats_is_away}")
            at_once = await latency(client)
            (stuck,) = await waiting.submit(client)
            worker = await worker_of(site, client, stuck)
            worker.freeze()
            if nats_is_away:  # at the moment in which the lease ends
                (nats,) = site.of_kind("nats")
                await nats.kill()
                await asyncio.sleep(SHORT_LEASE_SECONDS + 3)
                await nats.start()
            else:  # it holds what it had, and what came into its free slot; all others go on
                views = await client.wait_for_tasks(await client.submit_many([quick()] * 40))
                assert {view.outcome for view in views} == {Outcome.SUCCEEDED}
                assert sum(view.attempt > 1 for view in views) < site.shape.slots
                assert await latency(client) < max(10 * at_once, 2.0)
            await eventually(lambda w=waiting: w.lines("start") == 2, seconds=60)  # type: ignore[misc]
            worker.thaw()
            waiting.gate.touch()
            (view,) = await client.wait_for_tasks([stuck], PATIENT)
            # Without NATS all leases end: an attempt may be lost that was never started.
            most = 3 if nats_is_away else 2
            assert (view.outcome, view.losses) == (Outcome.SUCCEEDED, view.attempt - 1)
            assert 2 <= view.attempt <= most
            assert (waiting.lines("start"), waiting.lines("end")) == (2, 1)
            await whole(site)


async def worker_of(site: Site, client: MitoClient, task: Submitted) -> Part:
    """The process of the worker that runs a task."""
    view = await client.get_task(task.task)
    for part in site.of_kind("worker"):
        assert isinstance(part, Service)
        if f"registered as worker {view.worker}" in part.log.path.read_text():
            return part
    raise AssertionError(f"nobody is worker {view.worker}")
