"""The procrastinate application: `true` as a subprocess. Runs in the peers' environment."""

import asyncio
import os

import procrastinate

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_DATABASE"])
)


@app.task(name="true")
async def true() -> None:
    """Run the program."""
    process = await asyncio.create_subprocess_exec("/bin/true")
    if await process.wait():
        raise RuntimeError("true failed")
