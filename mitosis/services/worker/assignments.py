"""What is pushed to the worker: assignments and orders, as calls to the core."""

import logging
from collections.abc import Callable

import msgspec

from mitosis.contract import subjects
from mitosis.contract.output import FollowOutput
from mitosis.contract.work import (
    Assignment,
    CancelAttempt,
    Control,
    Drain,
    Resize,
    Resumed,
    Resync,
)
from mitosis.nats.connection import Connection, Msg
from mitosis.services.worker.core import Core

log = logging.getLogger(__name__)

_assignments = msgspec.json.Decoder(Assignment)
_controls: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)


class Inbox:
    """The two subscriptions of a worker.

    Args:
        core: Told of assignments and cancels.
        on_drain: Told of orders to leave.
        on_resync: Asked to renew at once.
        on_slots: Told how many tasks may run at once.
        on_follow: Told who wants to see the output of an attempt.
        on_resumed: Told that it was resumed, before tasks come.
        on_secret: Told of assignments that need secret variables first.
        leads: Whether the coordinator of a term may be believed.
    """

    def __init__(
        self,
        core: Core,
        on_drain: Callable[[Drain], None],
        on_resync: Callable[[], None],
        on_slots: Callable[[int], None],
        on_follow: Callable[[FollowOutput], None],
        on_resumed: Callable[[], None],
        on_secret: Callable[[Assignment], None],
        leads: Callable[[int], bool],
    ) -> None:
        self._core = core
        self._on_drain = on_drain
        self._on_resync = on_resync
        self._on_slots = on_slots
        self._on_follow = on_follow
        self._on_resumed = on_resumed
        self._on_secret = on_secret
        self._leads = leads

    async def subscribe(self, connection: Connection, worker: str) -> None:
        """Listen, through all reconnects."""
        await connection.subscribe(subjects.control(worker), self.control)
        await connection.subscribe(subjects.work("*", worker), self.work)
        await connection.flush()

    def work(self, message: Msg) -> None:
        """Take an assignment. Synchronous: this is the hot path."""
        try:
            assignment = _assignments.decode(message.data)
        except msgspec.MsgspecError as error:
            # It cannot be named, so it cannot be handed back: its lease ends it.
            log.error("an assignment cannot be read: %s", error)
            return
        if not self._leads(assignment.term):
            # What is still to be done of it, the one that leads now pushes again.
            log.info("an assignment of a former coordinator is ignored: %s", assignment.task)
        elif assignment.spec.secrets:
            self._on_secret(assignment)
        else:
            self._core.assign(assignment)

    def control(self, message: Msg) -> None:
        """Obey an order."""
        try:
            order = _controls.decode(message.data)
        except msgspec.MsgspecError as error:
            log.error("an order cannot be read: %s", error)
            return
        match order:
            case CancelAttempt():
                self._core.cancel(order)
            case Drain():
                self._on_drain(order)
            case Resync():
                self._on_resync()
            case Resize(slots):
                self._on_slots(slots)
            case Resumed():
                self._on_resumed()
            case FollowOutput():
                self._on_follow(order)
