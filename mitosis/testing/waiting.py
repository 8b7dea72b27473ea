"""Waiting in tests: a question asked again with a bound, the last answer in the failure."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


async def eventually(question: Callable[[], T], *, seconds: float = 20.0) -> T:
    """Returns the first true answer.

    Raises:
        AssertionError: none within the bound; the message has the last answer.
    """
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {seconds} s")
        await asyncio.sleep(0.05)
    return answer


def open_files(pid: int) -> set[str]:
    """Returns what the descriptors of a process of Linux stand for; none when it has ended."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.add(str(link.readlink()))
    return found


def processes_with(text: str) -> list[int]:
    """Returns the living processes of Linux whose command line or environment holds a text."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            is_zombie = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            known = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if not is_zombie and text.encode() in known:
            found.append(int(folder.name))
    return found
