"""Secret values, taken out of what a program has written.

Each value, and each line of one, is found if it has four bytes or more; one that is written in
another form, in base64 say, is not. What is stored with the exit gets `***`; streams, of which
others know offsets, get as many stars as there were bytes.
"""

import re
from collections.abc import Iterable

SHORTEST_BYTES = 4  # a shorter value would be found everywhere
LONGEST_BYTES = 4_096  # longer ones are looked for in pieces, or much would be held back
MASK = b"***"
STAR = b"*"


class Masking:
    """What is looked for.

    Attributes:
        longest: Bytes of the longest part.
    """

    def __init__(self, values: Iterable[str]) -> None:
        wholes = {line for value in values for line in _lines(value.encode())}
        parts = {
            piece
            for whole in wholes
            for start in range(0, len(whole), LONGEST_BYTES)
            if len(piece := whole[start : start + LONGEST_BYTES]) >= SHORTEST_BYTES
        }
        self._parts = sorted(parts, key=len, reverse=True)
        self.longest = max(map(len, parts), default=0)
        self._pattern = re.compile(b"|".join(map(re.escape, self._parts)) or b"(?!)")

    def tail(self, data: bytes, *, cut: bool) -> bytes:
        """Return the end of a stream without secret values.

        Args:
            data: The last bytes, with room for the longest part before what is wanted.
            cut: There was more before: what begins inside of a value is left out too.
        """
        begin = min(len(data), max(0, self.longest - 1)) if cut else 0
        for match in self._pattern.finditer(data):
            if match.start() < begin < match.end():
                begin = match.end()
        end = self.open_end(data)
        open_ = MASK if len(data) - end >= SHORTEST_BYTES and end >= begin else data[end:]
        return self._pattern.sub(MASK, data[begin:end]) + (open_ if end >= begin else b"")

    def starred(self, data: bytes) -> bytes:
        """Return as many bytes, with stars where a value was."""
        return self._pattern.sub(lambda found: STAR * len(found[0]), data)

    def open_end(self, data: bytes) -> int:
        """Return where at the end of the data a value may begin that is not whole yet."""
        inside = [match.span() for match in self._pattern.finditer(data)]
        places = [
            place
            for part in self._parts
            for place in _ends_with_start(data, part)
            if not any(start < place < end for start, end in inside)
        ]
        return min(places, default=len(data))

    def open_start(self, data: bytes) -> int:
        """Return where at the start of the data a value may end that began before."""
        inside = max(
            (
                count
                for part in self._parts
                for count in range(SHORTEST_BYTES, min(len(part) - 1, len(data)) + 1)
                if data[count - 1] == part[-1] and part.endswith(data[:count])
            ),
            default=0,
        )
        for match in self._pattern.finditer(data):  # a whole one may begin with its own end
            if match.start() < inside < match.end():
                return match.end()
        return inside


class MaskedStream:
    """One stream, piece by piece; what may be the beginning of a value is held back."""

    def __init__(self, masking: Masking) -> None:
        self._masking = masking
        self._held = b""
        self._next: int | None = None  # offset behind what was fed

    def feed(self, offset: int, data: bytes) -> list[tuple[int, bytes]]:
        """Return what can be shown now, with the offset of each piece; none is empty."""
        shown: list[tuple[int, bytes]] = []
        if offset != (self._next or 0):  # the bytes before these are not known
            shown = self.end()
            inside = self._masking.open_start(data)
            data = STAR * inside + data[inside:]
        start, whole = offset - len(self._held), self._held + data
        self._next = offset + len(data)
        end = self._masking.open_end(whole)
        self._held = whole[end:]
        if end:
            shown.append((start, self._masking.starred(whole[:end])))
        return shown

    def end(self) -> list[tuple[int, bytes]]:
        """Return what was held back, as nothing follows that could belong to it."""
        held, self._held = self._held, b""
        if not held:
            return []
        starred = self._masking.starred(held)
        if starred == held and len(held) >= SHORTEST_BYTES:
            starred = STAR * len(held)
        return [((self._next or 0) - len(held), starred)]


def _lines(value: bytes) -> set[bytes]:
    return {value, *value.splitlines()}


def _ends_with_start(data: bytes, part: bytes) -> Iterable[int]:
    """Every place from which the data is the beginning of the part, but not all of it."""
    place = data.find(part[:1], max(0, len(data) - len(part) + 1))
    while place >= 0:
        if part.startswith(data[place:]):
            yield place
        place = data.find(part[:1], place + 1)


class MaskedLog:
    """A whole stream from its start, as it is packed."""

    def __init__(self, masking: Masking) -> None:
        self._stream, self._at = MaskedStream(masking), 0

    def feed(self, data: bytes) -> bytes:
        """Return what can be shown now."""
        at, self._at = self._at, self._at + len(data)
        return b"".join(piece for _, piece in self._stream.feed(at, data))

    def end(self) -> bytes:
        """Return the rest."""
        return b"".join(piece for _, piece in self._stream.end())
