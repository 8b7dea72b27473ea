"""Where the time goes: `just bench-flame FOLDER` writes a flame graph of each of our processes.

Samples coordinator, projector, worker, guardian and runners with py-spy while a campaign of `true`
runs; py-spy is no part of the project: `pip install py-spy`.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

from bench.platform import connected, platform
from bench.processes import processes
from bench.work import SLOTS, throughput

SAMPLED = ("coordinator", "projector", "worker", "runners")
RATE = 250


async def _campaign(config: object, seconds: float) -> float:
    async with connected(config) as client:  # type: ignore[arg-type]
        rate = await throughput(client, 300)
        return await throughput(client, int(rate * seconds))


def main() -> None:
    """Start a platform, sample it, write the files."""
    parser = argparse.ArgumentParser(prog="just bench-flame", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/flames"))
    parser.add_argument("--seconds", type=float, default=15)
    given = parser.parse_args()
    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        raise SystemExit("py-spy is not installed: pip install py-spy")
    given.folder.mkdir(parents=True, exist_ok=True)
    with platform(workers=1, slots=SLOTS) as up:
        sampling = []
        for process in processes(up.data):
            if process.name in SAMPLED:
                file = given.folder / f"{process.name}-{process.pid}.svg"
                sampling.append(subprocess.Popen([
                    program, "record", "--pid", str(process.pid), "--output", str(file),
                    "--rate", str(RATE), "--duration", str(int(given.seconds)), "--nonblocking",
                ], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))  # fmt: skip
        rate = asyncio.run(_campaign(up.config, given.seconds))
        failed = [one for one in sampling if one.wait()]
    if failed:
        raise SystemExit(f"py-spy failed for {len(failed)} processes: run it as root")
    print(f"{rate:.0f} tasks/s while sampled; flame graphs are in {given.folder}")


if __name__ == "__main__":
    main()
