"""What differed between two runs: field by field, from what the platform knows of both."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from mitosis.client.session import Session
from mitosis.config.client import COUNTED_PARTS, Part
from mitosis.contract.queries import GetTask, GetWorker, TaskView, WorkerView
from mitosis.domain.limits import check_several
from mitosis.domain.nearest import one_of
from mitosis.domain.task import TaskSpec
from mitosis.errors import InvalidInput, NotFound

_WORKER_FACTS = (
    "host", "version", "owner", "slots", "tags", "labels", "guarantees", "default_limits",
    "ceilings",
)  # fmt: skip


class TaskDifference(msgspec.Struct, frozen=True):
    """One thing that is not the same. None: it is not there.

    Attributes:
        part: To what it belongs.
        field: Which one, such as `priority`, `limits.memory_bytes`, or the name of a variable.
        first, second: The value in each of the runs.
    """

    part: Part
    field: str
    first: Any
    second: Any


class TaskComparison(msgspec.Struct, frozen=True):
    """Two runs side by side.

    Attributes:
        first, second: UUIDs of the tasks.
        equal: What was run and what came of it is the same; of the parts that were asked for.
        differences: All of them, also of circumstances, part by part.
    """

    first: str
    second: str
    equal: bool
    differences: list[TaskDifference]


class Comparing:
    """Comparisons of tasks."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def compare(
        self, first: str, second: str, only: Iterable[Part | str] = ()
    ) -> TaskComparison:
        """Compare two tasks, as they are now.

        Facts about their workers are those of now, too; artifacts are compared by their checksums.

        Args:
            first: In any of the short forms.
            second: Likewise.
            only: Parts to compare; none: all.

        Raises:
            NotFound: No such task, or none that the asker may see. InvalidInput: No such part.

        Example:
            one = await client.submit_task(SubmitTaskArgs(command=("echo", "1")))
            other = await client.submit_task(SubmitTaskArgs(command=("echo", "2")))
            comparison = await client.compare_tasks(one.task, other.task)
            for difference in comparison.differences:
                print(difference.field, difference.first, difference.second)
        """
        parts = check_parts(only)
        one, other = await self._task(first), await self._task(second)
        workers: tuple[WorkerView | None, WorkerView | None] = (None, None)
        if Part.WORKER in parts and one.worker != other.worker:
            workers = await self._worker(one.worker), await self._worker(other.worker)
        differences = [d for d in compare(one, other, *workers) if d.part in parts]
        equal = not any(difference.part in COUNTED_PARTS for difference in differences)
        return TaskComparison(one.uuid, other.uuid, equal, differences)

    async def _task(self, name: str) -> TaskView:
        return await self._session.query("task", "get", GetTask(name), TaskView)

    async def _worker(self, uuid: str | None) -> WorkerView | None:
        if uuid is None:
            return None
        try:
            return await self._session.query("worker", "get", GetWorker(uuid), WorkerView)
        except NotFound:
            return None  # its group has no role on it any more: its facts are not for the asker


def check_parts(only: Iterable[Part | str]) -> frozenset[Part]:
    """Return the parts that are asked for; all when none is.

    Raises:
        InvalidInput: No such part.
    """
    names = [part.value for part in Part]
    wanted = [str(part) for part in check_several(only, "only")]
    for name in wanted:
        if name not in names:
            raise InvalidInput(f"{name[:40]!r} is no part of a task: {one_of(name[:40], names)}")
    return frozenset(map(Part, wanted or names))


def compare(
    one: TaskView,
    other: TaskView,
    worker: WorkerView | None = None,
    other_worker: WorkerView | None = None,
) -> list[TaskDifference]:
    """Return in what two tasks differ, part by part. Of the workers what is known of them."""
    found: list[TaskDifference] = []
    for part, first, second in (
        (Part.SPECIFICATION, _specification(one.spec), _specification(other.spec)),
        (Part.ENVIRONMENT, dict(one.spec.env), dict(other.spec.env)),
        (Part.OUTCOME, _outcome(one), _outcome(other)),
        (Part.ARTIFACTS, _artifacts(one), _artifacts(other)),
        (Part.LABELS, {"labels": list(one.labels)}, {"labels": list(other.labels)}),
        (Part.WORKER, _worker_facts(one, worker), _worker_facts(other, other_worker)),
        (Part.ATTEMPTS, _attempts(one), _attempts(other)),
        (Part.TIMES, _times(one), _times(other)),
    ):
        found += [
            TaskDifference(part, field, first.get(field), second.get(field))
            for field in dict.fromkeys((*first, *second))
            if first.get(field) != second.get(field)
        ]
    return found


def _specification(spec: TaskSpec) -> dict[str, Any]:
    """Return the fields by name; those of what has fields itself as `limits.memory_bytes`."""
    found: dict[str, Any] = {}
    for field in spec.__struct_fields__:
        value = getattr(spec, field)
        if field in ("env", "sealing"):  # a sealing is never the same, nor are its values known
            continue
        if isinstance(value, msgspec.Struct):
            for inner in value.__struct_fields__:
                found[f"{field}.{inner}"] = msgspec.to_builtins(getattr(value, inner))
        else:
            found[field] = msgspec.to_builtins(value)
    return found


def _outcome(task: TaskView) -> dict[str, Any]:
    end = task.exit
    return {
        "state": task.state.value,
        "outcome": task.outcome and task.outcome.value,
        "reason": task.reason or None,
        "exit": end and end.kind.value,
        "exit number": end and end.number,
        "end of stdout": (end and end.stdout_tail) or None,
        "end of stderr": (end and end.stderr_tail) or None,
        "warnings": task.warnings or None,
    }


def _artifacts(task: TaskView) -> dict[str, Any]:
    return {one.kind.filename: f"sha256:{one.sha256}" for one in task.artifacts}


def _worker_facts(task: TaskView, worker: WorkerView | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"worker": task.worker}
    if worker is not None:
        facts |= {fact: msgspec.to_builtins(getattr(worker, fact)) for fact in _WORKER_FACTS}
    return facts


def _attempts(task: TaskView) -> dict[str, Any]:
    return {
        "attempts": task.attempt,
        "losses": task.losses,
        "retries": task.retries,
        "former attempts": [f"{f.end.value}: {f.reason}" for f in task.former_attempts] or None,
    }


def _times(task: TaskView) -> dict[str, Any]:
    usage = task.exit and task.exit.usage
    return {
        "submitted": _text(task.created_at),
        "started": _text(task.started_at),
        "ended": _text(task.ended_at),
        "waited seconds": _between(task.created_at, task.started_at),
        "wall seconds": usage and usage.wall_seconds,
        "user seconds": usage and usage.user_seconds,
        "system seconds": usage and usage.system_seconds,
        "peak memory bytes": usage and usage.max_rss_bytes,
    }


def _between(first: datetime | None, second: datetime | None) -> float | None:
    return (second - first).total_seconds() if first and second else None


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
