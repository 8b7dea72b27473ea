"""Running tasks once more, as a user does."""

import os
import pty
import subprocess
from collections.abc import Callable
from uuid import uuid4

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import GetEventsArgs, GetTasksArgs, RerunArgs, SubmitTaskArgs, WatchArgs
from mitosis.contract.queries import TaskView
from mitosis.errors import NotFound

from .conftest import MITO, Done, Person, Platform, ended, in_shell

Shell = Callable[..., Done]


def failed_twice(admin: SyncMitoClient, label: str) -> list[TaskView]:
    """A campaign of which two of three have failed."""
    tasks = [
        in_shell(
            'echo "$MARK $KEPT"; exit $CODE', terminal=True, labels=(label,), priority=3,
            envs={"MARK": "first", "KEPT": "kept", "CODE": code},
        )
        for code in ("0", "3", "4")
    ]  # fmt: skip
    return ended(admin, *tasks)


@pytest.mark.parity("W-06")
def test_failed_tasks_are_run_once_more_with_edits_and_linked_both_ways(
    admin: SyncMitoClient, shell: Shell
) -> None:
    label = f"run-{uuid4()}"
    good, *bad = failed_twice(admin, label)
    filters = ("--outcome", "failed", "-l", label)
    looked = shell("rerun", *filters, "--dry-run")
    assert looked.text.split() == [task.uuid for task in bad]
    assert "2 tasks to run once more" in looked.err
    refused = shell("rerun", *filters)
    assert (refused.status, refused.out) == (2, b"")
    assert "--yes" in refused.err
    edited = ("--env", "CODE=0", "MARK=second", "--priority", "5", "--new-labels", "again")
    done = shell("rerun", *filters, *edited, "--yes", "--json").json
    assert [one["rerun_of"] for one in done["tasks"]] == [task.uuid for task in bad]
    new = [one["submitted"]["task"] for one in done["tasks"]]
    views = admin.wait_for_tasks(new)
    for view, origin in zip(views, bad, strict=True):
        assert view.outcome == "succeeded"
        assert view.exit is not None
        assert view.exit.stdout_tail == "second kept\n"
        assert (view.rerun_of, view.labels, view.spec.priority) == (origin.uuid, ("again",), 5)
        assert view.spec.timeout_seconds == origin.spec.timeout_seconds
        assert admin.get_task(origin.uuid).reruns == [view.uuid]
    first = admin.get_events(GetEventsArgs(kind="task", name=new[0])).commits[0]
    assert first.events[0].data["rerun_of"] == bad[0].uuid
    assert f"Rerun Of: {bad[0].uuid}" in shell("get", "task", new[0]).text
    assert f"Reruns: {new[0]}" in shell("get", "task", bad[0].uuid).text
    assert admin.get_task(good.uuid).reruns == []
    # What was run once more is not taken again, unless that is wanted.
    over = shell("rerun", *filters, "--yes")
    assert (over.status, over.out) == (0, b"")
    assert "0 tasks to run once more; 2 more were run again already" in over.err
    assert len(shell("rerun", *filters, "--again", "--dry-run").text.split()) == 2


def test_the_same_rerun_with_the_same_key_submits_nothing_twice(
    admin: SyncMitoClient, shell: Shell
) -> None:
    label = f"run-{uuid4()}"
    _, *bad = failed_twice(admin, label)
    key = str(uuid4())
    first = shell("rerun", bad[0].uuid, "--key", key).text
    both = shell("rerun", "--outcome", "failed", "-l", label, "--again", "--key", key, "--yes")
    again = shell("rerun", bad[0].uuid, bad[1].uuid, "--key", key, "--yes")
    assert first == both.text.split()[0] == again.text.split()[0]
    assert both.text == again.text
    assert admin.get_tasks(GetTasksArgs(labels=(label,), count_only=True)).total == 5
    other = shell("rerun", bad[0].uuid, "--key", key, "--priority", "9", "--json")
    assert other.status == 1
    (result,) = other.json["tasks"]
    assert result["submitted"] is None
    assert result["error"]["code"] == "conflict.exists"
    assert f"{bad[0].uuid} was not run once more" in other.err


