"""Recorders of how far one application has processed another, for the `eventsourcing` library."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
from eventsourcing.persistence import (
    IntegrityError,
    OperationalError,
    ProcessRecorder,
    ProgrammingError,
    Tracking,
    TrackingRecorder,
)

from mitosis.errors import MitosisError, VersionConflict
from mitosis.events.envelope import decode_commit
from mitosis.events.loop_thread import EventLoopThread
from mitosis.events.messages import last_message
from mitosis.events.originators import escape
from mitosis.events.recorders import JetStreamApplicationRecorder
from mitosis.events.store import Change, CommitContext, CommitStore, current_context

TRACKING_TOPIC = "tracking@1"

T = TypeVar("T")


class _TrackingBody(msgspec.Struct):
    application: str
    notification_id: int


class JetStreamTrackingRecorder(TrackingRecorder):
    """How far an application has processed another, as an aggregate of its own.

    Args:
        store: Where commits go.
        tracking_prefix: Subject before the names of applications.
        runner: The loop of `store`.
    """

    def __init__(
        self, store: CommitStore, tracking_prefix: str, runner: EventLoopThread | None = None
    ) -> None:
        self._track_store = store
        self._track_prefix = tracking_prefix
        self._track_runner = runner

    def insert_tracking(self, tracking: Tracking) -> None:
        """Record a position.

        Raises:
            IntegrityError: It is not above what was recorded before.
        """
        self._track_call(self.ainsert_tracking(tracking, current_context()))

    async def ainsert_tracking(self, tracking: Tracking, context: CommitContext) -> None:
        """Record a position, on the loop of the store; errors as above."""
        try:
            await self._track_store.append([await self._tracking_change(tracking)], context)
        except VersionConflict as error:
            raise IntegrityError(error.message) from error
        except MitosisError as error:
            raise OperationalError(error.message) from error

    def max_tracking_id(self, application_name: str) -> int | None:
        """Return the last recorded position of an application, or None."""
        return self._track_call(self._max_tracking(application_name))

    def _track_call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._track_runner is None:
            work.close()
            msg = "this recorder has no loop of its own: use its async methods"
            raise ProgrammingError(msg)
        return self._track_runner.call(work)

    async def _tracking_change(self, tracking: Tracking) -> Change:
        subject = f"{self._track_prefix}.{escape(tracking.application_name)}"
        last, version = await self._last_tracking(subject)
        if last is not None and last >= tracking.notification_id:
            msg = (
                f"{tracking.notification_id} of {tracking.application_name} is not above {last}, "
                "which was recorded before"
            )
            raise IntegrityError(msg)
        body = _TrackingBody(tracking.application_name, tracking.notification_id)
        return Change(subject, version + 1, [(TRACKING_TOPIC, msgspec.json.encode(body))])

    async def _max_tracking(self, application_name: str) -> int | None:
        subject = f"{self._track_prefix}.{escape(application_name)}"
        return (await self._last_tracking(subject))[0]

    async def _last_tracking(self, subject: str) -> tuple[int | None, int]:
        found = await last_message(self._track_store.nc, self._track_store.stream, subject)
        if found is None:
            return None, 0
        commit = decode_commit(found.subject, found.payload, found.position)
        body = msgspec.json.decode(commit.events[-1][1], type=_TrackingBody)
        return body.notification_id, commit.last_version


class JetStreamProcessRecorder(
    JetStreamTrackingRecorder, JetStreamApplicationRecorder, ProcessRecorder
):
    """Events and tracking in one atomic batch."""

    def __init__(
        self,
        store: CommitStore,
        prefix: str,
        tracking_prefix: str,
        runner: EventLoopThread | None = None,
    ) -> None:
        JetStreamTrackingRecorder.__init__(self, store, tracking_prefix, runner)
        JetStreamApplicationRecorder.__init__(self, store, prefix, runner)
