"""The task under random commands of users, workers and the coordinator."""

from datetime import UTC, datetime

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from mitosis.domain import task
from mitosis.domain.event import Command, Event
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.retry import ALL_CAUSES, UNLIMITED, Retry
from mitosis.domain.task import (
    Artifact,
    ArtifactKind,
    AssignTask,
    BeginRetry,
    ChangeTask,
    CommitTask,
    DeleteArtifact,
    EndCause,
    EraseSecrets,
    Exit,
    ExitKind,
    FailWatch,
    FireWatch,
    ReplaceTaskLabels,
    ReportExit,
    ReportStart,
    ReportSteps,
    RequestCancel,
    RequeueTask,
    StoreArtifact,
    SubmitTask,
    Task,
    TaskSpec,
    TaskState,
    WarnTask,
)
from mitosis.domain.watch import Watch
from mitosis.errors import AlreadyExists, Rejection, StaleAttempt, WrongState
from mitosis.testing.aggregates import AggregateMachine

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WATCHED = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"
WORKERS = st.sampled_from(["worker-1", "worker-2"])
ATTEMPTS = st.integers(-1, 5)
SPECS = st.builds(
    TaskSpec,
    argv=st.sampled_from([("true",), ("sleep", "1")]),
    tags=st.sampled_from([(), ("b", "a", "b")]),
    max_losses=st.integers(1, 3),
    retry=st.builds(
        Retry,
        times=st.sampled_from([0, 1, 2, UNLIMITED]),
        causes=st.sampled_from([ALL_CAUSES, ALL_CAUSES[:1], ALL_CAUSES[1:]]),
        delay_seconds=st.sampled_from([0.5, 400.0]),
        max_delay_seconds=st.sampled_from([None, 500.0]),
    ),
    watch=st.sampled_from(
        [None, None, *(Watch(WATCHED, "lab", state) for state in list(ExecutionState)[7:9])]
    ),
).flatmap(
    lambda spec: st.sampled_from(
        [spec, msgspec.structs.replace(spec, secrets=("KEY",), sealing="0" * 32)]
    )
)
LABELS = st.sampled_from([(), ("x",), ("y", "x")])
STEPS = st.lists(
    st.builds(Step, st.sampled_from(ExecutionState), st.just(NOW)), max_size=2
).map(tuple)  # fmt: skip
EXITS = st.builds(
    Exit, st.sampled_from(ExitKind), st.integers(0, 3), st.sampled_from(EndCause),
    stdout_tail=st.sampled_from(["", "a\0b", "é" * task.MAX_TAIL_BYTES]),
)  # fmt: skip
ARTIFACTS = st.builds(
    Artifact, st.sampled_from(ArtifactKind), st.sampled_from(["one", "two"]),
    st.integers(0, 9), st.just("0" * 64),
)  # fmt: skip

# What may still be stored about a task that has ended.
AFTER_THE_END = (task.ArtifactStored, task.ArtifactDeleted, task.TaskLabelsReplaced)


