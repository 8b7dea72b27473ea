"""A coordinator's start with a long past: `python -m bench.history [--tasks N ...]`.

For each number of ended tasks: how fast the past was stored, then the time from the start of the
process to the first answered command and the memory of the process, first without a snapshot (all
of history is read), then with one. Prints one JSON object a line. NATS syncs every commit.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from mitosis import MitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.errors import MitosisError
from mitosis.nats.connection import Connection, ServiceLogin
from mitosis.nats.store_client import open_store_client
from mitosis.services.coordinator.leadership import active_term
from mitosis.services.platform.credentials import ADMIN_USER
from mitosis.testing.chaos.parts import Part
from mitosis.testing.chaos.site import Shape, Site
from mitosis.testing.past import store_past

LONGEST_SECONDS = 1_800.0


async def measure(tasks: int, root: Path) -> dict[str, Any]:
    """Return the figures of one platform with so many tasks behind it."""
    async with Site(root, Shape(workers=0)) as site:
        coordinator, standby = site.of_kind("coordinator")
        login = ServiceLogin(site.credentials.service.name, site.credentials.service.password)
        async with await Connection.open([site.nats[0].url], login, name="bench") as connection:
            for part in (standby, *site.of_kind("projector")):
                await part.stop()
            await _answered(connection)
            async with MitoClient(site.client_config()) as client:
                await coordinator.stop()
                began = time.perf_counter()
                position = await _store(site, login, tasks)
                stored = time.perf_counter() - began
                found: dict[str, Any] = {
                    "tasks": tasks, "commits": position, "stored_seconds": round(stored, 1),
                }  # fmt: skip
                found["without_snapshot"] = await _start(coordinator, connection, client)
                await _snapshot(site, position)
                await coordinator.kill()
                found["with_snapshot"] = await _start(coordinator, connection, client)
            sizes = _said(site, r"snapshot at position .*: (\d+) bytes")
            found["snapshot_bytes"] = max(map(int, sizes))
            read = _said(site, r"history read in ([\d.]+) s")
            found["history_seconds"] = [float(seconds) for seconds in read[-2:]]
    return found


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


async def _start(part: Part, connection: Connection, client: MitoClient) -> dict[str, float]:
    began = time.perf_counter()
    await part.start()
    await _answered(connection)
    await client.submit_task(SubmitTaskArgs(command=("true",)))
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 2), **_used(part.pid())}


def _used(pid: int | None) -> dict[str, float]:
    """CPU time, which says more than seconds while the machine does other things, and memory."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    status = Path(f"/proc/{pid}/status").read_text()
    memory = {key: int(re.findall(rf"{key}:\s+(\d+)", status)[0]) for key in ("VmHWM", "VmRSS")}
    return {
        "cpu_seconds": round(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), 2),
        "peak_mb": round(memory["VmHWM"] / 1024),
        "now_mb": round(memory["VmRSS"] / 1024),
    }


async def _snapshot(site: Site, position: int) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        if any(int(at) > position for at in _said(site, r"snapshot at position (\d+)")):
            return
        await asyncio.sleep(0.1)
    raise SystemExit("no snapshot was stored")


def _said(site: Site, pattern: str) -> list[str]:
    return re.findall(pattern, (site.root / "logs" / "coordinator1.log").read_text())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[100_000, 1_000_000])
    for tasks in parser.parse_args().tasks:
        with tempfile.TemporaryDirectory(prefix="mito-bench-") as folder:
            print(json.dumps(asyncio.run(measure(tasks, Path(folder) / "site"))), flush=True)


if __name__ == "__main__":
    main()
