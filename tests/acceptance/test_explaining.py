"""Why a task waits, and what differed between two, as a user asks."""

import contextlib
import json
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest

from mitosis import Role, SyncMitoClient, TaskState
from mitosis.config.client import RerunArgs, SubmitTaskArgs, WatchArgs
from mitosis.contract.queries import Explanation
from mitosis.errors import NotFound

from .conftest import Done, Person, Platform, ended, in_shell
from .crews import Crew
from .parity.machines import Account, Owner, soon


@pytest.fixture
def crew(platform: Platform, admin: SyncMitoClient, tmp_path: Path) -> Iterator[Crew]:
    with contextlib.closing(Crew(platform, Owner(platform, admin, tmp_path), tmp_path)) as made:
        yield made


def explained(client: SyncMitoClient, task: str) -> tuple[list[str], str]:
    """The causes of a task, and all that is said; their sum is the whole wait."""
    found: Explanation = client.explain_task(task)
    view = client.get_task(task)
    assert abs(sum(wait.seconds for wait in found.waits) - found.waiting_seconds) < 1e-3
    assert sum(found.seconds_by_cause.values()) == pytest.approx(found.waiting_seconds)
    for one, following in pairwise(found.waits):
        assert one.ended_at <= following.began_at
    if found.waits and found.waits[0].attempt == 1:
        assert found.waits[0].began_at == view.created_at
    assert found.complete
    return [wait.cause.value for wait in found.waits], " | ".join(w.text for w in found.waits)


