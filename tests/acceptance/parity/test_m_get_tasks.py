"""`mito client get task`, `get tasks`: what is shown, and by what a list is filtered."""

import re
import secrets
from collections.abc import Callable
from typing import NamedTuple

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import GetTasksArgs, SubmitTaskArgs
from mitosis.contract.queries import TaskView
from mitosis.errors import InvalidInput, NotAllowed

from ..conftest import Done, ended, in_shell, side_by_side
from .machines import Owner

Shell = Callable[..., Done]
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Tasks(NamedTuple):
    """Five tasks of the owner in their own group, numbered from 1, and one in another group."""

    owner: Owner
    uuids: list[str]
    other: str

    def lists(self, *options: str) -> list[int]:
        """The numbers of the tasks that `get tasks` with these options prints."""
        return self.lists_all([options])[0]

    def lists_all(self, commands: list[tuple[str, ...]]) -> list[list[int]]:
        """The same for several commands."""
        done = side_by_side(lambda words: self.owner.mito("get", "tasks", *words), commands)
        assert [(one.status, one.text == "") for one in done if one.status] == []
        names = [*self.uuids, self.other]
        return [[names.index(uuid) + 1 for uuid in one.text.split()] for one in done]


@pytest.fixture(scope="module")
def tasks(owner: Owner) -> Tasks:
    client, name = owner.client, owner.name
    other = f"{name}-other"
    client.create_group(other)
    made = client.submit_many(
        [
            SubmitTaskArgs(command=("echo", "1"), tags=("wired",), labels=("mobile", "all")),
            SubmitTaskArgs(command=("echo", "2"), tags=("wired", "gpu"), labels=("a%", "all")),
            SubmitTaskArgs(command=("echo", "3"), labels=("a_b", "all"), priority=5),
            SubmitTaskArgs(command=("echo", "4"), labels=("ab", "all"), priority=-5),
            SubmitTaskArgs(command=("echo", "5"), labels=("axb",), envs={"K": "V"}, terminal=True),
            SubmitTaskArgs(command=("echo", "other"), group=other, labels=("mobile",)),
        ]
    )
    client.cancel_task(made[1].task, "not needed")
    return Tasks(owner, [one.task for one in made[:5]], made[5].task)


@pytest.fixture(scope="module")
def ran(admin: SyncMitoClient) -> list[TaskView]:
    """Two tasks that have run, with a label of their own."""
    label = f"ran-{secrets.token_hex(3)}"
    script = "echo r > $MITO_RESULT_DIR/r; exit "
    labels = (label,)
    return ended(
        admin, in_shell(script + "3", labels=labels, tags=("t",), priority=2, timeout="1h30m"),
        in_shell("exit 12", labels=labels),
    )  # fmt: skip


# --- one task ---------------------------------------------------------------------------------


@pytest.mark.parity("S-178")
def test_the_help_of_get_names_all_that_can_be_looked_at(shell: Shell) -> None:
    done = shell("get", "--help")
    assert (done.status, done.err) == (0, "")
    lines = [line.split() for line in done.text.splitlines() if line.startswith("  ")]
    words = {line[0].removesuffix(":") for line in lines}
    assert words >= {
        "task", "tasks", "attachment-meta", "attachments", "worker", "workers", "group",
        "groups", "artifact", "attachment", "help",
    }  # fmt: skip


@pytest.mark.parity("S-179", "V-041")
def test_a_task_is_shown_with_all_its_fields(shell: Shell, ran: list[TaskView]) -> None:
    task = ran[0]
    shown = shell("get", "task", task.uuid).text
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    for pattern in (
        f"Task UUID: {task.uuid}",
        r"State: finished \(failed\)",
        f"Created by mitosis_admin as #{task.number} in group mitosis_admin",
        "Tags: t",
        f"Labels: {task.labels[0]}",
        "Timeout: 1h 30m, Priority: 2",
        f"Created: {moment}, Updated: {moment}",
        r"Task Spec: sh -c 'echo r > \$MITO_RESULT_DIR/r; exit 3'",
        r"Task Result: exit code 3 after [0-9.e-]+ s",
        rf"Artifacts: result.tar.gz, \d+ B, Created: {moment}, Updated: {moment}",
        "Execution State: TaskCommitted",
    ):
        assert re.search(f"^{pattern}$", shown, re.MULTILINE), (pattern, shown)
    view = shell("get", "task", task.uuid, "--json").json
    assert view["artifacts"][0]["size_bytes"] == task.artifacts[0].size_bytes


