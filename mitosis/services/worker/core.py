"""What next: the worker's attempts, and what follows from each thing that happens to them.

No I/O and no await: events come in as calls, and what is to be done goes out through `Effects`.
One attempt goes

    waiting (for a slot) -> [lined up in one] -> running -> [delivering outputs] -> reported -> gone

and is held until the coordinator has accepted its last report, also through hours without contact.
`dropped` marks one that is not this worker's any more: it is killed, and nothing more is said.
"""

import logging
import signal
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Protocol

from mitosis.contract.work import Assignment, CancelAttempt, Held, StoredArtifact
from mitosis.domain.dispatch import AHEAD_SECONDS, MOST_AHEAD
from mitosis.domain.execution import ExecutionState as State
from mitosis.domain.task import EndCause, Exit, ExitKind
from mitosis.processes.runs import NotBegun, RunResult
from mitosis.services.worker.attempt import NO_SECRETS, Attempt, Phase, RunHandle
from mitosis.services.worker.drafts import Draft, Key
from mitosis.services.worker.line import LINE_PATIENCE_SECONDS, LINED_UP_SECONDS, Pace
from mitosis.services.worker.run import (
    Ending,
    Fault,
    ending,
    has_outputs,
    is_doubtful,
    run_warnings,
)

log = logging.getLogger(__name__)

# What was sent ahead goes back when nothing was started for five times the length of what is sent
# ahead, or when it has waited for five times as long as that, however busy the slots are.
PATIENCE_SECONDS = 5 * AHEAD_SECONDS
LONGEST_PATIENCE_SECONDS = 5 * PATIENCE_SECONDS
# A disk that a task has filled has space again as soon as its folder is emptied.
DISK_PATIENCE_SECONDS = 1.0
REMEMBERED = 4_096  # ended attempts and early cancels, against messages that come late or twice
STALE = "conflict.stale_attempt"


class Effects(Protocol):
    """Everything that the core can make happen."""

    def now(self) -> float:
        """The machine's clock, suspension included."""

    def free_slots(self) -> int:
        """How many programs can start just now."""

    def start(self, attempt: Attempt) -> RunHandle | None:
        """Start the program; `Core.started` and `Core.ended` follow, never inside this call.

        None: the engine does not take it, and `Core.not_started` follows.
        """

    def line_up(self, attempt: Attempt, most: int) -> RunHandle | None:
        """Give the program to a slot that is taken, in which at most `most` may be lined up.

        `Core.started` and `Core.ended` follow, the latter with `NotBegun` if it comes back. None:
        no slot is to be had for it.
        """

    def deliver(self, attempt: Attempt, result: RunResult) -> None:
        """Pack and upload outputs, release the run; `Core.delivered` follows."""

    def abort_delivery(self, attempt: Attempt) -> None:
        """End a delivery and release the run; `Core.delivered` follows all the same."""

    def cut_delivery(self, attempt: Attempt) -> None:
        """End a delivery with what is stored of it; `Core.delivered` follows."""

    def report(self, draft: Draft) -> None:
        """Tell the coordinator; `Core.verdict` follows."""

    def remind(self, attempt: Attempt, seconds: float) -> None:
        """`Core.waited` follows after this time."""

    def forget_reports(self, key: Key) -> None:
        """Do not send what still waits about this attempt."""

    def complaint(self) -> str:
        """Why the worker's folder is of no use just now; empty when it is."""

    def idle(self) -> None:
        """Nothing is held any more."""


