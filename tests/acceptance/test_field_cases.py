"""What researchers throw at a worker, as users of other platforms have met it."""

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.domain.execution import ExecutionState
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind, ExitKind, Outcome, TaskState
from mitosis.errors import InvalidInput, TooLarge

from .conftest import Person, Platform, ended, in_shell
from .parity.machines import Machine, Owner, machine, soon


class Own(NamedTuple):
    """A user with a worker of two slots of their own, whose lease must be renewed often."""

    owner: Owner
    box: Machine

    @property
    def client(self) -> SyncMitoClient:
        return self.owner.client


@pytest.fixture(scope="module")
def own(platform: Platform, admin: SyncMitoClient, scratch: Path) -> Iterator[Own]:
    folder = scratch / f"own-{secrets.token_hex(3)}"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        owner = Owner(platform, admin, folder)
        stack.callback(owner.client.close)
        box = stack.enter_context(machine(folder / "box"))
        box.run_worker(
            "-c", platform.notice["http"], "--credential-path", owner.credentials,
            "--slots", "2", "--heartbeat-interval", "1s", "--work-dir", folder / "work",
        )  # fmt: skip
        box.registered()
        yield Own(owner, box)


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("a living process has memory")


# --- output ------------------------------------------------------------------------------------


@pytest.mark.parity("F-64")
def test_much_output_on_both_streams_blocks_nobody(admin: SyncMitoClient) -> None:
    script = "head -c 5M /dev/zero >&2; head -c 5M /dev/zero; echo ok >&2"
    views = ended(admin, *(in_shell(script, terminal=kept) for kept in (False, True)))
    for view in views:
        assert view.outcome is Outcome.SUCCEEDED, view
        assert view.exit is not None
        assert view.exit.usage.stdout_bytes == 5 << 20
        assert view.exit.usage.stderr_bytes == (5 << 20) + 3
        assert view.exit.usage.wall_seconds < 30
        assert view.exit.stderr_tail.endswith("ok\n")


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parity("F-14", "D-036")
def test_gigabytes_of_output_cost_no_memory_and_keep_their_end(
    own: Own, scaled: Callable[[int, int], int]
) -> None:
    size = scaled(200, 3_000) * 1_000_000
    script = f"yes | head -c {size}; echo END"
    views = ended(own.client, *(in_shell(script, terminal=kept) for kept in (False, True)))
    for view in views:
        assert view.outcome is Outcome.SUCCEEDED, view
        assert (view.attempt, view.losses) == (1, 0), "no heartbeat was missed"
        assert view.exit is not None
        assert view.exit.usage.stdout_bytes == size + 4
        assert view.exit.stdout_tail.endswith("END\n")
    kept = next(view for view in views if view.artifacts)
    capped = size > 1 << 30
    assert any("keeps the head and the end" in text for text in kept.warnings) == capped
    assert peak_bytes(own.box.process.process.pid) < 300 << 20


# --- arguments ---------------------------------------------------------------------------------


@pytest.mark.parity("F-04", "D-015")
def test_arguments_that_no_system_takes_are_refused_with_the_limit_and_the_worker_lives(
    admin: SyncMitoClient,
) -> None:
    with pytest.raises(InvalidInput, match="131") as one:
        admin.submit_task(SubmitTaskArgs(command=("echo", "x" * 200_000)))
    assert "x" * 1_000 not in str(one.value), "what is refused is not shown in full"
    for command in (("echo", *["y" * 100] * 30_000), ("echo", *["z" * 100_000] * 15)):
        with pytest.raises((InvalidInput, TooLarge)):
            admin.submit_task(SubmitTaskArgs(command=command))
    (view,) = ended(admin, in_shell('echo "$0" | wc -c'))
    assert view.outcome is Outcome.SUCCEEDED


@pytest.mark.parity("D-043")
def test_an_empty_command_is_refused_and_never_becomes_another_program(person: Person) -> None:
    with pytest.raises(InvalidInput):
        person.client.submit_task(SubmitTaskArgs(command=()))
    done = person.shell("submit", "--")
    assert done.status == 2, done
    assert person.client.get_tasks().total == 0


# --- folders and packing -----------------------------------------------------------------------


