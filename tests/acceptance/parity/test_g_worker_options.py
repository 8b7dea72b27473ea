"""`mito worker` by its options: log-in, groups with roles, tags, intervals, logs, lifetime."""

import contextlib
import secrets
import signal
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pexpect
import pytest

from mitosis import SyncMitoClient
from mitosis._version import __version__
from mitosis.config.client import SubmitTaskArgs
from mitosis.contract.commands import Submitted
from mitosis.domain.roles import Role
from mitosis.domain.task import Outcome, TaskState
from mitosis.errors import NotAllowed, NotFound

from ..conftest import MITO, Done, Home, Platform, in_shell
from .machines import Account, Machine, machine, soon

ROLES = (Role.WRITE, Role.WRITE, Role.READ, Role.ADMIN)
TAGS = ("gpu", "net")
CLOSED = "http://127.0.0.1:9"  # the port of "discard", which nobody serves


class Lab(NamedTuple):
    """Alice with her groups 1 to 4, and others with a role in one of them.

    `wide` is started with the seed's example of groups and the tags gpu and net; `plain` serves
    group 1 and has no tags.
    """

    alice: Account
    reader: Account
    manager: Account
    stranger: Account
    groups: list[str]
    wide: Machine
    plain: Machine

    def submit(self, group: str, *tags: str, command: tuple[str, ...] = ("true",)) -> Submitted:
        """Submit a task as alice."""
        return self.alice.client.submit_task(
            SubmitTaskArgs(command=command, group=group, tags=tags)
        )

    def taker(self, group: str, *tags: str) -> str | None:
        """Which worker takes a task at once; None: it waits. All are idle."""
        task = self.submit(group, *tags)
        if self.alice.client.get_task(task.task).state is TaskState.READY:
            self.alice.client.cancel_task(task.task)
            return None
        (view,) = self.alice.client.wait_for_tasks([task])
        assert view.outcome is Outcome.SUCCEEDED
        return view.worker


@pytest.fixture(scope="module")
def lab(platform: Platform, admin: SyncMitoClient) -> Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mito-test-")))
        alice, reader, manager, stranger = (Account(platform, admin, folder) for _ in range(4))
        for account in (alice, reader, manager, stranger):
            stack.callback(account.client.close)
        groups = [f"group{n}-{secrets.token_hex(4)}" for n in range(1, 5)]
        for group in groups:
            alice.client.create_group(group)
        alice.client.change_members(groups[2], {reader.name: Role.READ})
        alice.client.change_members(groups[3], {manager.name: Role.ADMIN, reader.name: Role.WRITE})
        wide, plain = (stack.enter_context(machine(folder / n)) for n in ("wide", "plain"))
        config = wide.folder / "slow.toml"
        config.write_text('[worker]\npolling_interval = "1h"\nheartbeat_interval = "1h"\n')
        one, two, three, four = groups
        wide.run_worker(
            "--config", config, "-c", platform.notice["http"], "-u", alice.name,
            "-p", alice.password, "--credential-path", wide.folder / "mine",
            "--polling-interval", "400ms", "--log-path", wide.folder / "exact.log",
            "--groups", f"{one},{two}:write,{three}:read,{four}:admin", "--tags", ",".join(TAGS),
        )  # fmt: skip
        plain.run_worker(
            "-c", platform.notice["http"], "--credential-path", alice.credentials, "-g", one,
            "--file-log", "--retain",
        )  # fmt: skip
        for box in (wide, plain):
            box.registered()
        yield Lab(alice, reader, manager, stranger, groups, wide, plain)


# --- starting -----------------------------------------------------------------------------------


@pytest.mark.parity("S-093", "S-013")
def test_a_worker_prints_its_uuid_and_runs_tasks_to_their_results(lab: Lab) -> None:
    assert lab.plain.process.out == f"{lab.plain.uuid}\n"
    task = lab.submit(lab.groups[0], command=("sh", "-c", "echo done; exit 3"))
    (view,) = lab.alice.client.wait_for_tasks([task])
    assert (view.worker, view.exit and view.exit.number) == (lab.plain.uuid, 3)
    assert view.exit is not None
    assert view.exit.stdout_tail == "done\n"


@pytest.mark.parity("S-094", "S-097")
def test_the_polling_interval_of_the_option_beats_the_file(lab: Lab) -> None:
    seen = set()

    def three() -> bool:
        seen.add(lab.alice.worker(lab.wide.uuid).last_heartbeat_at)
        return len(seen) >= 3

    soon(three)
    first, second = sorted(at for at in seen if at)[:2]
    assert second - first >= timedelta(seconds=0.3)


