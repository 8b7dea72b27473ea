"""Events become rows: what each one changes, and that the counters are always right."""

from collections import Counter
from datetime import timedelta

import pytest

from mitosis.contract import subjects
from mitosis.contract.queries import AttemptEnd
from mitosis.domain import attachment, group, task, user, worker
from mitosis.domain.event import Event
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.platform import TermStarted
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind, Exit, ExitKind, Outcome, TaskState
from mitosis.domain.watch import Watch
from mitosis.errors import CorruptData
from mitosis.projections.plan import fold_all, needed_rows
from mitosis.projections.rows import NO_EXIT_STATUS, Tables, TaskRow
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import START, History, campaign

LATER = START + timedelta(hours=1)
RUNNER = "11111111-1111-4111-8111-111111111111"


def folded(history: History) -> Tables:
    return fold_all(Tables(), [decode(*raw) for raw in history.commits])


class OneTask:
    """A history with one task, and its row after what happened so far."""

    def __init__(self) -> None:
        self.history = History()
        self.history.add_user("alice")
        self.uuid = self.history.submit("alice", "alice", tags=("gpu",), labels=("a",))
        self.tail = subjects.task_tail("alice", self.uuid)

    def store(self, *events: Event) -> "OneTask":
        self.history.store(self.tail, events)
        return self

    def run(self) -> "OneTask":
        return self.store(task.TaskAssigned(1, RUNNER, 60.0), task.TaskStarted(1))

    @property
    def tables(self) -> Tables:
        return folded(self.history)

    @property
    def row(self) -> TaskRow:
        row = self.tables.tasks.get(self.uuid)
        assert row is not None
        return row


def test_a_submitted_task_has_its_place_in_the_order_and_in_the_counts() -> None:
    one = OneTask()
    assert (one.row.number, one.row.created_position, one.row.state) == (1, 3, TaskState.READY)
    assert (one.row.tags, one.row.labels) == (("gpu",), ("a",))
    spec = one.tables.task_specs.get(one.uuid)
    assert spec is not None
    assert spec.spec.argv == ("true",)
    use = one.tables.usage.get("alice")
    assert use is not None
    assert (use.pending, use.ready) == (0, 1)


def test_an_attempt_leaves_its_worker_times_and_steps() -> None:
    spawned = Step(ExecutionState.EXEC_SPAWNED, START + timedelta(hours=1))
    later = Step(ExecutionState.UPLOAD_RESULT, START + timedelta(hours=2))
    one = OneTask().store(task.TaskAssigned(1, RUNNER, 60.0), task.TaskStarted(1, (spawned,)))
    one.store(task.TaskProgressed(1, (later,)))
    assert (one.row.state, one.row.worker, one.row.attempt) == (TaskState.RUNNING, RUNNER, 1)
    assert one.row.started_at == spawned.at
    assert [s.state for s in one.row.steps] == ["FetchResource", "ExecSpawned", "UploadResult"]
    assert one.row.steps[1:] == [spawned, later]


def test_without_a_step_the_start_has_the_time_of_its_commit() -> None:
    one = OneTask()
    at = one.history.now
    assert one.run().row.started_at == at


def test_a_program_that_ended_before_its_start_was_told_started_when_it_was_spawned() -> None:
    """The one report tells both, and is taken in after the end."""
    one = OneTask().store(task.TaskAssigned(1, RUNNER, 60.0))
    began, ended = START + timedelta(hours=1), START + timedelta(hours=1, milliseconds=8)
    steps = (
        Step(ExecutionState.EXEC_SPAWNED, began), Step(ExecutionState.EXEC_FINISHED, ended)
    )  # fmt: skip
    end = task.Exit(task.ExitKind.CODE, 0)
    one.store(task.TaskStarted(1), task.TaskExited(1, end, steps))
    assert one.row.started_at == began


def test_the_steps_of_a_task_are_in_the_order_of_their_times() -> None:
    """A report that took long to be taken in dates its steps later than the next one does."""
    late, early = START + timedelta(hours=1), START + timedelta(minutes=59)
    one = OneTask().store(
        task.TaskAssigned(1, RUNNER, 60.0),
        task.TaskStarted(1, (Step(ExecutionState.EXEC_SPAWNED, late),)),
        task.TaskExited(
            1, task.Exit(task.ExitKind.CODE, 0), (Step(ExecutionState.EXEC_FINISHED, early),)
        ),
    )
    times = [step.at for step in one.row.steps]
    assert times == sorted(times)
    assert times[-1] == one.row.started_at == late