@pytest.mark.parity("D-047", "D-045")
def test_every_task_finds_its_folders_also_after_one_that_removed_them(own: Own) -> None:
    check = (
        'for d in "$MITO_RESOURCE_DIR" "$MITO_RESULT_DIR" "$MITO_EXEC_DIR" "$TMPDIR" .; do\n'
        'test -d "$d" || exit 9; test -z "$(ls -A "$d")" || exit 8; done\n'
        'rm -rf "$MITO_RESOURCE_DIR" "$MITO_EXEC_DIR" "$MITO_RESULT_DIR" "$TMPDIR"'
    )
    for _ in range(4):  # one after the other, so that slots are used again
        (view,) = ended(own.client, in_shell(check))
        assert view.outcome is Outcome.SUCCEEDED, view


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parity("R-14")
def test_very_many_files_miss_no_heartbeat_and_other_tasks_run_meanwhile(
    own: Own, scaled: Callable[[int, int], int]
) -> None:
    folders = scaled(3, 300)
    script = (
        "import os\nbase = os.environ['MITO_RESULT_DIR']\n"
        f"for d in range({folders}):\n os.mkdir(f'{{base}}/{{d}}')\n"
        " for f in range(1000):\n  open(f'{base}/{d}/{f}', 'w').write('0123456789')\n"
    )
    many = own.client.submit_task(SubmitTaskArgs(command=("python3", "-S", "-c", script)))
    beside = ended(own.client, *(in_shell("true") for _ in range(20)))
    assert {view.outcome for view in beside} == {Outcome.SUCCEEDED}
    (view,) = own.client.wait_for_tasks([many])
    assert view.outcome is Outcome.SUCCEEDED, view
    assert (view.attempt, view.losses, view.warnings) == (1, 0, [])
    assert ExecutionState.UPLOAD_RESULT in {step.state for step in view.steps}
    assert peak_bytes(own.box.process.process.pid) < 300 << 20
    target = own.box.root / "many"
    own.client.get_artifact(many.task, ArtifactKind.RESULT, target, extract=True)
    assert sum(1 for path in target.rglob("*") if path.is_file()) == folders * 1_000
    shutil.rmtree(target)  # here is more time for it than behind the test


@pytest.mark.parity("R-14")
def test_a_hole_of_gigabytes_stays_a_hole(own: Own, tmp_path: Path) -> None:
    script = "truncate -s 200G $MITO_RESULT_DIR/db.img; echo ok > $MITO_RESULT_DIR/f"
    (view,) = ended(own.client, in_shell(script))
    assert view.outcome is Outcome.SUCCEEDED, view
    (artifact,) = view.artifacts
    assert artifact.size_bytes < 100_000
    with pytest.raises(TooLarge, match=r"unpacking is limited to 100\.0 GB"):
        own.client.get_artifact(view.uuid, ArtifactKind.RESULT, tmp_path / "no", extract=True)
    own.client.get_artifact(
        view.uuid, ArtifactKind.RESULT, tmp_path / "yes", extract=True, max_size_bytes=10**12
    )
    found = (tmp_path / "yes" / "result" / "db.img").stat()
    assert found.st_size == 200 << 30
    assert found.st_blocks * 512 < 1 << 20


@pytest.mark.parity("D-042", "R-13")
def test_a_task_whose_result_is_over_the_quota_has_failed_with_that_reason(
    own: Own, admin: SyncMitoClient
) -> None:
    group = f"small-{secrets.token_hex(3)}"
    own.client.create_group(group)
    own.client.update_worker_roles(own.box.uuid, {group: Role.WRITE})
    admin.set_storage_quota(group, "100kB")
    script = "head -c 500000 /dev/urandom > $MITO_RESULT_DIR/large; echo log > $MITO_EXEC_DIR/small"
    (view,) = ended(own.client, in_shell(script, group=group))
    assert view.exit is not None
    assert (view.exit.kind, view.exit.number) == (ExitKind.CODE, 0), (
        "the program did what it should"
    )
    assert (view.state, view.outcome) == (TaskState.FINISHED, Outcome.FAILED)
    assert {artifact.kind for artifact in view.artifacts} == {ArtifactKind.EXEC_LOG}
    (warning,) = view.warnings
    assert warning.startswith("result: ")
    assert "over the quota and were not stored" in warning
    assert view.reason == warning


# --- how it ended ------------------------------------------------------------------------------


@pytest.mark.parity("D-039")
def test_a_task_that_never_ran_has_no_exit(person: Person) -> None:
    task = person.client.submit_task(in_shell("true"))
    person.client.cancel_task(task.task)
    view = person.client.get_task(task.task)
    assert view.outcome is Outcome.CANCELLED
    assert view.exit is None
    shown = person.shell("--json", "get", "task", task.task).json
    assert shown["exit"] is None


