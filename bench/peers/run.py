"""Runs each peer in a process of its own with a limit of time, and takes down what it tells."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.machine import PROGRAMS
from bench.rows import DURABLE, Results
from bench.sizes import Bench, Sizes, Times
from bench.work import percentile
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres

PROJECT = Path(__file__).parents[2]
MOST_SHOWN = 3_000
IN_MEMORY = "in memory: lost with its server"


class Peer(NamedTuple):
    """Somebody to be compared with.

    Attributes:
        key: In the keys of rows.
        name: As users know it.
        module: What runs it.
        durability: Of what it has accepted.
        needs: A module of the peers' environment, or a program on this machine.
        required: It is one of the three distributed ones: measured with many tasks, and its
            absence is a failure of a run with peers.
    """

    key: str
    name: str
    module: str
    durability: str
    needs: tuple[str, ...]
    required: bool = False
    environment: Mapping[str, str] = {}
    seconds: float = 300.0


def _celery(key: str, mode: str, durability: str) -> Peer:
    return Peer(
        key, f"Celery, Redis ({mode if mode != 'none' else 'no append-only file'})", "celery",
        durability, ("celery", "redis", "redis-server"), required=True,
        environment={"BENCH_REDIS": mode},
    )  # fmt: skip


PEERS = (
    Peer("hyperqueue", "HyperQueue", "hyperqueue", IN_MEMORY, ("hyperqueue",), required=True),
    Peer("dask", "Dask", "dask", IN_MEMORY, ("distributed",), required=True),
    _celery("celery", "none", IN_MEMORY),
    _celery("celery-everysec", "everysec", "on disk after a second at most"),
    _celery("celery-always", "always", DURABLE),
    Peer("procrastinate", "procrastinate, Postgres", "procrastinate",
         DURABLE, ("procrastinate",)),
    Peer("parallel", "GNU parallel -j2", "parallel", "a job log that is not synced",
         ("parallel",)),
    Peer("task-spooler", "task-spooler -S2", "task_spooler", IN_MEMORY, ("tsp",)),
)  # fmt: skip


class Told(msgspec.Struct):
    """One line of a peer."""

    kind: str
    tasks: int
    values: list[float]


def measure(bench: Bench) -> None:
    """Measure all peers that are there; one of the three big ones that is not is a failure."""
    missing = []
    for peer in PEERS:
        why = _missing(peer, bench.peers)
        if why:
            bench.results.fail(f"peers/true/{peer.key}", "true", why, who=peer.name)
        else:
            why = _run(peer, bench)
        if why and peer.required:
            missing.append(peer.name)
    if missing:
        raise SystemExit(f"{', '.join(missing)} could not be measured")


def _missing(peer: Peer, environment: Path | None) -> str:
    for need in peer.needs:
        if need in PROGRAMS:
            if shutil.which(need) is None:
                return f"{need} is not installed (see `just bench-peers`)"
        elif environment is None:
            return "no environment of peers was given (--peers VENV)"
        elif not list(environment.glob(f"lib/python*/site-packages/{need}/__init__.py*")):
            return f"{need} is not installed in {environment} (see `just bench-peers`)"
    return ""


def _run(peer: Peer, bench: Bench) -> str:
    """Run a peer; return why it could not be measured to its end, or nothing."""
    python = sys.executable if bench.peers is None else str(bench.peers / "bin" / "python")
    environment = {**os.environ, **peer.environment, **_wanted(peer, bench.sizes)}
    with (
        tempfile.NamedTemporaryFile() as said, tempfile.TemporaryFile() as log,
        _database(peer) as database,
    ):  # fmt: skip
        process = subprocess.Popen(
            [python, "-m", f"bench.peers.{peer.module}"],
            cwd=PROJECT, env=environment | database | {"BENCH_SAID": said.name},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        status = _await_end(process, peer.seconds)
        if status:
            log.seek(0)
            print(log.read().decode("utf-8", "replace")[-MOST_SHOWN:])
        told = [msgspec.json.decode(line, type=Told) for line in said.read().splitlines()]
    _take_down(peer, told, bench.results)
    if status:
        why = f"{status} after {len(told)} figures"
        bench.results.fail(f"peers/{peer.key}", "the whole of it", why, who=peer.name)
        return why
    return ""


def _wanted(peer: Peer, sizes: Sizes) -> dict[str, str]:
    times: tuple[Times, ...] = sizes.peers if peer.required else (sizes.locals,)
    tasks = [str(count) for count, rounds in times for _ in range(rounds)]
    return {"BENCH_TASKS": ",".join(tasks), "BENCH_TRIPS": str(sizes.peer_trips)}


def _await_end(process: "subprocess.Popen[bytes]", seconds: float) -> str:
    """Wait, and end what is left of it, however this ends; return what is wrong."""
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"no end within {seconds:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return f"status {status}" * (status != 0)


def _take_down(peer: Peer, told: list[Told], results: Results) -> None:
    for tasks, values in _rates(told, "true").items():
        results.add(f"peers/true/{peer.key}/{tasks}", f"{tasks:,} x true", "tasks/s", values,
                    who=peer.name, note=peer.durability)  # fmt: skip
    for tasks, values in _rates(told, "floor").items():
        results.add(f"peers/floor/{peer.key}/{tasks}", f"{tasks:,} x true", "tasks/s", values,
                    who=f"posix_spawn, 2 in flight, beside {peer.name}")  # fmt: skip
    for one in told:
        if one.kind == "trips":
            for name, part in (("p50", 0.5), ("p99", 0.99)):
                results.add(f"peers/latency/{peer.key}/{name}",
                            f"idle round trip, 50 ms apart, {name}", "ms",
                            percentile(one.values, part), who=peer.name,
                            note=peer.durability)  # fmt: skip


def _rates(told: list[Told], kind: str) -> dict[int, list[float]]:
    rates: dict[int, list[float]] = {}
    for one in told:
        if one.kind == kind:
            rates.setdefault(one.tasks, []).extend(one.values)
    return rates


@contextlib.contextmanager
def _database(peer: Peer) -> Iterator[dict[str, str]]:
    """Give a peer that works with Postgres the one that a platform would use."""
    if peer.key != "procrastinate":
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mito-bench-pg-") as folder, asyncio.Runner() as runner:
        served = _served(Path(folder) / "pg")
        url = runner.run(served.__aenter__())
        try:
            yield {"BENCH_DATABASE": url}
        finally:
            runner.run(served.__aexit__(None, None, None))


@contextlib.asynccontextmanager
async def _served(folder: Path) -> AsyncIterator[str]:
    async with EmbeddedPostgres(folder) as postgres:
        yield postgres.url
