"""`manage worker UUID ...`: what its Admins change bites at once, on a real worker."""

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.domain.roles import Role
from mitosis.domain.task import Outcome, TaskState
from mitosis.errors import NotAllowed, NotFound

from ..conftest import Done, Platform, in_shell
from .machines import Account, Machine, machine, soon


class Bench(NamedTuple):
    """A worker of alice alone, who also has the groups `one` and `two`; bob is a stranger."""

    alice: Account
    bob: Account
    one: str
    two: str
    worker: Machine
    mito: Callable[..., Done]

    @property
    def uuid(self) -> str:
        return self.worker.uuid

    def manage(self, *arguments: str, status: int = 0) -> Done:
        """`mito client manage worker UUID ...` as alice."""
        done = self.mito("manage", "worker", self.uuid, *arguments)
        assert done.status == status, done
        return done

    def runs(self, task: SubmitTaskArgs) -> bool:
        """Whether the task is taken at once: the worker is idle, so it is assigned or waits."""
        submitted = self.alice.client.submit_task(task)
        state = self.alice.client.get_task(submitted.task).state
        if state is TaskState.READY:
            self.alice.client.cancel_task(submitted.task)
            return False
        (view,) = self.alice.client.wait_for_tasks([submitted])
        assert view.worker == self.uuid
        return view.outcome is Outcome.SUCCEEDED


def _start(platform: Platform, alice: Account, box: Machine, *more: str) -> str:
    box.run_worker(
        "-c", platform.notice["http"], "--credential-path", alice.credentials, *more
    )  # fmt: skip
    return box.registered()


@pytest.fixture(scope="module")
def bench(platform: Platform, admin: SyncMitoClient) -> Iterator[Bench]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mito-test-")))
        alice, bob = (Account(platform, admin, folder) for _ in range(2))
        for account in (alice, bob):
            stack.callback(account.client.close)
        one, two = (f"group-{secrets.token_hex(4)}" for _ in range(2))
        for group in (one, two):
            alice.client.create_group(group)
        box = stack.enter_context(machine(folder / "box"))
        _start(platform, alice, box)

        def mito(*arguments: str | Path) -> Done:
            return platform.client("--credential-path", alice.credentials, *arguments)

        yield Bench(alice, bob, one, two, box, mito)


@pytest.mark.parity("S-205", "D-028")
def test_new_tags_are_exactly_those_given_and_a_task_that_waited_for_them_runs(
    bench: Bench,
) -> None:
    bench.alice.client.update_worker_tags(bench.uuid, ["cpu"])
    task = bench.alice.client.submit_task(SubmitTaskArgs(command=("true",), tags=("gpu",)))
    assert bench.alice.client.get_task(task.task).state is TaskState.READY
    bench.manage("update-tags", "gpu")
    assert bench.alice.worker(bench.uuid).tags == ("gpu",)
    (view,) = bench.alice.client.wait_for_tasks([task])
    assert view.worker == bench.uuid
    assert not bench.runs(SubmitTaskArgs(command=("true",), tags=("cpu",)))
    bench.alice.client.update_worker_tags(bench.uuid, [])


@pytest.mark.parity("S-206")
def test_the_example_of_tags_works(bench: Bench) -> None:
    done = bench.manage("update-tags", "wired", "file")
    assert done.text == f"Worker {bench.uuid} has the tags: wired, file"
    assert bench.alice.worker(bench.uuid).tags == ("file", "wired")
    bench.alice.client.update_worker_tags(bench.uuid, [])


@pytest.mark.parity("D-029")
def test_tags_can_be_cleared_and_then_every_task_runs(bench: Bench) -> None:
    bench.alice.client.update_worker_tags(bench.uuid, ["gpu"])
    assert not bench.runs(SubmitTaskArgs(command=("true",)))
    bench.manage("update-tags")
    assert bench.alice.worker(bench.uuid).tags == ()
    assert bench.runs(SubmitTaskArgs(command=("true",)))
    assert bench.runs(SubmitTaskArgs(command=("true",), tags=("any",)))