@pytest.mark.parity("D-038", "D-040")
def test_success_failure_signal_and_no_start_are_told_apart(own: Own) -> None:
    good, bad, killed, missing = ended(
        own.client, in_shell("exit 0"), in_shell("exit 137"), in_shell("kill -9 $$"),
        SubmitTaskArgs(command=("no-such-program",)),
    )  # fmt: skip
    ends = [(v.outcome, v.exit.kind, v.exit.number) for v in (good, bad, killed) if v.exit]
    assert ends == [
        (Outcome.SUCCEEDED, ExitKind.CODE, 0),
        (Outcome.FAILED, ExitKind.CODE, 137),
        (Outcome.FAILED, ExitKind.SIGNAL, 9),
    ]
    assert (missing.state, missing.outcome) == (TaskState.CANCELLED, Outcome.ERROR)
    assert missing.exit is not None
    assert missing.exit.kind is ExitKind.NOT_STARTED


@pytest.mark.parity("D-041")
def test_a_task_has_ended_only_when_its_outputs_can_be_had(own: Own, tmp_path: Path) -> None:
    script = "head -c 3000000 /dev/urandom > $MITO_RESULT_DIR/x; echo out"
    for number in range(3):
        task = own.client.submit_task(in_shell(script, terminal=True))
        (view,) = own.client.wait_for_tasks([task])
        assert {one.kind for one in view.artifacts} == {ArtifactKind.RESULT, ArtifactKind.STD_LOG}
        path = own.client.get_artifact(task.task, ArtifactKind.RESULT, tmp_path / str(number))
        assert path.stat().st_size > 3_000_000


@pytest.mark.parity("R-01")
def test_a_program_that_saves_when_it_is_stopped_keeps_its_results_and_did_not_succeed(
    own: Own, tmp_path: Path
) -> None:
    client = own.client
    saving = (
        "import os, signal, sys, time\n"
        "def save(*_):\n time.sleep(0.5)\n"
        " open(os.environ['MITO_RESULT_DIR'] + '/cap', 'w').write('END')\n sys.exit(0)\n"
        "signal.signal(signal.{}, save)\nprint('row 1')\ntime.sleep(60)\n"
    )

    def program(name: str, **options: Any) -> SubmitTaskArgs:
        command = ("python3", "-S", "-c", saving.format(name))
        return SubmitTaskArgs(command=command, **options)

    by_hand = client.submit_task(program("SIGTERM"))
    soon(lambda: client.get_task(by_hand.task).started_at)
    term, interrupt, deaf = ended(
        client,
        program("SIGTERM", timeout="3s", terminal=True),
        program("SIGINT", timeout="3s", stop_signal="INT"),
        program("SIGINT", timeout="3s"),  # and so SIGTERM ends it
    )
    client.cancel_task(by_hand.task)
    (cancelled,) = ended(client, by_hand)
    for view, outcome in (
        (term, Outcome.TIMED_OUT), (interrupt, Outcome.TIMED_OUT), (cancelled, Outcome.CANCELLED)
    ):  # fmt: skip
        assert view.outcome is outcome, view
        assert view.exit is not None
        assert (view.exit.kind, view.exit.number) == (ExitKind.CODE, 0)
        logs = {ArtifactKind.STD_LOG} if view.spec.terminal else set()
        assert {one.kind for one in view.artifacts} == {ArtifactKind.RESULT} | logs
        target = tmp_path / view.uuid
        client.get_artifact(view.uuid, ArtifactKind.RESULT, target, extract=True)
        assert (target / "result" / "cap").read_text() == "END"
    assert deaf.outcome is Outcome.TIMED_OUT
    assert deaf.exit is not None
    assert (deaf.exit.kind, deaf.exit.number) == (ExitKind.SIGNAL, 15)
    assert deaf.exit.stdout_tail == "row 1\n", "it was written before, as Python does not hold it"


@pytest.mark.parity("D-052")
def test_a_timeout_below_a_second_is_what_it_says(own: Own) -> None:
    quick, slow = ended(
        own.client, in_shell("sleep 60", timeout="300ms"), in_shell("exit 0", timeout="900ms")
    )
    assert quick.spec.timeout_seconds == 0.3
    assert quick.outcome is Outcome.TIMED_OUT
    assert quick.exit is not None
    assert 0.3 <= quick.exit.usage.wall_seconds < 10
    assert slow.outcome is Outcome.SUCCEEDED, "0.9 s are not none"
