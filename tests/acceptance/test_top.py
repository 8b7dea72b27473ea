"""`mito client top`: on a terminal, and one frame of it as text and as data."""

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mitosis import SyncMitoClient
from mitosis.cli.commands import CLIENT
from mitosis.cli.output.schemas import schema_of
from mitosis.config.client import SubmitTaskArgs

from .conftest import Done, Person, Platform, ended, in_shell
from .parity.terminals import Terminal
from .test_following import wait_for

TOP = next(one for one in CLIENT if one.path == "top")


def test_one_frame_tells_of_queues_workers_rates_and_failures(
    admin: SyncMitoClient, shell: Callable[..., Done], tmp_path: Path
) -> None:
    go = tmp_path / "go"
    runs = admin.submit_task(in_shell(wait_for(go)))
    (failed,) = ended(admin, in_shell("echo first >&2; echo last words >&2; exit 3"))
    data = shell("top", "--json").json
    text = shell("top", "--once", "-g", failed.group)
    go.touch()
    Draft202012Validator(schema_of(TOP)).validate(data)
    (queue,) = [one for one in data["groups"] if one["group"] == failed.group]
    assert queue["running"] >= 1
    assert data["last_minute"]["ended"] >= data["last_minute"]["failed"] >= 1
    assert data["last_minute"]["submitted"] >= 2
    (worker,) = [w for w in data["workers"] if any(t["task"] == runs.task for t in w["tasks"])]
    assert (worker["state"], worker["slots"]) == ("normal", 2)
    (last,) = [one for one in data["failures"] if one["task"] == failed.uuid]
    assert (last["outcome"], last["last_line"]) == ("failed", "last words")
    assert text.status == 0
    rows = [line.split() for line in text.text.splitlines()]
    assert ["FAILED", "WHEN", "OUTCOME", "REASON", "LAST", "LINE"] in rows
    (row,) = [r for r in rows if r[:1] == [f"{failed.group}#{failed.number}"]]
    assert row[-2:] == ["last", "words"]
    assert f"{runs.group}#{runs.number}" in text.text
    assert all(line == line.rstrip() for line in text.text.splitlines())


def test_without_a_terminal_it_says_what_to_do_and_it_shows_only_own_groups(
    person: Person, admin: SyncMitoClient
) -> None:
    refused = person.shell("top")
    assert (refused.status, refused.out) == (2, b"")
    assert "--once" in refused.complaint
    others = person.shell("top", "--once", "-g", group := admin.whoami().username)
    assert (others.status, f"no role in group {group!r}" in others.complaint) == (4, True)
    waiting = person.client.submit_task(SubmitTaskArgs(command=("true",)))
    overview = person.client.get_overview()
    assert [(one.group, one.ready) for one in overview.groups] == [(person.name, 1)]
    assert (overview.user, overview.workers, overview.failures) == (person.name, [], [])
    person.client.cancel_task(waiting.task)


@pytest.mark.parametrize(("keys", "status"), [("q", 0), ("\x03", 130)])
def test_on_a_terminal_it_keeps_up_to_date_until_a_key_ends_it(
    keys: str, status: int, admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    """It is drawn anew in another size, and the terminal is as it was before."""
    shown = Terminal(
        "-c", platform.notice["http"], "-u", platform.notice["admin_user"], "top",
        home=tmp_path, MITO_PASSWORD=platform.admin_password,
    )  # fmt: skip
    try:
        shown.child.expect_exact("\x1b[?1049h")
        shown.child.expect_exact("RUNS")
        assert not shown.echoes
        (failed,) = ended(admin, in_shell("echo of top >&2; exit 9"))
        shown.child.expect_exact(f"{failed.group}#{failed.number}")
        shown.child.expect_exact("of top")
        shown.child.setwinsize(20, 60)
        shown.child.expect_exact("…")  # the title does not fit any more
        shown.send(keys)
        shown.child.expect_exact("\x1b[?1049l")
        assert shown.ends() == status
    finally:
        shown.close()
