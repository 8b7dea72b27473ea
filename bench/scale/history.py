"""With a long past: start of a coordinator, read models, the event store, what a task costs.

For each number of ended tasks one platform: its past is stored, a coordinator is started, first
without a snapshot (all of history is read), then with one; the projector catches up; the read
models are built anew; pages are read; and new tasks are run without spawning.
"""

import asyncio
import contextlib
import os
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psycopg

from bench.platform import Up
from bench.processes import at_rest, cpu_ms_per_task, cpu_of, cpu_seconds, memory_of
from bench.rows import Results
from bench.scale import pages
from bench.simulated import simulated_workers
from bench.sizes import Bench
from bench.work import TRUE, Ends, checked, throughput
from mitosis import MitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.config.coordinator import SNAPSHOT_EVERY
from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.errors import MitosisError
from mitosis.nats.connection import Connection, ServiceLogin
from mitosis.nats.store_client import open_store_client
from mitosis.projections.beside import History, rebuild
from mitosis.services.coordinator.leadership import active_term
from mitosis.services.platform.credentials import ADMIN_USER
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.projector.decoding import decode
from mitosis.services.projector.source import StreamSource
from mitosis.testing.chaos.parts import Part
from mitosis.testing.chaos.site import COORDINATORS, Shape, Site
from mitosis.testing.past import COMMITS_OF_A_TASK, store_past

LONGEST_SECONDS = 1_800.0
EVENTS_OF_A_TASK = 6
WORKERS = 4


def measure(bench: Bench) -> None:
    """Measure each length of the past."""
    for tasks in bench.sizes.history:
        with tempfile.TemporaryDirectory(prefix="mito-bench-") as folder:
            asyncio.run(_History(bench, tasks, Path(folder) / "site").measure())


