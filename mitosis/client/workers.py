"""Workers: which there are, what each may do, and stopping one."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from mitosis.client.session import Session
from mitosis.config.client import GetWorkersArgs
from mitosis.contract.commands import (
    ChangeWorkerSlots,
    DrainWorker,
    GrantWorkerRoles,
    PauseWorker,
    RemoveWorkerRoles,
    ReplaceWorkerLabels,
    ReplaceWorkerTags,
    ResumeWorker,
    WorkerChanged,
)
from mitosis.contract.queries import GetWorker, ListWorkers, WorkerPage, WorkerView
from mitosis.domain.limits import check_several
from mitosis.domain.moments import checked_moment
from mitosis.domain.names import is_uuid
from mitosis.domain.roles import Role


class Workers:
    """Commands and reads about workers."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, worker: str, as_of: datetime | int | None = None) -> WorkerView:
        """Return one worker, named by its UUID or a unique prefix.

        Args:
            worker: Which.
            as_of: What it was at this time or position of the stream; then it is not known when
                it was heard, and whether it was connected. None: what it is now.

        Raises:
            NotFound: No such worker, or none that the asker may see.
            LimitReached: Too much has changed since `as_of`.
        """
        body = GetWorker(worker, checked_moment(as_of))
        return await self._session.query("worker", "get", body, WorkerView)

    async def list(self, args: GetWorkersArgs | None = None) -> WorkerPage:
        """Return the workers that match, the oldest first.

        Raises:
            NotFound, NotAllowed: The group. InvalidInput, TooLarge: A filter that cannot be.
            LimitReached: Too much has changed since `as_of`.
        """
        wanted = args or GetWorkersArgs()
        body = ListWorkers(
            group=wanted.group,
            roles=check_several(wanted.roles, "roles"),
            tags=check_several(wanted.tags, "tags"),
            labels=check_several(wanted.labels, "labels"),
            creator=wanted.creator,
            all=wanted.all,
            limit=wanted.limit,
            offset=wanted.offset,
            as_of=checked_moment(wanted.as_of),
        )
        return await self._session.query("worker", "list", body, WorkerPage)

    async def cancel(self, worker: str, *, force: bool = False, reason: str = "") -> WorkerChanged:
        """Stop a worker: it finishes its tasks, or hands them back at once with `force`.

        As all changes of a worker, this needs Admin on it; `worker` is a UUID or a unique prefix.

        Raises:
            NotAllowed: The asker has no Admin role on it.
            NotFound: No such worker, or none that the asker may see.
            WrongState: It is gone.
        """
        return await self._change("drain", DrainWorker(await self._uuid(worker), force, reason))

    async def update_tags(self, worker: str, tags: Iterable[str]) -> WorkerChanged:
        """Replace the tags; none: it runs tasks of any tags. What runs is finished.

        Raises:
            InvalidInput, TooLarge: Tags that cannot be; and as `cancel`.
        """
        given = check_several(tags, "tags")
        body = ReplaceWorkerTags(await self._uuid(worker), given)
        return await self._change("update_tags", body)

    async def update_labels(self, worker: str, labels: Iterable[str]) -> WorkerChanged:
        """Replace the labels, by which workers are found.

        Raises:
            InvalidInput, TooLarge: Labels that cannot be; and as `cancel`.
        """
        given = check_several(labels, "labels")
        body = ReplaceWorkerLabels(await self._uuid(worker), given)
        return await self._change("update_labels", body)

    async def update_roles(self, worker: str, roles: Mapping[str, Role]) -> WorkerChanged:
        """Give groups a role on the worker; roles of other groups stay.

        Raises:
            NotAllowed: The asker has no Write in one of the groups.
            NotFound: There is no such group; and as `cancel`.
        """
        body = GrantWorkerRoles(await self._uuid(worker), dict(roles))
        return await self._change("update_roles", body)

    async def remove_roles(self, worker: str, groups: Iterable[str]) -> WorkerChanged:
        """Take the roles of groups away. What runs for them is finished.

        Raises:
            NotFound: There is no such group; and as `cancel`.
        """
        given = check_several(groups, "groups")
        body = RemoveWorkerRoles(await self._uuid(worker), given)
        return await self._change("remove_roles", body)

    async def update_slots(self, worker: str, slots: int) -> WorkerChanged:
        """Set how many tasks it runs at once. What runs is finished, also beyond fewer slots.

        Raises:
            InvalidInput: Not from 1 to 4096; and as `cancel`.
        """
        return await self._change(
            "update_slots", ChangeWorkerSlots(await self._uuid(worker), slots)
        )

    async def pause(self, worker: str, reason: str = "") -> WorkerChanged:
        """Give the worker nothing new until it is resumed. Raises as `cancel`."""
        return await self._change("pause", PauseWorker(await self._uuid(worker), reason))

    async def resume(self, worker: str) -> WorkerChanged:
        """Let a paused worker take tasks again. Raises as `cancel`."""
        return await self._change("resume", ResumeWorker(await self._uuid(worker)))

    async def _uuid(self, worker: str) -> str:
        return worker.lower() if is_uuid(worker) else (await self.get(worker)).uuid

    async def _change(self, verb: str, body: msgspec.Struct) -> WorkerChanged:
        return await self._session.command("worker", verb, body, WorkerChanged)
