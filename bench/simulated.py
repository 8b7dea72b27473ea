"""Workers that run nothing, many in one process: `python -m bench.simulated --help`.

Each of them is a real worker (registration, lease, core, reports, a connection of its own) with
`bench.instant` in the place of its engine. Prints `ready` when all are registered, and leaves in
order at SIGTERM.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.instant import InstantEngine
from bench.platform import Up
from bench.work import SLOTS
from mitosis.bootstrap import run
from mitosis.client.session import Session
from mitosis.config.worker import WorkerConfig
from mitosis.processes.environment import clean_environment
from mitosis.processes.user import own_user
from mitosis.services.worker.drain import Departure
from mitosis.services.worker.identity import WorkFolder, this_machine
from mitosis.services.worker.service import Worker

ENDING_SECONDS = 30.0


@contextlib.contextmanager
def simulated_workers(up: Up, count: int, slots: int = SLOTS) -> Iterator[None]:
    """Have so many simulated workers at a platform, all in one process."""
    folder = up.data.with_name(f"simulated-{count}")
    command = [
        sys.executable, "-m", "bench.simulated", "--workers", str(count), "--slots", str(slots),
        "--folder", str(folder), "--coordinator", up.config.coordinator_addr,
        "--user", str(up.config.user), "--platform", str(up.data),
    ]  # fmt: skip
    environment = {**os.environ, "MITO_PASSWORD": str(up.config.password)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            said = process.stdout.readline() if process.stdout else b""
            if said.strip() != b"ready":
                raise SystemExit("the simulated workers did not start")
            yield
        finally:
            process.terminate()
            try:
                process.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


async def serve(config: WorkerConfig, count: int, folder: Path) -> None:
    """Be so many workers until SIGTERM."""
    departures = [Departure() for _ in range(count)]
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _leave, departures)
    lives: list[asyncio.Task[None]] = []
    for number, departure in enumerate(departures):
        there = asyncio.Event()
        life = _live(config, folder / str(number), departure, there)
        lives.append(asyncio.create_task(life))
        arrived = asyncio.create_task(there.wait())
        await asyncio.wait({lives[-1], arrived}, return_when=asyncio.FIRST_COMPLETED)
        if lives[-1].done():
            lives[-1].result()
    print("ready", flush=True)
    await asyncio.gather(*lives)


def _leave(departures: list[Departure]) -> None:
    for departure in departures:
        departure.wish("the measurement is over")


async def _live(
    config: WorkerConfig, path: Path, departure: Departure, there: asyncio.Event
) -> None:
    folder = WorkFolder.open(path)
    try:
        worker = Worker(
            config,
            folder,
            this_machine(folder.path),
            InstantEngine(config.slots, folder.slots / "instant"),  # type: ignore[arg-type]
            clean_environment(os.environ, own_user(), is_other_user=False, inherited=()),
            departure,
            lambda _: there.set(),
        )
        await worker.run(Session(config.as_client()))
    finally:
        folder.close()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--slots", type=int, default=SLOTS)
    parser.add_argument("--folder", type=Path, required=True, help="their work folders")
    parser.add_argument("--coordinator", required=True, help="its address")
    parser.add_argument("--user", required=True, help="who registers them; MITO_PASSWORD")
    parser.add_argument("--platform", help="data folder of the platform, for the eye of `ps`")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    config = WorkerConfig(
        coordinator_addr=given.coordinator,
        credential_path=given.folder / "credentials",
        user=given.user,
        password=os.environ["MITO_PASSWORD"],
        slots=given.slots,
    )
    run(serve(config, given.workers, given.folder))


if __name__ == "__main__":
    main()