@pytest.fixture(scope="module")
def failed(
    platform: Platform, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Done]:
    """Workers that cannot start, side by side."""
    here = ("-c", platform.notice["http"])
    name = lab.alice.name
    starts = {
        "file": ("--config", "no-such-file.toml"),
        "password": (*here, "-u", name, "-p", "not the password"),
        "address": ("-c", CLOSED, "-u", name, "-p", "any"),
        "nobody": here,
    }
    home = Home(tmp_path_factory.mktemp("m"))
    ended = home.run_all([("worker", *arguments) for arguments in starts.values()])
    assert {done.out for done in ended} == {b""}, ended
    return dict(zip(starts, ended, strict=True))


@pytest.mark.parity("S-095")
def test_a_named_file_that_is_not_there_is_an_error(failed: dict[str, Done]) -> None:
    assert failed["file"].status == 2
    assert "no-such-file.toml" in failed["file"].complaint


@pytest.mark.parity("S-096")
def test_an_address_where_nobody_answers_is_named(failed: dict[str, Done], lab: Lab) -> None:
    assert failed["address"].status == 6
    again, complaint = failed["address"].err.splitlines()
    assert "trying again for up to 30 s" in again
    assert complaint.startswith("mito: no coordinator answers")
    assert CLOSED.removeprefix("http://") in complaint
    assert lab.alice.worker(lab.plain.uuid).state == "normal"  # at the given address


@pytest.mark.parity("S-101")
def test_a_wrong_password_is_an_error(failed: dict[str, Done]) -> None:
    assert failed["password"].status == 4
    assert "password" in failed["password"].complaint
    assert "not the password" not in failed["password"].err


@pytest.mark.parity("S-086")
def test_without_a_name_and_a_terminal_it_says_how_to_log_in(failed: dict[str, Done]) -> None:
    assert failed["nobody"].status == 4
    assert "mito client auth" in failed["nobody"].complaint


@pytest.mark.parity("S-099")
def test_the_session_is_stored_at_the_given_path(lab: Lab) -> None:
    assert f"{lab.alice.name}:" in (lab.wide.folder / "mine").read_text()
    assert not (lab.wide.folder / ".config").exists()


@pytest.mark.parity("S-100")
def test_the_worker_belongs_to_the_user_of_the_option(lab: Lab) -> None:
    assert lab.alice.worker(lab.wide.uuid).owner == lab.alice.name


@pytest.mark.parity("S-086", "S-087")
def test_a_worker_at_a_terminal_asks_for_what_is_missing(
    platform: Platform, lab: Lab, tmp_path: Path
) -> None:
    home = Home(tmp_path / "m")
    child = pexpect.spawn(
        MITO[0], [*MITO[1:], "worker", "-c", platform.notice["http"]],
        env={**home.environment, "TERM": "dumb"}, cwd=str(home.folder), timeout=60,
        encoding="utf-8",
    )  # fmt: skip
    try:
        child.expect("Username: ")
        child.sendline(lab.stranger.name)
        child.expect("Password of .*: ")
        child.sendline(lab.stranger.password)
        child.expect(r"\n([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\r")
        assert lab.stranger.worker(child.match.group(1)).owner == lab.stranger.name
        child.kill(signal.SIGTERM)
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)


@pytest.mark.parity("S-115")
def test_help_and_version_of_a_worker(tmp_path: Path) -> None:
    shown, version = Home(tmp_path / "m").run_all([("worker", "-h"), ("worker", "-V")])
    assert (shown.status, shown.text.splitlines()[0]) == (0, "Usage: mito worker [OPTIONS]")
    for option in (
        "--config", "--coordinator, -c", "--polling-interval", "--heartbeat-interval",
        "--credential-path", "--user, -u", "--password, -p", "--groups, -g", "--tags, -t",
        "--log-path", "--file-log", "--lifetime",
    ):  # fmt: skip
        assert option in shown.text
    assert (version.status, version.text) == (0, f"mito {__version__}")


# --- groups and their roles ---------------------------------------------------------------------


@pytest.mark.parity("S-102", "S-107")
def test_the_example_of_groups_gives_write_write_read_and_admin(lab: Lab) -> None:
    roles = lab.alice.worker(lab.wide.uuid).roles
    assert [roles[group] for group in lab.groups] == list(ROLES)