@pytest.mark.parity("V-041")
def test_what_a_task_does_not_have_is_called_none(tasks: Tasks) -> None:
    lines = tasks.owner.mito("get", "task", tasks.uuids[4]).text.splitlines()
    assert {"Tags: None", "Task Result: None", "Artifacts: None", "State: ready"} <= set(lines)
    assert {"Environment: K=V", "Terminal: collected"} <= set(lines)


@pytest.mark.parity("S-180")
def test_a_task_that_is_not_there_is_not_found(shell: Shell) -> None:
    done = shell("get", "task", "e07a2bf2-166d-40b5-8bb6-a78104c072f9")
    assert (done.status, done.out) == (3, b"")
    assert "e07a2bf2-166d-40b5-8bb6-a78104c072f9" in done.complaint


# --- lists ------------------------------------------------------------------------------------


@pytest.mark.parity("S-181", "V-002")
def test_a_list_is_of_the_own_group_unless_another_is_named(tasks: Tasks) -> None:
    name = tasks.owner.name
    found = tasks.lists_all([(), ("-g", name), ("--group", f"{name}-other")])
    assert found == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [6]]
    done = tasks.owner.mito("get", "tasks", "-g", "mitosis_admin")
    assert (done.status, done.out) == (4, b"")
    assert "no role in group 'mitosis_admin'" in done.complaint


@pytest.mark.parity("S-182", "V-004")
def test_only_tasks_with_all_the_labels_are_listed(tasks: Tasks) -> None:
    found = tasks.lists_all([("-l", "mobile"), ("-l", "all,a_b"), ("--labels", "all", "ab")])
    assert found == [[1], [3], [4]]


@pytest.mark.parity("S-183")
def test_the_help_of_a_list_shows_every_filter(shell: Shell) -> None:
    done = shell("get", "tasks", "-h")
    assert (done.status, done.err) == (0, "")
    for option in (
        "--creator", "-c", "--group", "-g", "--tags", "-t", "--labels", "-l", "--state", "-s",
        "--limit", "--offset", "--verbose", "-v",
    ):  # fmt: skip
        assert option in re.split(r"[\s,:]+", done.text), option


@pytest.mark.parity("V-001")
def test_a_list_can_be_of_one_creator(tasks: Tasks, admin: SyncMitoClient) -> None:
    theirs = admin.whoami().username
    found = tasks.lists_all([("-c", tasks.owner.name), ("--creator", theirs)])
    assert found == [[1, 2, 3, 4, 5], []]


@pytest.mark.parity("V-003")
def test_only_tasks_with_all_the_tags_are_listed(tasks: Tasks) -> None:
    assert tasks.lists_all([("-t", "wired"), ("--tags", "gpu,wired")]) == [[1, 2], [2]]


@pytest.mark.parity("V-005")
def test_a_list_can_be_of_every_state(tasks: Tasks) -> None:
    waits = tasks.owner.client.submit_task(SubmitTaskArgs(command=("true",)))
    states = ("pending", "ready", "running", "finished", "cancelled", "unknown", "ready,CANCELLED")
    done = side_by_side(
        lambda words: tasks.owner.mito("get", "tasks", *words), [["-s", s] for s in states]
    )
    tasks.owner.client.cancel_task(waits.task)
    one, two, three, four, five = tasks.uuids
    ready = [one, three, four, five, waits.task]
    assert [one.text.split() for one in done] == [
        [], ready, [], [], [two], [], [one, two, *ready[1:]],
    ]  # fmt: skip
    wrong = tasks.owner.mito("get", "tasks", "-s", "finishd")
    assert (wrong.status, wrong.out) == (2, b"")
    assert "'finished'" in wrong.complaint


@pytest.mark.parity("V-006", "V-007")
def test_a_page_has_a_size_and_a_start_from_the_newest(tasks: Tasks) -> None:
    label = ("-l", "all")
    found = tasks.lists_all([(*label, "--limit", "2"), (*label, "--limit", "2", "--offset", "1")])
    assert found == [[3, 4], [2, 3]]
    for wrong in (["--limit", "0"], ["--offset", "-1"]):
        assert tasks.owner.mito("get", "tasks", *wrong).status == 1