def test_the_end_keeps_worker_exit_and_outcome() -> None:
    end = task.Exit(task.ExitKind.SIGNAL, 9)
    one = OneTask().run()
    at = one.history.now
    one.store(task.TaskExited(1, end), task.TaskCommitted(1, Outcome.FAILED, "signal 9"))
    row = one.row
    assert (row.state, row.outcome, row.reason) == (TaskState.FINISHED, Outcome.FAILED, "signal 9")
    assert (row.worker, row.exit, row.ended_at) == (RUNNER, end, at)


def test_a_new_attempt_forgets_what_the_old_one_did_but_not_that_it_was_lost() -> None:
    one = OneTask().run()
    one.store(task.TaskExited(1, task.Exit(task.ExitKind.CODE, 1)))
    one.store(task.TaskRequeued(1, "worker was lost", counted=True))
    assert (one.row.state, one.row.reason, one.row.worker) == (
        TaskState.READY, "worker was lost", None,
    )  # fmt: skip
    one.store(task.TaskAssigned(2, RUNNER, 60.0))
    assert (one.row.attempt, one.row.losses, one.row.reason) == (2, 1, "")
    assert (one.row.exit, one.row.started_at) == (None, None)
    assert [step.state for step in one.row.steps] == ["FetchResource"]


def test_a_task_that_watches_another_one_is_pending_and_says_for_what() -> None:
    one = OneTask()
    spec = task.TaskSpec(("true",), watch=Watch(RUNNER, "lab", ExecutionState.EXEC_SPAWNED))
    watch = Step(ExecutionState.WATCH, START)
    finished = Step(ExecutionState.WATCH_FINISHED, START)
    one.store(task.TaskChanged(spec, (watch,)))
    assert (one.row.state, one.row.steps) == (TaskState.PENDING, [watch])
    assert one.row.reason == f"waits until task {RUNNER} has reached ExecSpawned"
    use = one.tables.usage.get("alice")
    assert use is not None
    assert (use.pending, use.ready) == (1, 0)
    one.store(task.TaskReady("it has", (finished,)), task.TaskAssigned(1, RUNNER, 60.0))
    assert (one.row.state, one.row.reason) == (TaskState.RUNNING, "")
    assert one.row.steps[:2] == [watch, finished], "an attempt keeps the wait before it"
    assert one.row.steps[2].state is ExecutionState.FETCH_RESOURCE


def test_a_retry_says_until_when_it_waits() -> None:
    one = OneTask().run()
    scheduled = task.TaskRetryScheduled(1, LATER, Outcome.FAILED, "exit code 3")
    one.store(task.TaskExited(1, Exit(ExitKind.CODE, 3)), scheduled)
    assert (one.row.state, one.row.retries, one.row.retry_at) == (TaskState.PENDING, 1, LATER)
    assert one.row.reason == "waits to run again: attempt 1 has failed (exit code 3)"
    (former,) = one.row.former_attempts
    assert (former.attempt, former.worker, former.end) == (1, RUNNER, AttemptEnd.FAILED)
    assert (former.reason, former.exit_kind, former.exit_number) == ("exit code 3", "code", 3)
    one.store(task.TaskReady())
    assert (one.row.state, one.row.reason, one.row.retry_at) == (TaskState.READY, "", None)


@pytest.mark.parametrize(("counted", "end"), [(True, "lost"), (False, "handed_back")])
def test_an_attempt_that_was_taken_away_is_kept_with_its_reason(counted: bool, end: str) -> None:
    one = OneTask().run().store(task.TaskRequeued(1, "why", counted))
    (former,) = one.row.former_attempts
    assert (former.end.value, former.reason, former.exit_kind) == (end, "why", None)


def test_of_very_many_attempts_the_newest_are_kept() -> None:
    one = OneTask()
    for attempt in range(1, 50):
        one.store(task.TaskAssigned(attempt, RUNNER, 600.0), task.TaskRequeued(attempt, "again"))
    assert [former.attempt for former in one.row.former_attempts] == list(range(18, 50))


