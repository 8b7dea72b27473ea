"""The checker of the fault suite: each rule sees its fault, and a true history has none."""

from datetime import timedelta

import msgspec
import pytest

from mitosis.contract import subjects
from mitosis.domain import group, task, worker
from mitosis.domain.event import Event
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.roles import Role
from mitosis.domain.task import (
    Artifact,
    ArtifactKind,
    ArtifactStored,
    Exit,
    ExitKind,
    Outcome,
    TaskAssigned,
    TaskCancelled,
    TaskCommitted,
    TaskExited,
    TaskReady,
    TaskRequeued,
    TaskStarted,
    TaskSubmitted,
)
from mitosis.projections.commit import Commit
from mitosis.services.projector.decoding import decode
from mitosis.testing.chaos.checker import check, check_settings
from mitosis.testing.chaos.evidence import Answer, Evidence, Operation, StoredObject
from mitosis.testing.chaos.ledger import Line
from mitosis.testing.history import History
from mitosis.testing.views import folded_rows

OK = Exit(ExitKind.CODE, 0)
SHA = "0" * 64


class Small:
    """One group, one worker, and tasks whose events a test writes by hand."""

    def __init__(self) -> None:
        self.history = History()
        self.history.add_user("alice")
        self.history.decide(subjects.group_tail("lab"), group.CreateGroup("lab", "alice"))
        self.worker = self.history.add_worker("alice", {"lab": Role.WRITE})
        self.ledger: list[Line] = []
        self.record: list[Operation] = []
        self.objects: dict[str, StoredObject] = {}

    def submit(self, *, told: Answer = Answer.OK, **spec: object) -> str:
        uuid = self.history.submit("lab", "alice", **spec)
        number = self.history.states[self.tail(uuid)].number if told is Answer.OK else 0
        self.record.append(Operation("submit", uuid, told, number))
        return uuid

    def tail(self, uuid: str) -> str:
        return subjects.task_tail("lab", uuid)

    def store(self, uuid: str, *events: Event) -> None:
        """Store events that no decision has made, as a decision of its own."""
        actor = f"system:{len(self.history.commits)}"
        self.history.store(self.tail(uuid), events, actor)

    def assign(self, uuid: str, attempt: int = 1) -> None:
        self.store(uuid, TaskAssigned(attempt, self.worker, 600.0))

    def run(self, uuid: str, attempt: int = 1, code: int = 0, *, told: int | None = None) -> None:
        """Let an attempt run to its end, in the ledger and in the stream."""
        self.assign(uuid, attempt)
        self.ledger += [Line("start", uuid, attempt), Line("end", uuid, attempt, code)]
        end = Exit(ExitKind.CODE, code if told is None else told)
        outcome = Outcome.FAILED if end.number else Outcome.SUCCEEDED
        self.store(uuid, TaskExited(attempt, end), TaskCommitted(attempt, outcome))

    @property
    def commits(self) -> list[Commit]:
        return [decode(*raw) for raw in self.history.commits]

    def evidence(self, **other: object) -> Evidence:
        commits = self.commits
        rows = folded_rows(commits)
        known = {
            "commits": commits, "record": self.record, "ledger": self.ledger,
            "objects": self.objects, "rows": rows, "folded": rows,
            "archived": self.history.commits,
        }  # fmt: skip
        return Evidence(**{**known, **other})  # type: ignore[arg-type]

    def broken(self, **other: object) -> set[str]:
        return {violation.rule for violation in check(self.evidence(**other))}


@pytest.fixture
def small() -> Small:
    return Small()