class _Start(msgspec.Struct):
    """From the start of the process to the first answered command."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    now_mb: float


class _Site(Site):
    """The site of the fault suite without its links, with a Postgres that syncs.

    Snapshots are as rare as with every coordinator, but for a past that is shorter than that.
    """

    def __init__(self, root: Path, past: int) -> None:
        every = min(SNAPSHOT_EVERY, past * COMMITS_OF_A_TASK)
        settings = {f"coordinator{n + 1}": {"snapshot_every": every} for n in range(COORDINATORS)}
        super().__init__(root, Shape(workers=0, settings=settings))
        self.postgres = EmbeddedPostgres(root / "pg")

    def _nats_behind(self, name: str) -> str:  # noqa: ARG002  all have the same way
        return self.nats[0].url


class _History:
    """The figures of one platform with so many tasks behind it."""

    def __init__(self, bench: Bench, tasks: int, root: Path) -> None:
        self._bench, self._results, self._tasks, self._root = bench, bench.results, tasks, root
        self._what = f"{tasks:,} past tasks"

    async def measure(self) -> None:
        async with _Site(self._root, self._tasks) as site:
            login = ServiceLogin(site.credentials.service.name, site.credentials.service.password)
            connection = await Connection.open([site.nats[0].url], login, name="bench")
            async with connection:
                coordinator, standby = site.of_kind("coordinator")
                for part in (standby, *site.of_kind("projector")):
                    await part.stop()
                await _answered(connection)
                async with MitoClient(site.client_config()) as client:
                    await self._starts(site, coordinator, login, connection, client)
                await self._read_models(site, connection)
                await self._pages(site)
                await self._cost(site)

    async def _starts(
        self, site: Site, coordinator: Part, login: ServiceLogin, connection: Connection,
        client: MitoClient,
    ) -> None:  # fmt: skip
        await coordinator.stop()
        began = time.perf_counter()
        position = await _store(site, login, self._tasks)
        seconds = time.perf_counter() - began
        add, key = self._results.add, f"history/{self._tasks}"
        add(f"{key}/stored", f"{self._what}: stored by one writer, in batches", "events/s",
            self._tasks * EVENTS_OF_A_TASK / seconds)  # fmt: skip
        add(f"{key}/bytes", f"{self._what}: event store", "bytes a task",
            _bytes_below(site.nats[0].folder) / self._tasks,
            note=f"{COMMITS_OF_A_TASK} commits with {EVENTS_OF_A_TASK} events")  # fmt: skip
        self._add_start("replay", await _start(coordinator, connection, client),
                        "all of history is read")  # fmt: skip
        await _snapshot(site, position)
        sizes = _said(site, r"snapshot at position .*: (\d+) bytes")
        await coordinator.kill()
        self._add_start("snapshot", await _start(coordinator, connection, client),
                        f"snapshot of {max(map(int, sizes)):,} bytes")  # fmt: skip

    def _add_start(self, kind: str, start: _Start, note: str) -> None:
        key, what, add = f"history/{self._tasks}", self._what, self._results.add
        note = f"{note}; {start.cpu_seconds:g} s of CPU"
        add(f"{key}/start/{kind}", f"{what}: coordinator start, {kind}", "s", start.seconds,
            note=note)  # fmt: skip
        note = f"now {start.now_mb:.0f} MB"
        add(f"{key}/memory/{kind}", f"{what}: coordinator, {kind}", "MB", start.peak_mb, note=note)

    async def _read_models(self, site: Site, connection: Connection) -> None:
        source = StreamSource(connection)
        [projector] = site.of_kind("projector")
        began = time.perf_counter()
        await projector.start()
        await _projected(site.postgres.url, await source.last_position())
        self._add_rate("project", "projected, with the archive", time.perf_counter() - began)
        began = time.perf_counter()
        await rebuild(site.postgres.url, History(source, decode, EVENTS_STREAM))
        self._add_rate("rebuild", "read models rebuilt", time.perf_counter() - began)

    def _add_rate(self, key: str, what: str, seconds: float) -> None:
        events = self._tasks * EVENTS_OF_A_TASK
        self._results.add(
            f"history/{key}/{self._tasks}", f"{self._what}: {what}", "events/s", events / seconds
        )  # fmt: skip

    async def _pages(self, site: Site) -> None:
        slowest, longest = (0.0, ""), self._tasks == max(self._bench.sizes.history)
        for filters, values in (await pages.measure(site.postgres.url, ADMIN_USER)).items():
            slowest = max(slowest, (statistics.median(values), filters))
            if longest:
                what = f"{self._what}: get tasks, {filters}"
                self._results.add(f"pages/{self._tasks}/filter/{filters}", what, "ms", values)
        what = f"{self._what}: get tasks, slowest filter"
        key = f"pages/{self._tasks}/slowest"
        self._results.add(key, what, "ms", slowest[0], note=slowest[1])

    async def _cost(self, site: Site) -> None:
        """Run new tasks: what they cost must not depend on what was before."""
        count = self._bench.sizes.history_tasks
        config = msgspec.structs.replace(site.client_config(), coordinator_addr=site.nats[0].url)
        up = Up(site.root, config, "")
        async with _beside(simulated_workers(up, WORKERS)), MitoClient(config) as client:
            await throughput(client, count // 10)
            rested = await at_rest(site.root, self._bench.sizes.rest_seconds)
            ends = await Ends.watch(client)
            async with checked(client, count) as done:
                before, began = cpu_seconds(site.root), time.perf_counter()
                done += [one.task for one in await client.submit_many([TRUE] * count)]
                await ends.of(done)  # to count 1,000,000 rows again and again is no part of it
                await client.get_task(done[-1])
                rate = count / (time.perf_counter() - began)
                used = cpu_ms_per_task(before, cpu_seconds(site.root), count)
        what = f"{self._what}, after {rested:g} s of rest"
        add_cost(self._results, f"history/cost/{self._tasks}", what, rate, used)


@contextlib.asynccontextmanager
async def _beside(manager: contextlib.AbstractContextManager[None]) -> AsyncIterator[None]:
    """Enter what blocks in a thread: the site lives in this loop."""
    await asyncio.to_thread(manager.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


def add_cost(results: Results, key: str, what: str, rate: float, used: dict[str, float]) -> None:
    """Add what a task cost the services: CPU, which other work on the machine does not change."""
    ours = {name: ms for name, ms in used.items() if name != "simulated workers" and ms}
    each = ", ".join(f"{name} {ms:g}" for name, ms in ours.items())
    results.add(f"{key}", f"{what}: CPU of the services a task", "ms", sum(ours.values()),
                note=f"{each}; {rate:.0f} tasks/s without spawning")  # fmt: skip


async def _store(site: Site, login: ServiceLogin, tasks: int) -> int:
    client = await open_store_client([site.nats[0].url], login, name="bench-past")
    try:
        return await store_past(client, tasks, group=ADMIN_USER, creator=ADMIN_USER)
    finally:
        await client.close()


async def _answered(connection: Connection) -> None:
    """Wait until a coordinator answers."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(MitosisError):
            if await active_term(connection) is not None:
                return
        await asyncio.sleep(0.02)
    raise SystemExit("no coordinator answers")


async def _start(part: Part, connection: Connection, client: MitoClient) -> _Start:
    began = time.perf_counter()
    await part.start()
    await _answered(connection)
    await client.submit_task(SubmitTaskArgs(command=("true",)))
    seconds = time.perf_counter() - began
    pid = part.pid() or 0
    return _Start(seconds, cpu_of(pid), memory_of(pid, "VmHWM"), memory_of(pid, "VmRSS"))


async def _projected(url: str, position: int) -> None:
    """Wait until the read models have a position."""
    deadline = time.monotonic() + LONGEST_SECONDS
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            found = await connection.execute("SELECT max(position) FROM views.position")
            row = await found.fetchone()
            if row and (row[0] or 0) >= position:
                return
            await asyncio.sleep(0.1)
    raise SystemExit(f"the read models do not come to position {position}")


async def _snapshot(site: Site, position: int) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        if any(int(at) > position for at in _said(site, r"snapshot at position (\d+)")):
            return
        await asyncio.sleep(0.1)
    raise SystemExit("no snapshot was stored")


def _said(site: Site, pattern: str) -> list[str]:
    return re.findall(pattern, (site.root / "logs" / "coordinator1.log").read_text())


def _bytes_below(folder: Path) -> int:
    return sum(
        (Path(above) / name).stat().st_blocks * 512
        for above, _, names in os.walk(folder)
        for name in names
    )