def test_a_cancelled_task_says_why() -> None:
    one = OneTask().store(
        task.TaskCancelRequested("not needed"), task.TaskCancelled(Outcome.CANCELLED, "not needed")
    )
    assert one.row.cancel_requested
    assert (one.row.state, one.row.reason) == (TaskState.CANCELLED, "not needed")


def test_changes_before_the_start_are_shown() -> None:
    one = OneTask()
    one.store(task.TaskChanged(task.TaskSpec(("other",), tags=("arm",))))
    one.store(task.TaskLabelsReplaced(("b",)), task.TaskWarned(0, "look"))
    assert (one.row.tags, one.row.labels, one.row.warnings) == (("arm",), ("b",), ["look"])
    spec = one.tables.task_specs.get(one.uuid)
    assert spec is not None
    assert spec.spec.argv == ("other",)


def test_erased_secrets_are_shown_and_no_event_of_a_task_is_unknown() -> None:
    one = OneTask().store(task.TaskSecretsErased("leaked"))
    assert "erased" in one.row.warnings[0]


def test_warnings_are_bounded_to_the_newest() -> None:
    one = OneTask().store(*(task.TaskWarned(0, str(n)) for n in range(task.MAX_WARNINGS + 5)))
    assert one.row.warnings == [str(n) for n in range(5, task.MAX_WARNINGS + 5)]


def test_storage_counts_what_is_stored_now() -> None:
    def stored(size: int) -> task.ArtifactStored:
        return task.ArtifactStored(1, ArtifactKind.RESULT, f"o{size}", size, "0" * 64)

    one = OneTask().run().store(stored(100))
    one.store(stored(30))
    one.history.store_attachment("alice", "in.bin", 7)
    one.history.store_attachment("alice", "in.bin", 5)
    use = one.tables.usage.get("alice")
    assert use is not None
    assert use.storage_used_bytes == 35
    one.store(task.ArtifactDeleted(ArtifactKind.RESULT, "o30"))
    one.history.decide(subjects.attachment_tail("alice", "in.bin"), attachment.DeleteAttachment())
    tables = one.tables
    use = tables.usage.get("alice")
    assert use is not None
    assert use.storage_used_bytes == 0
    assert (tables.artifacts.rows, tables.attachments.rows) == ({}, {})


def test_accounts_are_shown_without_their_passwords() -> None:
    history = History()
    history.add_user("alice")
    tail = subjects.user_tail("alice")
    history.store(tail, [user.AdminChanged(True), user.GroupQuotaChanged(3)])
    history.store(tail, [user.SessionOpened("s", START), user.PasswordChanged("another")])
    history.store(tail, [user.UserStateChanged(user.UserPhase.LOCKED)])
    row = folded(history).users.get("alice")
    assert row is not None
    assert (row.admin, row.group_quota, row.state) == (True, 3, user.UserPhase.LOCKED)
    assert "argon2" not in repr(row)


def test_sessions_open_and_end_in_every_way() -> None:
    history = History()
    history.add_user("alice")
    tail = subjects.user_tail("alice")

    def left(*events: Event) -> list[str]:
        history.store(tail, events)
        row = folded(history).sessions.get("alice")
        return [] if row is None else [one.session for one in row.sessions]

    def opened(*names: str) -> list[Event]:
        return [user.SessionOpened(name, START, "192.0.2.1") for name in names]

    assert left(user.PasswordChanged("before any login")) == []
    assert left(*opened("a", "b", "c", "d", "e")) == ["a", "b", "c", "d", "e"]
    assert left(user.SessionRevoked("b")) == ["a", "c", "d", "e"]
    assert left(user.PasswordChanged("new", "c"), *opened("f", "g")) == ["c", "f", "g"]
    assert left(user.SessionRevoked(kept_session="f")) == ["f"]
    assert left(*opened("h"), user.SessionRevoked()) == []
    assert left(*opened("i"), user.UserStateChanged(user.UserPhase.ACTIVE)) == ["i"]
    assert left(user.UserStateChanged(user.UserPhase.LOCKED, "why")) == []
    row = folded(history).users.get("alice")
    assert row is not None
    assert row.reason == "why"


