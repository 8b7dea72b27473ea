"""Output followed while it is written, as a user sees it."""

import asyncio
import base64
import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mitosis import SyncMitoClient
from mitosis.cli.commands import CLIENT
from mitosis.cli.output.schemas import schema_of
from mitosis.client.output_source import NoticeKind, OutputChunk, OutputNotice
from mitosis.config.client import GetTasksArgs, SubmitTaskArgs, WatchArgs
from mitosis.domain.task import Outcome
from mitosis.errors import NotAllowed
from mitosis.testing.waiting import eventually

from .conftest import Done, Person, Platform, ended, in_shell
from .parity.terminals import Terminal

WAITS = "while [ ! -e {0} ]; do sleep 0.02; done"
EURO = "€".encode()


def text_of(events: Sequence[Any], stream: str = "stdout", task: str = "") -> bytes:
    return b"".join(
        event.data
        for event in events
        if isinstance(event, OutputChunk) and event.stream == stream and task in event.task
    )


def bytes_of(line: dict[str, Any]) -> bytes:
    """What a line of JSON stands for."""
    exact = line["base64"]
    return line["text"].encode() if exact is None else base64.b64decode(exact)


def wait_for(path: Path) -> str:
    """A line of shell that waits for a file."""
    return WAITS.format(path)


