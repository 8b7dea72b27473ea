"""The life of every task, as the stream tells it, held against the rules of tasks.

Written a second time on purpose and without the domain's own `evolve`: a checker that folds with
the code that it checks agrees with every mistake in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from mitosis.domain.event import Event
from mitosis.domain.task import (
    ArtifactDeleted,
    ArtifactStored,
    Outcome,
    TaskAssigned,
    TaskCancelled,
    TaskChanged,
    TaskCommitted,
    TaskExited,
    TaskLabelsReplaced,
    TaskProgressed,
    TaskReady,
    TaskRequeued,
    TaskRetryScheduled,
    TaskStarted,
    TaskSubmitted,
    TaskWarned,
)
from mitosis.events.envelope import decode_commit
from mitosis.projections.commit import Commit
from mitosis.testing.chaos.evidence import Evidence, Violation

_OF_AN_ATTEMPT = (
    TaskStarted, TaskProgressed, TaskExited, TaskWarned, ArtifactStored, TaskCommitted,
    TaskRequeued, TaskRetryScheduled,
)  # fmt: skip


class Happened(NamedTuple):
    """An event with the position and the time of its commit, and who caused it."""

    position: int
    event: Event
    actor: str
    at: datetime


class Life(msgspec.Struct):
    """What happened to one task, oldest first."""

    task: str
    happened: list[Happened] = []

    def all(self, *kinds: type[Event]) -> list[Event]:
        """Return the events of these kinds."""
        return [one.event for one in self.happened if isinstance(one.event, kinds)]

    @property
    def attempts(self) -> set[int]:
        """Every attempt that was given to a worker."""
        return {e.attempt for _, e, _, _ in self.happened if isinstance(e, TaskAssigned)}

    @property
    def last_exit(self) -> TaskExited | None:
        """How the attempt that ended the task has ended; None: no attempt has ended it."""
        if not self.all(TaskCommitted):
            return None
        exits = [e for _, e, _, _ in self.happened if isinstance(e, TaskExited)]
        return exits[-1] if exits else None

    @property
    def artifacts(self) -> list[ArtifactStored]:
        """What the task names in the end."""
        held: dict[str, ArtifactStored] = {}
        for _, event, _, _ in self.happened:
            if isinstance(event, ArtifactStored):
                held[event.kind.value] = event
            elif isinstance(event, ArtifactDeleted):
                held.pop(event.kind.value, None)
        return list(held.values())


def lives_of(commits: Iterable[Commit]) -> dict[str, Life]:
    """Return the lives of all tasks of a stream by UUID."""
    lives: dict[str, Life] = {}
    for commit in commits:
        if commit.kind == "task":
            task = commit.tail.rpartition(".")[2]
            life = lives.setdefault(task, Life(task))
            actor = decode_commit(commit.subject, commit.payload, commit.position).actor
            life.happened.extend(
                Happened(commit.position, event, actor, commit.at) for event in commit.events
            )
    return lives


def check_lives(evidence: Evidence) -> Iterator[Violation]:
    """Every task ends exactly once, in the way that tasks may go; its attempts are counted."""
    for life in lives_of(evidence.commits).values():
        walk = _Walk()
        for one in life.happened:
            for rule, text in walk.step(one):
                yield Violation(rule, life.task, f"position {one.position}: {text}")
        if walk.state != "ended":
            yield Violation("ended once", life.task, f"it is {walk.state} for ever")


def check_numbers(evidence: Evidence) -> Iterator[Violation]:
    """Tasks of a group are numbered 1, 2, 3, ... in their order, each number once."""
    last: dict[str, int] = {}
    for commit in evidence.commits:
        for event in commit.events:
            if isinstance(event, TaskSubmitted):
                wanted = last.get(event.group, 0) + 1
                if event.number != wanted:
                    text = f"it is number {event.number} of {event.group}, not {wanted}"
                    yield Violation("numbers", event.task, text)
                last[event.group] = event.number


class _Walk:
    """Where a task is after some of its events."""

    def __init__(self) -> None:
        self.state = "unknown"
        self.attempt = 0
        self.worker = ""
        self.losses = 0
        self.max_losses = 0
        self.exited = False
        self.latest: datetime | None = None  # step of the attempt, or its assignment

    def step(self, one: Happened) -> Sequence[tuple[str, str]]:
        """Take an event in; return rule and reason of each objection."""
        found = [*self._objections(one.event, one.actor), *self._times(one)]
        self._go_on(one.event)
        return found

    def _times(self, one: Happened) -> Iterator[tuple[str, str]]:
        """No step of an attempt is before the one in front of it, or behind its commit."""
        event = one.event
        if isinstance(event, TaskAssigned):
            self.latest = one.at
        if not isinstance(event, TaskStarted | TaskProgressed | TaskExited):
            return
        for step in event.steps:
            if self.latest is not None and step.at < self.latest:
                yield "times go on", f"{step.state} at {step.at}, behind {self.latest}"
            if step.at > one.at:
                yield "times go on", f"{step.state} at {step.at}, and it was told at {one.at}"
            self.latest = step.at

    def _objections(self, event: Event, actor: str) -> Iterator[tuple[str, str]]:
        what = type(event).__name__
        if self.state == "ended":
            if not _harmless(event):
                yield "terminal is final", f"{what} after its end"
            return
        if isinstance(event, TaskSubmitted) != (self.state == "unknown"):
            yield "submitted once", f"{what} while it is {self.state}"
        if isinstance(event, TaskReady) and self.state != "pending":
            yield "ready once", f"it becomes ready while it is {self.state}"
        if isinstance(event, TaskAssigned):
            if self.state != "ready":
                yield "assigned once", f"it is given to a worker while it is {self.state}"
            if event.attempt != self.attempt + 1:
                yield "attempts count", f"attempt {event.attempt} follows {self.attempt}"
        attempt = getattr(event, "attempt", 0)
        if isinstance(event, _OF_AN_ATTEMPT) and attempt:
            if self.state != "running" or attempt != self.attempt:
                now = f"it is {self.state} at attempt {self.attempt}"
                yield "only the live attempt", f"{what} of attempt {attempt}, while {now}"
            if actor.startswith("worker:") and actor != f"worker:{self.worker}":
                yield "only the live attempt", f"{what} by {actor}, which does not hold it"
            if isinstance(event, TaskCommitted) and not self.exited:
                yield "only the live attempt", "it ends without an exit of its attempt"
        if isinstance(event, TaskCancelled):
            yield from self._lost_too_often(event)

    def _lost_too_often(self, event: TaskCancelled) -> Iterator[tuple[str, str]]:
        if (event.outcome is Outcome.LOST) != (self.losses >= self.max_losses):
            text = f"it ends as {event.outcome} after {self.losses} of {self.max_losses} losses"
            yield "losses count", text

    def _go_on(self, event: Event) -> None:
        match event:
            case _ if self.state == "ended":
                pass
            case TaskSubmitted():
                self.state, self.max_losses = "pending", event.spec.max_losses
            case TaskChanged(spec, steps):
                self.max_losses = spec.max_losses
                self.state = "pending" if steps else self.state
            case TaskReady():
                self.state = "ready"
            case TaskAssigned(attempt, worker):
                self.state, self.attempt, self.exited = "running", attempt, False
                self.worker = worker
            case TaskExited():
                self.exited = True
            case TaskRequeued(_, _, counted):
                self.state = "ready"
                self.losses += counted
            case TaskRetryScheduled():
                self.state = "pending"
            case TaskCommitted() | TaskCancelled():
                self.state = "ended"
            case _:
                pass


def _harmless(event: Event) -> bool:
    """Whether an event changes nothing of how a task has ended."""
    if isinstance(event, ArtifactStored):
        return event.attempt == 0  # by a user
    return isinstance(event, TaskLabelsReplaced | ArtifactDeleted)