def test_a_rerun_does_not_wait_for_what_the_original_has_waited_for(
    admin: SyncMitoClient, shell: Shell
) -> None:
    first = admin.submit_task(SubmitTaskArgs(command=("true",)))
    (origin,) = ended(
        admin, SubmitTaskArgs(command=("true",), watch=WatchArgs(first.task, "TaskCommitted"))
    )
    again = shell("rerun", origin.uuid, "--command", "sh -c 'exit 5'").text
    (view,) = admin.wait_for_tasks([again])
    assert view.spec.watch is None
    assert view.exit is not None
    assert view.exit.number == 5


def test_somebody_at_a_terminal_is_asked_and_can_say_no(
    platform: Platform, admin: SyncMitoClient, shell: Shell
) -> None:
    label = f"run-{uuid4()}"
    failed_twice(admin, label)
    for answer, status, more in (("n", 1, 0), ("y", 0, 2)):
        command = (
            *MITO, "client", "-c", platform.notice["http"], "rerun", "--outcome", "failed", "-l",
            label,
        )  # fmt: skip
        master, slave = pty.openpty()
        os.write(master, f"{answer}\n".encode())
        done = subprocess.run(
            command, stdin=slave, stderr=slave, stdout=subprocess.PIPE, check=False, timeout=60,
            env=platform.home.environment, cwd=platform.home.folder,
        )  # fmt: skip
        said = os.read(master, 65_536).decode()
        os.close(slave)
        os.close(master)
        assert "Run 2 tasks once more? [y/N]" in said
        assert (done.returncode, len(done.stdout.split())) == (status, more)


def test_a_task_of_others_cannot_be_repeated_nor_pointed_to(
    admin: SyncMitoClient, person: Person
) -> None:
    hidden = admin.submit_task(SubmitTaskArgs(command=("true",)))
    with pytest.raises(NotFound):
        person.client.rerun_tasks([hidden.task], RerunArgs(group=person.name))
    own = person.client.submit_task(SubmitTaskArgs(command=("true",)))
    (done,) = admin.rerun_tasks([own.task], RerunArgs(group=hidden.group))
    assert done.submitted is not None
    assert admin.get_task(own.task).reruns == [done.submitted.task]
    assert person.client.get_task(own.task).reruns == [], "not in a group of theirs"
    person.client.cancel_task(own.task)


def test_a_task_with_secrets_runs_once_more_only_with_its_secrets_given_anew(
    admin: SyncMitoClient, shell: Shell
) -> None:
    label = f"run-{uuid4()}"
    plain, secret = ended(
        admin,
        in_shell("true", labels=(label,)),
        in_shell('test "$TOKEN" = old-value', labels=(label,), secret_envs={"TOKEN": "old-value"}),
    )
    refused = shell("rerun", "-l", label, "--yes", "--json")
    assert refused.status == 1
    by_origin = {one["rerun_of"]: one for one in refused.json["tasks"]}
    assert by_origin[plain.uuid]["submitted"], "each is decided by itself"
    assert by_origin[secret.uuid]["submitted"] is None
    assert by_origin[secret.uuid]["error"]["code"] == "invalid"
    assert "TOKEN is not given anew" in by_origin[secret.uuid]["error"]["message"]
    assert admin.get_task(secret.uuid).reruns == []
    given = ("--command", "sh -c 'test \"$TOKEN\" = new-value'", "--secret-env", "TOKEN@-")
    shown = shell("rerun", secret.uuid, *given, "--json", stdin=b"new-value\n")
    assert b"new-value" not in shown.out
    (again,) = shown.json["tasks"]
    (view,) = admin.wait_for_tasks([again["submitted"]["task"]])
    assert (view.outcome, view.spec.secrets) == ("succeeded", ("TOKEN",))
    assert view.spec.sealing != secret.spec.sealing
    differing = [one.field for one in admin.compare_tasks(secret.uuid, view.uuid).differences]
    assert "argv" in differing
    assert not {"sealing", "secrets"} & set(differing)
    (first, *_) = admin.get_events(GetEventsArgs(kind="task", name=view.uuid)).commits
    then = admin.get_task(view.uuid, as_of=first.position)
    assert (then.outcome, then.spec) == (None, view.spec)
    (without,) = admin.rerun_tasks([secret.uuid], RerunArgs(command=("true",), secret_envs={}))
    assert without.submitted is not None
    (bare,) = admin.wait_for_tasks([without.submitted])
    assert (bare.outcome, bare.spec.secrets, bare.spec.sealing) == ("succeeded", (), "")
