"""Questions for output that is not there yet: they wait until it is, or until the stream is over.

So following costs a task nothing while nobody asks, and whoever asks sets the pace.
"""

from collections.abc import Sequence

from .capture import Stream
from .frames import PIECE, Message

MAX_WAITING = 64
MAX_BYTES = 1 << 16


class Reads:
    """The questions of one run."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[int, int, int]] = {}

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for output."""
        return bool(self._waiting)

    def add(self, message: Message, streams: Sequence[Stream]) -> list[Message]:
        """Take a question. A negative offset of -1 is the present end, -2 one byte before it.

        Who has asked may have gone, unknown to us. So the oldest of `MAX_WAITING` gives way, and
        is told to ask again; the worker has half as many that still want an answer.

        Returns:
            What to answer to the one that gives way, if one does.
        """
        _, request, _, stream, offset, size = message
        if offset < 0:
            offset = max(0, streams[stream].total + offset + 1)
        told: list[Message] = []
        if len(self._waiting) >= MAX_WAITING:
            oldest = next(iter(self._waiting))
            told = [(PIECE, oldest, self._waiting.pop(oldest)[1], b"", True)]
        self._waiting[request] = (stream, offset, min(size, MAX_BYTES))
        return told

    def answers(self, streams: Sequence[Stream]) -> list[Message]:
        """Answers to those whose output is there."""
        found: list[Message] = []
        for request, (stream, offset, size) in list(self._waiting.items()):
            piece = streams[stream].read(offset, size)
            if piece is not None:
                del self._waiting[request]
                found.append((PIECE, request, *piece, True))
        return found

    def end(self) -> list[Message]:
        """Answers to the rest: nothing more comes."""
        found: list[Message] = [
            (PIECE, request, offset, b"", False)
            for request, (_, offset, _) in self._waiting.items()
        ]
        self._waiting.clear()
        return found
