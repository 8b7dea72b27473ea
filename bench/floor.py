"""The floor: how fast this machine spawns and reaps `true` with nothing around it.

As a program, so that nothing else is in its process: `python -m bench.floor COUNT IN_FLIGHT`
prints programs a second.
"""

import os
import subprocess
import sys
import time

PROGRAM = "/bin/true"


def spawn_rate(count: int, in_flight: int, *argv: str) -> float:
    """Return programs per second with `os.posix_spawn`, so many at once."""
    argv = argv or (PROGRAM,)
    running = 0
    began = time.perf_counter()
    for _ in range(count):
        if running == in_flight:
            os.wait()
            running -= 1
        os.posix_spawn(argv[0], argv, {})
        running += 1
    for _ in range(running):
        os.wait()
    return count / (time.perf_counter() - began)


def measured(count: int, in_flight: int, *argv: str) -> float:
    """Return `spawn_rate` of a process that does nothing else."""
    command = [sys.executable, __file__, str(count), str(in_flight), *argv]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def xargs_rate(count: int, at_once: int) -> float:
    """Return programs per second of `xargs -P`."""
    numbers = "\n".join(map(str, range(count))).encode()
    began = time.perf_counter()
    subprocess.run(["xargs", f"-P{at_once}", "-n1", PROGRAM], input=numbers, check=True)
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    print(spawn_rate(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