async def test_output_is_shown_while_the_task_runs_and_its_exit_status_is_the_end(
    admin: SyncMitoClient, platform: Platform, shell: Callable[..., Done], tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = f"echo one; echo bad >&2; {wait_for(go)}; printf 'two'; exit 7"
    task = admin.submit_task(in_shell(script)).task
    running = platform.home.start("client", "-c", platform.notice["http"], "follow", task)
    try:
        await eventually(lambda: running.out == "one\n", seconds=20)
        assert admin.get_task(task).exit is None
        go.touch()
        assert running.wait(20) == 7
        assert (running.out, running.err) == ("one\ntwo", "bad\n")
    finally:
        running.close()
    assert shell("follow", task, "--stderr") == Done(7, b"", "bad\n")


@pytest.mark.usefixtures("shell")
@pytest.mark.parity("F-13")
async def test_a_character_that_is_cut_by_reads_comes_whole_and_bytes_come_exactly(
    admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    """A UTF-8 character lies across two reads, and bytes that are no UTF-8 lie beside it."""
    go, more = tmp_path / "go", tmp_path / "more"
    script = (
        f"printf 'a%.0s' $(seq 65535); printf '€'; printf '\\342\\202'; {wait_for(go)}; "
        f"printf '\\254'; printf '\\377'; {wait_for(more)}"
    )
    task = admin.submit_task(in_shell(script, terminal=True)).task
    client = ("client", "-c", platform.notice["http"])
    raw = platform.home.start(*client, "follow", task)
    lines = platform.home.start(*client, "follow", task, "--json", "--stdout")
    wanted = b"a" * 65535 + EURO + EURO + b"\xff"
    try:
        await eventually(lambda: raw.out.startswith("a" * 65535 + "€"), seconds=20)
        go.touch()
        await eventually(lambda: len(raw.raw_out) == len(wanted), seconds=20)
        more.touch()
        assert (raw.wait(20), lines.wait(20)) == (0, 0)
        assert raw.raw_out == wanted
        said = [json.loads(line) for line in lines.out.splitlines()]
    finally:
        raw.close()
        lines.close()
    (command,) = (one for one in CLIENT if one.path == "follow")
    for line in said:
        Draft202012Validator(schema_of(command)).validate(line)
    output = [line for line in said if line["kind"] == "output"]
    assert b"".join(bytes_of(line) for line in output) == wanted
    assert "".join(line["text"] for line in output) == wanted.decode(errors="replace")
    assert [line["offset"] for line in output] == sorted({line["offset"] for line in output})
    assert (said[-1]["kind"], said[-1]["outcome"], said[-1]["exit_status"]) == (
        "ended", "succeeded", 0,
    )  # fmt: skip


def test_several_tasks_are_followed_from_their_start_with_a_name_on_each_line(
    admin: SyncMitoClient, shell: Callable[..., Done], tmp_path: Path
) -> None:
    """One waits for the other; lines of one that come in parts are put together."""
    first = admin.submit_task(in_shell("printf 'a'; sleep 0.1; echo b; echo c; printf 'd'"))
    second = admin.submit_task(
        in_shell("echo x; echo y >&2; exit 3", watch=WatchArgs(first.task, "TaskCommitted"))
    )
    done = shell("follow", first.task, second.task)
    one, two = (f"[{t.group}#{t.number}] " for t in (first, second))
    assert done.status == 1
    lines = sorted(done.out.decode().splitlines())  # of each in its order; the names are in order
    assert lines == [f"{one}ab", f"{one}c", f"{one}d", f"{two}x"]
    assert done.err == f"{two}y\n"


def test_what_has_ended_shows_what_was_stored_of_it(
    admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    """The whole of a terminal log; of others the last bytes, and how many are missing before."""
    numbers = "".join(f"{n}\n" for n in range(20_000))
    logged, kept, missing, killed = ended(
        admin,
        SubmitTaskArgs(command=("seq", "0", "19999"), terminal=True),
        SubmitTaskArgs(command=("seq", "0", "19999")),
        SubmitTaskArgs(command=("no-such-program",)),
        in_shell("kill -9 $$"),
    )
    assert shell("follow", logged.uuid) == Done(0, numbers.encode(), "")
    assert shell("follow", logged.uuid, "--tail", "2").out == b"19998\n19999\n"
    tail = shell("follow", kept.uuid)
    assert len(tail.out) == 4096
    assert numbers.encode().endswith(tail.out)
    assert f"{len(numbers) - 4096} bytes of stdout were not kept" in tail.err
    done = shell("follow", missing.uuid)
    assert (done.status, done.out) == (127, b"")
    assert "no-such-program" in done.complaint
    assert shell("follow", killed.uuid).status == 137


async def test_a_follower_who_reads_nothing_holds_up_no_task_and_is_told_what_it_missed(
    platform: Platform, tmp_path: Path
) -> None:
    size, kept = 8 * 1024**2, 256 * 1024
    go = tmp_path / "go"
    script = f"echo here; {wait_for(go)}; head -c {size} /dev/zero | tr '\\0' x; echo end"
    async with platform.open_client() as client:
        submitted = await client.submit_task(in_shell(script))
        events = client.follow([submitted], streams=("stdout",))
        seen = []
        async for event in events:
            seen.append(event)
            if not go.exists() and text_of(seen) == b"here\n":
                go.touch()
                (view,) = await client.wait_for_tasks([submitted])
    assert view.exit is not None
    chunks = [event for event in seen if isinstance(event, OutputChunk)]
    told = [
        (chunk.offset - chunk.skipped_bytes, chunk.offset + len(chunk.data)) for chunk in chunks
    ]
    assert [begin for begin, _ in told] == [0, *[end for _, end in told[:-1]]]
    assert told[-1][1] == view.exit.usage.stdout_bytes
    assert b"".join(chunk.data for chunk in chunks).endswith(b"xend\n")
    assert 0 < sum(chunk.skipped_bytes for chunk in chunks) <= size - kept
    assert isinstance(seen[-1], OutputNotice)
    assert seen[-1].kind is NoticeKind.ENDED


async def test_only_the_end_is_shown_if_that_is_wanted_and_then_all_that_comes(
    admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = f"seq 1 500; touch {tmp_path}/there; {wait_for(go)}; seq 501 520"
    async with platform.open_client() as client:
        submitted = await client.submit_task(in_shell(script))
        await eventually((tmp_path / "there").exists, seconds=20)
        seen = []
        async for event in client.follow([submitted], tail_lines=2):
            seen.append(event)
            if isinstance(event, OutputChunk):
                go.touch()
    assert text_of(seen).split() == [b"%d" % n for n in range(499, 521)]
    assert [event.kind for event in seen if isinstance(event, OutputNotice)] == ["begun", "ended"]


def test_a_task_is_submitted_and_followed_in_one(
    admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    done = shell(
        "submit", "--follow", "--", "sh", "-c", "seq 9999; printf '\\377'; echo b >&2; exit 9"
    )
    named, written = done.err.splitlines()
    (task,) = admin.get_tasks(GetTasksArgs(limit=1)).tasks
    numbers = b"".join(b"%d\n" % n for n in range(1, 10_000))
    assert (done.status, done.out, written) == (9, numbers + b"\xff", "b")
    assert named == f"Task {task.uuid} is {task.group}#{task.number}"
    refused = shell("submit", "--follow", "--json", "--", "true")
    assert (refused.status, admin.get_tasks(GetTasksArgs(limit=1)).tasks[0]) == (2, task)


async def test_each_attempt_of_a_task_that_fails_at_once_is_shown_with_how_it_ended(
    platform: Platform, shell: Callable[..., Done], tmp_path: Path
) -> None:
    """It failed before anybody could ask its worker, and what it had written was left out."""
    go = tmp_path / "go"
    script = "echo try $MITO_ATTEMPT; echo bad >&2; test $MITO_ATTEMPT = 2 || exit 4"
    async with platform.open_client() as client:
        gate = await client.submit_task(in_shell(wait_for(go)))
        after = WatchArgs(gate.task, "ExecFinished")
        tasks = [
            await client.submit_task(
                in_shell(script, retries=1, retry_delay="3s", terminal=kept, watch=after)
            )
            for kept in (False, True)
        ]
        seen: dict[str, list[str]] = {task.task: [] for task in tasks}
        async with asyncio.timeout(60):
            async for event in client.follow(tasks):
                told = seen[event.task]
                if isinstance(event, OutputChunk):
                    told.append(event.data.decode())
                    continue
                told.append(event.kind.value)
                if event.former is not None:
                    former = event.former
                    assert (former.attempt, former.reason) == (1, "exit code 4")
                if all(seen.values()):
                    go.touch()  # both are followed
    for told in seen.values():
        parts = [one for one in told if one != "begun"]  # the first one may have been too fast
        assert (parts[0], parts[3], parts[6:]) == ("waits", "attempt_ended", ["ended"])
        assert sorted(parts[1:3]) == ["bad\n", "try 1\n"]
        assert sorted(parts[4:6]) == ["bad\n", "try 2\n"]
    former = shell("follow", tasks[1].task)
    assert (former.status, former.out) == (0, b"try 2\n"), "of one that has ended the last one"


@pytest.mark.usefixtures("shell")
def test_an_interruption_ends_the_following_and_not_the_task(
    admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    submitted = admin.submit_task(in_shell(f"echo on; {wait_for(go)}"))
    running = platform.home.start("client", "-c", platform.notice["http"], "follow", submitted.task)
    try:
        asyncio.run(eventually(lambda: running.out == "on\n", seconds=20))
        assert running.stop(signal.SIGINT, seconds=5) == 130
        assert running.err.splitlines() == [
            f"The task goes on; to end it: mito client manage task {submitted.task} cancel",
            "mito: interrupted",
        ]
    finally:
        running.close()
    go.touch()
    (view,) = admin.wait_for_tasks([submitted])
    assert view.outcome is Outcome.SUCCEEDED


def test_in_the_interactive_mode_an_interruption_ends_the_following_alone(
    admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    """The same connection serves the next line; no task drives the terminal."""
    go = tmp_path / "go"
    submitted = admin.submit_task(in_shell(f"printf 'no \\033[31mred'; {wait_for(go)}"))
    shown = Terminal(
        "-c", platform.notice["http"], "-u", platform.notice["admin_user"], "-i",
        home=tmp_path, MITO_PASSWORD=platform.admin_password,
    )  # fmt: skip
    try:
        shown.ready()
        shown.send(f"follow {submitted.task}\r")
        shown.child.expect_exact("no \\x1b[31mred")
        shown.send("\x03")
        shown.ready()
        assert f"manage task {submitted.task} cancel" in shown.said
        go.touch()
        followed = shown.run(f"follow {submitted.task} --from-start")
        assert "no \\x1b[31mred\n" in followed
        assert f"mito: task {submitted.task}: succeeded, exit status 0\n" in followed
    finally:
        shown.close()


def test_output_is_for_those_who_have_a_role_in_the_group(
    admin: SyncMitoClient, person: Person, platform: Platform
) -> None:
    """An administrator sees the task of another group, but not what it writes just now."""
    theirs = person.client.submit_task(SubmitTaskArgs(command=("true",)))
    with pytest.raises(NotAllowed, match="needs a role in group"):
        list(admin.follow([theirs]))
    person.client.cancel_task(theirs.task)
    (notice,) = person.client.follow([theirs])
    assert (notice.kind, notice.view.outcome) == (NoticeKind.ENDED, Outcome.CANCELLED)
