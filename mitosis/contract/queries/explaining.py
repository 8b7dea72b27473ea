"""Why a task waits, or has waited."""

from datetime import datetime

import msgspec

from mitosis.domain.task import Outcome, TaskState
from mitosis.domain.waits import Cause


class ExplainTask(msgspec.Struct, forbid_unknown_fields=True):
    """Needs Read in the task's group. `task` in any of the short forms."""

    task: str


class WaitView(msgspec.Struct):
    """A time without a break in which a task waited for one thing.

    Attributes:
        cause: What for: `watch` (another task), `retry` (the time until its next attempt),
            `no_worker` (none may run it), `paused` (all that may run it take no work), `busy` (they
            have no free slot), `unreachable` (one has, but cannot be reached, or the platform was
            away).
        text: The same for a person, with names and numbers; of other groups than the asker's own no
            more than that there are some.
        seconds: How long it was.
        attempt: The attempt that it waited for.
    """

    cause: Cause
    text: str
    began_at: datetime
    ended_at: datetime
    seconds: float
    attempt: int


class Explanation(msgspec.Struct):
    """The waits of a task; together they are all the time in which it was pending or ready.

    Attributes:
        until: Up to when: its end, or now.
        waits: Oldest first; of very many the newest 100.
        seconds_by_cause: Sums over all of them.
        waiting_seconds: Sum of everything.
        complete: False: too much happened beside it to read all of it; that workers were busy was
            concluded from the rules then.
    """

    task: str
    number: int
    group: str
    state: TaskState
    outcome: Outcome | None
    until: datetime
    waits: list[WaitView]
    seconds_by_cause: dict[str, float]
    waiting_seconds: float
    complete: bool
