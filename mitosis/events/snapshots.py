"""Snapshots: what a fold had in memory at a position, so that a start need not read all history.

A stream of their own. One snapshot is some messages of content and then a manifest, which makes it
valid: a writer that dies before leaves nothing that counts. A snapshot is never trusted more than
the events: its own digest is checked, and the commit at its position must be the one that it was
made from; else an older one is taken, and in the end all of history.
"""

import hashlib
import logging
from collections.abc import AsyncIterator

import msgspec
from nats.aio.client import Client

from mitosis.contract.subjects import ROOT
from mitosis.errors import StoreUnavailable
from mitosis.events.messages import (
    ask,
    found_or_made,
    parse_answer,
    request,
    subject_messages,
)

log = logging.getLogger(__name__)

STREAM = "MITO_SNAPSHOTS"
PREFIX = f"{ROOT}.snapshots"
KEPT = 3
MESSAGE_BYTES = 256 * 1024  # small beside the commits that share the server
STORE_SECONDS = 10.0


class Manifest(msgspec.Struct, frozen=True):
    """What is known of a snapshot.

    Attributes:
        form: Fingerprint of the form of the content.
        position: It holds all commits up to here.
        digest: Of the commit at this position.
        size_bytes: Of the content.
        sha256: Of the content.
        first: Sequence of its first message in the stream of snapshots.
        messages: How many messages of content there are.
    """

    form: str
    position: int
    digest: str
    size_bytes: int
    sha256: str
    first: int
    messages: int


_decode_manifest = msgspec.json.Decoder(Manifest).decode


class SnapshotStore:
    """Reads and writes snapshots; one writer at a time, the coordinator in office.

    Args:
        nc: An open connection of a service.
        stream: Name of the stream of snapshots.
        prefix: Its subjects.
    """

    def __init__(self, nc: Client, stream: str = STREAM, prefix: str = PREFIX) -> None:
        self._nc = nc
        self._stream = stream
        self._prefix = prefix

    async def ensure(self, replicas: int = 1) -> None:
        """Create the stream if it is not there. What it holds can be made again, at a cost.

        Raises:
            StoreUnavailable: JetStream does not answer or cannot create it.
        """
        config = {
            "name": self._stream,
            "subjects": [f"{self._prefix}.>"],
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "num_replicas": replicas,
            "allow_direct": True,
            "compression": "none",  # as the stream of events
        }
        await found_or_made(self._nc, config)

    async def manifests(self) -> list[Manifest]:
        """Return what is there, newest first; what cannot be read is left out.

        Raises:
            StoreUnavailable: The stream cannot be read now.
        """
        found = []
        subject = f"{self._prefix}.*.manifest"
        async for message in subject_messages(self._nc, self._stream, subject):
            try:
                found.append(_decode_manifest(message.payload))
            except msgspec.MsgspecError as error:
                log.warning("the manifest %d of a snapshot is damaged: %s", message.position, error)
        return sorted(found, key=lambda manifest: manifest.position, reverse=True)

    async def load(self, manifest: Manifest) -> bytes | None:
        """Return the content of a snapshot, or None when it is not what its manifest says.

        Raises:
            StoreUnavailable: The stream cannot be read now.
        """
        parts: list[bytes] = []
        subject = f"{self._prefix}.{manifest.position}.content"
        async for message in subject_messages(self._nc, self._stream, subject, manifest.first):
            parts.append(message.payload)
            if len(parts) == manifest.messages:
                break
        content = b"".join(parts)
        if (
            len(content) != manifest.size_bytes
            or hashlib.sha256(content).hexdigest() != manifest.sha256
        ):
            return None
        return content

    async def save(
        self, form: str, position: int, digest: str, content: AsyncIterator[bytes]
    ) -> Manifest:
        """Store a snapshot, and drop those that are too old.

        Raises:
            StoreUnavailable: It could not be stored whole; what there is of it does not count.
        """
        hashed, size, first, messages = hashlib.sha256(), 0, 0, 0
        async for piece in content:
            for start in range(0, len(piece), MESSAGE_BYTES):
                part = piece[start : start + MESSAGE_BYTES]
                sequence = await self._publish(f"{position}.content", part)
                first = first or sequence
                hashed.update(part)
                size += len(part)
                messages += 1
        manifest = Manifest(form, position, digest, size, hashed.hexdigest(), first, messages)
        await self._publish(f"{position}.manifest", msgspec.json.encode(manifest))
        await self._prune(manifest)
        return manifest

    async def _publish(self, tail: str, payload: bytes) -> int:
        reply = await ask(self._nc, f"{self._prefix}.{tail}", payload, timeout=STORE_SECONDS)
        answer = parse_answer(reply.data)
        if answer.error is not None:
            raise StoreUnavailable(f"the snapshot is not stored: {answer.error.description}")
        return answer.seq

    async def _prune(self, newest: Manifest) -> None:
        """Drop what is older than the last few; the replica that lists them may be behind."""
        others = [other for other in await self.manifests() if other.first < newest.first]
        oldest = min(manifest.first for manifest in [newest, *others[: KEPT - 1]])
        # Whatever lies before: older snapshots, and those whose writer died.
        await request(self._nc, f"$JS.API.STREAM.PURGE.{self._stream}", {"seq": oldest})
