"""Which state the tasks of a group had at a position, without reading what their events say.

A group may have changed much since: every task of a campaign that runs. To count them and to find
those of one page, it is enough what filters look at. That follows from what is stored now and from
the names of events: creator and number never change, a task that had ended then is as it was but
for its labels, and one that had not ended had no outcome, and the state that its last turn gave it.
Only the tasks of the page are folded, and those of which filters look at more than that.
"""

from typing import LiteralString

from mitosis.domain.event import Event
from mitosis.domain.task import (
    TaskAssigned,
    TaskCancelled,
    TaskChanged,
    TaskCommitted,
    TaskExited,
    TaskLabelsReplaced,
    TaskReady,
    TaskRequeued,
    TaskRetryScheduled,
    TaskState,
    TaskSubmitted,
)
from mitosis.projections.rows import NO_EXIT_STATUS, TaskRow

# What an event makes of the state of a task; '': its end, which stays as it is.
_TURNS: dict[type[Event], str] = {
    TaskSubmitted: TaskState.PENDING.value,
    TaskReady: TaskState.READY.value,
    TaskAssigned: TaskState.RUNNING.value,
    TaskRetryScheduled: TaskState.PENDING.value,
    TaskRequeued: TaskState.READY.value,
    TaskCommitted: "",
    TaskCancelled: "",
}


def names_of(*events: type[Event]) -> list[str]:
    """Return the stored names of events, without their versions."""
    return [event.TOPIC.partition("@")[0] for event in events]


COUNT: LiteralString = (
    "SELECT count(*) FROM views.tasks WHERE group_name = %(group)s"
    " AND created_position <= %(position)s AND changed_position > %(position)s"
)
"""How many tasks of a group were there and have changed since."""

SKETCH: LiteralString = """
    WITH changed AS MATERIALIZED (
        SELECT uuid FROM views.tasks WHERE group_name = %(group)s
        AND created_position <= %(position)s AND changed_position > %(position)s),
    told AS (
        SELECT changed.uuid, c.position, t.place, split_part(t.topic, '@', 1) AS topic
        FROM changed JOIN views.commits c ON c.name = changed.uuid::text AND c.kind = 'task'
        CROSS JOIN LATERAL unnest(c.topics) WITH ORDINALITY t(topic, place)),
    lives AS (
        SELECT uuid,
            -- The number of the last turn, behind its place in history: a sort of each would cost
            -- four times as much.
            max((position << 20) + (place << 4) + array_position(%(turns)s::text[], topic))
                FILTER (WHERE position <= %(position)s) & 15 AS turn,
            bool_or(topic = %(change)s) AS changed_itself,
            bool_or(topic = %(relabel)s AND position > %(position)s) AS relabelled,
            bool_or(topic = %(exit)s AND position <= %(position)s) AS exited
        FROM told GROUP BY uuid),
    known AS (
        SELECT uuid, (%(states)s::text[])[turn] AS state, changed_itself, relabelled, exited
        FROM lives)
    SELECT set_config('mito.sketched', coalesce(array_agg(uuid), '{}')::text, true) IS NULL,
        set_config('mito.states', coalesce(array_agg(state), '{}')::text, true) IS NULL,
        coalesce(array_agg(uuid::text)
            FILTER (WHERE changed_itself OR relabelled OR (exited AND state <> '')), '{}')
    FROM known
"""
"""Notes the state then of each of them in the transaction, and returns those that must be folded
to know by what they were filtered: their specification or their labels are others since, or their
program had ended before them."""

ARGUMENTS: dict[str, str | list[str]] = {
    "turns": names_of(*_TURNS),
    "states": list(_TURNS.values()),
    "change": names_of(TaskChanged)[0],
    "relabel": names_of(TaskLabelsReplaced)[0],
    "exit": names_of(TaskExited)[0],
}
"""Of `SKETCH`, beside the group and the position."""

_THEN: dict[str, LiteralString] = {
    "state": "CASE WHEN s.state = '' THEN x.state ELSE s.state END",
    "outcome": "CASE WHEN s.state = '' THEN x.outcome END",
    "exit": "CASE WHEN s.state = '' THEN x.exit END",
    "exit_status": f"CASE WHEN s.state = '' THEN x.exit_status ELSE {NO_EXIT_STATUS} END",
}
COLUMNS = ", ".join(f"x.{name}" for name in TaskRow.__struct_fields__)
"""Of a row `x` of tasks, in a fixed order."""
SKETCHED: LiteralString = (
    "SELECT " + ", ".join(_THEN.get(name, f"x.{name}") for name in TaskRow.__struct_fields__) + " "
    "FROM unnest(current_setting('mito.sketched')::uuid[], current_setting('mito.states')::text[])"
    " s(uuid, state) JOIN views.tasks x USING (uuid)"
)
"""The rows of those that are noted; what no filter looks at may be of now."""