@pytest.mark.parity("S-207")
def test_a_granted_role_shows_in_the_map_and_a_task_that_waited_for_it_runs(bench: Bench) -> None:
    task = bench.alice.client.submit_task(SubmitTaskArgs(command=("true",), group=bench.one))
    assert bench.alice.client.get_task(task.task).state is TaskState.READY
    bench.manage("update-roles", f"{bench.one}:write")
    assert bench.alice.worker(bench.uuid).roles == {
        bench.alice.name: Role.ADMIN, bench.one: Role.WRITE,
    }  # fmt: skip
    (view,) = bench.alice.client.wait_for_tasks([task])
    assert view.worker == bench.uuid
    bench.alice.client.remove_worker_roles(bench.uuid, [bench.one])


@pytest.mark.parity("S-208")
def test_the_example_of_roles_works(bench: Bench) -> None:
    bench.manage("update-roles", f"{bench.one}:admin", f"{bench.two}:write")
    roles = bench.alice.worker(bench.uuid).roles
    assert (roles[bench.one], roles[bench.two]) == (Role.ADMIN, Role.WRITE)
    bench.alice.client.remove_worker_roles(bench.uuid, [bench.one, bench.two])


@pytest.mark.parity("S-209")
def test_the_tasks_of_a_group_without_a_role_any_more_are_not_taken(bench: Bench) -> None:
    grants = {bench.one: Role.WRITE, bench.two: Role.WRITE}
    bench.alice.client.update_worker_roles(bench.uuid, grants)
    assert bench.runs(SubmitTaskArgs(command=("true",), group=bench.one))
    bench.manage("remove-roles", bench.one)
    assert bench.one not in bench.alice.worker(bench.uuid).roles
    assert not bench.runs(SubmitTaskArgs(command=("true",), group=bench.one))
    assert bench.runs(SubmitTaskArgs(command=("true",), group=bench.two))
    bench.alice.client.remove_worker_roles(bench.uuid, [bench.two])


@pytest.mark.parity("S-109", "D-056")
def test_roles_that_cannot_be_are_refused_whole_and_named(bench: Bench) -> None:
    before = bench.alice.worker(bench.uuid).roles
    for status, words in (
        (2, (f"{bench.one}:wat",)),
        (2, (f"{bench.one}:write:admin",)),
        (2, (bench.one,)),
        (3, (f"{bench.one}:write", "no-such-group:write")),
    ):
        done = bench.manage("update-roles", *words, status=status)
        assert "wat" in done.err or "write" in done.err or "no-such-group" in done.err, done
    assert bench.alice.worker(bench.uuid).roles == before


def test_a_role_is_granted_only_to_groups_in_which_one_has_write(bench: Bench) -> None:
    foreign = bench.bob.name
    for role in Role:
        with pytest.raises(NotAllowed, match=foreign):
            bench.alice.client.update_worker_roles(bench.uuid, {foreign: role})
    with pytest.raises(NotFound):
        bench.bob.client.update_worker_roles(bench.uuid, {foreign: Role.WRITE})
    assert foreign not in bench.alice.worker(bench.uuid).roles


@pytest.mark.parity("S-202")
def test_a_worker_is_among_what_can_be_managed_with_all_its_verbs(bench: Bench) -> None:
    done = bench.mito("manage", "--help")
    assert done.status == 0
    assert {"worker", "task"} <= {line.split(":")[0].strip() for line in done.text.splitlines()}
    verbs = bench.mito("manage", "worker", "--help").text
    for verb in ("cancel", "update-tags", "update-roles", "remove-roles", "help"):
        assert f" {verb}" in verbs


def test_a_worker_that_is_paused_takes_nothing_until_it_is_resumed(bench: Bench) -> None:
    bench.manage("pause", "--reason", "lunch")
    view = bench.alice.worker(bench.uuid)
    assert (view.state, view.reason) == ("paused", "lunch")
    assert not bench.runs(SubmitTaskArgs(command=("true",)))
    bench.manage("resume")
    assert bench.alice.worker(bench.uuid).state == "normal"
    assert bench.runs(SubmitTaskArgs(command=("true",)))