def test_a_true_history_has_no_violation(small: Small) -> None:
    lost, done, failed = (small.submit() for _ in range(3))
    refused = Operation("submit", "not-there", Answer.REFUSED, error="no")
    small.record += [refused, Operation("submit", "nobody-knows", Answer.UNKNOWN)]
    small.assign(lost)
    small.ledger.append(Line("start", lost, 1))
    small.store(lost, TaskRequeued(1, "worker lost", counted=True))
    small.run(lost, 2)
    small.assign(done)
    name = f"{done}/1/upload/result.tar.gz"
    small.ledger += [Line("start", done, 1), Line("beat", done, 1), Line("end", done, 1, 0)]
    small.store(
        done, TaskStarted(1), TaskExited(1, OK),
        ArtifactStored(1, ArtifactKind.RESULT, name, 5, SHA), TaskCommitted(1, Outcome.SUCCEEDED),
    )  # fmt: skip
    small.objects[name] = StoredObject(5, SHA)
    small.objects[f"{lost}/1/dead-attempt/result.tar.gz"] = StoredObject(1, SHA)
    small.run(failed, code=3)
    gone = small.submit()
    small.history.decide(small.tail(gone), task.RequestCancel("not needed"))
    small.record.append(Operation("cancel", gone, Answer.OK))
    assert check(small.evidence()) == []


@pytest.mark.parametrize("told", [Answer.OK, Answer.UNKNOWN])
def test_only_an_acknowledged_submit_must_be_stored(small: Small, told: Answer) -> None:
    small.record.append(Operation("submit", "lost", told, 1))
    assert small.broken() == ({"acknowledged is stored"} if told is Answer.OK else set())


def test_an_acknowledged_number_is_the_stored_one(small: Small) -> None:
    uuid = small.submit()
    small.record[-1] = Operation("submit", uuid, Answer.OK, 7)
    small.run(uuid)
    assert small.broken() == {"acknowledged is stored"}


def test_an_acknowledged_cancel_must_be_stored(small: Small) -> None:
    uuid = small.submit()
    small.record.append(Operation("cancel", uuid, Answer.OK))
    small.run(uuid)
    assert small.broken() == {"acknowledged is stored"}


def test_a_refused_submit_must_not_be_stored(small: Small) -> None:
    small.run(small.submit(told=Answer.REFUSED))
    assert small.broken() == {"refused leaves no trace"}


def test_a_task_that_never_ends_is_seen(small: Small) -> None:
    small.assign(small.submit())
    assert small.broken() == {"ended once"}


def test_a_second_end_is_seen(small: Small) -> None:
    uuid = small.submit()
    small.run(uuid)
    small.store(uuid, TaskCancelled(Outcome.CANCELLED))
    assert small.broken() == {"terminal is final"}


def test_a_number_that_was_given_twice_is_seen(small: Small) -> None:
    first, second = small.submit(), "00000000-0000-8000-8000-000000000000"
    state = small.history.states[small.tail(first)]
    small.store(
        second, TaskSubmitted(second, "lab", "alice", state.number, state.spec), TaskReady()
    )
    small.run(first)
    small.run(second)
    assert small.broken() == {"numbers"}


def test_a_report_of_an_attempt_that_is_over_is_seen(small: Small) -> None:
    uuid = small.submit()
    small.assign(uuid)
    small.store(uuid, TaskRequeued(1, "worker lost"))
    small.assign(uuid, 2)
    small.ledger += [Line("start", uuid, 1), Line("end", uuid, 1, 0)]
    small.store(uuid, TaskExited(1, OK), TaskCommitted(1, Outcome.SUCCEEDED))
    assert small.broken() == {"only the live attempt"}


def test_a_report_of_a_worker_that_does_not_hold_the_task_is_seen(small: Small) -> None:
    uuid = small.submit()
    small.assign(uuid)
    by_another = "worker:another"
    small.history.store(small.tail(uuid), [TaskRequeued(1, "worker fault")], by_another)
    small.run(uuid, 2)
    assert small.broken() == {"only the live attempt"}


