"""Following the output of a run while it is written.

The runner is asked for each piece, so the reader sets the pace: a slow one delays no task and fills
no memory. What it misses is said by the offset of the next piece. Nobody following costs nothing.
"""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mitosis.processes.runs import RunResult, StreamName, StreamResult

if TYPE_CHECKING:
    from mitosis.processes.run import Run

STREAMS: tuple[StreamName, StreamName] = ("stdout", "stderr")
_PIECE_BYTES = 1 << 16


class Chunk(Struct, frozen=True):
    """A piece of output, exactly as written; a character may be cut at its ends.

    Attributes:
        stream: which one.
        offset: of the first byte in the stream.
        data: the bytes; never empty.
        skipped_bytes: missing before these: they were not kept, or not read in time.
    """

    stream: StreamName
    offset: int
    data: bytes
    skipped_bytes: int = 0


Sink = Callable[[Chunk], Awaitable[None]]


class Follow:
    """Somebody who follows one run; made by `Run.start_follow`."""

    def __init__(self, run: "Run", sink: Sink, begin: Mapping[StreamName, int]) -> None:
        self._run = run
        self._sink = sink
        self._files: dict[int, int] = {}
        self._tasks = [
            asyncio.ensure_future(self._follow(STREAMS.index(stream), offset))
            for stream, offset in begin.items()
        ]

    async def wait(self) -> None:
        """Until everything was given to the sink.

        Raises:
            Exception: what the sink raised; the following is over then.
        """
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Follow no more; the task is not touched."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._close_files()
        self._run.forget_follow(self)

    def run_ended(self, result: RunResult) -> None:
        """Hold what the folder has, which is emptied after the release (for the run)."""
        for index, stream in enumerate((result.stdout, result.stderr)):
            if stream.head_bytes or stream.kept_bytes > len(stream.tail):
                held = _open_log(result.folder / "output" / f"{STREAMS[index]}.log")
                if held is not None:
                    self._files[index] = held

    async def _follow(self, index: int, offset: int) -> None:
        while True:
            start, data, more = await self._run.read(index, offset, _PIECE_BYTES)
            if data:
                expected = offset if offset >= 0 else start
                offset = await self._give(index, expected, start, data)
                continue
            offset = start if start >= 0 else offset
            if not more:
                break
        await self._give_rest(index, offset)

    async def _give(self, index: int, expected: int, start: int, data: bytes) -> int:
        """Hand a piece over; the offset behind it."""
        await self._sink(Chunk(STREAMS[index], start, data, start - expected))
        return start + len(data)

    async def _give_rest(self, index: int, offset: int) -> None:
        """What came after the last answer, from the file and the tail."""
        result = await self._run.result()
        stream = result.stdout if index == 0 else result.stderr
        if offset < 0:
            offset = max(0, stream.total_bytes + offset + 1)
        held = self._files.get(index)
        if held is not None:
            while offset < stream.head_bytes:
                data = os.pread(held, min(_PIECE_BYTES, stream.head_bytes - offset), offset)
                if not data:
                    break
                offset = await self._give(index, offset, offset, data)
        end = _end(stream, held)
        start = max(offset, stream.total_bytes - len(end))
        if start < stream.total_bytes:
            data = end[len(end) - (stream.total_bytes - start) :]
            await self._give(index, offset, start, data)

    def _close_files(self) -> None:
        for held in self._files.values():
            os.close(held)
        self._files.clear()


def _open_log(path: Path) -> int | None:
    """The log of a stream; None when the task has taken it away, or put something in its place.

    What is missing is then said as skipped. Not blocking: a pipe in its place would never open.
    """
    try:
        held = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(held).st_mode):
        return held
    os.close(held)
    return None


def _end(stream: StreamResult, held: int | None) -> bytes:
    """The last bytes of a stream that are kept: of its file, or its tail if that is longer."""
    size = stream.kept_bytes - stream.head_bytes
    if held is None or size <= len(stream.tail):
        return stream.tail
    data = os.pread(held, size, max(0, os.fstat(held).st_size - size))
    return data if len(data) == size else stream.tail  # the task cut its log short
