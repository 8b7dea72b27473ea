"""The client: one object per noun, and the seed's flat methods over them.

Meaning, units and errors of a flat method are written once, at the noun's method that it names;
documented.py shows them at both. A noun is imported when it is used: a command needs one of them.
"""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import TYPE_CHECKING, Self

from mitosis.client.session import Session
from mitosis.config.client import DEFAULT_MAX_EXTRACTED_BYTES, ClientConfig, WaitUntil

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Collection,
        Iterable,
        Mapping,
        Sequence,
    )
    from datetime import datetime, timedelta
    from pathlib import Path
    from types import TracebackType

    from mitosis.client.artifacts import Artifacts
    from mitosis.client.attachments import Attachments
    from mitosis.client.changes import HistoryEntry
    from mitosis.client.comparison import TaskComparison
    from mitosis.client.events import Events
    from mitosis.client.groups import Groups
    from mitosis.client.nats_access import NatsAccess
    from mitosis.client.network import Network
    from mitosis.client.output_source import FollowEvent
    from mitosis.client.overview import Overview
    from mitosis.client.platform import PlatformCommands
    from mitosis.client.readers import Reader, ReadersOf
    from mitosis.client.reruns import Origin, RerunResult, Reruns, Selection
    from mitosis.client.runs import WorkerRun
    from mitosis.client.states import ReachedState
    from mitosis.client.task_changes import TaskChange
    from mitosis.client.tasks import Tasks
    from mitosis.client.threads import Progress
    from mitosis.client.users import Users
    from mitosis.client.waiting import WaitProgress
    from mitosis.client.workers import Workers
    from mitosis.config.client import (
        ChangeTaskArgs,
        CreateUserArgs,
        GetAttachmentsArgs,
        GetEventsArgs,
        GetTasksArgs,
        GetUsersArgs,
        GetWorkersArgs,
        Part,
        RerunArgs,
        SubmitTaskArgs,
        WatchTasksArgs,
    )
    from mitosis.contract.commands import (
        Cancelled,
        Changed,
        Done,
        NewQuota,
        Submitted,
        UploadedArtifact,
        UploadedAttachment,
        WorkerChanged,
    )
    from mitosis.contract.login import SessionToken
    from mitosis.contract.queries import (
        ArtifactLink,
        AttachmentLink,
        AttachmentPage,
        AttachmentView,
        CommitView,
        EventPage,
        Explanation,
        GroupView,
        SessionList,
        TaskPage,
        TaskView,
        UserPage,
        WhoAmI,
        WorkerPage,
        WorkerView,
    )
    from mitosis.domain.execution import ExecutionState
    from mitosis.domain.group import GroupPhase
    from mitosis.domain.roles import Role
    from mitosis.domain.task import ArtifactKind
    from mitosis.domain.user import UserPhase


