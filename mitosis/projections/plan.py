"""A batch of commits: which rows it needs, and what it makes of them. Pure.

Every commit touches rows of one aggregate only, and counters of one group. Rows that the batch
itself creates are not asked for.
"""

from collections.abc import Callable, Iterable

from mitosis.domain.event import Event
from mitosis.domain.group import GroupCreated
from mitosis.domain.task import ArtifactDeleted, ArtifactStored, TaskSubmitted
from mitosis.domain.user import UserCreated
from mitosis.domain.worker import WorkerRegistered
from mitosis.errors import CorruptData
from mitosis.projections import attachments, groups, tasks, users, workers
from mitosis.projections import commits as noted
from mitosis.projections.commit import Commit
from mitosis.projections.counters import count_tasks
from mitosis.projections.rows import Key, Tables

Fold = Callable[[Tables, Commit, Event], None]


def _ignore(tables: Tables, commit: Commit, event: Event) -> None:
    """Terms, marks and sealed secrets are no read model; the archive has them."""


_FOLDS: dict[str, Fold] = {
    "task": tasks.fold,
    "worker": workers.fold,
    "group": groups.fold,
    "user": users.fold,
    "attachment": attachments.fold,
    "platform": _ignore,
    "secret": _ignore,
}
_FIRST = (TaskSubmitted, WorkerRegistered, GroupCreated, UserCreated)
_TABLE_OF = {"task": "tasks", "worker": "workers", "group": "groups", "user": "users"}


def fold_all(tables: Tables, commits: Iterable[Commit]) -> Tables:
    """Apply commits in their order to tables that hold all rows that they need.

    Raises:
        CorruptData: A commit that cannot be what was written; the tables are then of no use.
    """
    for commit in commits:
        fold = _FOLDS.get(commit.kind)
        if fold is None:
            raise CorruptData(
                f"position {commit.position} has the unknown subject {commit.subject!r}: use the "
                "version that wrote it or a newer one",
                position=commit.position,
                subject=commit.subject,
            )
        for event in commit.events:
            fold(tables, commit, event)
        noted.fold(tables, commit)
    count_tasks(tables)
    return tables


def needed_rows(commits: Iterable[Commit]) -> dict[str, set[Key]]:
    """Return, by table, the keys of the stored rows that the batch builds upon."""
    needed: dict[str, set[Key]] = {}
    created: set[str] = set()
    for commit in commits:
        tail, kind = commit.tail, commit.kind
        if commit.events and isinstance(commit.events[0], _FIRST):
            created.add(tail)
        elif tail not in created and kind in _TABLE_OF:
            needed.setdefault(_TABLE_OF[kind], set()).add((tail.rpartition(".")[2],))
        if kind == "user" and tail not in created:
            needed.setdefault("user_sessions", set()).add((tail.rpartition(".")[2],))
        elif kind == "attachment":
            _, group, token = tail.split(".", 2)
            needed.setdefault("attachments", set()).add((group, token))
        elif kind == "task":
            kinds = _artifact_kinds(commit.events)
            if kinds and tail not in created:
                task = tail.rpartition(".")[2]
                needed.setdefault("artifacts", set()).update((task, kind) for kind in kinds)
    return needed


def _artifact_kinds(events: Iterable[Event]) -> set[str]:
    return {e.kind.value for e in events if isinstance(e, ArtifactStored | ArtifactDeleted)}
