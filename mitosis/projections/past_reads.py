"""What has to be recalled of the past for each question; the reads then answer it as ever.

Who may ask is decided by the account as it is now, what is shown by the past.
"""

from typing import LiteralString

from mitosis.contract.queries import ListTasks
from mitosis.domain.names import check_name
from mitosis.domain.task import (
    ArtifactDeleted,
    ArtifactStored,
    TaskAssigned,
    TaskCancelled,
    TaskCommitted,
)
from mitosis.projections.past import Past
from mitosis.projections.sketch import names_of
from mitosis.projections.task_pages import page_of
from mitosis.projections.task_reads import MOST_VIEWS, find_task
from mitosis.projections.viewer import Viewer, check_group

_HAD: LiteralString = (
    "EXISTS (SELECT FROM views.commits c, unnest(c.topics) topic WHERE c.kind = 'task'"
    " AND c.name = t.uuid::text AND c.position <= %(position)s"
    " AND split_part(topic, '@', 1) = ANY(%(topics)s))"
)
_HAD_ENDED: LiteralString = _HAD.replace("%(topics)s", "%(ends)s")


async def recall_task(past: Past, viewer: Viewer, name: str) -> None:
    """Prepare everything about one task. Raises what `find_task` raises."""
    past.name("tasks", "groups")
    uuid = await find_task(past, viewer, name)
    await past.recall("task", await past.changed_tasks("t.uuid = %(uuid)s::uuid", uuid=uuid))
    await past.show("tasks", "task_specs", "artifacts")


async def recall_tasks(past: Past, viewer: Viewer, wanted: ListTasks) -> None:
    """Prepare a page of the tasks of a group; of the others what filters and counts look at.

    Raises:
        NotFound: There was no such group. LimitReached: Too much has changed since.
        InvalidInput, NotAllowed: As `list_tasks`.
    """
    group = check_name(wanted.group or viewer.name, "group")
    await past.require_group(group)
    await check_group(past, viewer, group)
    unclear = await past.sketch_tasks(group)
    await past.recall("task", unclear)
    await past.show("tasks", "task_specs", "artifacts")
    past.count(stored=False)
    page = set(await page_of(past, wanted, group, MOST_VIEWS)).difference(unclear)
    changed = await past.changed_tasks("t.uuid = ANY(%(uuids)s::uuid[])", uuids=list(page))
    await past.recall("task", changed)
    await past.show("tasks", "task_specs", "artifacts")


async def recall_workers(past: Past) -> None:
    """Prepare all workers, and what they ran.

    Raises:
        LimitReached: Too much has changed since.
    """
    await past.recall_changed("worker")
    await past.show("workers", "worker_roles")
    running = await past.changed_tasks(
        f"{_HAD} AND NOT {_HAD_ENDED}",
        topics=names_of(TaskAssigned),
        ends=names_of(TaskCommitted, TaskCancelled),
    )
    await past.recall("task", running)
    await past.show("tasks")


async def recall_workers_of(past: Past, group: str) -> None:
    """Prepare the workers on which a group has a role, and what they ran.

    Raises:
        NotFound: There was no such group. LimitReached: Too much has changed since.
    """
    await past.require_group(check_name(group, "group"))
    await recall_workers(past)


async def recall_group(past: Past, group: str) -> None:
    """Prepare everything about one group.

    Raises:
        NotFound: There was no such group. LimitReached: Too much has changed since.
    """
    await past.require_group(check_name(group, "group"))
    await past.recall_changed("group", names=[group])
    await past.recall_changed("worker")
    await past.recall_changed("attachment", group)
    kept = await past.changed_tasks(
        f"t.group_name = %(group)s AND {_HAD}",
        group=group,
        topics=names_of(ArtifactStored, ArtifactDeleted),
    )
    await past.recall("task", kept)
    await past.show("groups", "members", "workers", "worker_roles", "attachments", "artifacts")
    past.name("tasks")  # how many there were; their states do not matter
    past.count(stored=True)


async def recall_groups(past: Past) -> None:
    """Prepare all groups and their members.

    Raises:
        LimitReached: Too many have changed since.
    """
    await past.recall_changed("group")
    await past.show("groups", "members")


async def recall_attachments(past: Past, group: str) -> None:
    """Prepare the files of a group.

    Raises:
        NotFound: There was no such group. LimitReached: Too many have changed since.
    """
    await past.require_group(check_name(group, "group"))
    await past.recall_changed("attachment", group)
    await past.show("attachments")
