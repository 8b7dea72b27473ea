"""Answers to `mito.query.<user>.<noun>.<verb>`: wait for the read models, then read."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import msgspec

from mitosis.contract import subjects
from mitosis.contract.output import FollowOutput, FollowTask, TaskRunner, check_follow
from mitosis.contract.queries import (
    ArtifactLink,
    AttachmentLink,
    AttachmentView,
    ExplainTask,
    GetArtifact,
    GetAttachment,
    GetGroup,
    GetTask,
    GetWorker,
    ListAttachments,
    ListEvents,
    ListGroups,
    ListSessions,
    ListTasks,
    ListUsers,
    ListWorkers,
    WorkerPage,
    WorkerView,
)
from mitosis.contract.wire import Nothing, Reply, encode
from mitosis.errors import (
    AuthenticationFailed,
    InvalidInput,
    MitosisError,
    Rejection,
    Unavailable,
    ViewUnavailable,
)
from mitosis.nats.rpc import Caller, Endpoints
from mitosis.projections.attachment_reads import view_of
from mitosis.projections.progress import Progress
from mitosis.projections.queries import Queries
from mitosis.services.projector.head import Head
from mitosis.services.projector.presence import PresenceOfWorkers

log = logging.getLogger(__name__)

B = TypeVar("B", bound=msgspec.Struct)

Tell = Callable[[str, bytes], None]
"""(subject, message): sent now, without waiting."""
PresignGet = Callable[[str, str], str]
"""(object name, file name for the one who downloads) -> URL that is valid for a while."""


class Links(NamedTuple):
    """Makers of download links for the two buckets."""

    artifact: PresignGet
    attachment: PresignGet


FRESHNESS_SECONDS = 2.0


class QueryHandlers:
    """One method a query; each answer includes everything stored before the query arrived.

    If the read models do not get there within two seconds, or the stream cannot say how far they
    have to get, the answer is what there is, marked as stale. A refusal cannot be marked: what is
    not found may have been stored meanwhile, so nobody is told that it is not there.
    """

    def __init__(
        self,
        queries: Queries,
        progress: Progress,
        head: Head,
        links: Links,
        presence: PresenceOfWorkers,
        tell: Tell,
    ) -> None:
        self._queries = queries
        self._progress = progress
        self._head = head
        self._links = links
        self._presence = presence
        self._tell = tell

    def register(self, endpoints: Endpoints) -> None:
        """Connect all verbs."""
        queries = self._queries
        endpoints.add("user.whoami", Nothing, self._fresh(lambda u, _: queries.whoami(u)))
        endpoints.add("user.list", ListUsers, self._fresh(queries.list_users))
        endpoints.add("session.list", ListSessions, self._fresh(queries.list_sessions))
        endpoints.add("task.get", GetTask, self._fresh(queries.get_task))
        endpoints.add("task.list", ListTasks, self._fresh(queries.list_tasks))
        endpoints.add("task.explain", ExplainTask, self._fresh(queries.explain_task))
        endpoints.add("task.follow", FollowTask, self._fresh(self._follow))
        endpoints.add("artifact.get", GetArtifact, self._fresh(self._artifact))
        endpoints.add("worker.get", GetWorker, self._fresh(self._worker))
        endpoints.add("worker.list", ListWorkers, self._fresh(self._workers))
        endpoints.add("attachment.get", GetAttachment, self._fresh(self._attachment))
        endpoints.add("attachment.meta", GetAttachment, self._fresh(self._attachment_meta))
        endpoints.add("attachment.list", ListAttachments, self._fresh(queries.list_attachments))
        endpoints.add("event.list", ListEvents, self._fresh(queries.list_events))
        endpoints.add("group.get", GetGroup, self._fresh(queries.get_group))
        endpoints.add("group.list", ListGroups, self._fresh(queries.list_groups))

    def _fresh(
        self, read: Callable[[str, B], Awaitable[msgspec.Struct]]
    ) -> Callable[[Caller, B], Awaitable[msgspec.Struct]]:
        async def answer(caller: Caller, body: B) -> msgspec.Struct:
            fresh = await self._catch_up()
            position = self._progress.applied_position  # before the read: it shows at least this
            try:
                return Reply(await read(caller.owner, body), position, stale=not fresh)
            except InvalidInput:
                raise
            except (Rejection, AuthenticationFailed) as error:
                if fresh:
                    raise
                raise _perhaps(error) from error

        return answer

    async def _catch_up(self) -> bool:
        deadline = asyncio.get_running_loop().time() + FRESHNESS_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                wanted = await self._head.position()
        except (Unavailable, TimeoutError) as error:
            log.warning("the stream does not say how far it is, answers are stale: %s", error)
            return False
        left = deadline - asyncio.get_running_loop().time()
        return await self._progress.wait_for(wanted, max(left, 0.0))

    async def _worker(self, user: str, wanted: GetWorker) -> WorkerView:
        view = await self._queries.get_worker(user, wanted)
        if wanted.as_of is None:
            await self._presence.complete([view])
        return view

    async def _workers(self, user: str, wanted: ListWorkers) -> WorkerPage:
        page = await self._queries.list_workers(user, wanted)
        if wanted.as_of is None:
            await self._presence.complete(page.workers)
        return page

    async def _follow(self, user: str, wanted: FollowTask) -> TaskRunner:
        """Let the worker know; it sends the output on a subject that only the group can hear."""
        check_follow(wanted)
        runner = await self._queries.get_runner(user, wanted.task)
        if wanted.token and runner.worker is not None and runner.attempt == wanted.attempt:
            order = FollowOutput(
                runner.task, runner.group, runner.attempt, f"{user}:{wanted.token}",
                wanted.stdout, wanted.stderr, wanted.again, wanted.stop,
            )  # fmt: skip
            self._tell(subjects.control(runner.worker), encode(order))
        return runner

    async def _artifact(self, user: str, wanted: GetArtifact) -> ArtifactLink:
        row = await self._queries.get_artifact(user, wanted)
        url = self._links.artifact(row.object_name, row.kind.filename)
        return ArtifactLink(row.task, row.kind, row.size_bytes, row.sha256, url)

    async def _attachment(self, user: str, wanted: GetAttachment) -> AttachmentLink:
        row = await self._queries.get_attachment(user, wanted)
        url = self._links.attachment(row.object_name, row.key.rpartition("/")[2])
        return AttachmentLink(row.group_name, row.key, row.size_bytes, row.sha256, url)

    async def _attachment_meta(self, user: str, wanted: GetAttachment) -> AttachmentView:
        return view_of(await self._queries.get_attachment(user, wanted))


def _perhaps(error: MitosisError) -> ViewUnavailable:
    """Return what is told instead of a refusal that stands on rows which may be old."""
    return ViewUnavailable(
        f"the read models do not have yet all that was stored, so this is not certain: {error}"
    )
