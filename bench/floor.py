"""The floor: how fast this machine spawns and reaps `true` with nothing around it."""

import os
import time

PROGRAM = "/bin/true"


def spawn_rate(count: int, in_flight: int) -> float:
    """Return programs per second with `os.posix_spawn`, so many at once."""
    running = 0
    began = time.perf_counter()
    for _ in range(count):
        if running == in_flight:
            os.wait()
            running -= 1
        os.posix_spawn(PROGRAM, [PROGRAM], {})
        running += 1
    for _ in range(running):
        os.wait()
    return count / (time.perf_counter() - began)
