"""`mito client submit`: every option has its effect, and what cannot be is refused before it."""

import itertools
import tarfile
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import ChangeTaskArgs, SubmitTaskArgs, WatchArgs
from mitosis.contract.queries import TaskView
from mitosis.domain.execution import ExecutionState
from mitosis.domain.task import ArtifactKind, Outcome, TaskState
from mitosis.errors import InvalidInput, NotFound, TooLarge, WrongState

from ..conftest import Done, Platform, ended, in_shell, side_by_side
from .machines import Owner, soon

Shell = Callable[..., Done]
NOWHERE = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"


def output(client: SyncMitoClient, task: str, folder: Path) -> dict[str, bytes]:
    """What the task printed, by stream, from its artifact."""
    path = client.get_artifact(task, ArtifactKind.STD_LOG, folder / f"{task}.tar.gz")
    with tarfile.open(path) as archive:
        found = {}
        for name in ("stdout", "stderr"):
            stream = archive.extractfile(f"std-log/{name}.log")
            assert stream is not None
            found[name] = stream.read()
    return found


@pytest.fixture(scope="module")
def ran(shell: Shell, admin: SyncMitoClient) -> dict[str, TaskView]:
    """Tasks that were submitted by the executable, each with one option, and have ended."""
    commands: dict[str, list[str]] = {
        "plain": ["--", "true"],
        "again": ["--", "true"],
        "verbatim": ["--terminal", "--", "printf", "%s|", "-g", "--json", "--", "a b", "-t"],
        "label": ["-l", "no-worker-has-this,one more", "--", "true"],
        "timeout": ["--timeout", "1s", "--", "sleep", "12"],
        "environment": ["-e", "K=V,K2=V2", "--terminal", "--", "env"],
        "silent": ["--", "echo", "kept by nobody"],
        "exit": ["--", "sh", "-c", "exit 3"],
        "result": ["--", "sh", "-c", "echo done > $MITO_RESULT_DIR/out.txt"],
    }  # fmt: skip
    done = side_by_side(lambda command: shell("submit", *command), list(commands.values()))
    assert [one.status for one in done] == [0] * len(commands), done
    views = admin.wait_for_tasks([one.text for one in done], timedelta(seconds=60))
    return dict(zip(commands, views, strict=True))


def is_running(client: SyncMitoClient, task: str) -> bool:
    """Whether its program has started."""
    return client.get_task(task).started_at is not None


