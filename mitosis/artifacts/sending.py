"""Sending a file to the place that was granted for it: by one PUT, or part by part."""

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from mitosis.artifacts.pieces import Digest
from mitosis.artifacts.transfer import Progress, Stop, Transfers
from mitosis.errors import NotAllowed


class Place(Protocol):
    """What the coordinator grants: `url` for one PUT, or so many parts of so many bytes."""

    @property
    def url(self) -> str:
        """Empty: it is sent in parts."""
        ...

    @property
    def parts(self) -> int:
        """How many."""
        ...

    @property
    def part_bytes(self) -> int:
        """Size of each but the last."""
        ...


Piece = Callable[[Stop], Digest]
RunPiece = Callable[[Piece], Awaitable[Digest]]
"""Runs blocking work in a thread and hands it what says that it shall stop."""

AskForUrls = Callable[[int], Awaitable[list[str]]]
"""(number of a part, from 1) -> URLs of it and of some that follow."""


async def send(
    transfers: Transfers,
    place: Place,
    path: Path,
    size_bytes: int,
    ask_for_urls: AskForUrls,
    run: RunPiece,
    progress: Progress | None = None,
) -> Digest:
    """Send a file; return its checksum. Repeating is safe: the place names one object.

    Raises:
        NotAllowed: The store refuses a URL, also one that was just asked for.
        ObjectsUnavailable: No success within the tries of a piece.
        OSError: The file cannot be read. InvalidInput: It became shorter.
        MitosisError: Whatever `ask_for_urls` raises.
    """

    def piece(url: str, number: int, digest: Digest) -> Piece:
        offset = (number - 1) * place.part_bytes
        length = min(place.part_bytes or size_bytes, size_bytes - offset)
        return lambda stop: transfers.upload(
            url, path, offset=offset, length=length, digest=digest, progress=progress, stop=stop
        )

    digest: Digest = hashlib.sha256()
    if not place.parts:
        return await run(piece(place.url, 1, digest))
    urls: list[str] = []
    for number in range(1, place.parts + 1):
        fresh = not urls
        if fresh:
            urls = await ask_for_urls(number)
        try:
            digest = await run(piece(urls[0], number, digest))
        except NotAllowed:
            if fresh:
                raise
            urls = await ask_for_urls(number)  # it has expired: the parts before took long
            digest = await run(piece(urls[0], number, digest))
        urls = urls[1:]
    return digest
