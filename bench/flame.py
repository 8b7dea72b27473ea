"""Where the time goes: `just bench-flame FOLDER` writes a flame graph of each of our processes.

Samples coordinator, projector, worker, guardian and runners with py-spy while a campaign of `true`
runs; py-spy is no part of the project: `pip install py-spy`. With --text it prints instead in which
functions each process was, with what they call, as parts of its samples.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.platform import Up, connected, platform
from bench.processes import processes
from bench.work import SLOTS, throughput

SAMPLED = ("coordinator", "projector", "worker", "runners")
RATE = 250
_LOOPS = ("uvloop/", "asyncio/runners")  # a stack that ends there waits, or is in C
LEAST_PART, MOST_PART = 0.03, 0.85


def main() -> None:
    """Start a platform, sample it, write the files."""
    parser = argparse.ArgumentParser(prog="just bench-flame", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/flames"))
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--text", action="store_true", help="functions instead of graphs")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    kind, ending = ("raw", "txt") if given.text else ("flamegraph", "svg")
    with platform(workers=1, slots=SLOTS) as up:
        sampling = dict(_sampling(up, given.folder, int(given.seconds), kind, ending))
        rate = asyncio.run(_campaign(up, given.seconds))
        without = [file for file, one in sampling.items() if one.wait()]
    for file in without:  # as of the guardian, which sleeps while all is well
        file.unlink(missing_ok=True)
        print(f"nothing was sampled for {file.stem}")
    if len(without) == len(sampling):
        raise SystemExit("py-spy could not look at any process: run it as root")
    for file in sorted(set(sampling) - set(without)) if given.text else ():
        print(f"\n{file.stem}:")
        print("\n".join(_parts(file.read_text())))
    print(f"{rate:.0f} tasks/s while sampled; the files are in {given.folder}")


def _sampling(
    up: Up, folder: Path, seconds: int, kind: str, ending: str
) -> "Iterator[tuple[Path, subprocess.Popen[bytes]]]":
    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        raise SystemExit("py-spy is not installed: pip install py-spy")
    for process in processes(up.data):
        if process.name in SAMPLED:
            file = folder / f"{process.name}-{process.pid}.{ending}"
            command = [
                program, "record", "--pid", str(process.pid), "--output", str(file),
                "--rate", str(RATE), "--duration", str(seconds), "--format", kind, "--nonblocking",
            ]  # fmt: skip
            quiet = subprocess.DEVNULL
            yield file, subprocess.Popen(command, stdout=quiet, stderr=quiet)


async def _campaign(up: Up, seconds: float) -> float:
    async with connected(up.config) as client:
        rate = await throughput(client, 300)
        return await throughput(client, max(300, int(rate * seconds)))


def _parts(raw: str) -> Iterator[str]:
    """Yield functions and their parts: `a;b;c 12` was sampled twelve times in c, called by b.

    What waits in the loop itself is left out, and so are functions that are in every stack.
    """
    within, total = Counter[str](), 0
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.partition(":")[0].removesuffix(")") for frame in stack.split(";")]
        if not count.isdigit() or any(place in frames[-1] for place in _LOOPS):
            continue  # a name that was read while it changed may have line ends in it
        total += int(count)
        for frame in set(frames):
            within[frame] += int(count)
    for frame, count in within.most_common():
        if LEAST_PART * total <= count <= MOST_PART * total:
            yield f"  {count / total:5.0%}  {frame})"


if __name__ == "__main__":
    main()