class Core:
    """The attempts of one registration of the worker."""

    def __init__(self, effects: Effects, slots: int) -> None:
        self._effects = effects
        self._slots = slots
        self._attempts: dict[Key, Attempt] = {}
        #: How many of them each task has: more than one, while an older one is being ended.
        self._of_task = Counter[str]()
        self._arrivals = 0
        #: Those of them that wait for a slot, in their order.
        self._waiting: dict[Key, Attempt] = {}
        self._lined_up: dict[Key, Attempt] = {}
        self._pace = Pace()
        self._fit_until = 0.0
        self._last_start = effects.now()
        self._over: OrderedDict[Key, None] = OrderedDict()
        self._cancelled_early: OrderedDict[Key, None] = OrderedDict()
        self.draining = ""
        self.unclean = False

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""
        return self._slots

    def resize(self, slots: int) -> None:
        """Run so many at once from now on; what runs beyond it is finished."""
        if slots != self._slots:
            log.info("%d slots from now on, %d before", slots, self._slots)
            self._slots = slots
            for attempt in self._lined_up.values():
                self._recall(attempt)
            self.fill()

    @property
    def held(self) -> list[Held]:
        """What a renewal names: everything that is not dropped and not yet accepted."""
        return [
            Held(attempt.assignment.task, attempt.assignment.group, attempt.assignment.attempt)
            for attempt in self._attempts.values()
            if not attempt.dropped
        ]

    @property
    def busy(self) -> int:
        """How many attempts take a slot."""
        return sum(a.phase is not Phase.REPORTED for a in self._attempts.values())

    @property
    def waiting(self) -> int:
        """How many attempts wait for a slot, or are lined up in one."""
        return len(self._waiting) + len(self._lined_up)

    @property
    def empty(self) -> bool:
        """Whether nothing is held."""
        return not self._attempts

    def attempt(self, key: Key) -> Attempt | None:
        """An attempt that is held, None: it is not."""
        return self._attempts.get(key)

    def is_over(self, key: Key) -> bool:
        """Whether an attempt was held and is no more, as far as that is remembered."""
        return key in self._over

    # --- what the coordinator says -----------------------------------------------------------

    def assign(self, assignment: Assignment, secrets: Mapping[str, str] = NO_SECRETS) -> None:
        """Take an assignment with its secret variables; the same one again changes nothing."""
        attempt = self._new(assignment, secrets)
        if attempt is None:
            return
        key = attempt.key
        if key in self._cancelled_early:
            del self._cancelled_early[key]
            self._hand_back(attempt, "cancelled before it started")
        elif self.draining:
            self._hand_back(attempt, self.draining)
        elif self._is_full():
            self._hand_back(attempt, f"all {self._slots} slots of the worker are taken")
        else:
            self._hold(attempt)
            self._waiting[key] = attempt
            self.fill()
            if attempt.phase is Phase.WAITING:
                self._effects.remind(attempt, PATIENCE_SECONDS)

    def refuse(self, assignment: Assignment, end: Exit) -> None:
        """Take an assignment that cannot start, and say why."""
        attempt = self._new(assignment)
        if attempt is not None:
            self._hold(attempt)
            self.not_started(attempt, end)

    def _new(
        self, assignment: Assignment, secrets: Mapping[str, str] = NO_SECRETS
    ) -> Attempt | None:
        """Return a new attempt, after older ones of its task were dropped; None: it is none."""
        key = (assignment.task, assignment.attempt)
        if key in self._attempts or key in self._over:
            return None
        task, number = key
        if task in self._of_task:
            for other in [other for other in self._attempts if other[0] == task]:
                if other[1] > number:
                    return None
                self.drop(other)
        self._arrivals += 1
        return Attempt(assignment, self._effects.now(), secrets, self._arrivals)

    def cancel(self, order: CancelAttempt) -> None:
        """Stop an attempt for its owner."""
        key = (order.task, order.attempt)
        attempt = self._attempts.get(key)
        if attempt is None:
            # It may be on its way: assignments come on another subject.
            if key not in self._over:
                _remember(self._cancelled_early, key)
        elif attempt.phase is Phase.WAITING:
            self._hand_back(attempt, "cancelled before it started")
        elif attempt.in_a_slot and attempt.run is not None:
            attempt.obeyed = order
            number = signal.Signals[f"SIG{order.stop_signal}"] if order.stop_signal else None
            attempt.run.stop("cancel", order.grace_seconds, number)
        elif attempt.phase is Phase.DELIVERING and _is_sharper(order, attempt):
            attempt.obeyed = order
            self._effects.cut_delivery(attempt)

    def drop(self, key: Key) -> None:
        """An attempt is not this worker's any more: end it, and say nothing more about it."""
        attempt = self._attempts.get(key)
        if attempt is None or attempt.dropped:
            return
        log.warning("task %s: attempt %d is not ours any more", *key)
        attempt.dropped = True
        self._effects.forget_reports(key)
        if attempt.in_a_slot and attempt.run is not None:
            attempt.run.stop("lease", 0.0)
        elif attempt.phase is Phase.DELIVERING:
            self._effects.abort_delivery(attempt)
        else:
            self._remove(attempt)

    def drop_foreign(self, foreign: Iterable[Held]) -> None:
        """Drop what the coordinator does not know as this worker's."""
        for held in foreign:
            self.drop((held.task, held.attempt))

    def drop_all(self) -> None:
        """Drop everything: the registration is over."""
        for key in [*self._lined_up, *self._attempts]:
            self.drop(key)

    def drain(self, reason: str, *, force: bool = False, grace_seconds: float = 10.0) -> None:
        """Take nothing new; finish what runs, or hand it back when forced."""
        self.draining = self.draining or reason
        # What is lined up first: it is not to begin because the one before it is stopped.
        for attempt in {**self._lined_up, **self._attempts}.values():
            if attempt.dropped:
                continue
            if attempt.phase is Phase.WAITING:
                self._hand_back(attempt, reason)
            elif force and attempt.in_a_slot and attempt.run is not None:
                own = attempt.assignment.spec.grace_seconds
                attempt.run.stop("shutdown", min(own, grace_seconds))
            elif attempt.phase is Phase.LINED_UP:
                self._recall(attempt)
        self._check_idle()

    def verdict(self, draft: Draft, code: str) -> None:
        """The coordinator has judged a report."""
        attempt = self._attempts.get(draft.key)
        if draft.on_verdict is not None:
            draft.on_verdict(code)
        if attempt is None:
            return
        if code == STALE:
            self.drop(draft.key)
        elif draft.final:
            if code and not attempt.refused:
                self._give_up(attempt, code)
            else:
                self._remove(attempt, forget=bool(code))

    # --- what the engine says ----------------------------------------------------------------

    def fill(self) -> None:
        """Start what waits, in its order, while there are slots."""
        effects = self._effects
        while self._waiting and effects.free_slots():
            attempt = next(filter(self._is_due, self._waiting.values()), None)
            if attempt is None or effects.complaint():
                return
            del self._waiting[attempt.key]
            attempt.phase = Phase.RUNNING
            self._last_start = effects.now()
            attempt.run = effects.start(attempt)
        if self._waiting and (most := self._pace.most_lined_up()):
            self._line_up(most)

    def _line_up(self, most: int) -> None:
        """Give slots that are taken what they do next."""
        if not self._is_fit():
            return
        while attempt := next(filter(self._is_due, self._waiting.values()), None):
            run = self._effects.line_up(attempt, most)
            if run is None:
                return
            del self._waiting[attempt.key]
            self._lined_up[attempt.key] = attempt
            attempt.phase, attempt.run = Phase.LINED_UP, run
            self._effects.remind(attempt, LINE_PATIENCE_SECONDS)

    def _is_fit(self) -> bool:
        """Whether the worker's folder is of use, or was a moment ago.

        What is lined up begins a moment later anyway; what is started at once is not begun on such
        old news.
        """
        now = self._effects.now()
        if now >= self._fit_until:
            if self._effects.complaint():
                return False
            self._fit_until = now + LINED_UP_SECONDS
        return True

    def _recall(self, attempt: Attempt) -> None:
        """Ask for an attempt that is lined up; `ended` follows, or it has begun."""
        if attempt.run is not None:
            attempt.run.recall()

    def _came_back(self, attempt: Attempt) -> None:
        """It was not begun: it waits again, at its old place, or is somebody else's now."""
        attempt.run = None
        if attempt.dropped:
            self._remove(attempt)
        elif attempt.obeyed is not None:
            self._hand_back(attempt, "cancelled before it started")
        elif self.draining:
            self._hand_back(attempt, self.draining)
        else:
            attempt.phase = Phase.WAITING
            waiting = [*self._waiting.values(), attempt]
            self._waiting = {a.key: a for a in sorted(waiting, key=_arrival)}
            self._effects.remind(attempt, max(0.0, self._patience_left(attempt)))
            self.fill()

    def waited(self, attempt: Attempt) -> None:
        """An attempt that was sent ahead has waited long: another worker may be free for it."""
        if attempt.phase is Phase.LINED_UP:
            self._recall(attempt)
        if attempt.phase is not Phase.WAITING or attempt.dropped:
            return
        running = sum(a.phase in {Phase.RUNNING, Phase.DELIVERING} for a in self._attempts.values())
        if running >= self._slots:
            left = self._patience_left(attempt)
            if left > 0:
                self._effects.remind(attempt, left)
            else:
                self._hand_back(attempt, "sent ahead, and no slot became free in time")
            return
        why = self._effects.complaint()
        if why and self._effects.now() >= attempt.assigned_at + DISK_PATIENCE_SECONDS:
            text = f"the worker could not set the task up: {why}"
            self.not_started(attempt, Fault(text, before_start=True))
            return
        self.fill()
        if attempt.phase is Phase.WAITING:  # a slot is being cleaned
            self._effects.remind(attempt, PATIENCE_SECONDS)

    def _patience_left(self, attempt: Attempt) -> float:
        """How many seconds an attempt goes on waiting for a slot if nothing is started."""
        now = self._effects.now()
        stuck = self._last_start + PATIENCE_SECONDS - now
        return min(stuck, attempt.assigned_at + LONGEST_PATIENCE_SECONDS - now)

    def started(self, attempt: Attempt, started_at: float) -> None:
        """The program runs."""
        self._has_begun(attempt, started_at)
        if attempt.dropped:
            return
        draft = attempt.draft()
        draft.steps.append((State.FETCH_RESOURCE_FINISHED, attempt.assigned_at))  # it has no inputs
        draft.steps.append((State.EXEC_PENDING, attempt.assigned_at))
        draft.steps.append((State.EXEC_SPAWNED, started_at))
        draft.started = True
        self._effects.report(draft)

    def ended(self, attempt: Attempt, result: RunResult) -> None:
        """The program has ended, or was never started; nothing of it is alive."""
        if isinstance(result.outcome, NotBegun):
            self._lined_up.pop(attempt.key, None)
            self._came_back(attempt)
            return
        self._has_begun(attempt, result.started_at)
        self._pace.learn(result)
        if not result.tree_clean:
            self.unclean = True
        if attempt.dropped:
            self._release(attempt)
            self._remove(attempt)
            return
        end = ending(result, attempt.masking)
        if isinstance(end, Exit) and end.kind is not ExitKind.NOT_STARTED:
            self._exited(attempt, result, end)
        else:
            self.not_started(attempt, end)

    def not_started(self, attempt: Attempt, end: Ending) -> None:
        """There is no run to tell of: not begun, or ended through no doing of the task."""
        self._release(attempt)
        if attempt.dropped:
            self._remove(attempt)
            return
        draft = attempt.draft()
        if isinstance(end, Exit):
            draft.exit = end
        elif isinstance(end, Fault):
            draft.fault, draft.before_start = end.reason, end.before_start
            draft.by_task = end.by_task
        else:
            draft.handed_back = self.draining or end.reason
        self._finish(attempt, draft)

    def _exited(self, attempt: Attempt, result: RunResult, end: Exit) -> None:
        outputs = has_outputs(result)
        if is_doubtful(end, outputs) and (why := self._effects.complaint()):
            self.not_started(attempt, Fault(f"{why}, and so the program failed"))
            return
        draft = attempt.draft()
        timed_out = end.cause is EndCause.TIMEOUT
        state = State.EXEC_TIMEOUT if timed_out else State.EXEC_FINISHED
        draft.steps.append((state, result.ended_at))
        draft.exit = end
        draft.warnings += run_warnings(result)
        if not outputs and not attempt.assignment.spec.terminal:
            self._release(attempt)
            self._finish(attempt, draft)
            return
        attempt.phase = Phase.DELIVERING
        now = self._effects.now()
        cancelled = end.cause is not EndCause.OWN
        kind = State.UPLOAD_CANCELLED_RESULT if cancelled else State.UPLOAD_FINISHED_RESULT
        draft.steps += [(State.UPLOAD_RESULT, now), (kind, now)]
        self._effects.report(draft)
        self._effects.deliver(attempt, result)

    # --- what the delivery says --------------------------------------------------------------

    def artifact(self, attempt: Attempt, artifact: StoredArtifact) -> Draft:
        """The report about one uploaded output, which is judged alone."""
        draft = attempt.draft()
        draft.artifacts.append(artifact)
        draft.alone = True
        return draft

    def delivered(
        self,
        attempt: Attempt,
        warnings: list[str],
        *,
        timed_out: bool,
        fault: str = "",
        cut_short: bool = False,
        unstored: str = "",
    ) -> None:
        """All outputs that could be stored are stored; the run is released.

        `fault`: none of them, as the worker has no room; the task goes elsewhere. `cut_short`: only
        some of them, since the task was cancelled. `unstored`: which one could not be, and why.
        """
        if attempt.dropped:
            self._remove(attempt)
            return
        draft = attempt.draft()
        draft.warnings += warnings
        draft.fault = fault
        draft.cut_short = cut_short
        draft.unstored = unstored
        if not fault and not cut_short:
            state = State.UPLOAD_RESULT_TIMEOUT if timed_out else State.UPLOAD_RESULT_FINISHED
            draft.steps.append((state, self._effects.now()))
        self._finish(attempt, draft)

    # --- inside ------------------------------------------------------------------------------

    def _has_begun(self, attempt: Attempt, started_at: float) -> None:
        if attempt.phase is Phase.LINED_UP:
            del self._lined_up[attempt.key]
            attempt.phase = Phase.RUNNING
            self._last_start = max(self._last_start, started_at)

    def _finish(self, attempt: Attempt, draft: Draft) -> None:
        attempt.phase = Phase.REPORTED
        self._waiting.pop(attempt.key, None)
        draft.committed = not (draft.fault or draft.handed_back)
        self._effects.report(draft)
        self.fill()

    def _hold(self, attempt: Attempt) -> None:
        if attempt.key not in self._attempts:
            self._attempts[attempt.key] = attempt
            self._of_task[attempt.key[0]] += 1

    def _is_full(self) -> bool:
        """Whether no more can be taken: counted only when so many are held."""
        most = self._slots + MOST_AHEAD
        return len(self._attempts) >= most and self.busy >= most

    def _hand_back(self, attempt: Attempt, reason: str) -> None:
        self._hold(attempt)
        draft = attempt.draft()
        draft.handed_back = reason
        self._finish(attempt, draft)

    def _give_up(self, attempt: Attempt, code: str) -> None:
        """The last report was refused as such: free the task, or it would never end."""
        log.error("task %s: the report of attempt %d was refused: %s", *attempt.key, code)
        attempt.refused = True
        draft = attempt.draft()
        draft.fault = f"the coordinator refused the worker's report ({code})"
        self._effects.report(draft)

    def _release(self, attempt: Attempt) -> None:
        if attempt.run is not None:
            attempt.run.release()
            attempt.run = None

    def _remove(self, attempt: Attempt, *, forget: bool = False) -> None:
        if self._attempts.pop(attempt.key, None) is not None:
            task = attempt.key[0]
            self._of_task[task] -= 1
            if not self._of_task[task]:
                del self._of_task[task]
        self._waiting.pop(attempt.key, None)
        if not forget:
            _remember(self._over, attempt.key)
        self.fill()
        self._check_idle()

    def _check_idle(self) -> None:
        if not self._attempts:
            self._effects.idle()

    def _is_due(self, attempt: Attempt) -> bool:
        """Whether no older attempt of the same task is still being ended here."""
        task, number = attempt.key
        return self._of_task[task] == 1 or not any(
            other[0] == task and other[1] < number for other in self._attempts
        )


def _arrival(attempt: Attempt) -> int:
    return attempt.arrival


def _is_sharper(order: CancelAttempt, attempt: Attempt) -> bool:
    """Whether an order to cancel asks for more than the one that was obeyed, if any was.

    Outputs of a program that was stopped are delivered, however often that same order is repeated;
    who is not willing to wait for them orders SIGKILL, or a shorter grace.
    """
    obeyed, own = attempt.obeyed, attempt.assignment.spec.grace_seconds
    if obeyed is None:
        return True
    grace, before = (own if o.grace_seconds is None else o.grace_seconds for o in (order, obeyed))
    return grace < before or (order.stop_signal == "KILL" != obeyed.stop_signal)


def _remember(memory: OrderedDict[Key, None], key: Key) -> None:
    memory[key] = None
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
