"""Workers and their roles, from the events of workers."""

from mitosis.domain.event import Event
from mitosis.domain.worker import (
    WorkerDrainRequested,
    WorkerLabelsReplaced,
    WorkerLeft,
    WorkerLost,
    WorkerPaused,
    WorkerPhase,
    WorkerRegistered,
    WorkerResumed,
    WorkerRolesGranted,
    WorkerRolesRemoved,
    WorkerSlotsChanged,
    WorkerTagsReplaced,
)
from mitosis.projections.commit import Commit
from mitosis.projections.rows import Tables, WorkerRoleRow, WorkerRow
from mitosis.projections.sequence import out_of_order


def fold(tables: Tables, commit: Commit, event: Event) -> None:
    """Apply an event of a worker.

    Raises:
        CorruptData: An event of a worker that was never registered.
    """
    if isinstance(event, WorkerRegistered):
        _register(tables, commit, event)
        return
    row = tables.workers.get(commit.tail.partition(".")[2])
    if row is None:
        raise out_of_order(commit, event)
    _change(tables, row, event)
    row.updated_at = commit.at
    tables.workers.put(row)


def _register(tables: Tables, commit: Commit, event: WorkerRegistered) -> None:
    tables.workers.put(
        WorkerRow(
            uuid=event.worker, owner=event.owner, state=WorkerPhase.NORMAL, tags=event.tags,
            labels=event.labels, slots=event.slots, host=event.host, version=event.version,
            reason="", created_position=commit.position, created_at=commit.at,
            updated_at=commit.at, guarantees=event.guarantees,
            default_limits=event.default_limits, ceilings=event.ceilings,
        )
    )  # fmt: skip
    for group, role in event.roles.items():
        tables.worker_roles.put(WorkerRoleRow(event.worker, group, role))


def _change(tables: Tables, row: WorkerRow, event: Event) -> None:
    match event:
        case WorkerTagsReplaced(tags):
            row.tags = tags
        case WorkerLabelsReplaced(labels):
            row.labels = labels
        case WorkerRolesGranted(roles):
            for group, role in roles.items():
                tables.worker_roles.put(WorkerRoleRow(row.uuid, group, role))
        case WorkerRolesRemoved(groups):
            for group in groups:
                tables.worker_roles.drop(row.uuid, group)
        case WorkerSlotsChanged(slots):
            row.slots = slots
        case WorkerPaused(reason):
            row.state, row.reason = WorkerPhase.PAUSED, reason
        case WorkerResumed():
            row.state, row.reason = WorkerPhase.NORMAL, ""
        case WorkerDrainRequested(reason):
            row.state, row.reason = WorkerPhase.DRAINING, reason
        case WorkerLeft(reason) | WorkerLost(reason):
            row.state, row.reason = WorkerPhase.GONE, reason
        case _:
            raise AssertionError(f"no column for {event.TOPIC}")
