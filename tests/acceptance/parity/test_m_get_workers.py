"""`get worker` and `get workers`: each filter and each field, on real workers."""

import contextlib
import itertools
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import GetWorkersArgs, SubmitTaskArgs
from mitosis.errors import NotAllowed, NotFound

from ..conftest import Done, Platform, side_by_side
from .machines import Account, Link, Machine, machine, soon


class Fleet(NamedTuple):
    """Two workers of alice: `wide` (Write for her group lab) and `shy` (Read, over `link`)."""

    alice: Account
    stranger: Account
    lab: str
    wide: Machine
    shy: Machine
    mito: Callable[..., Done]
    link: Link

    def listed(self, *filters: Sequence[str]) -> list[list[str]]:
        """What `get workers` prints with each set of filters: one UUID a line."""
        ended = side_by_side(lambda words: self.mito("get", "workers", *words), list(filters))
        assert {done.status for done in ended} == {0}, ended
        return [done.text.splitlines() for done in ended]


@pytest.fixture(scope="module")
def fleet(platform: Platform, admin: SyncMitoClient) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mito-test-")))
        alice, stranger = (Account(platform, admin, folder) for _ in range(2))
        for account in (alice, stranger):
            stack.callback(account.client.close)
        lab = f"lab-{secrets.token_hex(4)}"
        alice.client.create_group(lab)
        wide, shy = (stack.enter_context(machine(folder / name)) for name in ("wide", "shy"))
        link = Link(platform.notice["nats"])
        stack.callback(link.close)
        with_password = {"MITO_PASSWORD": alice.password}
        wide.run_worker(
            "-c", platform.notice["http"], "-u", alice.name, "-g", f"{lab}:write",
            "-t", "gpu,net", "-l", "rack1,a_b", "--heartbeat-interval", "500ms", **with_password,
        )  # fmt: skip
        wide.registered()
        shy.run_worker(
            "-c", link.address, "-u", alice.name, "-g", f"{lab}:read", "-t", "gpu", "-l", "rack2",
            **with_password,
        )  # fmt: skip
        shy.registered()

        def mito(*arguments: str | Path) -> Done:
            return platform.client("--credential-path", alice.credentials, *arguments)

        yield Fleet(alice, stranger, lab, wide, shy, mito, link)


@pytest.mark.parity("S-186", "V-043")
def test_one_worker_is_shown_with_all_that_is_known_of_it(fleet: Fleet) -> None:
    task = fleet.alice.client.submit_task(
        SubmitTaskArgs(command=("sleep", "600"), tags=("gpu", "net"), group=fleet.lab)
    )
    soon(lambda: fleet.alice.client.get_task(task.task).worker)
    text, data = (fleet.mito("get", "worker", fleet.wide.uuid, *more) for more in ([], ["--json"]))
    fleet.alice.client.cancel_task(task.task)
    view = data.json
    assert view["uuid"] == fleet.wide.uuid
    assert (view["tags"], view["labels"]) == (["gpu", "net"], ["a_b", "rack1"])
    assert view["roles"] == {fleet.lab: "write", fleet.alice.name: "admin"}
    assert (view["owner"], view["state"]) == (fleet.alice.name, "normal")
    assert view["tasks"] == [task.task]
    heard = datetime.fromisoformat(view["last_heartbeat_at"])
    assert timedelta(0) < datetime.now(UTC) - heard < timedelta(seconds=30)
    lines = dict(line.split(": ", 1) for line in text.text.splitlines() if ": " in line)
    assert lines["Worker UUID"] == fleet.wide.uuid
    assert lines["Tags"] == "gpu, net"
    assert lines["State"] == "normal"
    groups = {fleet.lab: "Write", fleet.alice.name: "Admin"}
    assert lines["Accessible Groups"] == ", ".join(f"{g} = {groups[g]}" for g in sorted(groups))
    assert f"Created by {fleet.alice.name}" in text.text.splitlines()
    assert "Updated: " in lines["Created"]
    assert lines["Last Heartbeat"].startswith("20")
    assert lines["Assigned Task"] == task.task
    shy = fleet.mito("get", "worker", fleet.shy.uuid)
    assert "Assigned Task: None" in shy.text.splitlines()


@pytest.mark.parity("S-187", "V-018")
def test_workers_of_a_group_are_listed_the_own_group_unless_another_is_named(fleet: Fleet) -> None:
    both = [fleet.wide.uuid, fleet.shy.uuid]
    assert fleet.listed(
        [], ["-g", fleet.lab], ["--group", fleet.lab, "--limit", "1"],
        ["--limit", "1", "--offset", "1"],
    ) == [both, both, both[1:], both[:1]]  # fmt: skip
    with pytest.raises(NotAllowed):
        fleet.stranger.client.get_workers(GetWorkersArgs(group=fleet.lab))
    with pytest.raises(NotFound):
        fleet.alice.client.get_workers(GetWorkersArgs(group="no-such-group"))


