"""What pages of tasks are counted by and found by: counters, labels and tags.

A counter is of all tasks of a group that are alike in what has few values. There is one for all of
them (of the empty word), and one for those with each label and tag, so that filters by one of these
and anything else have their total without a look at tasks.
"""

from mitosis.domain.task import Outcome, TaskState
from mitosis.projections.rows import Tables, TaskCountRow, TaskRow, TaskWordRow

ALL = ""
"""The word of counters of all tasks."""


Counted = tuple[str, str, TaskState, Outcome | None, int, int, tuple[str, ...], tuple[str, ...]]
"""By what a task is counted: the key of its counter but for the word, its labels, its tags."""


def label_word(label: str) -> str:
    """Return the word of tasks with a label."""
    return f"label {label}"


def tag_word(tag: str) -> str:
    """Return the word of tasks with a tag."""
    return f"tag {tag}"


def remember(tables: Tables, row: TaskRow) -> None:
    """Remember by what a task was counted before the first change by a batch."""
    if row.uuid not in tables.uncounted:
        tables.uncounted[row.uuid] = _counted(row)


def count_tasks(tables: Tables) -> None:
    """Count the tasks that a batch has changed as they are now, and no longer as before.

    Once a batch, not once an event: most tasks go through many states in it, and many are alike.
    """
    sums: dict[Counted, int] = {}
    for uuid, before in tables.uncounted.items():
        row = tables.tasks.rows[uuid,]
        now = _counted(row)
        if now == before:
            continue
        sums[now] = sums.get(now, 0) + 1
        if before:
            sums[before] = sums.get(before, 0) - 1
        if not before or now[6:] != before[6:]:
            _change_words(tables, row, _words(before) if before else [], _words(now))
    for alike, by in sums.items():
        if by:
            _add(tables, alike, by)
    tables.uncounted.clear()


def _counted(row: TaskRow) -> Counted:
    return (
        row.group_name, row.creator, row.state, row.outcome, row.exit_status, row.priority,
        row.labels, row.tags,
    )  # fmt: skip


def _words(counted: Counted) -> list[str]:
    *_, labels, tags = counted
    return [*map(label_word, labels), *map(tag_word, tags)]


def _change_words(tables: Tables, row: TaskRow, before: list[str], now: list[str]) -> None:
    for word in before:
        if word not in now:
            tables.task_words.drop(row.group_name, word, row.number)
    for word in now:
        if word not in before:
            tables.task_words.put(TaskWordRow(row.group_name, word, row.number))


def _add(tables: Tables, counted: Counted, by: int) -> None:
    group, creator, state, outcome, exit_status, priority, *_ = counted
    for word in (ALL, *_words(counted)):
        key = group, word, creator, state, outcome or "", exit_status, priority
        row = tables.task_counts.get(*key) or TaskCountRow(*key)
        row.tasks += by
        if row.tasks:
            tables.task_counts.put(row)
        else:
            tables.task_counts.forget(*key)