@pytest.mark.parity("V-008", "V-042")
def test_a_list_is_one_uuid_a_line_or_the_whole_of_each_task(tasks: Tasks) -> None:
    plain = tasks.owner.mito("get", "tasks", "-l", "all")
    assert all(re.fullmatch(UUID, line) for line in plain.text.splitlines())
    assert plain.err.startswith("4 tasks")
    verbose = tasks.owner.mito("get", "tasks", "-l", "all", "-v").text.splitlines()
    uuids = [line.removeprefix("Task UUID: ") for line in verbose if line.startswith("Task UUID")]
    assert uuids == plain.text.split() == tasks.uuids[:4]
    for label in ("State: ", "Created by ", "Tags: ", "Labels: ", "Timeout: ", "Created: ",
                  "Task Spec: ", "Task Result: "):  # fmt: skip
        assert sum(line.startswith(label) for line in verbose) >= 4, label
    assert not [line for line in verbose if line.startswith("Artifacts")]


@pytest.mark.parity("D-089", "D-092")
def test_a_list_is_one_ordered_row_that_stays_as_it_is_while_tasks_come_and_end(
    owner: Owner,
) -> None:
    """Pages of the original were cut from two tables without an order."""
    client, group = owner.client, f"{owner.name}-pages"
    client.create_group(group)
    made = client.submit_many([SubmitTaskArgs(command=("true",), group=group)] * 60)
    wanted = [one.task for one in made]
    default = client.get_tasks(GetTasksArgs(group=group))
    assert ([t.uuid for t in default.tasks], default.total) == (wanted[10:], 60)
    seen: list[str] = []
    before = 0
    for number in range(6):
        page = client.get_tasks(GetTasksArgs(group=group, limit=10, before=before))
        seen = [task.uuid for task in page.tasks] + seen
        before = page.tasks[0].number
        client.submit_task(SubmitTaskArgs(command=("true",), group=group))  # one comes
        client.cancel_task(made[number * 10].task)  # and one ends
    assert seen == wanted
    assert client.get_tasks(GetTasksArgs(group=group, before=before)).tasks == []
    with pytest.raises(InvalidInput, match="limit"):
        client.get_tasks(GetTasksArgs(group=group, limit=10_001))


@pytest.mark.parity("D-090", "D-091")
def test_a_count_ignores_the_page_and_numbers_are_compared_as_numbers(
    shell: Shell, ran: list[TaskView]
) -> None:
    """As texts, "12" would be below "3"; and a count after an offset was 0."""
    label = ("-l", ran[0].labels[0])
    three, twelve = (view.uuid for view in ran)
    expected = {
        ("-e", ">3"): twelve, ("-e", "<12"): three, ("-e", "!=3"): twelve, ("-e", "3"): three,
        ("-p", ">1"): three, ("-p", "<=0"): twelve, ("--count", "--offset", "5"): "2",
    }  # fmt: skip
    done = side_by_side(lambda words: shell("tasks", "query", *label, *words), list(expected))
    assert [one.text for one in done] == list(expected.values())


@pytest.mark.parity("F-49")
def test_a_name_that_begins_like_another_mixes_nothing(owner: Owner) -> None:
    """With a dash in names, one order is not the other: jobs of `team` and `team-a` go missing."""
    client, mark = owner.client, secrets.token_hex(3)
    groups = [f"{name}{mark}" for name in ("team", "Team")]
    groups += [f"{groups[0]}-a", f"{groups[0]}_a"]
    made: dict[str, list[str]] = {}
    for group in groups:
        client.create_group(group)
        tasks = [SubmitTaskArgs(command=("true",), group=group, labels=(group,))] * 10
        made[group] = [one.task for one in client.submit_many(tasks)]
    for group in groups:
        pages = [
            client.get_tasks(GetTasksArgs(group=group, limit=4, offset=offset)).tasks
            for offset in (8, 4, 0)
        ]
        assert [task.uuid for page in pages for task in page] == made[group]
        assert client.get_group(group).task_count == 10
    literal = client.get_tasks(GetTasksArgs(group=groups[0], labels=(groups[0],)))
    assert literal.total == 10
    for pattern in (f"{groups[0][:-1]}%", f"{groups[0][:-1]}_"):
        assert client.get_tasks(GetTasksArgs(group=groups[0], labels=(pattern,))).total == 0


@pytest.mark.parity("F-49")
def test_the_signs_of_a_pattern_are_letters_like_others(tasks: Tasks) -> None:
    assert tasks.lists_all([("-l", "a%"), ("-l", "a_b")]) == [[2], [3]]


def test_a_group_without_a_role_in_it_is_refused_also_by_the_sdk(owner: Owner) -> None:
    with pytest.raises(NotAllowed, match="ask one of its Admins"):
        owner.client.get_tasks(GetTasksArgs(group="mitosis_admin"))
