"""A core whose effects are remembered, and what engine and coordinator say to it."""

from pathlib import Path
from typing import Any

from mitosis.contract.work import Assignment
from mitosis.domain.task import TaskSpec
from mitosis.processes.runs import Cause, Exited, NotBegun, RunResult
from mitosis.services.worker.attempt import Attempt, Phase
from mitosis.services.worker.core import Core
from mitosis.services.worker.drafts import Draft, Key


class RecordingRun:
    def __init__(self, log: list[Any], name: str) -> None:
        self.log, self.name, self.started_at = log, name, 0.0
        self.released = False

    def stop(
        self, cause: Cause, grace_seconds: float | None = None, stop_signal: int | None = None
    ) -> None:
        how = () if stop_signal is None else (stop_signal,)
        self.log.append(("stop", self.name, cause, grace_seconds, *how))

    def recall(self) -> None:
        self.log.append(("recall", self.name))

    def release(self, *, wipe: bool = False) -> None:
        assert not self.released
        self.released = True
        assert not wipe
        self.log.append(("release", self.name))


class RecordingEffects:
    """Remembers what the core wanted; `take` empties the memory."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.drafts: list[Draft] = []
        self.clock = 100.0
        self.free = 2
        self.lined_up = 0
        self.accepts = True
        self.why = ""

    def now(self) -> float:
        return self.clock

    def free_slots(self) -> int:
        return max(0, self.free)

    def start(self, attempt: Attempt) -> RecordingRun | None:
        self.log.append(("start", *attempt.key))
        self.free -= 1
        return RecordingRun(self.log, attempt.key[0]) if self.accepts else None

    def line_up(self, attempt: Attempt, most: int) -> RecordingRun | None:
        if self.lined_up >= most:
            return None
        self.lined_up += 1
        self.log.append(("line up", *attempt.key))
        return RecordingRun(self.log, attempt.key[0])

    def deliver(self, attempt: Attempt, result: RunResult) -> None:
        assert result.folder
        self.log.append(("deliver", *attempt.key))

    def abort_delivery(self, attempt: Attempt) -> None:
        self.log.append(("abort", *attempt.key))

    def cut_delivery(self, attempt: Attempt) -> None:
        self.log.append(("cut", *attempt.key))

    def report(self, draft: Draft) -> None:
        self.drafts.append(draft)
        self.log.append(("report", draft.report(self.clock)))

    def remind(self, attempt: Attempt, seconds: float) -> None:
        self.log.append(("remind", *attempt.key))

    def forget_reports(self, key: Key) -> None:
        self.log.append(("forget", *key))

    def complaint(self) -> str:
        return self.why

    def idle(self) -> None:
        self.log.append(("idle",))

    def take(self) -> list[Any]:
        taken, self.log[:] = list(self.log), []
        return taken


class Bench:
    def __init__(self, folder: Path, slots: int = 2) -> None:
        self.effects = RecordingEffects()
        self.effects.free = slots
        self.core = Core(self.effects, slots)
        self.folder = folder
        for part in ("result", "exec"):
            (folder / part).mkdir()

    def assign(self, task: str = "t1", attempt: int = 1, *, terminal: bool = False) -> Attempt:
        spec = TaskSpec(("true",), terminal=terminal)
        self.core.assign(Assignment(task, "lab", attempt, 600.0, spec))
        return self.core._attempts[task, attempt]

    def result(self, outcome: Any = None, cause: Cause = "own", **more: Any) -> RunResult:
        return RunResult(
            outcome=Exited(0) if outcome is None else outcome,
            cause=cause,
            started_at=101.0,
            ended_at=102.0,
            folder=self.folder,
            **{"wall_seconds": 1.0} | more,
        )

    def end(self, attempt: Attempt, outcome: Any = None, cause: Cause = "own", **more: Any) -> None:
        begun = not isinstance(outcome, NotBegun)
        if attempt.phase is Phase.LINED_UP:
            self.effects.lined_up -= 1
            self.effects.free -= begun  # the end of the one before it seemed to free its slot
        self.core.ended(attempt, self.result(outcome, cause, **more))
        if begun and attempt.run is None:
            self.effects.free += 1

    def reported(self) -> Any:
        """The only thing that was done is one report."""
        [(kind, report)] = [one for one in self.effects.take() if one[0] != "remind"]
        assert kind == "report"
        return report

    def accept(self, code: str = "") -> None:
        judged, self.effects.drafts = self.effects.drafts, []
        for draft in judged:
            self.core.verdict(draft, code)

    def running(self, task: str = "t1", attempt: int = 1, *, terminal: bool = False) -> Attempt:
        held = self.assign(task, attempt, terminal=terminal)
        self.core.started(held, 101.0)
        self.accept()
        self.effects.take()
        return held