def test_members_come_change_and_go() -> None:
    history = History()
    history.add_user("alice")
    for role in (Role.READ, Role.WRITE):
        history.add_member("alice", "bob", role)
    members = folded(history).members
    assert {key: row.role for key, row in members.rows.items()} == {
        ("alice", "alice"): Role.ADMIN,
        ("alice", "bob"): Role.WRITE,
    }
    history.decide(subjects.group_tail("alice"), group.ChangeMembers(removed=("bob",)))
    assert folded(history).members.dropped() == [{"group_name": "alice", "user_name": "bob"}]


def test_a_worker_is_shown_with_its_state_and_reason() -> None:
    history = History()
    uuid = history.add_worker("alice", {"alice": Role.WRITE, "lab": Role.READ}, tags=("gpu",))
    tail = subjects.worker_tail(uuid)
    history.store(tail, [worker.WorkerTagsReplaced(("arm",)), worker.WorkerSlotsChanged(4)])
    history.store(tail, [worker.WorkerRolesRemoved(("lab",)), worker.WorkerPaused("repair")])
    tables = folded(history)
    row = tables.workers.get(uuid)
    assert row is not None
    assert (row.tags, row.slots, row.state, row.reason) == (
        ("arm",), 4, worker.WorkerPhase.PAUSED, "repair",
    )  # fmt: skip
    assert list(tables.worker_roles.rows) == [(uuid, "alice")]
    history.store(tail, [worker.WorkerLost("its machine has rebooted")])
    row = folded(history).workers.get(uuid)
    assert row is not None
    assert (row.state, row.reason) == (worker.WorkerPhase.GONE, "its machine has rebooted")


@pytest.mark.parametrize("seed", range(5))
def test_a_history_cut_into_batches_gives_the_rows_of_the_whole(seed: int) -> None:
    """Every batch sees only the rows that it asked for, as it does in Postgres."""
    history = campaign(seed, 60)
    commits = [decode(*raw) for raw in history.commits]
    whole, stored = folded(history), Tables()
    at = 0
    while at < len(commits):
        batch = commits[at : at + history.random.randrange(1, 30)]
        at += len(batch)
        part = Tables()
        for table, kept in zip(part.overwritten(), stored.overwritten(), strict=True):
            wanted = needed_rows(batch).get(table.name, set())
            table.learn([kept.rows[key] for key in wanted if key in kept.rows])
        fold_all(part, batch)
        for table, kept in zip(part.overwritten(), stored.overwritten(), strict=True):
            for key in table.changed:
                kept.rows.pop(key, None)
            kept.learn(table.written())
        for row in part.usage.written():
            total = stored.use_of(row.group_name)
            for field in row.__struct_fields__[1:]:
                setattr(total, field, getattr(total, field) + getattr(row, field))
        for counter in part.task_counts.written():
            key = part.task_counts.key_of(counter)
            counter.tasks += kept.tasks if (kept := stored.task_counts.get(*key)) else 0
            stored.task_counts.put(counter)
    for table, kept in zip(whole.overwritten(), stored.overwritten(), strict=True):
        assert kept.rows == table.rows, table.name
    assert stored.usage.rows == whole.usage.rows
    counted = {key: row for key, row in stored.task_counts.rows.items() if row.tasks}
    assert counted == whole.task_counts.rows


@pytest.mark.parametrize("seed", range(5))
def test_counters_agree_with_the_states_that_decisions_are_made_on(seed: int) -> None:
    history = campaign(seed, 60)
    states = [state for state in history.states.values() if isinstance(state, task.Task)]
    tables = folded(history)
    for name in ("alice", "bob", "lab"):
        use = tables.usage.get(name)
        assert use is not None
        counted = Counter(state.state.value for state in states if state.group == name)
        assert {
            s.value: getattr(use, s.value) for s in TaskState if getattr(use, s.value)
        } == counted
        used = sum(state.stored_bytes for state in states if state.group == name)
        used += sum(
            state.size_bytes
            for state in history.states.values()
            if isinstance(state, attachment.Attachment) and state.group == name
        )
        assert use.storage_used_bytes == used