class MitoClient:
    """A user's access to a platform. Not safe across event loops.

    Every method may raise NoCoordinator, AuthenticationFailed and Unavailable. All repeat
    themselves within `config.timeout` while a service is away; a repeated command has no second
    effect. Times in results are UTC; durations are numbers of seconds in fields that end in
    `_seconds`, else timedelta.

    Example:
        submitted = await client.submit_task(SubmitTaskArgs(command=("echo", "hello")))
        (task,) = await client.wait_for_tasks([submitted])
        assert task.outcome is Outcome.SUCCEEDED

    Attributes:
        session: Connection, log-in and raw requests.
    """

    def __init__(self, config: ClientConfig | None = None, network: Network | None = None) -> None:
        """Nothing is connected before `connect` or the first call.

        Args:
            config: Of the client.
            network: Over what it reaches the platform; None: the event loop.
        """
        self.config = config or ClientConfig()
        self.session = Session(self.config, network)

    @cached_property
    def users(self) -> Users:
        """Accounts."""
        from mitosis.client.users import Users

        return Users(self.session)

    @cached_property
    def groups(self) -> Groups:
        """Groups."""
        from mitosis.client.groups import Groups

        return Groups(self.session)

    @cached_property
    def tasks(self) -> Tasks:
        """Tasks."""
        from mitosis.client.tasks import Tasks

        return Tasks(self.session)

    @cached_property
    def reruns(self) -> Reruns:
        """Tasks that are run once more."""
        from mitosis.client.reruns import Reruns

        return Reruns(self.session)

    @cached_property
    def artifacts(self) -> Artifacts:
        """Outputs of tasks."""
        from mitosis.client.artifacts import Artifacts

        return Artifacts(self.session)

    @cached_property
    def attachments(self) -> Attachments:
        """Files of groups."""
        from mitosis.client.attachments import Attachments

        return Attachments(self.session)

    @cached_property
    def workers(self) -> Workers:
        """Workers."""
        from mitosis.client.workers import Workers

        return Workers(self.session)

    @cached_property
    def events(self) -> Events:
        """What was stored."""
        from mitosis.client.events import Events

        return Events(self.session)

    @cached_property
    def platform(self) -> PlatformCommands:
        """The platform as a whole."""
        from mitosis.client.platform import PlatformCommands

        return PlatformCommands(self.session)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect as the user of the stored session, or by password."""
        await self.session.open()

    async def close(self) -> None:
        """Disconnect. The stored session stays."""
        await self.session.close()

    async def login(self, username: str, password: str) -> SessionToken:
        """See `Users.login`."""
        return await self.users.login(username, password)

    async def logout(self) -> None:
        """See `Users.logout`."""
        await self.users.logout()

    async def whoami(self) -> WhoAmI:
        """See `Users.whoami`."""
        return await self.users.whoami()

    async def get_nats_access(self) -> NatsAccess:
        """Return what another NATS client needs to listen as this user (docs/events.md).

        It is as good as the session: keep the token secret. It ends with the session.

        Raises:
            AuthenticationFailed: Nobody is logged in. NoCoordinator: Nobody answers.
        """
        from mitosis.client.nats_access import nats_access

        return await nats_access(self.session)

    def watch_overview(self, groups: Iterable[str] = ()) -> AsyncGenerator[Overview, None]:
        """Yield what happens just now in groups, at first and whenever something has happened.

        At most once a second, and after five seconds without news all the same.

        Args:
            groups: At most 32; none: all in which the user has a role.

        Raises:
            NotFound, NotAllowed: No such group, or no role in it. TooLarge: Too many groups.
            Unavailable: Nobody has answered for ten minutes.
        """
        from mitosis.client.overview import watch_overview

        return watch_overview(self.session, groups)

    async def get_overview(self, groups: Iterable[str] = ()) -> Overview:
        """Return what happens just now; see `watch_overview`."""
        async with contextlib.aclosing(self.watch_overview(groups)) as overviews:
            return await anext(overviews)

    async def create_user(self, args: CreateUserArgs) -> Done:
        """See `Users.create`."""
        return await self.users.create(args.username, args.password, admin=args.admin)

    async def get_users(self, args: GetUsersArgs | None = None) -> UserPage:
        """See `Users.list`."""
        return await self.users.list(args)

    async def change_password(self, old_password: str, new_password: str) -> Done:
        """See `Users.change_password`."""
        return await self.users.change_password(old_password, new_password)

    async def reset_password(self, username: str, new_password: str) -> Done:
        """See `Users.reset_password`."""
        return await self.users.reset_password(username, new_password)

    async def set_user_state(self, username: str, state: UserPhase, reason: str = "") -> Done:
        """See `Users.set_state`."""
        return await self.users.set_state(username, state, reason)

    async def set_admin(self, username: str, *, admin: bool) -> Done:
        """See `Users.set_admin`."""
        return await self.users.set_admin(username, admin=admin)

    async def set_group_quota(self, username: str, change: str) -> NewQuota:
        """See `Users.set_group_quota`."""
        return await self.users.set_group_quota(username, change)

    async def get_sessions(self, username: str = "") -> SessionList:
        """See `Users.sessions`."""
        return await self.users.sessions(username)

    async def revoke_sessions(
        self, session: str = "", *, username: str = "", keep_this: bool = False
    ) -> Done:
        """See `Users.revoke_sessions`."""
        return await self.users.revoke_sessions(session, username=username, keep_this=keep_this)

    async def create_group(self, name: str) -> Done:
        """See `Groups.create`."""
        return await self.groups.create(name)

    async def get_group(self, name: str, as_of: datetime | int | None = None) -> GroupView:
        """See `Groups.get`."""
        return await self.groups.get(name, as_of)

    async def get_groups(self, as_of: datetime | int | None = None) -> dict[str, Role]:
        """See `Groups.list`."""
        return await self.groups.list(as_of)

    async def change_members(
        self, group: str, roles: Mapping[str, Role] | None = None, removed: Iterable[str] = ()
    ) -> Done:
        """See `Groups.change_members`."""
        return await self.groups.change_members(group, roles, removed)

    async def set_storage_quota(self, group: str, change: str) -> NewQuota:
        """See `Groups.set_storage_quota`."""
        return await self.groups.set_storage_quota(group, change)

    async def set_group_state(self, group: str, state: GroupPhase, reason: str = "") -> Done:
        """See `Groups.set_state`."""
        return await self.groups.set_state(group, state, reason)

    async def submit_task(self, args: SubmitTaskArgs) -> Submitted:
        """See `Tasks.submit`."""
        return await self.tasks.submit(args)

    async def submit_many(self, tasks: Sequence[SubmitTaskArgs]) -> list[Submitted]:
        """See `Tasks.submit_many`."""
        return await self.tasks.submit_many(tasks)

    async def get_task(self, task: str, as_of: datetime | int | None = None) -> TaskView:
        """See `Tasks.get`."""
        return await self.tasks.get(task, as_of)

    async def get_tasks(self, args: GetTasksArgs | None = None) -> TaskPage:
        """See `Tasks.list`."""
        return await self.tasks.list(args)

    async def explain_task(self, task: str) -> Explanation:
        """See `Tasks.explain`."""
        return await self.tasks.explain(task)

    async def compare_tasks(
        self, first: str, second: str, only: Iterable[Part | str] = ()
    ) -> TaskComparison:
        """See `Comparing.compare`."""
        from mitosis.client.comparison import Comparing

        return await Comparing(self.session).compare(first, second, only)

    async def rerun_tasks(
        self,
        tasks: Iterable[str | Submitted | Origin],
        edits: RerunArgs | None = None,
        *,
        key: str = "",
    ) -> list[RerunResult]:
        """See `Reruns.rerun`."""
        return await self.reruns.rerun(tasks, edits, key=key)

    async def select_for_rerun(
        self, wanted: GetTasksArgs, *, again: bool = False, key: str = ""
    ) -> Selection:
        """See `Reruns.select`."""
        return await self.reruns.select(wanted, again=again, key=key)

    async def cancel_task(
        self,
        task: str,
        reason: str = "",
        *,
        stop_signal: str | None = None,
        grace: timedelta | str | None = None,
    ) -> Cancelled:
        """See `Tasks.cancel`."""
        return await self.tasks.cancel(task, reason, stop_signal=stop_signal, grace=grace)

    async def update_task_labels(self, task: str, labels: Iterable[str]) -> Changed:
        """See `Tasks.replace_labels`."""
        return await self.tasks.replace_labels(task, labels)

    async def change_task(self, args: ChangeTaskArgs) -> Changed:
        """See `Tasks.change`."""
        return await self.tasks.change(args)

    async def erase_secrets(self, task: str, reason: str = "") -> Changed:
        """See `Tasks.erase_secrets`."""
        return await self.tasks.erase_secrets(task, reason)

    def watch(self, tasks: Iterable[str | Submitted]) -> AsyncIterator[TaskView]:
        """See `Tasks.watch`."""
        return self.tasks.watch(tasks)

    def watch_states(self, tasks: Iterable[str | Submitted]) -> AsyncIterator[ReachedState]:
        """See `Tasks.states`."""
        return self.tasks.states(tasks)

    def watch_changes(
        self, wanted: WatchTasksArgs | None = None
    ) -> AsyncGenerator[TaskChange, None]:
        """See `Tasks.changes`."""
        return self.tasks.changes(wanted)

    def follow(
        self,
        tasks: Iterable[str | Submitted],
        *,
        streams: Sequence[str] = ("stdout", "stderr"),
        tail_lines: int | None = None,
    ) -> AsyncGenerator[FollowEvent, None]:
        """See `Tasks.follow`."""
        return self.tasks.follow(tasks, streams=streams, tail_lines=tail_lines)

    async def get_execution_state(self, task: str) -> ExecutionState | None:
        """See `Tasks.execution_state`."""
        return await self.tasks.execution_state(task)

    async def wait_for_tasks(
        self,
        tasks: Iterable[str | Submitted] | GetTasksArgs,
        timeout: timedelta | None = None,
        *,
        until: WaitUntil = WaitUntil.ALL,
        progress: Callable[[WaitProgress], None] | None = None,
    ) -> Sequence[TaskView]:
        """See `Tasks.wait`."""
        return await self.tasks.wait(tasks, timeout, until=until, progress=progress)

    async def get_artifact(
        self,
        task: str,
        kind: ArtifactKind | str,
        output: Path | str | None = None,
        progress: Progress | None = None,
        *,
        extract: bool = False,
        max_size_bytes: int = DEFAULT_MAX_EXTRACTED_BYTES,
    ) -> Path:
        """See `Artifacts.get`."""
        return await self.artifacts.get(
            task, kind, output, progress, extract=extract, max_size_bytes=max_size_bytes
        )

    async def get_artifact_link(self, task: str, kind: ArtifactKind | str) -> ArtifactLink:
        """See `Artifacts.link`."""
        return await self.artifacts.link(task, kind)

    async def upload_artifact(
        self,
        task: str,
        kind: ArtifactKind | str,
        path: Path | str,
        progress: Progress | None = None,
    ) -> UploadedArtifact:
        """See `Artifacts.upload`."""
        return await self.artifacts.upload(task, kind, path, progress)

    async def delete_artifact(self, task: str, kind: ArtifactKind | str) -> Done:
        """See `Artifacts.delete`."""
        return await self.artifacts.delete(task, kind)

    async def upload_attachment(
        self, path: Path | str, key: str = "", group: str = "", progress: Progress | None = None
    ) -> UploadedAttachment:
        """See `Attachments.upload`."""
        return await self.attachments.upload(path, key, group, progress)

    async def get_attachment(
        self,
        group: str,
        key: str,
        output: Path | str | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """See `Attachments.get`."""
        return await self.attachments.get(group, key, output, progress)

    async def get_attachment_link(self, group: str, key: str) -> AttachmentLink:
        """See `Attachments.link`."""
        return await self.attachments.link(group, key)

    async def get_attachment_meta(self, group: str, key: str) -> AttachmentView:
        """See `Attachments.meta`."""
        return await self.attachments.meta(group, key)

    async def get_attachments(self, args: GetAttachmentsArgs | None = None) -> AttachmentPage:
        """See `Attachments.list`."""
        return await self.attachments.list(args)

    def each_attachment(
        self, args: GetAttachmentsArgs | None = None
    ) -> AsyncIterator[AttachmentView]:
        """See `Attachments.each`."""
        return self.attachments.each(args)

    async def delete_attachment(self, group: str, key: str) -> Done:
        """See `Attachments.delete`."""
        return await self.attachments.delete(group, key)

    async def get_events(self, wanted: GetEventsArgs | None = None) -> EventPage:
        """See `Events.list`."""
        return await self.events.list(wanted)

    def each_event(self, wanted: GetEventsArgs | None = None) -> AsyncIterator[CommitView]:
        """See `Events.each`."""
        return self.events.each(wanted)

    async def worker_runs(
        self, worker: str, tags: Collection[str] = ()
    ) -> AsyncIterator[WorkerRun]:
        """Yield which tasks, of groups that you may read, a worker ran, in the order of the ends.

        Args:
            worker: UUID or a unique prefix; also one that is gone.
            tags: Only what it ran while it had all of these, for a moment at least.

        Raises:
            NotFound: No such worker, or none that you may see.
        """
        from mitosis.client.runs import worker_runs

        async for run in worker_runs(self.events, worker, tags):
            yield run

    async def readers(self, wanted: ReadersOf) -> AsyncIterator[Reader]:
        """Yield who could read what is in a group, or what is of a task, from when to when.

        Platform administrators, and that an account was locked, are known to them only.

        Raises:
            NotFound, NotAllowed: As for reading the task or the group; who was a member is for
                Admins of the group and for platform administrators.
        """
        from mitosis.client.readers import readers

        admin = (await self.whoami()).admin
        async for reader in readers(self.events, wanted, admin=admin):
            yield reader

    async def last_events(self, wanted: GetEventsArgs | None, count: int) -> EventPage:
        """See `Events.last`."""
        return await self.events.last(wanted, count)

    def history(self, wanted: GetEventsArgs) -> AsyncIterator[HistoryEntry]:
        """See `Events.history`."""
        return self.events.history(wanted)

    def watch_events(self, wanted: GetEventsArgs | None = None) -> AsyncIterator[CommitView]:
        """See `Events.watch`."""
        return self.events.watch(wanted)

    async def get_worker(self, worker: str, as_of: datetime | int | None = None) -> WorkerView:
        """See `Workers.get`."""
        return await self.workers.get(worker, as_of)

    async def get_workers(self, args: GetWorkersArgs | None = None) -> WorkerPage:
        """See `Workers.list`."""
        return await self.workers.list(args)

    async def cancel_worker(
        self, worker: str, *, force: bool = False, reason: str = ""
    ) -> WorkerChanged:
        """See `Workers.cancel`."""
        return await self.workers.cancel(worker, force=force, reason=reason)

    async def update_worker_tags(self, worker: str, tags: Iterable[str]) -> WorkerChanged:
        """See `Workers.update_tags`."""
        return await self.workers.update_tags(worker, tags)

    async def update_worker_labels(self, worker: str, labels: Iterable[str]) -> WorkerChanged:
        """See `Workers.update_labels`."""
        return await self.workers.update_labels(worker, labels)

    async def update_worker_roles(self, worker: str, roles: Mapping[str, Role]) -> WorkerChanged:
        """See `Workers.update_roles`."""
        return await self.workers.update_roles(worker, roles)

    async def remove_worker_roles(self, worker: str, groups: Iterable[str]) -> WorkerChanged:
        """See `Workers.remove_roles`."""
        return await self.workers.remove_roles(worker, groups)

    async def update_worker_slots(self, worker: str, slots: int) -> WorkerChanged:
        """See `Workers.update_slots`."""
        return await self.workers.update_slots(worker, slots)

    async def pause_worker(self, worker: str, reason: str = "") -> WorkerChanged:
        """See `Workers.pause`."""
        return await self.workers.pause(worker, reason)

    async def resume_worker(self, worker: str) -> WorkerChanged:
        """See `Workers.resume`."""
        return await self.workers.resume(worker)

    async def shutdown(self, secret: str | None = None) -> Done:
        """See `PlatformCommands.shutdown`."""
        return await self.platform.shutdown(secret)
