"""`history` and `mito events list|tail`, as a user runs them."""

import contextlib
import json
import re
import secrets
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mitosis import ClientConfig, SyncMitoClient
from mitosis.config.client import ChangeTaskArgs, CreateUserArgs, SubmitTaskArgs
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind

from .conftest import Done, Platform, ended, in_shell


class Story(NamedTuple):
    """What has happened: who was there, and what they did it to."""

    owner: str
    helper: str
    group: str
    changed: str
    cancelled: str
    key: str
    ask: Callable[..., list[dict[str, Any]]]
    ask_admin: Callable[..., list[dict[str, Any]]]
    shell: Callable[..., Done]
    shell_admin: Callable[..., Done]


def lines(done: Done) -> list[dict[str, Any]]:
    assert done.status == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture(scope="module")
def story(
    platform: Platform,
    admin: SyncMitoClient,
    shell: Callable[..., Done],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    folder, tag = tmp_path_factory.mktemp("audit"), secrets.token_hex(4)
    names = owner, helper = f"owner-{tag}", f"helper-{tag}"
    group, key = f"audit-{tag}", "data/trace.csv"
    with contextlib.ExitStack() as stack:
        clients: list[SyncMitoClient] = []
        for name in names:
            password = secrets.token_hex(16)
            admin.create_user(CreateUserArgs(username=name, password=password))
            config = ClientConfig(
                coordinator_addr=platform.notice["http"], credential_path=folder / name
            )
            clients.append(stack.enter_context(contextlib.closing(SyncMitoClient(config))))
            clients[-1].login(name, password)
        own, other = clients
        own.create_group(group)
        own.change_members(group, {helper: Role.WRITE})
        changed = own.submit_task(SubmitTaskArgs(command=("true",), group=group, priority=1))
        own.change_task(ChangeTaskArgs(task=changed.task, priority=7))
        cancelled = own.submit_task(SubmitTaskArgs(command=("sleep", "9"), group=group))
        other.cancel_task(cancelled.task, "the wrong campaign")
        for text in (b"one", b"three"):
            own.upload_attachment(_written(folder / "trace.csv", text), key, group)
        other.delete_attachment(group, key)
        own.upload_artifact(
            changed.task, ArtifactKind.RESULT, _written(folder / "result.tar.gz", b"result")
        )
        own.change_members(group, removed=(helper,))
        admin.set_admin(helper, admin=True)
        admin.set_admin(helper, admin=False)

        def run(*arguments: str, **more: Any) -> Done:
            return platform.client("--credential-path", folder / owner, *arguments, **more)

        def ask(*arguments: str) -> list[dict[str, Any]]:
            return lines(run(*arguments, "--json"))

        def ask_admin(*arguments: str) -> list[dict[str, Any]]:
            if arguments[0] == "history":
                return lines(shell(*arguments, "--json"))
            http = platform.notice["http"]
            return lines(platform.home.run(*arguments, "-c", http, "--json"))

        yield Story(
            owner, helper, group, changed.task, cancelled.task, key, ask, ask_admin, run, shell
        )


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def changes(entry: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        c["attribute"]: (c["old"], c["new"]) for event in entry["events"] for c in event["changes"]
    }


def events(entry: dict[str, Any]) -> list[str]:
    return [event["event"].partition("@")[0] for event in entry["events"]]


@pytest.mark.parity("W-03")
def test_the_history_of_a_task_says_what_changed_from_what_to_what(story: Story) -> None:
    submitted, changed, _ = story.ask("history", "task", story.changed)
    assert changes(submitted)["spec.priority"] == (None, 1)
    assert changes(changed) == {"spec.priority": (1, 7)}
    assert (changed["actor"], changed["source"]) == (f"user:{story.owner}", "127.0.0.1")
    assert submitted["command"] != changed["command"] != ""
    told = story.shell("history", "task", story.changed).text.splitlines()
    assert "    spec.priority: 1 -> 7" in told
    assert told[told.index("    spec.priority: 1 -> 7") - 2].startswith(f"{changed['position']}  ")


def test_only_what_was_asked_for_is_shown_and_knows_what_was_before(story: Story) -> None:
    (changed,) = story.ask("history", "task", story.changed, "--event", "task.changed")
    assert changes(changed) == {"spec.priority": (1, 7)}
    behind = story.ask("history", "task", story.changed, "--since", str(changed["position"] - 1))[
        :1
    ]
    assert [entry["position"] for entry in behind] == [changed["position"]]
    (last,) = story.ask("history", "task", story.changed, "-n", "1")
    assert events(last) == ["task.artifact_stored"]
    assert story.ask("history", "task", story.changed, "--command", changed["command"]) == behind
    assert story.ask("history", "task", story.changed, "--actor", story.helper) == []


def test_a_deleted_file_and_a_deleted_account_keep_their_history(
    story: Story, admin: SyncMitoClient
) -> None:
    stored, again, deleted = story.ask("history", "attachment", "-g", story.group, story.key)
    assert changes(stored)["file.size_bytes"] == (None, 3)
    assert changes(again)["file.size_bytes"] == (3, 5)
    assert changes(deleted)["file.size_bytes"] == (5, None)
    assert deleted["actor"] == f"user:{story.helper}"
    name = f"gone-{secrets.token_hex(4)}"
    admin.create_user(CreateUserArgs(username=name, password=secrets.token_hex(8)))
    assert story.shell_admin("admin", "users", "delete", name).status == 0
    created, *_, last = story.ask_admin("history", "user", name)
    hidden = [c for event in created["events"] for c in event["changes"] if c["hidden"]]
    assert [c["attribute"] for c in hidden] == ["password_hash"]
    assert changes(last)["state"] == ("active", "deleted")


@pytest.mark.parity("W-03")
def test_who_may_not_read_a_thing_has_no_history_of_it(story: Story) -> None:
    assert story.shell("history", "user", story.helper).status == 4
    assert story.shell("history", "attachment", "no/such/key").status == 3
    assert story.shell("history", "task", "0a1b2c3d").status == 3
    members = story.ask("history", "group", story.group)
    assert changes(members[1]) == {f"members.{story.helper}": (None, "write")}


def test_events_are_listed_by_time_actor_kind_group_position_and_name(story: Story) -> None:
    everything = story.ask_admin("events", "list", "--group", story.group)
    positions = [commit["position"] for commit in everything]
    assert positions == sorted(set(positions))
    by_helper = story.ask_admin("events", "list", "-g", story.group, "--actor", story.helper)
    assert [events(commit)[-1] for commit in by_helper] == ["task.cancelled", "attachment.deleted"]
    assert by_helper == [c for c in everything if c["actor"] == f"user:{story.helper}"]
    deleted = by_helper[-1]
    files = story.ask_admin(
        "events", "list", "-g", story.group, "--kind", "attachment", "--until",
        str(deleted["position"] - 1),
    )  # fmt: skip
    assert [events(commit) for commit in files] == [["attachment.stored"]] * 2
    named = story.ask_admin("events", "list", "-g", story.group, "--event", "task.changed")
    assert [commit["name"] for commit in named] == [story.changed]
    then = by_helper[0]["time"]
    before = story.ask_admin("events", "list", "-g", story.group, "--until", then)
    since = story.ask_admin("events", "list", "-g", story.group, "--since", then)
    assert before + since == everything
    assert since[0] == by_helper[0]


async def test_tail_prints_the_last_ones_and_then_what_comes(
    story: Story, platform: Platform
) -> None:
    user = ("--kind", "user", "--name", story.helper)
    last = story.ask_admin("events", "tail", "-n", "2", *user)
    assert [events(commit) for commit in last] == [["user.admin_changed"]] * 2
    where = ("-c", platform.notice["http"], "--json")
    running = platform.home.start("events", "tail", "-f", "-n", "1", *user, *where)
    try:
        await running.says("user.admin_changed")
        story.shell_admin("admin", "users", "lock", story.helper)
        await running.says("user.state_changed")
        first, newest = [json.loads(line) for line in running.out.splitlines()]
        assert first == last[-1]
        assert events(newest) == ["user.state_changed"]
    finally:
        running.close()


def test_who_could_read_an_output_and_from_when_to_when(story: Story) -> None:
    asked = ("history", "readers", story.changed, "--artifact", "result")
    history = story.ask("history", "task", story.changed, "--event", "task.artifact_stored")
    stored = history[-1]
    removed = story.ask("history", "group", story.group, "--event", "group.member_removed")[-1]
    by_user = {reader["user"]: reader for reader in story.ask(*asked)}
    assert {user: reader["right"] for user, reader in by_user.items()} == {
        story.owner: "admin",
        story.helper: "write",
    }
    for reader in by_user.values():
        assert (reader["since"], reader["since_position"]) == (stored["time"], stored["position"])
    assert by_user[story.owner]["until"] is None
    assert by_user[story.helper]["until_position"] == removed["position"]
    later = story.ask(*asked, "--since", str(removed["position"]))
    assert [reader["user"] for reader in later] == [story.owner]
    assert story.ask(*asked, "--until", str(stored["position"] - 1)) == []
    rights = {(r["user"], r["right"]) for r in story.ask_admin(*asked)}
    assert (story.helper, "platform administrator") in rights, "who was one for a moment"
    assert (story.owner, "admin") in rights


def test_which_tasks_ran_on_a_worker_while_its_tags_were_wrong(
    story: Story, admin: SyncMitoClient
) -> None:
    wrong = f"wrong-{secrets.token_hex(4)}"
    crew = [one for one in admin.get_workers().workers if one.state == "normal"]
    tags = {worker.uuid: worker.tags for worker in crew}
    for worker, right in tags.items():  # whichever of them is free will run it
        admin.update_worker_tags(worker, (*right, wrong))
    (run,) = ended(admin, SubmitTaskArgs(command=("true",), tags=(wrong,)))
    for worker, right in tags.items():
        admin.update_worker_tags(worker, right)
    ended(admin, SubmitTaskArgs(command=("true",)))
    assert run.worker is not None
    (found,) = story.ask_admin("history", "runs", run.worker, "--tags", wrong)
    assert (found["task"], found["attempt"]) == (run.uuid, 1)
    assert found["tags"] == [[*tags[run.worker], wrong]]
    everything = story.ask_admin("history", "runs", run.worker)
    assert run.uuid in [one["task"] for one in everything]


def test_why_a_task_ran_twice(story: Story, admin: SyncMitoClient) -> None:
    (twice,) = ended(admin, in_shell("exit 3", retries=1, retry_delay="100ms"))
    (again,) = story.ask_admin(
        "history", "task", twice.uuid, "--event", "task.requeued,task.retry_scheduled"
    )
    scheduled = next(e for e in again["events"] if e["event"].startswith("task.retry_scheduled"))
    assert scheduled["cause"] == "exit code 3"


@pytest.mark.parity("W-03")
def test_who_cancelled_these_and_from_where(story: Story) -> None:
    found = story.ask_admin(
        "events", "list", "-g", story.group, "--event", "task.cancel_requested,task.cancelled"
    )
    (cancelled,) = found
    assert (cancelled["name"], cancelled["actor"], cancelled["source"]) == (
        story.cancelled,
        f"user:{story.helper}",
        "127.0.0.1",
    )
    assert cancelled["events"][-1]["data"]["reason"] == "the wrong campaign"
    assert story.ask_admin("events", "list", "--command", cancelled["command"]) == found


def test_what_a_user_did_since_a_day_and_from_where_they_logged_in(story: Story) -> None:
    did = story.ask_admin("events", "list", "--actor", story.helper, "--since", "yesterday")
    assert {name for commit in did for name in events(commit)} >= {
        "task.cancelled",
        "attachment.deleted",
    }
    assert {commit["actor"] for commit in did} == {f"user:{story.helper}"}
    logins = story.ask_admin("history", "user", story.helper, "--event", "user.session_opened")
    assert "logged in from 127.0.0.1" in logins[0]["events"][-1]["told"]


def test_who_changed_the_rights_of_a_user(story: Story, platform: Platform) -> None:
    made, taken = story.ask_admin("history", "user", story.helper, "--event", "user.admin_changed")
    assert (changes(made)["admin"], changes(taken)["admin"]) == ((False, True), (True, False))
    assert made["actor"] == taken["actor"] == f"user:{platform.notice['admin_user']}"
    members = "group.member_role_set,group.member_removed"
    added, removed = story.ask("history", "group", story.group, "--event", members)
    assert changes(added) == {f"members.{story.helper}": (None, "write")}
    assert changes(removed) == {f"members.{story.helper}": ("write", None)}
    assert added["actor"] == removed["actor"] == f"user:{story.owner}"


def test_the_history_of_a_worker_says_who_changed_it(story: Story, admin: SyncMitoClient) -> None:
    worker = admin.get_workers().workers[0]
    admin.update_worker_labels(worker.uuid, (label := f"rack-{secrets.token_hex(4)}",))
    admin.pause_worker(worker.uuid, "a new kernel")
    admin.resume_worker(worker.uuid)
    labelled, paused, resumed = story.ask_admin("history", "worker", worker.uuid, "-n", "3")
    assert changes(labelled)["labels"][1] == [label]
    assert (events(paused), events(resumed)) == (["worker.paused"], ["worker.resumed"])
    assert paused["events"][0]["cause"] == "a new kernel"
    assert {one["source"] for one in (labelled, paused, resumed)} == {"127.0.0.1"}
    assert story.shell("history", "worker", worker.uuid).status == 3


def test_a_question_for_what_never_was_is_refused_and_not_answered_by_silence(
    story: Story, platform: Platform
) -> None:
    where = ("-c", platform.notice["http"])
    for words, status, said in (
        (("--event", "task.canceled"), 1, "did you mean task.cancelled"),
        (("--actor", f"{story.helper}x"), 3, "who could have done anything"),
        (("--actor", "worker:123"), 3, "there is no worker '123'"),
        (("--actor", "robot:7"), 1, "is no actor"),
    ):
        done = platform.home.run("events", "list", *words, *where)
        assert (done.status, done.out) == (status, b"")
        assert said in done.complaint
    done = story.shell("history", "task", story.changed, "--event", "task.change")
    assert (done.status, "did you mean task.changed" in done.complaint) == (1, True)


PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
QUESTIONS = re.findall(r"^\| (.+\?) \| `(mito .+)` \|$", PAGE, re.MULTILINE)


@pytest.mark.usefixtures("shell")
@pytest.mark.parametrize(("question", "command"), QUESTIONS, ids=lambda text: text[:40])
def test_each_question_of_the_documentation_is_answered_by_its_command_as_it_is_printed(
    question: str, command: str, story: Story, platform: Platform, admin: SyncMitoClient
) -> None:
    """Only names and days are filled in; the settings of who asks are those of the machine."""
    # What another test left behind may be unreachable, and runs nothing.
    crew = [one for one in admin.get_workers().workers if one.state == "normal"]
    worker, now, task = crew[0], datetime.now(UTC), story.changed
    if "twice" in question:
        (twice,) = ended(admin, in_shell("exit 3", retries=1, retry_delay="100ms"))
        task = twice.uuid
    if "wrong" in question:
        admin.update_worker_tags(worker.uuid, (*worker.tags, "wrong"))
        tasks = sum(one.slots for one in crew)  # so many at once that this worker has one
        ended(admin, *(in_shell("sleep 0.5", tags=("wrong",)) for _ in range(tasks)))
        admin.update_worker_tags(worker.uuid, worker.tags)
    (cancelled,) = story.ask("history", "task", story.cancelled, "--event", "task.cancelled")
    known = {
        "TASK": task, "WORKER": worker.uuid, "GROUP": story.group, "KEY": story.key,
        "USER": story.owner if "log in" in question else story.helper,
        "COMMAND": cancelled["command"], "2026-03-01": str(now.date() - timedelta(days=1)),
        "2026-04-01": now.isoformat(), "today": now.isoformat(),
    }  # fmt: skip
    words = [known.get(word, word) for word in shlex.split(command)[1:]]
    done = platform.home.run(*words, more={"MITO_COORDINATOR_ADDR": platform.notice["http"]})
    assert (done.status, done.text != "") == (0, True), done


@pytest.mark.usefixtures("shell")
def test_rights_that_came_with_an_account_or_a_group_are_told_by_the_commands_as_printed(
    story: Story, platform: Platform, admin: SyncMitoClient
) -> None:
    """Who creates a group is a member of it, and accounts may be created as administrators."""
    name = f"chief-{secrets.token_hex(4)}"
    admin.create_user(CreateUserArgs(username=name, password=secrets.token_hex(8), admin=True))
    for asked, known, expected in (
        ("administrator", {"USER": name}, "admin: none -> true"),
        ("into the group", {"GROUP": story.group}, f"members.{story.owner}: none -> admin"),
    ):
        (command,) = [line for question, line in QUESTIONS if asked in question]
        words = [known.get(word, word) for word in shlex.split(command)[1:]]
        done = platform.home.run(*words, more={"MITO_COORDINATOR_ADDR": platform.notice["http"]})
        assert (done.status, expected in done.text) == (0, True), done


def test_there_are_ten_questions() -> None:
    assert len(QUESTIONS) >= 10
