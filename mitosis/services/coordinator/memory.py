"""The coordinator's memory as bytes and back: the content of a snapshot.

One frame for each field of the world, and many for the large ones, so that encoding never holds up
the loop for long. A snapshot of another form is not read: history is.
"""

import asyncio
import hashlib
from array import array
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any, get_type_hints

import msgspec

from mitosis.errors import CorruptData
from mitosis.services.coordinator.world import DERIVED, World

# Raise it when the same events fold into another memory of the same form.
FOLD = 1

CHUNK = 1_000  # entries a frame: about a millisecond
CHUNK_OF_IDS = 10_000
_TYPES: dict[str, Any] = {
    name: kind for name, kind in get_type_hints(World).items() if name not in DERIVED
}
_LARGE = frozenset({"tasks", "heads", "orders", "attachments"})
_IDS = frozenset({"ended", "deleted"})  # a number each, a million and more: in arrays
_encode = msgspec.msgpack.Encoder().encode


class Frame(msgspec.Struct, array_like=True):
    """A part of one field."""

    field: str
    content: bytes


def form() -> str:
    """Return the fingerprint of the form of the memory, of this version of the code."""
    schemas, components = msgspec.json.schema_components(list(_TYPES.values()))
    text = msgspec.json.encode([FOLD, list(_TYPES), schemas, components], order="sorted")
    return hashlib.sha256(text).hexdigest()[:16]


def take(world: World) -> list[tuple[str, Any]]:
    """Return a copy of the memory that later decisions do not change.

    It takes milliseconds, and a hundred more for each million of ended tasks. What a task or a
    head is never changes in place, so copies of the dictionaries are enough for them, and of the
    ids (an array of all of them at once takes four times as long); the rest is small and encoded at
    once.
    """
    taken: list[tuple[str, Any]] = []
    for name in _TYPES:
        value = getattr(world, name)
        if name in _LARGE:
            taken.append((name, dict(value)))
        elif name in _IDS:
            taken.append((name, value.copy()))
        else:
            taken.append((name, _encode(value)))
    return taken


async def frames(taken: list[tuple[str, Any]]) -> AsyncIterator[bytes]:
    """Yield the bytes of a memory that was taken."""
    for name, value in taken:
        for content in _contents(value):
            frame = _encode(Frame(name, content))
            yield len(frame).to_bytes(4, "big") + frame
            await asyncio.sleep(0)


def restore(data: bytes) -> World:
    """Return the memory that a snapshot holds.

    Raises:
        CorruptData: It does not.
    """
    world = World()
    decoders = {name: msgspec.msgpack.Decoder(kind) for name, kind in _TYPES.items()}
    try:
        for frame in _frames_of(data):
            if frame.field in _IDS:
                ids = array("Q")
                ids.frombytes(frame.content)
                getattr(world, frame.field).update(ids)
            elif frame.field in _LARGE:
                getattr(world, frame.field).update(decoders[frame.field].decode(frame.content))
            else:
                setattr(world, frame.field, decoders[frame.field].decode(frame.content))
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        raise CorruptData(f"the snapshot cannot be read: {error}") from error
    for name in world.workers:
        world.open(name)
    return world


def _contents(value: Any) -> Iterator[bytes]:
    match value:
        case bytes():
            yield value
        case set():
            ids = iter(value)
            while part := array("Q", islice(ids, CHUNK_OF_IDS)):
                yield part.tobytes()
        case _:
            entries = iter(value.items())
            while chunk := dict(islice(entries, CHUNK)):
                yield _encode(chunk)


def _frames_of(data: bytes) -> Iterator[Frame]:
    decode = msgspec.msgpack.Decoder(Frame).decode
    view, at = memoryview(data), 0
    while at < len(data):
        size = int.from_bytes(view[at : at + 4], "big")
        yield decode(view[at + 4 : at + 4 + size])
        at += 4 + size