@pytest.mark.parity("V-019")
def test_workers_are_filtered_by_the_role_of_the_group_on_them(fleet: Fleet) -> None:
    wide, shy, of_lab = fleet.wide.uuid, fleet.shy.uuid, ["-g", fleet.lab]
    assert fleet.listed(
        [*of_lab, "-r", "write"], [*of_lab, "--role", "read"], [*of_lab, "-r", "read,write"],
        [*of_lab, "-r", "admin"],
    ) == [[wide], [shy], [wide, shy], []]  # fmt: skip
    wrong = fleet.mito("get", "workers", "-r", "owner")
    assert (wrong.status, "owner" in wrong.err) == (2, True), wrong


@pytest.mark.parity("V-020")
def test_workers_are_filtered_by_tags_which_must_all_be_there(fleet: Fleet) -> None:
    wide, shy = fleet.wide.uuid, fleet.shy.uuid
    assert fleet.listed(["-t", "gpu"], ["--tags", "gpu,net"], ["-t", "gpu,arm"]) == [
        [wide, shy], [wide], [],
    ]  # fmt: skip


def test_workers_are_filtered_by_labels_which_are_no_patterns(fleet: Fleet) -> None:
    wide, shy = fleet.wide.uuid, fleet.shy.uuid
    assert fleet.listed(["-l", "rack2"], ["-l", "rack1,a_b"], ["-l", "axb"]) == [[shy], [wide], []]


@pytest.mark.parity("V-021")
def test_workers_are_filtered_by_who_started_them(fleet: Fleet) -> None:
    assert fleet.listed(["--creator", fleet.alice.name], ["--creator", fleet.stranger.name]) == [
        [fleet.wide.uuid, fleet.shy.uuid], [],
    ]  # fmt: skip


@pytest.mark.parity("V-022", "V-044")
def test_without_v_there_is_one_uuid_a_line_and_with_it_a_block_for_each(fleet: Fleet) -> None:
    short, long = (fleet.mito("get", "workers", "-g", fleet.lab, *v) for v in ([], ["-v"]))
    assert short.text.splitlines() == [fleet.wide.uuid, fleet.shy.uuid]
    lines = long.text.splitlines()
    assert [line for line in lines if line.startswith("Worker UUID: ")] == [
        f"Worker UUID: {fleet.wide.uuid}", f"Worker UUID: {fleet.shy.uuid}",
    ]  # fmt: skip
    assert lines.count(f"Created by {fleet.alice.name}") == 2
    queried = [line for line in lines if line.startswith("Queried Group: ")]
    assert queried == [f"Queried Group: {fleet.lab} = {r}" for r in ("Write", "Read")]


@pytest.mark.parity("S-083", "S-098")
def test_the_last_heartbeat_advances_by_the_interval(fleet: Fleet) -> None:
    """`wide` was started with 500 ms; `shy` with the default of minutes stays where it was."""
    first = {m.uuid: fleet.alice.worker(m.uuid).last_heartbeat_at for m in (fleet.wide, fleet.shy)}

    def beats() -> set[datetime | None]:
        seen.add(fleet.alice.worker(fleet.wide.uuid).last_heartbeat_at)
        return seen if len(seen) >= 4 else set()

    seen = {first[fleet.wide.uuid]}
    times = sorted(at for at in soon(beats) if at)
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    assert all(gap >= 0.4 for gap in gaps), gaps
    assert fleet.alice.worker(fleet.shy.uuid).last_heartbeat_at == first[fleet.shy.uuid]


@pytest.mark.parity("D-059")
def test_who_has_no_role_on_a_worker_does_not_see_that_it_exists(fleet: Fleet) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    messages = []
    for uuid in (fleet.wide.uuid, unknown):
        with pytest.raises(NotFound) as refusal:
            fleet.stranger.worker(uuid)
        messages.append(str(refusal.value).replace(uuid, "UUID"))
    assert messages[0] == messages[1]


def test_a_worker_whose_connection_is_lost_is_shown_as_unreachable(fleet: Fleet) -> None:
    fleet.link.cut()
    try:
        soon(lambda: fleet.alice.worker(fleet.shy.uuid).state == "unreachable")
        assert "State: unreachable" in fleet.mito("get", "worker", fleet.shy.uuid).text
    finally:
        fleet.link.join()
    soon(lambda: fleet.alice.worker(fleet.shy.uuid).state == "normal")
