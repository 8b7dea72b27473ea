"""From decisions to stored commits: the unit of work and the order of effects.

A unit collects the events of one command (or of one internal step) per aggregate. They change the
world at once, so that the next decision stands on them; they are encoded and handed to the
pipelined writer when the unit closes; effects that anyone outside can see (replies, pushes) run
only after everything before them is stored. When a commit cannot be stored, nothing behind it can
be either (each carries the expected end of the whole stream), so the world is thrown away and
read anew: an answer never stands on something that does not exist.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from mitosis.contract import subjects
from mitosis.domain.event import Command, Event
from mitosis.errors import MitosisError, OutcomeUnknown, StoreUnavailable, VersionConflict
from mitosis.events.catalogue import encode_event
from mitosis.events.envelope import Commit, digest, encode_commit
from mitosis.events.writer import Append, PipelinedWriter
from mitosis.runtime import Clock, Ids
from mitosis.services.coordinator.world import Head, World, decide

log = logging.getLogger(__name__)

OnStored = Callable[[int], None]
OnFailed = Callable[[MitosisError], None]

# An atomic batch is staged on disk first, which costs the server about 1 ms of CPU, and has one
# sync for all; a single commit costs a sync, about 0.3 ms. Many commits at once (a batch of
# submits, reports on many tasks) are therefore stored in batches (decisions/0009).
DEEP = 12
DEEP_BATCH = 250

# What the writer has no room for yet. Answers wait for all that is before them, renewals of workers
# too, so time is a bound as well: when a commit has waited for so long, new commands are refused.
BACKLOG = 20_000  # commits
BACKLOG_SECONDS = 0.25


class Unit:
    """The events of one step, on their way into the store.

    Always close it, and never await between beginning and closing it: its positions are predicted,
    and units must not be interleaved.

    `atomic`: commits of several aggregates are stored all or not at all, for the price of some
    milliseconds; otherwise each is, in order.
    """

    def __init__(self, journal: "Journal", actor: str, command_id: str, session: str = "") -> None:
        self._journal = journal
        self.actor = actor
        self.command_id = command_id
        self.session = session
        self.atomic = False
        self._events: dict[str, list[Event]] = {}
        self._offsets: dict[str, int] = {}
        self._on_stored: list[OnStored] = []
        self._on_failed: list[OnFailed] = []

    def run(self, tail: str, command: Command) -> list[Event]:
        """Decide a command on an aggregate and take the events in.

        Raises:
            Rejection: A rule says no; nothing of this command was taken in.
        """
        events = decide(tail, self._journal.world.state(tail), command)
        self.add(tail, events)
        return events

    def add(self, tail: str, events: Sequence[Event]) -> None:
        """Take decided events in."""
        if not events:
            return
        offset = self._offsets.setdefault(tail, len(self._offsets))
        position = self._journal.next_position + offset
        for event in events:
            self._journal.world.apply(tail, event, position)
        self._events.setdefault(tail, []).extend(events)

    @property
    def changed(self) -> bool:
        """Whether it has changed the world."""
        return bool(self._events)

    def then(self, on_stored: OnStored, on_failed: OnFailed | None = None) -> None:
        """Run `on_stored(position)` when all of the unit, and all before it, is stored."""
        self._on_stored.append(on_stored)
        if on_failed is not None:
            self._on_failed.append(on_failed)

    def touched(self) -> list[tuple[str, int]]:
        """Return the aggregates with events in this unit, and how many each has."""
        return [(tail, len(events)) for tail, events in self._events.items()]

    def close(self) -> None:
        """Decide what follows from the events, and hand all to the writer."""
        self._journal.before_close(self)
        self._journal.close_unit(self, self._events)

    def stored(self, position: int) -> None:
        """Run the effects; one that fails keeps none of the others back, such as the reply."""
        for effect in self._on_stored:
            try:
                effect(position)
            except Exception:
                log.exception("something that follows from commit %d could not be done", position)

    def failed(self, error: MitosisError) -> None:
        """Tell those who wait that it was not stored, or that nobody knows."""
        for effect in self._on_failed:
            effect(error)


class Journal:
    """The one way into the store for a coordinator in its term.

    The writer takes a bounded number of commits at once; more than that wait here, in order, up to
    `BACKLOG` and for `BACKLOG_SECONDS`. Positions are given out when a commit is decided, wherever
    it waits.
    """

    def __init__(
        self,
        world: World,
        writer: PipelinedWriter,
        clock: Clock,
        ids: Ids,
        on_failed: OnFailed = lambda _: None,
    ) -> None:
        """`on_failed` is told when a commit cannot even be handed to the writer."""
        self.world = world
        self._on_failed = on_failed
        self._writer = writer
        self._clock = clock
        self._ids = ids
        self._next = writer.next_position
        self._backlog: deque[_Entry] = deque()
        self._backlog_size = 0
        self._units: deque[tuple[int, Unit]] = deque()
        self._stored_up_to = writer.next_position - 1
        self._pending: dict[str, int] = {}
        self._open: Unit | None = None
        self._held: dict[str, int] = {}
        self._failure: MitosisError | None = None
        self.before_close: Callable[[Unit], None] = lambda _: None
        self.proved_at = 0.0
        """When (of the clock) the newest stored commit was decided: nobody else had written."""

    @property
    def next_position(self) -> int:
        """Position that the next commit will have."""
        return self._next

    @property
    def position(self) -> int:
        """Position of the last commit that was decided, stored or on its way."""
        return self._next - 1

    @property
    def sent_position(self) -> int:
        """Position of the last commit that was handed to the writer.

        What stands behind it in the stream is somebody else's. (`position` may be far ahead of it,
        by more than another one stores when it takes over.)
        """
        return self._writer.next_position - 1

    def is_busy(self) -> bool:
        """Whether new commands should be turned away for the moment."""
        self.hand_on()
        if not self._backlog:
            return False
        waited = self._clock.monotonic() - self._backlog[0].since
        return waited > BACKLOG_SECONDS or self._backlog_size > BACKLOG

    @property
    def fault(self) -> str | None:
        """Why nothing can be stored until a person has helped, or None."""
        return self._writer.fault

    def unit(self, actor: str, command_id: str = "", session: str = "") -> Unit:
        """Begin a step; `session` is that of the user who asked.

        Raises:
            MitosisError: The store is closed for this term.
        """
        if self._failure is not None:
            raise self._failure
        self._open = Unit(self, actor, command_id, session)
        return self._open

    def check_closed(self) -> None:
        """Make sure, after something went wrong, that the world is not ahead of the store.

        A step that changed the world and was left open ends the term: history is read anew.
        """
        unit, self._open = self._open, None
        if unit is not None and unit.changed:
            error = StoreUnavailable("the coordinator failed inside and starts anew: try again")
            self.fail(error)
            self._on_failed(error)

    def close_unit(self, unit: Unit, events: dict[str, list[Event]]) -> None:
        """Encode the commits of a unit, hand them in, and keep its effects until all is stored."""
        self._open = None
        if self._failure is not None:
            unit.failed(self._failure)
            return
        appends = [self._encode(unit, tail, of_tail) for tail, of_tail in events.items()]
        tails = list(events)
        size = self._entry_size(unit, len(appends))
        for start in range(0, len(appends), size):
            end = start + size
            self._hand_in(appends[start:end], tails[start:end])
        self._units.append((self.position, unit))
        self._progress()

    @staticmethod
    def _entry_size(unit: Unit, commits: int) -> int:
        """Say how many commits are stored together: all, one by one, or many for one sync."""
        if unit.atomic:
            return max(1, commits)
        return DEEP_BATCH if commits >= DEEP else 1

    def after_settled(self, effect: OnStored, on_failed: OnFailed) -> None:
        """Run an effect when everything decided so far is stored (for refusals)."""
        unit = Unit(self, "", "")
        unit.then(effect, on_failed)
        unit.close()

    def release(self, tail: str) -> None:
        """Let an aggregate out of memory if it has ended and nothing of it is on its way."""
        if tail not in self._pending and tail not in self._held:
            self.world.forget(tail)

    @contextlib.contextmanager
    def holding(self, tail: str) -> Iterator[None]:
        """Keep an aggregate in memory while inside, also when it has ended.

        What is read from the store while nobody holds it may be out of date when the answer comes.
        """
        self._held[tail] = self._held.get(tail, 0) + 1
        try:
            yield
        finally:
            self._held[tail] -= 1
            if not self._held[tail]:
                del self._held[tail]
                self.release(tail)

    async def flush(self) -> None:
        """Wait until everything that was decided is stored.

        Raises:
            MitosisError: It cannot be.
        """
        settled: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.after_settled(*effects_on(settled))
        await settled

    def fail(self, error: MitosisError) -> None:
        """End the term: nothing more is stored, and everybody who waits is told to ask again."""
        if self._failure is None:
            if isinstance(error, VersionConflict):
                error = OutcomeUnknown("another coordinator has taken over: send it again")
            self._failure = error
            self._backlog.clear()
            units, self._units = self._units, deque()
            for _, unit in units:
                unit.failed(error)

    def _encode(self, unit: Unit, tail: str, events: Sequence[Event]) -> Append:
        head = self.world.heads.get(tail) or Head()
        commit = Commit(
            commit=self._ids.commit_id(),
            command=unit.command_id,
            actor=unit.actor,
            time=self._clock.now(),
            version=head.version + 1,
            previous=head.digest,
            events=[encode_event(event) for event in events],
            session=unit.session,
        )
        subject = subjects.events(tail)
        payload = encode_commit(commit)
        self.world.link(tail, Head(commit.last_version, self._next, digest(subject, payload)))
        self._next += 1
        self._pending[tail] = self._pending.get(tail, 0) + 1
        return Append(subject, payload, head.position)

    def _hand_in(self, appends: list[Append], tails: list[str]) -> None:
        self._backlog.append(_Entry(appends, tails, self._clock.monotonic()))
        self._backlog_size += len(appends)
        self.hand_on()

    def hand_on(self) -> None:
        """Give the writer what it has room for; nobody tells when it has settled lost answers."""
        backlog = self._backlog
        while backlog and self._writer.room >= len(backlog[0].appends) and not self._failure:
            entry = backlog.popleft()
            self._backlog_size -= len(entry.appends)
            try:
                self._writer.send_batch(entry.appends, partial(self._stored, entry))
            except MitosisError as error:
                self.fail(error)
                self._on_failed(error)

    def _stored(self, entry: "_Entry", position: int) -> None:
        self._stored_up_to = position
        self.proved_at = entry.since
        for tail in entry.tails:
            left = self._pending[tail] - 1
            if left:
                self._pending[tail] = left
            else:
                del self._pending[tail]
                self.release(tail)
        if self._failure is None:
            self.hand_on()
        self._progress()

    def _progress(self) -> None:
        units = self._units
        while units and units[0][0] <= self._stored_up_to:
            at, unit = units.popleft()
            unit.stored(at)


def effects_on(waiter: "asyncio.Future[int]") -> tuple[OnStored, OnFailed]:
    """Return effects that end a future, which whoever waits for it may have given up."""

    def stored(position: int) -> None:
        if not waiter.done():
            waiter.set_result(position)

    def failed(error: MitosisError) -> None:
        if not waiter.done():
            waiter.set_exception(error)

    return stored, failed


class _Entry(NamedTuple):
    """Commits that are stored together: one, or an atomic batch.

    Attributes:
        since: When they were decided, by the monotonic clock.
    """

    appends: list[Append]
    tails: list[str]
    since: float