def test_a_step_that_is_dated_before_the_one_in_front_of_it_is_seen(small: Small) -> None:
    uuid = small.submit()
    small.assign(uuid)
    at = small.commits[-1].at
    begun, ended = at + timedelta(milliseconds=2), at + timedelta(milliseconds=1)
    small.ledger += [Line("start", uuid, 1), Line("end", uuid, 1, 0)]
    small.store(uuid, TaskStarted(1, (Step(ExecutionState.EXEC_SPAWNED, begun),)))
    finished = Step(ExecutionState.EXEC_FINISHED, ended)
    small.store(uuid, TaskExited(1, OK, (finished,)), TaskCommitted(1, Outcome.SUCCEEDED))
    assert small.broken() == {"times go on"}


@pytest.mark.parametrize("seconds", [-1, 3600])
def test_a_step_before_its_assignment_or_after_its_commit_is_seen(
    small: Small, seconds: float
) -> None:
    uuid = small.submit()
    small.assign(uuid)
    step = Step(ExecutionState.EXEC_SPAWNED, small.commits[-1].at + timedelta(seconds=seconds))
    small.ledger += [Line("start", uuid, 1), Line("end", uuid, 1, 0)]
    small.store(uuid, TaskStarted(1, (step,)))
    small.store(uuid, TaskExited(1, OK), TaskCommitted(1, Outcome.SUCCEEDED))
    assert small.broken() == {"times go on"}


def test_an_attempt_that_is_counted_twice_is_seen(small: Small) -> None:
    uuid = small.submit()
    small.assign(uuid)
    small.store(uuid, TaskRequeued(1, "worker lost"))
    small.run(uuid, 1)
    assert "attempts count" in small.broken()


def test_a_task_that_is_given_out_twice_is_seen(small: Small) -> None:
    uuid = small.submit()
    small.assign(uuid)
    small.run(uuid, 2)
    assert small.broken() == {"assigned once"}


def test_losses_that_are_not_counted_are_seen(small: Small) -> None:
    uuid = small.submit(max_losses=2)
    small.assign(uuid)
    small.store(uuid, TaskRequeued(1, "lost", counted=True), TaskCancelled(Outcome.LOST))
    assert small.broken() == {"losses count"}


@pytest.mark.parametrize(
    "second",
    [
        [("beside", 2), ("start", 2), ("end", 2)],
        [("start", 2), ("beat", 1), ("end", 2)],
        [("start", 2), ("start", 2), ("end", 2)],
    ],
)
def test_attempts_that_overlap_are_seen(small: Small, second: list[tuple[str, int]]) -> None:
    uuid = small.submit()
    small.assign(uuid)
    small.store(uuid, TaskRequeued(1, "worker lost"))
    small.run(uuid, 2)
    small.ledger[:] = [Line("start", uuid, 1)]
    small.ledger += [Line(word, uuid, attempt) for word, attempt in second]
    assert small.broken() == {"no two attempts at once"}


def test_a_program_that_ran_before_it_was_stored_is_seen(small: Small) -> None:
    uuid = small.submit()
    small.ledger += [Line("start", uuid, 1), Line("start", uuid, 2)]
    small.run(uuid, 1)
    del small.ledger[2]
    small.ledger.sort(key=lambda line: line.attempt)
    assert small.broken() == {"stored before it runs"}


@pytest.mark.parametrize("told", [1, 0])
def test_an_exit_code_that_the_program_did_not_have_is_seen(small: Small, told: int) -> None:
    small.run(small.submit(), code=3, told=told)
    assert small.broken() == {"ledger and stream agree"}


def test_an_artifact_that_is_missing_or_another_one_is_seen(small: Small) -> None:
    uuid = small.submit()
    name = f"{uuid}/1/upload/result.tar.gz"
    small.assign(uuid)
    tail, by = small.tail(uuid), small.worker
    small.history.decide(tail, task.ReportExit(by, 1, Exit(ExitKind.SIGNAL, 9)))
    stored = Artifact(ArtifactKind.RESULT, name, 5, SHA)
    small.history.decide(tail, task.StoreArtifact(by, 1, stored))
    small.history.decide(tail, task.CommitTask(by, 1))
    assert small.broken() == {"artifacts exist"}
    assert small.broken(objects={name: StoredObject(5, "1" * 64)}) == {"artifacts exist"}
    assert small.broken(objects={name: StoredObject(5, SHA)}) == set()
    strange = {name: StoredObject(5, SHA), f"{uuid}/2/upload/x": StoredObject(1, SHA)}
    assert small.broken(objects=strange) == {"nothing unexplained"}