@pytest.fixture
def busy(admin: SyncMitoClient, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """All four slots of the platform are taken; calling it gives one of them back."""
    files = [tmp_path / f"go-{number}" for number in range(4)]
    blockers = [
        admin.submit_task(in_shell(f"until [ -e {file} ]; do sleep 0.02; done")) for file in files
    ]
    for one in blockers:
        soon(partial(is_running, admin, one.task))
    yield files[0].touch
    for file in files:
        file.touch()
    admin.wait_for_tasks(blockers, timedelta(seconds=30))


# --- the reply --------------------------------------------------------------------------------


@pytest.mark.parity("S-153", "S-164")
def test_the_help_of_submit_shows_its_usage_and_ends_well(shell: Shell) -> None:
    for done in side_by_side(lambda flags: shell("submit", *flags), [["-h"], ["--help"]]):
        assert (done.status, done.err) == (0, "")
        assert "submit [OPTIONS] [-- COMMAND...]" in done.text
        for option in ("--group", "--tags", "--labels", "--timeout", "--priority", "--envs",
                       "--terminal", "--watch"):  # fmt: skip
            assert option in done.text


@pytest.mark.parity("S-010", "S-155")
def test_every_submit_prints_a_uuid_of_its_own_and_nothing_else(owner: Owner) -> None:
    done = [owner.mito("submit", "--", "true") for _ in range(2)]
    uuids = {str(uuid.UUID(one.text)) for one in done}
    assert uuids == {one.out.decode().removesuffix("\n") for one in done}
    assert len(uuids) == 2


@pytest.mark.parity("V-031")
def test_the_reply_has_the_number_in_the_group_the_group_and_the_uuid(owner: Owner) -> None:
    first, second = (owner.mito("submit", "--json", "--", "true").json for _ in range(2))
    assert second["number"] == first["number"] + 1
    assert second["group"] == owner.name
    view = owner.client.get_task(f"{owner.name}#{second['number']}")
    assert view.uuid == str(uuid.UUID(second["task"])) == second["task"]


@pytest.mark.parity("S-011")
def test_state_and_result_are_found_by_the_uuid_of_the_reply(
    shell: Shell, ran: dict[str, TaskView], tmp_path: Path
) -> None:
    task = ran["result"].uuid
    assert f"State: {TaskState.FINISHED.value}" in shell("get", "task", task).text
    path = tmp_path / "result.tar.gz"
    assert shell("get", "artifact", task, "result", "-o", path).status == 0
    with tarfile.open(path) as archive:
        stream = archive.extractfile("result/out.txt")
        assert stream is not None
        assert stream.read() == b"done\n"


# --- options ----------------------------------------------------------------------------------


@pytest.mark.parity("S-154")
def test_everything_after_the_dashes_is_the_command(
    admin: SyncMitoClient, ran: dict[str, TaskView], tmp_path: Path
) -> None:
    task = ran["verbatim"]
    assert task.spec.argv == ("printf", "%s|", "-g", "--json", "--", "a b", "-t")
    assert output(admin, task.uuid, tmp_path)["stdout"] == b"-g|--json|--|a b|-t|"


@pytest.mark.parity("S-156")
def test_a_task_goes_to_the_named_group_or_else_to_the_own_one(owner: Owner) -> None:
    other = f"{owner.name}-other"
    owner.client.create_group(other)
    tasks = side_by_side(
        lambda group: owner.mito("submit", *group, "--", "true"),
        [[], ["-g", owner.name], ["-g", other], ["--group", other]],
    )
    lines = [owner.mito("get", "task", done.text).text for done in tasks[1:3]]
    assert f"in group {owner.name}\n" in lines[0]
    assert f"in group {other}\n" in lines[1]
    groups = [owner.client.get_task(done.text).group for done in tasks]
    assert groups == [owner.name, owner.name, other, other]


@pytest.mark.parity("S-157")
def test_tags_are_a_list_with_commas_that_is_stored(owner: Owner) -> None:
    task = owner.mito("submit", "-t", "wireless,4g", "--tags", "lab", "--", "true").text
    assert owner.client.get_task(task).spec.tags == ("4g", "lab", "wireless")
    assert "Tags: 4g, lab, wireless" in owner.mito("get", "task", task).text


@pytest.mark.parity("S-158")
def test_labels_never_hinder_a_task(ran: dict[str, TaskView]) -> None:
    assert ran["label"].labels == ("no-worker-has-this", "one more")
    assert ran["label"].outcome is Outcome.SUCCEEDED


@pytest.mark.parity("S-159")
def test_a_task_is_stopped_at_its_timeout_of_ten_minutes_unless_given(
    shell: Shell, ran: dict[str, TaskView]
) -> None:
    stopped = ran["timeout"]
    assert (stopped.state, stopped.outcome) == (TaskState.CANCELLED, Outcome.TIMED_OUT)
    assert stopped.exit is not None
    assert 1.0 <= stopped.exit.usage.wall_seconds < 12.0
    assert ran["plain"].spec.timeout_seconds == 600.0
    assert "Timeout: 10m," in shell("get", "task", ran["plain"].uuid).text


@pytest.mark.parity("S-160")
def test_of_waiting_tasks_the_higher_priority_runs_first(
    shell: Shell, admin: SyncMitoClient, busy: Callable[[], None]
) -> None:
    order = ["-5", "0", "7", "-20"]
    tasks = [shell("submit", "-p", priority, "--", "true").text for priority in order]
    assert {admin.get_task(task).state for task in tasks} == {TaskState.READY}
    busy()
    views = admin.wait_for_tasks(tasks, timedelta(seconds=30))
    views = sorted(views, key=lambda view: view.started_at or view.created_at)
    assert [view.spec.priority for view in views] == [7, 0, -5, -20]


@pytest.mark.parity("S-161")
def test_a_program_gets_the_given_variables(
    admin: SyncMitoClient, ran: dict[str, TaskView], tmp_path: Path
) -> None:
    lines = output(admin, ran["environment"].uuid, tmp_path)["stdout"].splitlines()
    assert {b"K=V", b"K2=V2"} <= set(lines)


@pytest.mark.parity("S-162")
def test_only_with_terminal_what_is_printed_becomes_an_artifact(ran: dict[str, TaskView]) -> None:
    def kinds(name: str) -> list[str]:
        return [artifact.kind.value for artifact in ran[name].artifacts]

    assert kinds("verbatim") == ["std-log"]
    assert kinds("silent") == []


@pytest.mark.parity("S-167")
def test_the_example_of_the_seed_is_accepted_with_all_its_fields(
    shell: Shell, admin: SyncMitoClient, seed_group: str
) -> None:
    task = shell(
        "submit", "-g", seed_group, "-t", "wireless,4g", "-l", "mobile,video",
        "-e", "TEST_KEY=1,TEST_VAL=2", "--", "echo", "hello",
    ).text  # fmt: skip
    shown = shell("get", "task", task).text
    for line in (
        "in group test_group", "Tags: 4g, wireless", "Labels: mobile, video",
        "Task Spec: echo hello", "Environment: TEST_KEY=1 TEST_VAL=2",
    ):  # fmt: skip
        assert line in shown
    admin.cancel_task(task)


# --- waiting for another task -----------------------------------------------------------------


@pytest.mark.parity("S-163", "D-002", "D-003", "D-005")
def test_a_watcher_starts_only_after_the_state_and_holds_no_slot(
    shell: Shell, admin: SyncMitoClient, tmp_path: Path
) -> None:
    """Two workers with two slots: four watchers would block every slot, if they held one.

    They wait for longer than their own timeout, which begins with their program.
    """
    go = tmp_path / "go"
    server = shell("submit", "--", "sh", "-c", f"until [ -e {go} ]; do sleep 0.02; done").text
    watchers = [
        admin.submit_task(
            SubmitTaskArgs(
                command=("true",),
                watch=WatchArgs(server, ExecutionState.EXEC_FINISHED),
                timeout="1s",
            )
        )
        for _ in range(3)
    ]
    by_executable = shell("submit", "--watch", f"{server},ExecFinished", "--", "true").text
    asked_at = datetime.now(UTC)
    watchers_uuids = [*(one.task for one in watchers), by_executable]
    (bystander,) = ended(admin, SubmitTaskArgs(command=("true",)))
    assert bystander.outcome is Outcome.SUCCEEDED
    for task in watchers_uuids:
        view = admin.get_task(task)
        assert (view.state, view.attempt) == (TaskState.PENDING, 0)
        assert view.reason == f"waits until task {server} has reached ExecFinished"
    assert f"Watch: {server},ExecFinished" in shell("get", "task", by_executable).text
    soon(lambda: datetime.now(UTC) - asked_at > timedelta(seconds=1.1))
    go.touch()
    reached = admin.wait_for_tasks([server, *watchers_uuids], timedelta(seconds=30))
    finished_at = next(s.at for s in reached[0].steps if s.state is ExecutionState.EXEC_FINISHED)
    for view in reached[1:]:
        assert view.outcome is Outcome.SUCCEEDED
        assert view.started_at is not None
        assert view.started_at > finished_at
        assert view.started_at - view.created_at > timedelta(seconds=1)
        assert [step.state for step in view.steps][:2] == ["Watch", "WatchFinished"]


@pytest.mark.parity("D-007")
def test_a_watcher_of_what_does_not_come_ends_with_the_reason(
    owner: Owner, admin: SyncMitoClient
) -> None:
    server = owner.client.submit_task(SubmitTaskArgs(command=("true",))).task
    never = owner.mito("submit", "--watch", f"{server},ExecSpawned", "--", "true").text
    late = owner.mito(
        "submit", "--watch", f"{server},ExecSpawned", "--watch-timeout", "100ms", "--", "true"
    ).text
    (view,) = owner.client.wait_for_tasks([late], timedelta(seconds=30))
    assert (view.state, view.outcome) == (TaskState.CANCELLED, Outcome.TIMED_OUT)
    assert f"task {server} did not reach ExecSpawned within 0.1 s" in view.reason
    assert "WatchTimeout" in [step.state for step in view.steps]
    assert owner.client.get_task(never).state is TaskState.PENDING
    owner.client.cancel_task(server)
    view = owner.client.get_task(never)
    assert (view.state, view.outcome) == (TaskState.CANCELLED, Outcome.CANCELLED)
    assert f"task {server} has ended (cancelled) and never reached ExecSpawned" in view.reason
    with pytest.raises(WrongState, match="never reached ExecSpawned"):
        owner.client.submit_task(
            SubmitTaskArgs(command=("true",), watch=WatchArgs(server, "ExecSpawned"))
        )
    strangers = admin.submit_task(SubmitTaskArgs(command=("true",))).task
    for unseen in (strangers, str(uuid.uuid4())):  # one cannot be told from the other
        with pytest.raises(NotFound, match=f"there is no task {unseen} to watch"):
            owner.client.submit_task(
                SubmitTaskArgs(command=("true",), watch=WatchArgs(unseen, "ExecSpawned"))
            )


def test_a_chain_of_waits_runs_in_its_order_ends_as_a_whole_and_is_never_closed_to_a_circle(
    owner: Owner, admin: SyncMitoClient
) -> None:
    def chain(client: SyncMitoClient, first: str) -> list[str]:
        tasks = [first]
        for _ in range(4):
            watch = WatchArgs(tasks[-1], ExecutionState.EXEC_FINISHED)
            args = SubmitTaskArgs(command=("true",), watch=watch)
            tasks.append(client.submit_task(args).task)
        return tasks

    ran = admin.wait_for_tasks(
        chain(admin, admin.submit_task(SubmitTaskArgs(command=("sleep", "0.2"))).task)
    )
    assert [view.outcome for view in ran] == [Outcome.SUCCEEDED] * 5
    starts = [view.started_at for view in ran if view.started_at]
    assert starts == sorted(starts)
    assert len(starts) == 5
    waits = chain(owner.client, owner.client.submit_task(SubmitTaskArgs(command=("true",))).task)
    for last in (waits[0], waits[2], waits[-1]):
        change = ChangeTaskArgs(task=waits[0], watch=WatchArgs(last, "ExecSpawned"))
        with pytest.raises(InvalidInput, match="would wait for itself"):
            owner.client.change_task(change)
    owner.client.cancel_task(waits[0])
    views = [owner.client.get_task(task) for task in waits]
    assert [view.outcome for view in views] == [Outcome.CANCELLED] * 5
    for before, view in itertools.pairwise(views):
        assert f"task {before.uuid} has ended (cancelled)" in view.reason


@pytest.mark.parity("D-008")
def test_a_state_that_came_and_went_before_the_watch_counts(
    admin: SyncMitoClient, ran: dict[str, TaskView]
) -> None:
    for name, state in (
        ("plain", "ExecPending"),
        ("timeout", "ExecTimeout"),
        ("exit", "TaskCommitted"),
    ):
        watch = WatchArgs(ran[name].uuid, state)
        (view,) = ended(admin, SubmitTaskArgs(command=("true",), watch=watch))
        assert view.outcome is Outcome.SUCCEEDED, (name, state)


@pytest.mark.parity("S-165", "D-006", "D-096")
def test_a_malformed_watch_is_refused_before_the_submit(owner: Owner) -> None:
    server = owner.client.submit_task(SubmitTaskArgs(command=("true",)))
    wrong = {
        server.task: "is no UUID,STATE",
        "not-a-uuid,ExecSpawned": "'not-a-uuid' before the comma",
        f"{server.task},execspawned": "did you mean 'ExecSpawned'",
        f"{NOWHERE},ExecSpawned": NOWHERE,
    }
    done = side_by_side(
        lambda words: owner.mito("submit", *words, "--", "true"),
        [["--watch", value] for value in wrong],
    )
    assert [one.status for one in done] == [2, 2, 2, 3]
    for one, message in zip(done, wrong.values(), strict=True):
        assert one.out == b""
        assert message in one.complaint
    for state in ("WorkerExited", "Started", "Unknown"):
        watch = WatchArgs(server.task, state)
        with pytest.raises(InvalidInput):
            owner.client.submit_task(SubmitTaskArgs(command=("true",), watch=watch))
    after = owner.client.submit_task(SubmitTaskArgs(command=("true",)))
    assert after.number == server.number + 1, "a refused submit takes no number"


# --- what cannot be ---------------------------------------------------------------------------


@pytest.mark.parity("S-168")
def test_an_unknown_group_is_not_found(owner: Owner) -> None:
    done = owner.mito("submit", "-g", "no-such-group", "--", "true")
    assert (done.status, done.out) == (3, b"")
    assert "'no-such-group'" in done.complaint


@pytest.mark.parity("S-169")
def test_a_submit_without_a_command_says_so(owner: Owner) -> None:
    for command in (["submit"], ["submit", "-l", "x", "--"]):
        done = owner.mito(*command)
        assert (done.status, done.out) == (2, b"")
        assert "there is no command to run" in done.complaint


@pytest.mark.parity("S-166", "R-19", "D-093")
def test_commas_in_variables_follow_written_rules(owner: Owner) -> None:
    """Cut at a comma or at the second `=`, a value changes in silence: R-19."""
    kept = {
        r"NO_PROXY=localhost\,127.0.0.1": {"NO_PROXY": "localhost,127.0.0.1"},
        r"CUDA_VISIBLE_DEVICES=0\,1,B=2": {"CUDA_VISIBLE_DEVICES": "0,1", "B": "2"},
        "A=b=c": {"A": "b=c"},
        "E=": {"E": ""},
        "X=a,C=c": {"X": "a", "C": "c"},
        r"ARGS=-P a\,b": {"ARGS": "-P a,b"},
        "A B=1": {"A B": "1"},
        r"PATTERN=\d\w": {"PATTERN": r"\d\w"},
    }
    refused = {
        "NO_PROXY=localhost,127.0.0.1": r"'127.0.0.1' is no NAME=VALUE (a comma separates",
        "ARGS=-P a,b": r"write it as \,",
        "=x": "'=x'",
        "A=1,A=2": "A is given twice",
    }
    options = [word for text in kept for word in ("-e", text)]
    done = side_by_side(
        lambda words: owner.mito("submit", *words, "--", "true"),
        [options, *(["-e", text] for text in refused)],
    )
    expected = {name: value for variables in kept.values() for name, value in variables.items()}
    assert owner.client.get_task(done[0].text).spec.env == expected
    for one, (text, message) in zip(done[1:], refused.items(), strict=True):
        assert (one.status, one.out) == (2, b""), text
        assert message in one.complaint
    exact = {"NO_PROXY": "localhost,127.0.0.1", "A": r"b=c\,", "E": "", "A B": "1"}
    task = owner.client.submit_task(SubmitTaskArgs(command=("true",), envs=exact))
    assert owner.mito("get", "task", task.task, "--json").json["spec"]["env"] == exact


@pytest.mark.parity("R-20")
def test_a_time_limit_has_one_meaning_or_none(owner: Owner) -> None:
    """Read in another system's form, `30:00` is 60 times off: R-20."""
    canonical = {
        "0.5h": "30m", "1h 30m": "1h 30m", " 5m ": "5m", "90s": "1m 30s", "1d": "1d",
        "500ms": "0.5s", "1month": "30d 10h 33m 36s",
    }  # fmt: skip
    refused = {
        "30": "30min", "30:00": "30min", "1:30:00": "1h 30m", "2-12": "1d 12h",
        "1-00:00:00": "1d 12h", "5M": "min for minutes, month for months",
        "5mon": "month for months", "1e3s": "30min", "PT5M": "30min", "0s": "above 0",
    }  # fmt: skip
    for text in refused:
        with pytest.raises(InvalidInput):
            owner.client.submit_task(SubmitTaskArgs(command=("true",), timeout=text))
    some = ["30", "30:00", "2-12", "5M"]
    done = side_by_side(
        lambda words: owner.mito("submit", "-l", "r-20", *words, "--", "true"),
        [["--timeout", text] for text in ["0.5h", *some]],
    )
    for one, text in zip(done[1:], some, strict=True):
        assert (one.status, one.out) == (2, b""), text
        assert refused[text] in one.complaint
    for text in list(canonical)[1:]:
        args = SubmitTaskArgs(command=("true",), timeout=text, labels=("r-20",))
        owner.client.submit_task(args)
    shown = owner.mito("get", "tasks", "-l", "r-20", "-v").text.splitlines()
    limits = [line.partition(",")[0] for line in shown if line.startswith("Timeout: ")]
    assert limits == [f"Timeout: {text}" for text in canonical.values()]
    for number in (30, 30.0):
        bare: Any = number
        with pytest.raises(InvalidInput, match="a text with a unit"):
            owner.client.submit_task(SubmitTaskArgs(command=("true",), timeout=bare))
    task = owner.client.submit_task(SubmitTaskArgs(command=("true",), timeout="30min"))
    assert owner.client.get_task(task.task).spec.timeout_seconds == 1800.0


@pytest.mark.parity("D-096", "D-004")
def test_a_refused_submit_leaves_no_trace_and_takes_no_number(owner: Owner) -> None:
    before = owner.client.submit_task(SubmitTaskArgs(command=("true",)))
    done = side_by_side(
        lambda words: owner.mito("submit", *words),
        [
            ["-p", "99999999999", "--", "true"], ["--watch-timeout", "1s", "--", "true"],
            ["-t", "a b,\x07", "--", "true"], ["--", ""],
        ],
    )  # fmt: skip
    assert all(one.status in {1, 2} and one.out == b"" for one in done), done
    after = owner.client.submit_task(SubmitTaskArgs(command=("true",)))
    assert after.number == before.number + 1


# --- what a program gets ----------------------------------------------------------------------


@pytest.mark.parity("S-176")
def test_the_exit_status_is_shown_with_the_task(shell: Shell, ran: dict[str, TaskView]) -> None:
    task = ran["exit"].uuid
    assert "Task Result: exit code 3 after " in shell("get", "task", task).text
    view = shell("get", "task", task, "--json").json
    assert (view["exit"]["kind"], view["exit"]["number"]) == ("code", 3)
    assert (view["state"], view["outcome"]) == ("finished", "failed")


@pytest.mark.parity("F-01")
def test_arguments_reach_the_program_byte_for_byte(
    shell: Shell, admin: SyncMitoClient, tmp_path: Path
) -> None:
    """No shell is involved, so no quote, blank or dollar means anything."""
    words = ["it's", "a b", 'x"y', "$HOME", "日本🙂"]
    task = shell("submit", "--terminal", "--", "printf", r"%s\n", *words).text
    (view,) = admin.wait_for_tasks([task], timedelta(seconds=30))
    assert view.spec.argv == ("printf", r"%s\n", *words)
    assert output(admin, task, tmp_path)["stdout"].decode() == "".join(f"{w}\n" for w in words)
    assert shell("get", "task", task, "--json").json["spec"]["argv"][2:] == words


@pytest.mark.parity("F-02")
def test_a_newline_an_empty_argument_and_a_tab_are_kept(
    shell: Shell, admin: SyncMitoClient, tmp_path: Path
) -> None:
    """A newline in an argument disappears, or is read as a second command."""
    script = "import sys;print(ascii(sys.argv[1:]))"
    words = ["python3", "-c", script, "a\nb", "", "\t"]
    task = shell("submit", "--terminal", "-l", "f-02", "--", *words).text
    admin.wait_for_tasks([task], timedelta(seconds=30))
    assert output(admin, task, tmp_path)["stdout"] == b"['a\\nb', '', '\\t']\n"
    assert shell("get", "tasks", "-l", "f-02").text == task, "one line a task"


@pytest.mark.parity("F-05")
def test_a_large_variable_arrives_and_one_that_no_system_takes_is_refused(
    shell: Shell, admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    """What goes over the limit of the system fails with the reason, and nothing is added to it."""
    big = "x" * 120_000
    task = shell("submit", "-e", f"BIG={big}", "--terminal", "--", "sh", "-c", "echo ${#BIG}").text
    admin.wait_for_tasks([task], timedelta(seconds=30))
    assert output(admin, task, tmp_path)["stdout"] == b"120000\n"
    with pytest.raises(TooLarge, match="'BIG' has 140004 bytes, at most 131071"):
        admin.submit_task(SubmitTaskArgs(command=("true",), envs={"BIG": "x" * 140_000}))
    envs = {"FOUR": "y" * 4_096}
    many = admin.submit_many([SubmitTaskArgs(command=("true",), envs=envs)] * 100)
    for view in admin.wait_for_tasks(many, timedelta(seconds=60)):
        assert view.spec.env == envs, "nothing of a worker's own environment is stored"