@pytest.mark.parity("W-07")
def test_a_wait_is_explained_from_no_worker_over_busy_ones_to_a_pause_and_after_the_end(
    crew: Crew, platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> None:
    group = f"lab-{secrets.token_hex(4)}"
    crew.client.create_group(group)
    crew.client.create_group(hidden := f"hidden-{secrets.token_hex(4)}")
    reader = Account(platform, admin, tmp_path)
    crew.client.change_members(group, {reader.name: Role.READ})
    task = crew.client.submit_task(
        SubmitTaskArgs(command=("true",), group=group, tags=("gpu",), priority=-1)
    ).task
    causes, said = explained(crew.client, task)
    assert causes == ["no_worker"]
    assert f"no worker gave group {group} Write" in said
    box = crew.hire("-g", f"{group},{hidden}", "-t", "gpu,fast")
    # A worker that serves the group and has a tag too many.
    soon(lambda: crew.client.get_worker(box.uuid))
    other = crew.client.submit_task(
        SubmitTaskArgs(command=("true",), group=group, tags=("gpu",))
    ).task
    _, said = explained(crew.client, other)
    assert f"1 worker serves group {group}" in said
    assert f"worker {box.uuid} has the tags fast too" in said
    # It becomes able, and is busy with a task of a group that not everybody sees.
    blocking, gate = crew.gated("blocking", group=hidden, tags=("gpu", "fast"))
    soon(lambda: crew.lines() == ["begin blocking 1"])
    crew.client.update_worker_tags(box.uuid, ["gpu"])
    causes, said = explained(crew.client, task)
    assert causes == ["no_worker", "busy"]
    assert "the one worker that may run it was busy" in said
    assert f"with 1 task of {hidden}" in said
    assert f"1 task of {group} came before it" in said
    crew.mito("manage", "worker", box.uuid, "pause")
    gate.touch()
    crew.client.wait_for_tasks([blocking])
    causes, said = explained(crew.client, task)
    assert causes == ["no_worker", "busy", "paused"]
    crew.mito("manage", "worker", box.uuid, "resume")
    (view,) = crew.client.wait_for_tasks([task])
    causes, said = explained(crew.client, task)
    assert causes[:3] == ["no_worker", "busy", "paused"], "for an ended task too"
    assert set(causes[3:]) <= {"busy"}, "the other one came first"
    found = crew.client.explain_task(task)
    started = next(step.at for step in view.steps if step.state == "FetchResource")
    waited = (started - view.created_at).total_seconds()
    assert found.waiting_seconds == pytest.approx(waited, abs=0.001)
    assert found.until == view.ended_at
    # As the command line says it.
    text = crew.mito("explain", task).text
    assert f"Task {task} is {group}#1, finished (succeeded)" in text
    assert len(text.splitlines()) == 2 + len(causes)
    shown = json.loads(crew.mito("explain", task, "--json").text)
    assert [wait["cause"] for wait in shown["waits"]] == causes
    # Who does not see the other group learns no more than that there is one.
    with contextlib.closing(reader.client) as client:
        _, said = explained(client, task)
        assert hidden not in said
        assert "busy with other groups" in said


def test_another_task_a_retry_and_a_lost_worker_are_causes(crew: Crew) -> None:
    box = crew.hire()
    first, gate = crew.gated("first")
    watching = crew.client.submit_task(
        SubmitTaskArgs(command=("false",), watch=WatchArgs(first.task, "TaskCommitted"), retries=1)
    ).task
    soon(lambda: crew.lines() == ["begin first 1"])
    causes, said = explained(crew.client, watching)
    assert causes == ["watch"]
    assert f"task {first.task} has to reach TaskCommitted (it is running, " in said
    gate.touch()
    crew.client.wait_for_tasks([watching])
    causes, said = explained(crew.client, watching)
    assert [cause for cause in causes if cause != "busy"] == ["watch", "retry"]
    assert "attempt 1 has failed (exit code 1)" in said
    lost, gate = crew.gated("lost")
    soon(lambda: "begin lost 1" in crew.lines())
    os.kill(box.process.process.pid, signal.SIGKILL)
    soon(lambda: crew.client.get_task(lost.task).state is TaskState.READY)
    causes, said = explained(crew.client, lost.task)
    assert causes[-1] == "no_worker"
    assert "(after attempt 1: " in said
    gate.touch()
    crew.hire()
    crew.client.wait_for_tasks([lost])


def test_a_task_that_one_may_not_see_is_not_explained(
    admin: SyncMitoClient, person: Person
) -> None:
    hidden = admin.submit_task(SubmitTaskArgs(command=("true",)))
    with pytest.raises(NotFound):
        person.client.explain_task(hidden.task)
    assert person.shell("explain", hidden.task).status == 3
    assert explained(admin, hidden.task)[0] in ([], ["busy"]), "it was given out at once"


def test_what_differed_between_two_runs_is_said_field_by_field(
    admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    script = 'echo "$SEED"; exit "$CODE"'
    envs = {"SEED": "3", "CODE": "3", "SAME": "x"}
    (one,) = ended(admin, in_shell(script, terminal=True, envs=envs, labels=(f"l-{uuid4()}",)))
    edits = RerunArgs(set_envs={"CODE": "0", "NEW": "1"}, unset_envs=("SEED",), priority=4)
    (again,) = admin.rerun_tasks([one.uuid], edits)
    assert again.submitted is not None
    (other,) = ended(admin, again.submitted)
    done = shell("diff", one.uuid, other.uuid)
    assert done.status == 1
    lines = [line.strip() for line in done.text.splitlines()]
    for said in (
        "priority: 0 -> 4", "CODE: 3 -> 0", "SEED: 3 -> (none)", "NEW: (none) -> 1",
        "outcome: failed -> succeeded", "exit number: 3 -> 0", "end of stdout: 3 -> ''",
    ):  # fmt: skip
        assert said in lines, done.text
    assert not any(line.startswith("SAME") for line in lines)
    assert any(line.startswith("std-log.tar.gz: sha256:") for line in lines)
    shown = shell("diff", one.uuid, other.uuid, "--only", "environment", "--json")
    assert (shown.status, shown.json["equal"]) == (1, False)
    assert {d["part"] for d in shown.json["differences"]} == {"environment"}
    assert {d["field"]: (d["first"], d["second"]) for d in shown.json["differences"]} == {
        "CODE": ("3", "0"), "SEED": ("3", None), "NEW": (None, "1"),
    }  # fmt: skip
    same = shell("diff", one.uuid, one.uuid, "--json")
    assert (same.status, same.json["equal"], same.json["differences"]) == (0, True, [])
    circumstances = shell("diff", one.uuid, other.uuid, "--only", "times", "labels")
    assert circumstances.status == 0
    assert "times (circumstances):" in circumstances.text
    assert shell("diff", one.uuid, str(uuid4())).status == 3
    assert shell("diff", one.uuid, other.uuid, "--only", "colour").status == 2
