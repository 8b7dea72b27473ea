"""What pages of tasks are counted by and found by: counters, labels and tags.

A counter is of all tasks of a group that are alike in what has few values. There is one for all of
them (of the empty word), and one for those with each label and tag, so that filters by one of these
and anything else have their total without a look at tasks.
"""

from collections.abc import Iterable
from typing import NamedTuple

from mitosis.projections.rows import Key, Tables, TaskCountRow, TaskRow, TaskWordRow

ALL = ""
"""The word of counters of all tasks."""


class _Counted(NamedTuple):
    """By what a task is counted: what it has in common with others, its labels, its tags."""

    alike: Key
    labels: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The words that it can be found by."""
        return [*map(label_word, self.labels), *map(tag_word, self.tags)]


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

    Once a batch, not once an event: most tasks go through many states in it.
    """
    for uuid, before in tables.uncounted.items():
        row = tables.tasks.rows[uuid,]
        now = _counted(row)
        if now == before:
            continue
        old, new = before.words if before else [], now.words
        if before:
            _count(tables, (ALL, *old), row.group_name, before.alike, -1)
        _count(tables, (ALL, *new), row.group_name, now.alike, +1)
        for word in set(old).difference(new):
            tables.task_words.drop(row.group_name, word, row.number)
        for word in set(new).difference(old):
            tables.task_words.put(TaskWordRow(row.group_name, word, row.number))
    tables.uncounted.clear()


def _counted(row: TaskRow) -> _Counted:
    alike = row.creator, row.state, row.outcome or "", row.exit_status, row.priority
    return _Counted(alike, row.labels, row.tags)


def _count(tables: Tables, words: Iterable[str], group: str, alike: Key, by: int) -> None:
    for word in words:
        key = (group, word, *alike)
        row = tables.task_counts.get(*key) or TaskCountRow(*key)
        row.tasks += by
        if row.tasks:
            tables.task_counts.put(row)
        else:
            tables.task_counts.forget(*key)
