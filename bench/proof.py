"""How long `mito events verify` takes: `python -m bench.proof [--events N]`.

Stores a past of ended tasks in a NATS server, walks over it in a process of its own, and prints one
JSON object: seconds, CPU seconds (which say more while the machine does other things) and the most
memory that the walk used.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

from mitosis.bootstrap import run
from mitosis.events.reader import EventReader
from mitosis.events.streams import EVENTS, ensure_stream
from mitosis.nats.connection import Connection, ServiceLogin
from mitosis.nats.store_client import open_store_client
from mitosis.services.proof.online import verify_stream
from mitosis.services.proof.walk import Walk
from mitosis.testing.past import store_past
from mitosis.testing.servers import open_nats

EVENTS_OF_A_TASK = 6


async def measure(events: int) -> dict[str, Any]:
    """Return the figures of one history with so many events."""
    async with open_nats() as server:
        login = ServiceLogin(server.user, server.password)
        client = await open_store_client([server.url], login, name="bench-proof")
        try:
            await ensure_stream(client, EVENTS)
            await store_past(client, events // EVENTS_OF_A_TASK + 1)
        finally:
            await client.close()
        walk = [sys.executable, "-m", "bench.proof", "--walk", server.url, server.user]
        done = await asyncio.to_thread(
            subprocess.run,
            walk, input=server.password.encode(), stdout=subprocess.PIPE, check=True,
            env=os.environ,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout)
        return found


async def walk(url: str, user: str, password: str) -> dict[str, Any]:
    """Return the figures of one walk in this process."""
    async with await Connection.open([url], ServiceLogin(user, password), name="bench") as nats:
        began, used = time.perf_counter(), time.process_time()
        found = await verify_stream(EventReader(nats.raw), None, Walk(), lambda *_: None)
    return {
        "commits": found.commits,
        "events": found.events,
        "findings": found.found,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--walk", nargs=2, metavar=("URL", "USER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.walk:
        print(json.dumps(run(walk(*given.walk, sys.stdin.read()))))
    else:
        print(json.dumps(asyncio.run(measure(given.events))))


if __name__ == "__main__":
    main()
