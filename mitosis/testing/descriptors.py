"""A process that can open nothing more, for a while."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

_BEYOND_EVERY_GAP = 200


@contextmanager
def without_descriptors() -> Iterator[None]:
    """Leave this process no descriptor, and so what a test runs in it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open("/", os.O_RDONLY) for _ in range(_BEYOND_EVERY_GAP)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in held:
            os.close(fd)
