"""Appending to and reading from a stream for the recorders: one commit at a time, checked.

For many writers side by side (the library's applications, tools); the coordinator's only writer
is in writer.py. The server is the authority on versions: every append names the sequence that it
expects of its subject. What is cached here only saves reads.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import NamedTuple

import msgspec
from nats.aio.client import Client

from mitosis.errors import OutcomeUnknown, StoreUnavailable, TooLarge, VersionConflict
from mitosis.events.envelope import Body, Commit, commit_id, decode_commit, digest, encode_commit
from mitosis.events.messages import (
    WRONG_LAST_SEQUENCE,
    WRONG_LAST_SEQUENCE_IN_FLIGHT,
    StoredMessage,
    ask,
    last_message,
    next_message,
    parse_answer,
)
from mitosis.runtime import Clock, Ids, RandomIds, SystemClock

BUDGET_SECONDS = 15.0  # an election of a new stream leader takes 4 to 9 s
HEADS = 10_000
EVENTS_PER_COMMIT = 1024  # a notification id is position << 10 | index
BATCH_LIMIT = 1000
_LONGEST_PAUSE_SECONDS = 1.0
_HEADER_ROOM_BYTES = 512


class CommitContext(msgspec.Struct, frozen=True):
    """Who commits, by which command, when; for plain use of the library."""

    actor: str = "system:library"
    command: str = ""
    now: datetime | None = None


_LIBRARY = CommitContext()
_context: ContextVar[CommitContext] = ContextVar("mitosis_commit_context")


@contextmanager
def commit_context(
    *, actor: str = "system:library", command: str = "", now: datetime | None = None
) -> Iterator[None]:
    """Say for the commits inside who makes them, by which command and when.

    Args:
        actor: `user:<name>`, `worker:<uuid>` or `system:<part>`.
        command: Id of the command.
        now: Time of the commits, with a zone; the clock's time if not given.
    """
    token = _context.set(CommitContext(actor, command, now))
    try:
        yield
    finally:
        _context.reset(token)


def current_context() -> CommitContext:
    """Return the context of the caller."""
    return _context.get(_LIBRARY)


class Head(NamedTuple):
    """The end of an aggregate: last version, position and digest of its last commit."""

    version: int | None
    position: int
    digest: str


NO_HEAD = Head(None, 0, "")


class Change(NamedTuple):
    """Events to append to one subject, the first with the given version."""

    subject: str
    version: int
    events: Sequence[tuple[str, Body]]


class CommitStore:
    """Appends commits to one stream and keeps the heads of the aggregates it has seen.

    Args:
        nc: An open connection.
        stream: Name of the stream.
        clock: Gives commits their time, unless their context does.
        ids: Gives commits their ids.
        budget_seconds: How long an append tries to find out its outcome.
    """

    def __init__(
        self,
        nc: Client,
        stream: str,
        clock: Clock | None = None,
        ids: Ids | None = None,
        budget_seconds: float = BUDGET_SECONDS,
    ) -> None:
        self._clock = clock or SystemClock()
        self._ids = ids or RandomIds()
        self.nc = nc
        self.stream = stream
        self._budget = budget_seconds
        self._heads: OrderedDict[str, Head] = OrderedDict()

    async def head(self, subject: str) -> Head:
        """Return the end of an aggregate, from the cache or the stream's leader."""
        cached = self._heads.get(subject)
        if cached is not None:
            self._heads.move_to_end(subject)
            return cached
        found = await last_message(self.nc, self.stream, subject)
        return NO_HEAD if found is None else self._learn(found)

    def forget(self, subjects: Sequence[str]) -> None:
        """Drop cached heads, after a conflict."""
        for subject in subjects:
            self._heads.pop(subject, None)

    async def append(
        self, changes: Sequence[Change], context: CommitContext, *, gaps: bool = False
    ) -> list[int]:
        """Store changes, all or none, and return the position of each.

        Args:
            changes: What to append, in order; a subject may come again.
            context: Who, by which command, when.
            gaps: Versions of an aggregate may skip numbers (snapshots do).

        Raises:
            VersionConflict: A version is taken; nothing was stored.
            TooLarge: More commits than an atomic batch takes, or one that is too large.
            OutcomeUnknown: It could not be found out in time whether they were stored.
        """
        if len(changes) > BATCH_LIMIT:
            msg = f"{len(changes)} commits at once; an atomic batch takes {BATCH_LIMIT}"
            raise TooLarge(msg, size=len(changes), limit=BATCH_LIMIT)
        messages, heads, expected = await self._encode(changes, context, gaps=gaps)
        position = await self._settled(messages, expected)
        first = position - len(messages) + 1
        for offset, (subject, _) in enumerate(messages):
            self._remember(subject, heads[offset]._replace(position=first + offset))
        return list(range(first, position + 1))

    async def _encode(
        self, changes: Sequence[Change], context: CommitContext, *, gaps: bool
    ) -> tuple[list[tuple[str, bytes]], list[Head], dict[str, int]]:
        now = context.now or self._clock.now()
        messages: list[tuple[str, bytes]] = []
        heads: list[Head] = []
        expected: dict[str, int] = {}
        ends: dict[str, Head] = {}
        limit = self.nc.max_payload - _HEADER_ROOM_BYTES
        for subject, version, events in changes:
            head = ends.get(subject)
            if head is None:
                head = await self._expected_head(subject, version)
                expected[subject] = head.position
            _check_version(subject, version, head, gaps=gaps)
            commit = Commit(
                self._ids.commit_id(),
                context.command,
                context.actor,
                now,
                version,
                head.digest,
                events,
            )
            payload = encode_commit(commit)
            if len(payload) > limit:
                msg = f"a commit of {len(payload)} bytes is over the limit of {limit} bytes"
                raise TooLarge(msg, size=len(payload), limit=limit)
            messages.append((subject, payload))
            ends[subject] = Head(commit.last_version, 0, digest(subject, payload))
            heads.append(ends[subject])
        return messages, heads, expected

    async def _expected_head(self, subject: str, version: int) -> Head:
        if version <= 1 and subject not in self._heads:
            return NO_HEAD  # most likely new; the server knows better if not
        return await self.head(subject)

    async def _settled(self, messages: list[tuple[str, bytes]], expected: dict[str, int]) -> int:
        """Send until the outcome is known; return the position of the last message."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._budget
        pause = 0.02
        reason = ""
        while True:
            try:
                position, reason = await self._send(messages, expected)
                if not position:
                    position = await self._find(messages, expected)
            except StoreUnavailable as error:
                position, reason = 0, error.message
            if position:
                return position
            if loop.time() >= deadline:
                self.forget(list(expected))
                msg = (
                    f"it could not be found out within {self._budget:g} s whether the commit on "
                    f"{messages[0][0]} was stored: {reason}. Read the aggregate again."
                )
                raise OutcomeUnknown(msg, subject=messages[0][0])
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _send(
        self, messages: list[tuple[str, bytes]], expected: dict[str, int]
    ) -> tuple[int, str]:
        """Send once; return the position, or 0 and why the outcome must be looked up."""
        batch = self._ids.commit_id() if len(messages) > 1 else ""
        unchecked = dict(expected)
        for index, (subject, payload) in enumerate(messages, 1):
            headers: dict[str, str] = {}
            if subject in unchecked:
                headers["Nats-Expected-Last-Subject-Sequence"] = str(unchecked.pop(subject))
            if batch:
                headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(index)}
            if index < len(messages):
                await self._publish(subject, payload, headers)
                continue
            if batch:
                headers["Nats-Batch-Commit"] = "1"
            reply = await ask(self.nc, subject, payload, headers)
            answer = parse_answer(reply.data)
            if answer.error is None:
                return answer.seq, ""
            codes = {WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_IN_FLIGHT}
            if answer.error.err_code not in codes:
                raise StoreUnavailable(answer.error.description, err_code=answer.error.err_code)
            return 0, answer.error.description
        return 0, "nothing to send"

    async def _publish(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        if not self.nc.is_connected:
            msg = "the connection to NATS is down"
            raise StoreUnavailable(msg)
        await self.nc.publish(subject, payload, headers=headers)

    async def _find(self, messages: list[tuple[str, bytes]], expected: dict[str, int]) -> int:
        """Look up what became of a send.

        Returns:
            The position of the last message if ours are stored; 0 if nothing is stored yet.

        Raises:
            VersionConflict: Somebody else wrote to one of the aggregates.
        """
        for index, (subject, payload) in enumerate(messages):
            if subject in {other for other, _ in messages[:index]}:
                continue
            # The server has checked what we expect, so ours can only be the very next one.
            found = await next_message(self.nc, self.stream, subject, expected[subject] + 1)
            if found is None:
                continue
            if commit_id(found.payload) == commit_id(payload):
                return found.position - index + len(messages) - 1
            self.forget(list(expected))
            msg = f"somebody else wrote to {subject} first"
            raise VersionConflict(msg, subject=subject, expected=expected[subject])
        return 0

    def _learn(self, message: StoredMessage) -> Head:
        commit = decode_commit(message.subject, message.payload, message.position)
        head = Head(commit.last_version, message.position, digest(message.subject, message.payload))
        self._remember(message.subject, head)
        return head

    def _remember(self, subject: str, head: Head) -> None:
        self._heads[subject] = head
        self._heads.move_to_end(subject)
        if len(self._heads) > HEADS:
            self._heads.popitem(last=False)


def _check_version(subject: str, version: int, head: Head, *, gaps: bool) -> None:
    if head.version is None or version == head.version + 1 or (gaps and version > head.version):
        return
    if version <= head.version:
        msg = f"version {version} of {subject} is taken; the last is {head.version}"
    else:
        msg = f"version {version} of {subject} would leave a gap behind {head.version}"
    raise VersionConflict(msg, subject=subject, version=version, last=head.version)