@pytest.mark.parity("S-108")
def test_who_starts_a_worker_has_admin_on_it(lab: Lab) -> None:
    for box in (lab.wide, lab.plain):
        assert lab.alice.worker(box.uuid).roles[lab.alice.name] is Role.ADMIN


@pytest.mark.parity("S-103", "S-221")
def test_a_group_without_a_role_has_write_and_its_tasks_run(lab: Lab) -> None:
    assert lab.alice.worker(lab.plain.uuid).roles[lab.groups[0]] is Role.WRITE
    assert lab.taker(lab.groups[0]) == lab.plain.uuid


@pytest.mark.parity("S-104", "S-217")
def test_the_tasks_of_a_group_with_write_run(lab: Lab) -> None:
    assert lab.taker(lab.groups[1], *TAGS) == lab.wide.uuid


@pytest.mark.parity("S-105", "S-218", "D-061")
def test_a_group_with_read_sees_the_worker_and_what_it_does_and_gets_nothing_run(lab: Lab) -> None:
    assert lab.taker(lab.groups[2], *TAGS) is None
    # In group 4 the reader has Write, so look through the eyes of group 3 alone.
    lab.alice.client.change_members(lab.groups[3], removed=[lab.reader.name])
    view = lab.reader.worker(lab.wide.uuid)
    assert (view.state, view.roles) == ("normal", {lab.groups[2]: Role.READ})
    for change in (
        lambda: lab.reader.client.cancel_worker(lab.wide.uuid),
        lambda: lab.reader.client.update_worker_tags(lab.wide.uuid, ["mine"]),
    ):
        with pytest.raises(NotAllowed):
            change()
    lab.alice.client.change_members(lab.groups[3], {lab.reader.name: Role.WRITE})


@pytest.mark.parity("S-219")
def test_an_admin_of_a_group_with_admin_changes_the_worker_and_one_with_write_does_not(
    lab: Lab,
) -> None:
    with pytest.raises(NotAllowed, match="needs Admin"):
        lab.reader.client.update_worker_labels(lab.wide.uuid, ["mine"])
    lab.manager.client.update_worker_labels(lab.wide.uuid, ["managed"])
    assert lab.alice.worker(lab.wide.uuid).labels == ("managed",)
    with pytest.raises(NotFound):
        lab.stranger.client.update_worker_labels(lab.wide.uuid, ["mine"])
    # plain gives group 4 nothing, so its Admin is nobody there.
    with pytest.raises(NotFound):
        lab.manager.client.update_worker_labels(lab.plain.uuid, ["mine"])


@pytest.mark.parity("S-109", "D-056", "D-055")
def test_groups_that_cannot_be_served_are_refused_and_named(
    platform: Platform, lab: Lab, tmp_path: Path
) -> None:
    home = Home(tmp_path / "m")
    common = ("worker", "-c", platform.notice["http"], "--credential-path", lab.alice.credentials)
    own, foreign = lab.groups[0], lab.stranger.name
    given = {
        f"{own}:wat": (2, "wat"),
        f"{own}:read:write": (2, "read:write"),
        f"{own},{own}:read": (2, own),
        f"{own},no-such-group": (3, "no-such-group"),
        foreign: (4, foreign),
        f"{foreign}:read": (4, foreign),
    }
    refused = home.run_all([(*common, "-g", groups) for groups in given])
    for done, (groups, (status, word)) in zip(refused, given.items(), strict=True):
        assert (done.status, done.out) == (status, b""), (groups, done)
        assert word in done.complaint
    own_workers = lab.alice.client.get_workers().workers
    assert {w.uuid for w in own_workers} == {lab.wide.uuid, lab.plain.uuid}


# --- dispatch by group and tag ------------------------------------------------------------------


@pytest.mark.parity("S-006", "S-007")
def test_a_task_runs_on_a_worker_of_its_group_and_waits_without_one(lab: Lab) -> None:
    assert lab.taker(lab.groups[0]) == lab.plain.uuid
    assert lab.taker(lab.groups[1]) is None


@pytest.mark.parity("S-008", "S-110")
def test_the_tags_of_the_option_are_on_the_worker(lab: Lab) -> None:
    assert lab.alice.worker(lab.wide.uuid).tags == TAGS
    assert lab.alice.worker(lab.plain.uuid).tags == ()


@pytest.mark.parity("S-009")
def test_only_group_and_tags_together_let_a_task_run(lab: Lab) -> None:
    of_group, other = lab.groups[1], lab.stranger.name
    assert lab.taker(of_group, *TAGS) == lab.wide.uuid
    assert lab.taker(of_group, "gpu") is None
    assert lab.taker(lab.groups[2], *TAGS) is None
    assert lab.taker(lab.groups[2], "gpu") is None
    assert other not in lab.alice.worker(lab.wide.uuid).roles