def test_more_slots_let_more_tasks_run_at_once(bench: Bench, tmp_path: Path) -> None:
    """Three tasks that wait for each other can only end if all three run at once."""
    bench.manage("update-slots", "3")
    assert bench.alice.worker(bench.uuid).slots == 3
    script = f"cd {tmp_path}; touch $0; until [ -e 1 -a -e 2 -a -e 3 ]; do sleep .05; done"
    tasks = [
        bench.alice.client.submit_task(SubmitTaskArgs(command=("sh", "-c", script, str(n))))
        for n in (1, 2, 3)
    ]
    views = bench.alice.client.wait_for_tasks(tasks)
    assert [v.outcome for v in views] == [Outcome.SUCCEEDED] * 3
    bench.manage("update-slots", "1")
    hold = in_shell(f"until [ -e {tmp_path}/go ]; do sleep .05; done")
    tasks = [bench.alice.client.submit_task(hold) for _ in range(2)]

    def running() -> list[bool]:
        views = [bench.alice.client.get_task(task.task) for task in tasks]
        return [view.started_at is not None for view in views]

    soon(lambda: any(running()))
    assert running().count(True) == 1
    (tmp_path / "go").touch()
    bench.alice.client.wait_for_tasks(tasks)


def test_labels_are_replaced_and_the_renamed_tree_does_the_same(bench: Bench) -> None:
    bench.manage("update-labels", "rack1", "blue")
    assert bench.alice.worker(bench.uuid).labels == ("blue", "rack1")
    done = bench.mito("workers", "update-labels", bench.uuid, "rack2", "--json")
    assert done.json == {"worker": bench.uuid, "changed": True}
    assert bench.alice.worker(bench.uuid).labels == ("rack2",)
    again = bench.mito("workers", "update-labels", bench.uuid, "rack2", "--json")
    assert again.json == {"worker": bench.uuid, "changed": False}


@pytest.fixture
def alone(bench: Bench) -> Iterator[Bench]:
    """The bench's own worker takes nothing, so that another one gets the tasks."""
    bench.alice.client.pause_worker(bench.uuid)
    yield bench
    bench.alice.client.resume_worker(bench.uuid)


@pytest.mark.parity("S-203", "V-023", "D-031")
def test_a_cancelled_worker_finishes_its_task_and_its_process_ends(
    platform: Platform, alone: Bench, tmp_path: Path
) -> None:
    bench = alone
    with machine(tmp_path / "graceful") as box:
        _start(platform, bench.alice, box, "-t", "only-this")
        script = f"until [ -e {tmp_path}/go ]; do sleep .05; done"
        task = bench.alice.client.submit_task(in_shell(script, tags=("only-this",)))
        soon(lambda: bench.alice.client.get_task(task.task).started_at)
        done = bench.mito("manage", "worker", box.uuid, "cancel")
        assert (done.status, box.uuid in done.text) == (0, True), done
        assert bench.alice.worker(box.uuid).state == "draining"
        assert not box.process.ended()
        (tmp_path / "go").touch()
        (view,) = bench.alice.client.wait_for_tasks([task])
        assert (view.outcome, view.attempt) == (Outcome.SUCCEEDED, 1)
        assert box.process.wait() == 0
        assert bench.alice.worker(box.uuid).state == "gone"


@pytest.mark.parity("S-204", "V-023")
def test_a_forced_cancel_hands_the_task_back_at_once(
    platform: Platform, alone: Bench, tmp_path: Path
) -> None:
    bench = alone
    with machine(tmp_path / "forced") as box:
        _start(platform, bench.alice, box, "-t", "only-that")
        task = bench.alice.client.submit_task(
            SubmitTaskArgs(command=("sleep", "600"), tags=("only-that",))
        )
        soon(lambda: bench.alice.client.get_task(task.task).started_at)
        done = bench.mito("manage", "worker", box.uuid, "cancel", "-f")
        assert done.status == 0, done
        assert box.process.wait() == 0
        view = bench.alice.client.get_task(task.task)
        assert (view.state, view.losses) == (TaskState.READY, 0)
        bench.alice.client.cancel_task(task.task)
