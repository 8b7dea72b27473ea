"""What users may ask of the read models, each answer from one consistent state of them.

Most can also be asked of a moment of the past (`as_of`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg

from mitosis.contract.output import TaskRunner
from mitosis.contract.queries import (
    AsOf,
    AttachmentPage,
    EventPage,
    ExplainTask,
    Explanation,
    GetArtifact,
    GetAttachment,
    GetGroup,
    GetTask,
    GetWorker,
    GroupList,
    GroupView,
    ListAttachments,
    ListEvents,
    ListGroups,
    ListSessions,
    ListTasks,
    ListUsers,
    ListWorkers,
    SessionList,
    TaskPage,
    TaskView,
    UserPage,
    WhoAmI,
    WorkerPage,
    WorkerView,
)
from mitosis.errors import ViewUnavailable
from mitosis.projections import (
    attachment_reads,
    event_reads,
    explain_reads,
    group_reads,
    past_reads,
    task_reads,
    user_reads,
    worker_reads,
)
from mitosis.projections.commit import Decode
from mitosis.projections.past import READ_SECONDS as PAST_SECONDS
from mitosis.projections.past import Past
from mitosis.projections.pool import READ_SECONDS, ReadPool
from mitosis.projections.postgres import Connection, Reader
from mitosis.projections.rows import ArtifactRow, AttachmentRow
from mitosis.projections.viewer import Viewer, find_viewer, need_role

T = TypeVar("T")

PAST_AT_ONCE = 2  # fewer than there are connections, so that the present never waits for the past
PAST_WAIT_SECONDS = 2.0


class Queries:
    """Typed reads in the name of a user; permissions are checked inside.

    Every method raises ViewUnavailable when Postgres does not answer, and NotAllowed when the
    user is unknown, locked or deleted; further errors stand with the functions that are called.
    """

    def __init__(self, pool: ReadPool, decode: Decode) -> None:
        """`decode` reads commits of the archive, for answers of the past."""
        self._pool, self._decode = pool, decode
        self._past_free = asyncio.Semaphore(PAST_AT_ONCE)

    async def _as(
        self,
        user: str,
        read: Callable[[Connection, Viewer], Awaitable[T]],
        seconds: float = READ_SECONDS,
    ) -> T:
        async def run(connection: Connection) -> T:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            async with connection.transaction():
                return await read(connection, await find_viewer(connection, user))

        return await self._pool.read(run, seconds)

    @asynccontextmanager
    async def _turn_for_the_past(self) -> AsyncIterator[None]:
        """Give one of the few turns of questions that may take long."""
        try:
            async with asyncio.timeout(PAST_WAIT_SECONDS):
                await self._past_free.acquire()
        except TimeoutError:
            raise ViewUnavailable("too many questions to the past at once: send it again") from None
        try:
            yield
        finally:
            self._past_free.release()

    async def _at(
        self,
        user: str,
        as_of: AsOf,
        recall: Callable[[Past, Viewer], Awaitable[None]],
        read: Callable[[Reader, Viewer], Awaitable[T]],
    ) -> T:
        """Read what is, or what was: then `recall` says what has to be known for that."""
        if as_of is None:
            return await self._as(user, read)

        async def run(connection: Connection, viewer: Viewer) -> T:
            past = await Past.begin(connection, self._decode, as_of)
            try:
                async with asyncio.timeout(PAST_SECONDS):
                    await recall(past, viewer)
                    return await read(past, viewer)
            except TimeoutError:
                raise past.refused(f"it takes more than {PAST_SECONDS:g} s just now") from None

        async with self._turn_for_the_past():
            return await self._as(user, run, PAST_SECONDS + READ_SECONDS)

    async def whoami(self, user: str) -> WhoAmI:
        """Return the account that asks."""

        async def read(_: Connection, viewer: Viewer) -> WhoAmI:
            return user_reads.whoami(viewer)

        return await self._as(user, read)

    async def list_users(self, user: str, wanted: ListUsers) -> UserPage:
        """Return a page of accounts."""
        return await self._as(user, lambda c, viewer: user_reads.list_users(c, viewer, wanted))

    async def list_sessions(self, user: str, wanted: ListSessions) -> SessionList:
        """Return the open sessions of an account."""
        return await self._as(user, lambda c, viewer: user_reads.list_sessions(c, viewer, wanted))

    async def get_task(self, user: str, wanted: GetTask) -> TaskView:
        """Return a task by any of its names."""
        return await self._at(
            user, wanted.as_of,
            lambda past, viewer: past_reads.recall_task(past, viewer, wanted.task),
            lambda c, viewer: task_reads.get_task(c, viewer, wanted.task),
        )  # fmt: skip

    async def list_tasks(self, user: str, wanted: ListTasks) -> TaskPage:
        """Return a page of tasks of a group."""
        return await self._at(
            user, wanted.as_of,
            lambda past, viewer: past_reads.recall_tasks(past, viewer, wanted),
            lambda c, viewer: task_reads.list_tasks(c, viewer, wanted),
        )  # fmt: skip

    async def explain_task(self, user: str, wanted: ExplainTask) -> Explanation:
        """Return why a task waits, or has waited."""
        return await self._as(
            user, lambda c, viewer: explain_reads.explain_task(c, viewer, wanted.task)
        )

    async def get_runner(self, user: str, task: str) -> TaskRunner:
        """Return who runs a task, for one who may see its live output.

        Raises:
            NotAllowed: No role in its group, as an administrator may have none.
        """

        async def read(connection: Connection, viewer: Viewer) -> TaskRunner:
            found = await task_reads.get_runner(connection, viewer, task)
            need_role(viewer, found.group, "following")
            return found

        return await self._as(user, read)

    async def get_artifact(self, user: str, wanted: GetArtifact) -> ArtifactRow:
        """Return what is known of an artifact, with the name of its object."""
        return await self._as(user, lambda c, viewer: task_reads.get_artifact(c, viewer, wanted))

    async def get_attachment(self, user: str, wanted: GetAttachment) -> AttachmentRow:
        """Return what is known of an attachment, with the name of its object."""
        return await self._as(
            user, lambda c, viewer: attachment_reads.get_attachment(c, viewer, wanted)
        )

    async def list_attachments(self, user: str, wanted: ListAttachments) -> AttachmentPage:
        """Return a page of attachments of a group."""
        return await self._at(
            user, wanted.as_of,
            lambda past, viewer: past_reads.recall_attachments(past, wanted.group or viewer.name),
            lambda c, viewer: attachment_reads.list_attachments(c, viewer, wanted),
        )  # fmt: skip

    async def get_worker(self, user: str, wanted: GetWorker) -> WorkerView:
        """Return a worker by its UUID or the beginning of it."""
        return await self._at(
            user, wanted.as_of,
            lambda past, _: past_reads.recall_workers(past),
            lambda c, viewer: worker_reads.get_worker(c, viewer, wanted.worker),
        )  # fmt: skip

    async def list_workers(self, user: str, wanted: ListWorkers) -> WorkerPage:
        """Return a page of workers of a group."""
        return await self._at(
            user, wanted.as_of,
            lambda past, viewer: past_reads.recall_workers_of(past, wanted.group or viewer.name),
            lambda c, viewer: worker_reads.list_workers(c, viewer, wanted),
        )  # fmt: skip

    async def list_events(self, user: str, wanted: ListEvents) -> EventPage:
        """Return a part of the history."""
        return await self._as(user, lambda c, viewer: event_reads.list_events(c, viewer, wanted))

    async def get_group(self, user: str, wanted: GetGroup) -> GroupView:
        """Return a group."""
        return await self._at(
            user, wanted.as_of,
            lambda past, _: past_reads.recall_group(past, wanted.name),
            lambda c, viewer: group_reads.get_group(c, viewer, wanted.name),
        )  # fmt: skip

    async def list_groups(self, user: str, wanted: ListGroups) -> GroupList:
        """Return the groups in which the user has a role."""
        return await self._at(
            user, wanted.as_of,
            lambda past, _: past_reads.recall_groups(past),
            group_reads.list_groups,
        )  # fmt: skip
