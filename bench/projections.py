"""How fast read models follow the stream: `python -m bench.projections [TASKS]`.

Real nats-server and Postgres, Postgres durable, NATS at its default sync; one projector in this
process. Prints one JSON object: commits a second in bulk, CPU of this process a commit, and the
time from the acknowledgement of a commit to its visibility, when commits come one by one.
"""

import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mitosis.events.messages import stream_state
from mitosis.events.streams import ensure_stream
from mitosis.nats.connection import Connection, ServiceLogin
from mitosis.projections.migrations import migrate
from mitosis.projections.runner import Runner
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.projector.decoding import decode
from mitosis.services.projector.source import StreamSource
from mitosis.testing.history import campaign
from mitosis.testing.servers import SERVICE_USER, SYSTEM_USER

SINGLE = 500


def cpu_seconds() -> float:
    """CPU time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main(tasks: int) -> None:
    """Measure and print."""
    history = campaign(1, tasks)
    bulk = len(history.commits) - SINGLE
    with tempfile.TemporaryDirectory(prefix="mito-bench-") as folder:
        async with (
            EmbeddedPostgres(Path(folder) / "pg") as postgres,
            EmbeddedNats(
                Path(folder) / "nats", service_users=(SERVICE_USER,),
                system_users=(SYSTEM_USER,), sync_always=False,
            ) as nats,
        ):  # fmt: skip
            await migrate(postgres.url)
            connection = await Connection.open(
                [nats.url], ServiceLogin(SERVICE_USER.name, SERVICE_USER.password), name="bench"
            )
            await ensure_stream(connection.raw)
            for number, (_, subject, payload) in enumerate(history.commits[:bulk]):
                connection.publish(subject, payload)
                if number % 500 == 0:
                    await connection.raw.flush()
            while (await stream_state(connection.raw, "MITO_EVENTS")).last_seq < bulk:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            runner = Runner(postgres.url, StreamSource(connection), decode, stream="MITO_EVENTS")
            started, used = time.perf_counter(), cpu_seconds()
            task = asyncio.create_task(runner.run())
            if not await runner.wait_for(bulk, 600):
                task.result()
            seconds, used = time.perf_counter() - started, cpu_seconds() - used
            delays = []
            for position, subject, payload in history.commits[bulk:]:
                await connection.jetstream.publish(subject, payload)
                stored = time.perf_counter()
                await runner.wait_for(position, 10)
                delays.append((time.perf_counter() - stored) * 1e3)
            task.cancel()
            await asyncio.wait({task})
            await connection.close()
    print(
        json.dumps(
            {
                "commits": bulk,
                "commits_per_second": round(bulk / seconds),
                "cpu_us_per_commit": round(used / bulk * 1e6, 1),
                "visible_ms_p50": round(statistics.median(delays), 2),
                "visible_ms_p99": round(statistics.quantiles(delays, n=100)[98], 2),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