class TaskMachine(AggregateMachine):
    aggregate = task
    state_type = Task
    news_each_time = (ReportSteps, WarnTask)

    def __init__(self) -> None:
        super().__init__()
        # A model of its own: what the events say, without evolve.
        self.live: tuple[str, int] | None = None
        self.attempts = 0
        self.end: tuple[TaskState, object] | None = None
        self.quota_used = 0
        self.waits = False
        self.retries = 0
        self.waits_until: datetime | None = None
        self.cancelled = False

    @initialize(spec=SPECS, labels=LABELS)
    def submit(self, spec: TaskSpec, labels: tuple[str, ...]) -> None:
        self.submission = SubmitTask("t", "lab", "alice", 1, spec, labels, NOW)
        self.give(self.submission)

    def check_event(self, event: Event) -> None:
        if self.end is not None:
            assert isinstance(event, AFTER_THE_END)
            assert getattr(event, "attempt", 0) == 0, "no worker has a say after the end"
        match event:
            case task.TaskAssigned(attempt, worker):
                assert self.live is None, "two attempts of one task at once"
                assert not self.waits, "it waits for another task"
                assert self.waits_until is None, "it waits for its next attempt"
                assert attempt == self.attempts + 1, "attempts are numbered without gaps"
                self.live, self.attempts = (worker, attempt), attempt
            case task.TaskRequeued(attempt):
                assert self.live is not None
                assert attempt == self.live[1], "only the live attempt can be given up"
                self.live = None
            case task.TaskRetryScheduled(attempt, not_before, outcome):
                assert self.live is not None
                assert attempt == self.live[1], "only the live attempt can fail"
                assert not self.cancelled, "what is cancelled is not tried again"
                assert outcome in {task.Outcome.FAILED, task.Outcome.TIMED_OUT}
                # As it was before this event, in whose specification the limit stands.
                retry = self.state.spec.retry
                assert retry.times == UNLIMITED or self.retries < retry.times
                wait = (not_before - NOW).total_seconds()
                longest = retry.max_delay_seconds or max(300, retry.delay_seconds)
                assert wait == min(retry.delay_seconds * 2**self.retries, longest)
                self.live, self.waits_until = None, not_before
                self.retries += 1
            case task.TaskCommitted(attempt, outcome):
                assert self.live is not None
                assert attempt == self.live[1], "only the live attempt can end the task"
                self.live, self.end = None, (outcome.state, outcome)
            case task.TaskCancelled(outcome):
                self.live, self.end, self.waits = None, (outcome.state, outcome), False
                self.waits_until = None
            case task.TaskSubmitted() | task.TaskChanged() if event.steps:
                self.waits, self.waits_until = True, None
            case task.TaskReady():
                self.waits, self.waits_until = False, None
            case task.TaskCancelRequested():
                self.cancelled = True
            case task.ArtifactStored():
                self.quota_used += event.size_bytes - event.freed_bytes
            case task.ArtifactDeleted():
                self.quota_used -= event.freed_bytes
            case _:
                pass

    def report(self, command: Command, worker: str, attempt: int) -> None:
        result = self.give(command)
        if (worker, attempt) == self.live or isinstance(result, StaleAttempt):
            return
        # The only other answer: this very report ended the task, now or before.
        assert isinstance(command, CommitTask)
        assert not isinstance(result, Rejection)
        assert attempt == self.attempts
        assert self.end is not None

    @rule(spec=SPECS, labels=LABELS)
    def submit_again(self, spec: TaskSpec, labels: tuple[str, ...]) -> None:
        assert self.give(self.submission) == []
        other = SubmitTask("t", "lab", "alice", 2, spec, labels, NOW)
        result = self.give(other)
        same = (spec, set(labels)) == (self.submission.spec, set(self.submission.labels))
        assert result == [] if same else isinstance(result, AlreadyExists)

    @rule(worker=WORKERS)
    def assign(self, worker: str) -> None:
        self.give(AssignTask(worker, 600.0))

    @rule(worker=WORKERS, attempt=ATTEMPTS, steps=STEPS)
    def start(self, worker: str, attempt: int, steps: tuple[Step, ...]) -> None:
        self.report(ReportStart(worker, attempt, steps), worker, attempt)

    @rule(worker=WORKERS, attempt=ATTEMPTS, steps=STEPS)
    def progress(self, worker: str, attempt: int, steps: tuple[Step, ...]) -> None:
        self.report(ReportSteps(worker, attempt, steps), worker, attempt)

    @rule(worker=WORKERS, attempt=ATTEMPTS, end=EXITS)
    def exit(self, worker: str, attempt: int, end: Exit) -> None:
        self.report(ReportExit(worker, attempt, end), worker, attempt)

    @rule(worker=WORKERS, attempt=ATTEMPTS)
    def warn(self, worker: str, attempt: int) -> None:
        self.report(WarnTask(worker, attempt, "look"), worker, attempt)

    @rule(worker=WORKERS, attempt=ATTEMPTS, artifact=ARTIFACTS)
    def upload(self, worker: str, attempt: int, artifact: Artifact) -> None:
        self.report(StoreArtifact(worker, attempt, artifact), worker, attempt)

    @rule(
        worker=WORKERS, attempt=ATTEMPTS, cut_short=st.booleans(),
        unstored=st.sampled_from(["", "result: not stored"]),
    )  # fmt: skip
    def commit(self, worker: str, attempt: int, cut_short: bool, unstored: str) -> None:
        live = (worker, attempt) == self.live
        self.report(CommitTask(worker, attempt, NOW, cut_short, unstored), worker, attempt)
        succeeded = (TaskState.FINISHED, task.Outcome.SUCCEEDED)
        assert not (live and unstored and self.end == succeeded)

    @precondition(lambda self: self.waits_until)
    @rule(cancel=st.booleans(), worker=WORKERS)
    def wait_is_over(self, cancel: bool, worker: str) -> None:
        assert isinstance(self.give(AssignTask(worker, 600.0)), Rejection)
        if cancel:
            self.give(RequestCancel())
            assert self.end == (TaskState.CANCELLED, task.Outcome.CANCELLED)
        else:
            assert self.give(BeginRetry()) == [task.TaskReady()]
            self.give(AssignTask(worker, 600.0))

    @rule()
    def begin_retry_too_often(self) -> None:
        waited, result = self.waits_until, self.give(BeginRetry())
        assert waited or self.end or result == []

    @precondition(lambda self: self.live)
    @rule(end=EXITS, artifact=ARTIFACTS, until=st.integers(1, 3))
    def live_attempt_reports(self, end: Exit, artifact: Artifact, until: int) -> None:
        """So that long lives are common, which random numbers alone would seldom make."""
        worker, attempt = self.live or ("", 0)
        commands = [
            ReportExit(worker, attempt, end),
            StoreArtifact(worker, attempt, artifact),
            CommitTask(worker, attempt, NOW),
        ]
        for command in commands[:until]:
            assert not isinstance(self.give(command), Rejection)

    @rule(attempt=ATTEMPTS, counted=st.booleans())
    def requeue(self, attempt: int, counted: bool) -> None:
        was_live = self.live is not None and self.live[1] == attempt
        result = self.give(RequeueTask(attempt, "worker lost\0", counted))
        assert was_live != isinstance(result, WrongState)

    @precondition(lambda self: self.live)
    @rule(counted=st.booleans(), before=st.sets(st.sampled_from(["exit", "cancel"])), next_=WORKERS)
    def lose(self, counted: bool, before: set[str], next_: str) -> None:
        old_worker, old_attempt = self.live or ("", 0)
        if "exit" in before:
            self.give(ReportExit(old_worker, old_attempt, Exit(ExitKind.CODE)))
        if "cancel" in before:
            self.give(RequestCancel())
        self.give(RequeueTask(old_attempt, "worker lost", counted))
        late = CommitTask(old_worker, old_attempt)
        assert isinstance(self.give(late), StaleAttempt), "a late report of an old attempt"
        self.give(ChangeTask(TaskSpec(("true",), max_losses=1)))
        self.give(AssignTask(next_, 600.0))
        assert isinstance(self.give(late), StaleAttempt), "a late report of an old attempt"

    @rule(artifact=ARTIFACTS)
    def user_uploads(self, artifact: Artifact) -> None:
        self.give(StoreArtifact("", 0, artifact))

    @rule(kind=st.sampled_from(ArtifactKind))
    def delete_artifact(self, kind: ArtifactKind) -> None:
        self.give(DeleteArtifact(kind))

    @rule(labels=LABELS)
    def label(self, labels: tuple[str, ...]) -> None:
        self.give(ReplaceTaskLabels(labels))

    @rule(spec=SPECS, fired=st.sampled_from(["", "it is there"]))
    def change(self, spec: TaskSpec, fired: str) -> None:
        self.give(ChangeTask(spec, NOW, fired))

    @rule()
    def erase_secrets(self) -> None:
        result = self.give(EraseSecrets("leaked"))
        has_some = bool(self.state.spec.secrets)
        late = self.end is not None and not self.state.erased
        assert isinstance(result, Rejection) == (late or not has_some)

    @rule()
    def fire(self) -> None:
        result = self.give(FireWatch("it has come", NOW))
        assert self.end or isinstance(result, list)

    @rule(timed_out=st.booleans())
    def fail_to_come(self, timed_out: bool) -> None:
        waited = self.waits
        self.give(FailWatch("it cannot come", NOW, timed_out))
        assert not waited or self.end

    @rule(
        stop_signal=st.sampled_from(["", "INT", "KILL"]),
        grace=st.sampled_from([None, 0.0, 5.0]),
    )
    def cancel(self, stop_signal: str, grace: float | None) -> None:
        self.give(RequestCancel("enough", stop_signal, grace))

    @invariant()
    def waits_for_its_next_attempt_as_its_events_say(self) -> None:
        assert self.state.retry_at == self.waits_until
        assert self.state.retries == self.retries
        assert self.waits_until is None or self.state.state is TaskState.PENDING

    @invariant()
    def has_only_outputs_of_its_latest_two_attempts_and_at_its_end_of_one(self) -> None:
        attempts = {a.attempt for a in self.state.artifacts} - {0}
        ran_to_its_end = self.state.state is TaskState.FINISHED
        assert not ran_to_its_end or attempts <= {self.attempts}

    @invariant()
    def ends_once(self) -> None:
        ended = (self.state.state, self.state.outcome) if self.state.outcome else None
        assert ended == self.end
        assert self.state.state.terminal == (self.end is not None)

    @invariant()
    def waits_as_its_events_say(self) -> None:
        assert (self.state.watching_since is not None) == self.waits
        assert not self.waits or self.state.state is TaskState.PENDING

    @invariant()
    def runs_when_an_attempt_is_live(self) -> None:
        assert (self.state.state is TaskState.RUNNING) == (self.live is not None)
        assert self.live is None or (self.state.worker, self.state.attempt) == self.live

    @invariant()
    def losses_stay_within_their_limit(self) -> None:
        assert 0 <= self.state.losses <= self.state.spec.max_losses
        lost_out = self.state.outcome is task.Outcome.LOST
        assert (self.state.losses == self.state.spec.max_losses) <= (self.end is not None)
        assert not lost_out or self.state.losses == self.state.spec.max_losses

    @invariant()
    def keeps_what_it_stores_small(self) -> None:
        assert self.state.warnings <= task.MAX_WARNINGS
        assert self.state.stored_bytes == self.quota_used >= 0, "the quota can be kept from events"
        assert len({a.kind for a in self.state.artifacts}) == len(self.state.artifacts)
        if self.state.exit:
            tail = self.state.exit.stdout_tail
            assert len(tail.encode()) <= task.MAX_TAIL_BYTES
            assert "\0" not in tail


TestTask = TaskMachine.TestCase
TestTask.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
