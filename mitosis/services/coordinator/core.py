"""What every handler of the coordinator works with, and the way from a request to its reply."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any

import msgspec

from mitosis.contract import subjects, wire
from mitosis.domain import attachment
from mitosis.domain.attachment import Attachment
from mitosis.domain.event import Event
from mitosis.domain.task import Task, evolve
from mitosis.domain.user import User
from mitosis.errors import (
    AuthenticationFailed,
    MitosisError,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
)
from mitosis.nats.rpc import RETRY_AFTER_SECONDS, Caller
from mitosis.runtime import Clock, Ids
from mitosis.services.coordinator.answered import Answered
from mitosis.services.coordinator.dispatcher import Dispatcher
from mitosis.services.coordinator.journal import Journal, Unit, effects_on
from mitosis.services.coordinator.leases import Leases
from mitosis.services.coordinator.retries import Retries
from mitosis.services.coordinator.standing import Standing
from mitosis.services.coordinator.tally import INTERNAL, REPEATED, Tally
from mitosis.services.coordinator.uploads import Uploads
from mitosis.services.coordinator.vault import Vault
from mitosis.services.coordinator.watches import Watches
from mitosis.services.coordinator.world import Head, World

MAX_BACKGROUND = 1_000

log = logging.getLogger(__name__)

ReadAggregate = Callable[[str], Awaitable[tuple[list[Event], Head] | None]]
FindTask = Callable[[str], Awaitable[str | None]]
HasDone = Callable[[str, str, str], Awaitable[bool]]


class Core(msgspec.Struct):
    """The parts of a coordinator in its term.

    Attributes:
        read_aggregate: Reads the events and the head of an aggregate from the store.
        find_group: Finds the group of a task of which only the UUID is known, in the store.
        has_done: Whether a former term has stored a commit of an aggregate (its tail, `*` allowed)
            for a command (actor and id); not asked for ever.
        publish: Sends a message now, without waiting.
        tally: Counts what is answered, over all terms of the process.
        rights_changed: Told the names of users whose live connections must be let in anew.
    """

    world: World
    journal: Journal
    dispatcher: Dispatcher
    watches: Watches
    retries: Retries
    leases: Leases
    standing: Standing
    uploads: Uploads
    vault: Vault
    clock: Clock
    ids: Ids
    publish: Callable[[str, bytes], None]
    read_aggregate: ReadAggregate
    find_group: FindTask
    has_done: HasDone
    answered: Answered
    tally: Tally = msgspec.field(default_factory=Tally)
    rights_changed: Callable[[Iterable[str]], None] = lambda _: None
    background: set[asyncio.Task[None]] = msgspec.field(default_factory=set)

    def user(self, name: str) -> User:
        """Return the active account behind a request.

        Raises:
            AuthenticationFailed: It is unknown, locked or deleted.
        """
        user = self.world.users.get(name)
        if user is None or not user.active:
            raise AuthenticationFailed(f"user {name!r} may not act: log in again")
        return user

    def begin(self, actor: str, caller: Caller) -> Unit:
        """Begin the unit of a request.

        Raises:
            Overloaded: Too much is on its way to the disk; ask again a little later.
            StoreUnavailable: Nothing can be stored: its disk is full.
        """
        self.check_room()
        return self.journal.unit(actor, caller.request_id, self._session_of(caller))

    def has_room(self) -> bool:
        """Whether a command gets through `check_room`, or will not soon."""
        return self.journal.fault is not None or not self.journal.is_busy()

    def check_room(self) -> None:
        """Refuse a command for which there is no room.

        Raises:
            Overloaded: Too much is on its way to the disk; ask again a little later.
            StoreUnavailable: Nothing can be stored: its disk is full.
        """
        self.check_store()
        if self.journal.is_busy():
            raise Overloaded(
                "the coordinator has too many commands on their way: try again in a moment",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    def _session_of(self, caller: Caller) -> str:
        """Return the open session that asks, or "" when it is none (a worker, a password)."""
        user = self.world.users.get(caller.owner)
        session = caller.session
        return session if user is not None and session in user.sessions else ""

    def answer(
        self,
        unit: Unit,
        caller: Caller,
        result: msgspec.Struct,
        *,
        then_rights_of: Iterable[str] = (),
    ) -> None:
        """Close the unit, and reply when it is stored.

        Args:
            unit: With all events of the command.
            caller: Who gets the reply.
            result: The reply.
            then_rights_of: Users whose connections are let in anew after the reply, because the
                command has changed what they may do.
        """
        users = tuple(then_rights_of)

        def stored(position: int) -> None:
            data = _reply(result, position)
            self.answered.keep(caller, data)
            self.publish(caller.reply, data)
            self.tally.count(caller)
            if users:
                self.rights_changed(users)

        def failed(error: MitosisError) -> None:
            self.publish(caller.reply, wire.error_reply(error))
            self.tally.refused(caller, error)

        unit.then(stored, failed)
        unit.close()

    async def stored(self, unit: Unit) -> int:
        """Close the unit and wait until it is stored.

        Returns:
            The position of its last commit.

        Raises:
            MitosisError: It is not stored, or nobody knows.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        unit.then(*effects_on(done))
        unit.close()
        return await done

    def answer_at_once(self, caller: Caller, result: msgspec.Struct) -> None:
        """Reply with what stands on nothing that would have to be stored first."""
        self.answered.drop(caller)
        self.publish(caller.reply, _reply(result, 0))
        self.tally.count(caller)

    def check_store(self) -> None:
        """Refuse what would have to be stored while nothing can be.

        Raises:
            StoreUnavailable: With the reason.
        """
        if self.journal.fault:
            raise self._cannot_store()

    def _cannot_store(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"nothing can be stored, so commands are refused: {self.journal.fault}. Free space "
            "there; `mito up` then goes on by itself, a NATS server of your own must be restarted",
            retry_after_seconds=5.0,
        )

    def refuse(self, caller: Caller, error: MitosisError) -> None:
        """Reply with an error, when everything that it stands on is stored.

        If nothing can be stored, or too much waits for it, that is the answer, at once: it stands
        on nothing.
        """
        if self.journal.fault and not isinstance(error, OutcomeUnknown):
            error = self._cannot_store()
        if self.journal.fault or isinstance(error, Overloaded):
            self.publish(caller.reply, wire.error_reply(error))
            self.tally.refused(caller, error)
            return

        def stored(position: int) -> None:
            self.publish(caller.reply, wire.error_reply(error, position))
            self.tally.refused(caller, error)

        def failed(failure: MitosisError) -> None:
            self.publish(caller.reply, wire.error_reply(failure))
            self.tally.refused(caller, failure)

        try:
            self.journal.after_settled(stored, failed)
        except MitosisError as failure:
            failed(failure)

    def turned_away(self, caller: Caller, error: MitosisError) -> None:
        """Note a command that was refused before its handler has begun: it may come again."""
        self.answered.drop(caller)
        self.tally.turned_away(caller, error)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for; what goes wrong is logged."""
        if len(self.background) >= MAX_BACKGROUND:
            work.close()
            log.warning("too much to do in the background: something was left to the sweeper")
            return
        task = asyncio.create_task(_logged(work))
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def stored_task(self, group: str, uuid: str) -> Task:
        """Bring an ended task back into memory. Whoever calls it holds the task (`journal`).

        Raises:
            NotFound: There is no such task in this group.
        """
        tail = subjects.task_tail(group, uuid)
        found = await self.read_aggregate(tail)
        if uuid in self.world.tasks:  # somebody else was quicker
            return self.world.tasks[uuid]
        if found is None:
            raise NotFound(f"there is no task {uuid} in group {group!r}", task=uuid)
        events, head = found
        state: Task | None = None
        for event in events:
            state = evolve(state, event)
        if state is None:
            raise NotFound(f"there is no task {uuid} in group {group!r}", task=uuid)
        self.world.tasks[uuid] = state
        self.world.heads[tail] = head
        return state

    @contextlib.asynccontextmanager
    async def kept_task(self, uuid: str) -> AsyncIterator[Task]:
        """Return a task, and keep it in memory while inside, also when it has ended.

        Raises:
            NotFound: There is no such task.
        """
        known = self.world.tasks.get(uuid)
        group = known.group if known else await self.find_group(uuid)
        if group is None:
            raise NotFound(f"there is no task {uuid}", task=uuid)
        with self.journal.holding(subjects.task_tail(group, uuid)):
            yield self.world.tasks.get(uuid) or await self.stored_task(group, uuid)

    @contextlib.asynccontextmanager
    async def kept_attachment(self, group: str, key: str) -> AsyncIterator[Attachment | None]:
        """Return an attachment, and keep it in memory while inside, also when it was deleted."""
        tail = subjects.attachment_tail(group, key)
        with self.journal.holding(tail):
            state = self.world.state(tail)
            if state is None and self.world.was_deleted(tail):
                found = await self.read_aggregate(tail)
                if self.world.state(tail) is None and found is not None:
                    self._take_back(tail, *found)
            yield self.world.state(tail)

    def _take_back(self, tail: str, events: list[Event], head: Head) -> None:
        state: Attachment | None = None
        for event in events:
            state = attachment.evolve(state, event)
        if state is not None:
            self.world.attachments[tail.partition(".")[2]] = state
            self.world.heads[tail] = head


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except MitosisError as error:
        log.warning("work in the background failed: %s", error)


def _reply(result: msgspec.Struct, position: int) -> bytes:
    """Return a reply, which says so if it would be too large; nothing may stop other effects."""
    try:
        return wire.encode(wire.Reply(result=result, position=position))
    except MitosisError as error:
        return wire.error_reply(error, position)


Handler = Callable[[Caller, Any], Awaitable[None] | None]
Verbs = list[tuple[str, type[msgspec.Struct], Handler]]
"""What a class of handlers answers: `<noun>.<verb>`, the form of the body, and by what."""

Guarded = Callable[[Caller, Any], Any]


def guarded(core: Core, handler: Handler) -> Guarded:
    """Wrap a handler with what holds for all of them.

    Nothing is answered in doubt about the own standing, a repeated command gets its first reply,
    and refusals wait for the disk.
    """

    def handle(caller: Caller, body: Any) -> Awaitable[None] | None:
        try:
            core.standing.check()
        except MitosisError as error:
            core.publish(caller.reply, wire.error_reply(error))
            core.tally.refused(caller, error)
            return None
        seen, reply = core.answered.begin(caller)
        if seen:
            if reply is not None:
                core.publish(caller.reply, reply)
            elif fault := core.journal.fault:
                waits = f"the command waits to be stored, and may be done later: {fault}"
                core.publish(caller.reply, wire.error_reply(OutcomeUnknown(waits)))
            core.tally.count(caller, REPEATED)
            return None
        try:
            outcome = handler(caller, body)
        except MitosisError as error:
            core.answered.drop(caller)
            core.journal.check_closed()
            core.refuse(caller, error)
            return None
        except BaseException:
            core.answered.drop(caller)
            core.tally.count(caller, INTERNAL)
            core.journal.check_closed()
            raise
        return None if outcome is None else finish(caller, outcome)

    async def finish(caller: Caller, outcome: Awaitable[None]) -> None:
        try:
            await outcome
        except MitosisError as error:
            core.answered.drop(caller)
            core.journal.check_closed()
            core.refuse(caller, error)
        except BaseException:
            core.answered.drop(caller)
            core.tally.count(caller, INTERNAL)
            core.journal.check_closed()
            raise

    return handle