@pytest.mark.parity("S-111", "D-001")
def test_a_worker_takes_a_task_when_its_tags_are_empty_or_among_those_of_the_task(
    lab: Lab,
) -> None:
    for of_worker, of_task, runs in (
        ([], (), True),
        ([], ("a",), True),
        (["a"], (), False),
        (["a"], ("a",), True),
        (["a"], ("a", "b"), True),
        (["a", "b"], ("a",), False),
    ):
        lab.alice.client.update_worker_tags(lab.plain.uuid, of_worker)
        taken = lab.taker(lab.groups[0], *of_task)
        assert taken == (lab.plain.uuid if runs else None), (of_worker, of_task)
    lab.alice.client.update_worker_tags(lab.plain.uuid, [])


@pytest.mark.parity("D-024")
def test_an_idle_worker_starts_a_task_long_before_it_would_ask(lab: Lab) -> None:
    task = lab.submit(lab.groups[0])
    (view,) = lab.alice.client.wait_for_tasks([task])
    assert view.started_at is not None
    assert view.started_at - view.created_at < timedelta(seconds=5)  # it asks after minutes


# --- logs and the end ---------------------------------------------------------------------------


@pytest.mark.parity("S-112")
def test_the_log_is_written_to_the_exact_path(lab: Lab) -> None:
    soon((lab.wide.folder / "exact.log").exists)
    assert not list(lab.wide.folder.glob(".cache/mitosis/worker/*.log"))


@pytest.mark.parity("S-113", "V-034")
def test_the_flag_gives_each_worker_its_own_log(lab: Lab) -> None:
    log = lab.plain.folder / ".cache" / "mitosis" / "worker" / f"{lab.plain.uuid}.log"
    soon(log.exists)


@pytest.mark.parity("S-114", "D-031")
def test_at_the_end_of_its_lifetime_a_worker_finishes_what_it_runs_and_takes_nothing_new(
    platform: Platform, lab: Lab, tmp_path: Path
) -> None:
    lab.alice.client.pause_worker(lab.plain.uuid)
    with machine(tmp_path / "m") as box:
        box.run_worker(
            "-c", platform.notice["http"], "--credential-path", lab.alice.credentials,
            "--lifetime", "3s",
        )  # fmt: skip
        box.registered()
        task = lab.alice.client.submit_task(
            in_shell(f"until [ -e {tmp_path}/go ]; do sleep .05; done")
        )
        soon(lambda: lab.alice.client.get_task(task.task).started_at)
        soon(lambda: "its lifetime is over" in box.process.err)
        assert not box.process.ended()
        (tmp_path / "go").touch()
        (view,) = lab.alice.client.wait_for_tasks([task])
        assert (view.outcome, view.attempt, view.worker) == (Outcome.SUCCEEDED, 1, box.uuid)
        assert box.process.wait(20) == 0
    lab.alice.client.resume_worker(lab.plain.uuid)


@pytest.mark.parity("S-012")
def test_the_task_of_a_worker_that_is_killed_is_run_by_another_one(
    platform: Platform, lab: Lab, tmp_path: Path
) -> None:
    lab.alice.client.pause_worker(lab.plain.uuid)
    with machine(tmp_path / "m") as box:
        box.run_worker(
            "-c", platform.notice["http"], "--credential-path", lab.alice.credentials
        )  # fmt: skip
        box.registered()
        script = f"[ -e {tmp_path}/again ] || {{ touch {tmp_path}/again; sleep 600; }}"
        task = lab.alice.client.submit_task(in_shell(script))
        soon((tmp_path / "again").exists)
        box.process.stop(signal.SIGKILL)
        lab.alice.client.resume_worker(lab.plain.uuid)
        (view,) = lab.alice.client.wait_for_tasks([task])
        assert (view.outcome, view.attempt, view.losses) == (Outcome.SUCCEEDED, 2, 1)
        assert view.worker == lab.plain.uuid


@pytest.mark.parity("S-106")
def test_an_admin_of_a_group_with_admin_can_stop_the_worker(lab: Lab) -> None:
    """Last: it ends `wide`."""
    lab.manager.client.cancel_worker(lab.wide.uuid)
    assert lab.wide.process.wait(20) == 0
    assert lab.alice.worker(lab.wide.uuid).state == "gone"
