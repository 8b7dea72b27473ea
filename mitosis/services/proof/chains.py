"""The chain and the fold of each aggregate, in memory that does not grow with what has ended."""

from typing import Any, NamedTuple

from mitosis.domain.event import Event
from mitosis.domain.worker import WorkerPhase
from mitosis.events import catalogue
from mitosis.events.envelope import Commit
from mitosis.services.proof.findings import Findings
from mitosis.services.proof.fingerprints import Fingerprints


class _End(NamedTuple):
    """Where the chain of an aggregate ends."""

    version: int
    digest: str
    position: int


class Chains:
    """Checks that each commit continues its aggregate, and that its events fold."""

    def __init__(self, findings: Findings, *, partial: bool = False) -> None:
        """`partial`: what is read begins later than history."""
        self._findings, self._partial = findings, partial
        # Of what lives: the end of its chain, and its state.
        self._ends: dict[str, _End] = {}
        self._states: dict[str, Any] = {}
        # Of the rest: that it existed; where its chain ended, as (tail, version, digest); which of
        # these ends were continued; and whose state is not known any more.
        self._known = Fingerprints()
        self._over = Fingerprints()
        self._continued = Fingerprints()
        self._lost = Fingerprints()
        self.aggregates = 0

    def take(
        self, tail: str, position: int, commit: Commit, events: list[Event], digest: str
    ) -> None:
        """Check the next commit of an aggregate."""
        end = self._ends.get(tail)
        folds = True
        if end is not None:
            self._check_link(tail, position, commit, end)
        elif tail not in self._known:
            self._check_first(tail, position, commit)
            folds = tail not in self._lost
        else:
            self._check_late(tail, position, commit)
            # What an ended task was is not kept: its late events are decoded only.
            folds = not tail.startswith("task.") and tail not in self._lost
        if folds:
            self._fold(tail, position, events)
        self._keep(tail, _End(commit.last_version, digest, position))

    def unreadable(self, tail: str) -> None:
        """Take note of a commit of which nothing is known; what follows it cannot be folded."""
        self._ends.pop(tail, None)
        self._states.pop(tail, None)
        self._known.add(tail)
        self._lost.add(tail)

    def _check_link(self, tail: str, position: int, commit: Commit, end: _End) -> None:
        if (commit.version, commit.previous) != (end.version + 1, end.digest):
            self._findings.add(
                "chain",
                f"the commit at position {position} does not continue {tail} from position "
                f"{end.position} (version {commit.version} after {end.version}): one of the two "
                "was changed, or others were removed, put in or moved",
                end.position,
                position,
            )

    def _check_first(self, tail: str, position: int, commit: Commit) -> None:
        self.aggregates += 1
        self._known.add(tail)
        if commit.version == 1 and not commit.previous:
            return
        self._lost.add(tail)
        if not self._partial:
            self._findings.add(
                "chain",
                f"the first commit of {tail} is at position {position}, but has version "
                f"{commit.version}: what was before it was removed, or it was changed",
                position,
            )

    def _check_late(self, tail: str, position: int, commit: Commit) -> None:
        link = (tail, commit.version - 1, commit.previous)
        if link not in self._over or link in self._continued:
            self._findings.add(
                "chain",
                f"the commit at position {position} does not continue {tail}: it, or another of "
                "this aggregate before it, was changed, removed, put in or moved",
                position,
            )
        self._continued.add(link)

    def _fold(self, tail: str, position: int, events: list[Event]) -> None:
        kind = tail.partition(".")[0]
        state = self._states.get(tail)
        try:
            for event in events:
                state = catalogue.evolve(kind, state, event)
        except Exception as error:  # noqa: BLE001  rules may fail in any way on what was never decided
            self._findings.add(
                "fold",
                f"the commit at position {position} cannot be applied to {tail}: "
                f"{type(error).__name__}: {error}",
                position,
            )
            self._states.pop(tail, None)
            self._lost.add(tail)
        else:
            self._states[tail] = state

    def _keep(self, tail: str, end: _End) -> None:
        state = self._states.get(tail)
        if state is not None and not is_over(tail, state):
            self._ends[tail] = end
            return
        self._states.pop(tail, None)
        self._ends.pop(tail, None)
        self._over.add((tail, end.version, end.digest))


def is_over(tail: str, state: Any) -> bool:
    """Whether an aggregate has ended, so that little or nothing more comes."""
    match tail.partition(".")[0]:
        case "task":
            return bool(state.state.terminal)
        case "worker":
            return bool(state.phase is WorkerPhase.GONE)
        case "attachment":
            return not state.object_name
        case "secret":
            return True  # it never changes
        case _:
            return False