def test_rows_that_differ_from_the_fold_are_seen(small: Small) -> None:
    small.run(small.submit())
    whole = folded_rows(small.commits)
    assert small.broken(rows={**whole, "tasks": []}) == {"read models"}
    other = [{**whole["tasks"][0], "priority": 9}]
    assert small.broken(rows={**whole, "tasks": other}) == {"read models"}


def test_an_archive_that_is_not_the_stream_is_seen(small: Small) -> None:
    archived = small.history.commits
    position, subject, payload = archived[-1]
    for wrong in (
        archived[:-1], [*archived, (position + 1, subject, payload)],
        [*archived[:-1], (position, subject, payload[:-1] + b" }")],
    ):  # fmt: skip
        assert small.broken(archived=wrong) == {"archive"}


def test_what_is_left_behind_is_seen(small: Small) -> None:
    assert small.broken(leftovers=["process 12"]) == {"nothing unexplained"}


def test_the_order_within_a_priority_is_held(small: Small) -> None:
    first, second, urgent = small.submit(), small.submit(), small.submit(priority=1)
    for uuid in (urgent, first, second):
        small.run(uuid)
    assert small.broken() == set()
    late, later = small.submit(), small.submit()
    small.run(later)
    small.run(late)
    assert small.broken() == {"order within priority"}


def test_a_higher_priority_goes_first_but_not_to_a_worker_that_may_not_run_it(
    small: Small,
) -> None:
    plain, tagged = small.submit(tags=("gpu",)), small.submit(priority=5)
    small.history.decide(subjects.worker_tail(small.worker), worker.ReplaceWorkerTags(("gpu",)))
    small.run(plain)
    assert small.broken() == {"ended once"}
    small.history.decide(subjects.worker_tail(small.worker), worker.ReplaceWorkerTags(()))
    low = small.submit(priority=-1)
    small.run(low)
    small.run(tagged)
    assert small.broken() == {"order within priority"}


def test_a_requeued_task_keeps_its_place(small: Small) -> None:
    first, second = small.submit(), small.submit()
    small.assign(first)
    small.store(first, TaskRequeued(1, "worker lost"))
    small.run(second)
    small.run(first, 2)
    assert small.broken() == {"order within priority"}


def test_what_one_decision_gives_out_at_once_may_be_stored_in_any_order(small: Small) -> None:
    first, second = small.submit(), small.submit()
    for uuid in (second, first):
        assigned = TaskAssigned(1, small.worker, 600.0)
        small.history.store(small.tail(uuid), [assigned], "worker:one-report")
    for uuid in (second, first):
        small.ledger += [Line("start", uuid, 1), Line("end", uuid, 1)]
        end = (TaskExited(1, OK), TaskCommitted(1, Outcome.SUCCEEDED))
        small.store(uuid, *end)
    commits = small.history.commits
    # One command: what the store of a coordinator has, and this builder numbers one by one.
    for at in range(len(commits) - 4, len(commits) - 2):
        position, subject, payload = commits[at]
        same = {**msgspec.json.decode(payload), "command": "one"}
        commits[at] = (position, subject, msgspec.json.encode(same))
    assert small.broken() == set()


def test_a_setting_is_what_was_acknowledged_last_or_what_nobody_knows() -> None:
    def tags(value: str, answer: Answer) -> Operation:
        return Operation("tags", "w", answer, value=value)

    record = [tags("a", Answer.OK), tags("b", Answer.UNKNOWN), tags("c", Answer.OK)]
    for now in ("b", "c"):
        assert check_settings({("tags", "w"): now}, record) == []
    assert len(check_settings({("tags", "w"): "a"}, record)) == 1
    assert check_settings({}, record) == []