def test_a_batch_in_which_a_counter_goes_up_and_down_writes_nothing_of_it() -> None:
    """A task that was submitted, ran and ended in it is only counted as it is at its end."""
    one = OneTask().run()
    one.store(
        task.TaskExited(1, Exit(ExitKind.CODE, 7)), task.TaskCommitted(1, Outcome.FAILED, "code 7"),
        task.TaskLabelsReplaced(("b",)),
    )  # fmt: skip
    written = [
        (row.word, row.creator, row.state, row.outcome, row.exit_status, row.priority, row.tasks)
        for row in one.tables.task_counts.written()
    ]
    alike = ("alice", TaskState.FINISHED, "failed", 7, 0, 1)
    assert written == [("", *alike), ("label b", *alike), ("tag gpu", *alike)]
    words = [(row.word, row.number) for row in one.tables.task_words.written()]
    assert words == [("label b", 1), ("tag gpu", 1)]


def test_an_exit_status_is_that_of_a_program_that_gave_a_code() -> None:
    one = OneTask().run()
    assert one.row.exit_status == NO_EXIT_STATUS
    one.store(task.TaskExited(1, Exit(ExitKind.SIGNAL, 9)))
    assert one.row.exit_status == NO_EXIT_STATUS
    one.store(task.TaskExited(1, Exit(ExitKind.CODE)))
    assert one.row.exit_status == 0
    one.store(task.TaskRequeued(1, "lost", True), task.TaskAssigned(2, RUNNER, 60.0))
    assert one.row.exit_status == NO_EXIT_STATUS


@pytest.mark.parametrize("seed", range(3))
def test_rows_agree_with_the_states_that_decisions_are_made_on(seed: int) -> None:
    history = campaign(seed, 60)
    tables = folded(history)
    for state in history.states.values():
        if isinstance(state, task.Task):
            row = tables.tasks.get(state.task)
            assert row is not None
            for field in ("number", "state", "outcome", "attempt", "losses", "labels", "exit",
                          "cancel_requested", "creator"):  # fmt: skip
                assert getattr(row, field) == getattr(state, field), field


def test_only_rows_that_the_batch_does_not_make_itself_are_asked_for() -> None:
    one = OneTask()
    made = [decode(*raw) for raw in one.history.commits]
    assert needed_rows(made) == {}
    one.run().store(task.ArtifactDeleted(ArtifactKind.RESULT, "o"))
    later = [decode(*raw) for raw in one.history.commits[len(made) :]]
    assert needed_rows(later) == {"tasks": {(one.uuid,)}, "artifacts": {(one.uuid, "result")}}
    assert needed_rows([*made, *later]) == {}


@pytest.mark.parametrize(
    ("tail", "event"),
    [
        (f"task.lab.{RUNNER}", task.TaskReady()),
        (f"worker.{RUNNER}", worker.WorkerResumed()),
        ("group.lab", group.MemberRemoved("bob")),
        ("user.bob", user.AdminChanged(True)),
        (subjects.attachment_tail("lab", "k"), attachment.AttachmentDeleted("o")),
    ],
)
def test_an_event_of_something_unknown_is_never_skipped(tail: str, event: Event) -> None:
    history = History()
    history.states[tail] = campaign(1, 1).states.get(tail) or _any_state(tail)
    history.store(tail, [event])
    with pytest.raises(CorruptData) as caught:
        folded(history)
    assert caught.value.details == {"position": 1, "subject": f"mito.events.{tail}"}


def _any_state(tail: str) -> object:
    """A state of the right kind, so that the history can be written at all."""
    history = campaign(1, 1)
    kind = subjects.aggregate_kind(tail)
    return next(state for key, state in history.states.items() if key.startswith(kind))


def test_a_subject_of_a_newer_version_stops_the_projection() -> None:
    history = campaign(1, 1)
    _, _, payload = history.commits[0]
    with pytest.raises(CorruptData, match="unknown subject"):
        fold_all(Tables(), [decode(1, "mito.events.suite.x", payload)])


def test_terms_of_coordinators_are_no_read_model() -> None:
    history = History()
    history.store(subjects.PLATFORM_TAIL, [TermStarted(1, "here")])
    tables = folded(history)
    assert all(not table.changed for table in tables.overwritten())
