"""Watching states as they change: each change once, in order, whatever happens meanwhile."""

import asyncio
import json
import logging
import os
import signal
import stat
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mitosis import MitoClient, SyncMitoClient
from mitosis.cli.commands import CLIENT
from mitosis.cli.output.schemas import schema_of
from mitosis.client.task_changes import TaskChange
from mitosis.config.client import GetEventsArgs, SubmitTaskArgs, WatchTasksArgs
from mitosis.domain.task import TaskState
from mitosis.errors import InvalidInput
from mitosis.testing.waiting import eventually

from .conftest import MITO, Done, Person, Platform, ended, in_shell
from .test_following import wait_for

log = logging.getLogger(__name__)
WATCH = next(one for one in CLIENT if one.path == "watch")


def told(change: TaskChange) -> str:
    return str(change.execution_state or change.state)


@pytest.mark.parity("W-01")
def test_all_that_happened_to_tasks_since_a_position_is_shown_and_the_end_of_the_last_is_the_end(
    admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    before = admin.get_events(GetEventsArgs(newest=True, limit=1)).position
    failed, fine = ended(admin, in_shell("exit 3"), in_shell("true"))
    done = shell("watch", failed.uuid, fine.uuid, "--since", str(before), "--json")
    assert done.status == 0, done.err
    lines = [json.loads(line) for line in done.text.splitlines()]
    for line in lines:
        Draft202012Validator(schema_of(WATCH)).validate(line)
    of_failed = [line for line in lines if line["task"] == failed.uuid]
    said = [line["execution_state"] or line["state"] for line in of_failed]
    assert said[0] == "pending"
    assert said[-2:] == ["TaskCommitted", "finished"]
    assert [s for s in said if s in {"ready", "running"}] == ["ready", "running"]
    assert {"FetchResource", "ExecSpawned", "ExecFinished"} <= set(said)
    assert (of_failed[-1]["outcome"], of_failed[-1]["number"]) == ("failed", failed.number)
    assert {line["position"] > before for line in lines} == {True}
    # The same by a time and a filter: only its end.
    begun = admin.get_task(failed.uuid).created_at.isoformat()
    ends = shell("watch", failed.uuid, "--since", begun, "--outcome", "failed")
    assert ends.text.splitlines() == [
        f"{_time(of_failed[-1]['time'])} {failed.group}#{failed.number} {failed.uuid} finished "
        f"(failed): {failed.reason}"
    ]


def test_a_named_task_is_shown_as_it_is_and_one_that_has_ended_ends_the_watch(
    admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    (view,) = ended(admin, in_shell("true"))
    (change,) = admin.watch_changes(WatchTasksArgs(tasks=(view.uuid,)))
    assert (change.position, change.state, change.outcome) == (0, view.state, view.outcome)
    last = view.updated_at.isoformat()
    here = admin.get_events(GetEventsArgs(newest=True, limit=1)).position
    assert list(admin.watch_changes(WatchTasksArgs(tasks=(view.uuid,), after=here))) == []
    with pytest.raises(InvalidInput, match="is still to come: the newest one is"):
        list(admin.watch_changes(WatchTasksArgs(after=10**9)))
    ahead = shell("watch", view.uuid, "--since", str(10**9))
    assert (ahead.status, "is still to come" in ahead.complaint) == (1, True)
    assert shell("watch", view.uuid, "--since", "soon").status == 2
    assert shell("watch", view.uuid, "-l", "x").status == 1
    assert shell("watch", "123e4567-e89b-82d3-a456-426614174000", "--since", last).status == 3


async def test_changes_are_shown_as_they_come_and_filters_follow_what_is_changed(
    admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    """A task that was there before gets the label; another one never has it."""
    go = tmp_path / "go"
    label = "watched-later"
    start = admin.get_events(GetEventsArgs(newest=True, limit=1)).position
    async with MitoClient(platform.config()) as client:
        seen: list[TaskChange] = []

        async def watch() -> None:
            wanted = WatchTasksArgs(labels=(label,), after=start)
            async with aclosing(client.watch_changes(wanted)) as changes:
                async for change in changes:
                    seen.extend([change])  # at once: the test looks at it meanwhile

        before = admin.submit_task(in_shell(wait_for(go))).task
        watching = asyncio.create_task(watch())
        try:
            mine = admin.submit_task(SubmitTaskArgs(command=("true",), labels=(label,)))
            admin.submit_task(SubmitTaskArgs(command=("true",)))
            await eventually(lambda: any(c.state.terminal for c in seen))
            admin.update_task_labels(before, [label])
            go.touch()
            await eventually(lambda: any(c.task == before and c.state.terminal for c in seen))
        finally:
            watching.cancel()
    assert {change.task for change in seen} == {mine.task, before}
    assert [told(c) for c in seen if c.task == mine.task][:3] == ["pending", "ready", "running"]
    of_before = {told(c) for c in seen if c.task == before}
    assert "finished" in of_before
    assert "pending" not in of_before


async def test_any_nats_client_of_a_user_can_listen_as_the_documentation_says(
    person: Person, platform: Platform, tmp_path: Path
) -> None:
    """The program of docs/events.md; its secret is in a file of its owner alone."""
    context = tmp_path / "nats" / "context" / "mito.json"
    done = person.shell("auth", "--nats-context", context)
    assert (done.status, done.text) == (0, f"Logged in as {person.name}")
    assert stat.S_IMODE(context.stat().st_mode) == 0o600
    token = json.loads(context.read_text())["token"]
    assert token not in done.out.decode() + done.err
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    program = tmp_path / "listen.py"
    program.write_text(text.partition("```python\n")[2].partition("```")[0])
    listening = await asyncio.create_subprocess_exec(
        sys.executable, str(program), stdout=asyncio.subprocess.PIPE,
        env={
            **platform.home.environment, "MITO_CONTEXT_FILE": str(context),
            "MITO_GROUP": person.name,
        },
    )  # fmt: skip
    assert listening.stdout is not None
    try:
        assert await asyncio.wait_for(listening.stdout.readline(), 30) == b"listening\n"
        submitted = await asyncio.to_thread(
            person.client.submit_task, SubmitTaskArgs(command=("true",))
        )
        line = (await asyncio.wait_for(listening.stdout.readline(), 30)).decode()
    finally:
        listening.kill()
        await listening.wait()
    (commit,) = await asyncio.to_thread(
        lambda: person.client.get_events(GetEventsArgs(kind="task", name=submitted.task)).commits
    )
    assert line.split()[:2] == [str(commit.position), f"user:{person.name}"]
    assert "task.submitted@1" in line


def test_a_group_is_watched_by_those_who_may_read_it(person: Person, admin: SyncMitoClient) -> None:
    name = admin.whoami().username
    assert person.shell("watch", "-g", name).status in {3, 4}


class Watcher:
    """A `mito client watch --json` of its own process, and what it has shown."""

    def __init__(self, process: asyncio.subprocess.Process, path: Path) -> None:
        self._process, self._path = process, path

    @property
    def lines(self) -> list[bytes]:
        """All changes so far, each as it was printed."""
        text = self._path.read_bytes()
        assert self._process.returncode in {None, 130}, text[-1_000:]
        whole = text[: text.rfind(b"\n") + 1].splitlines()
        return [line for line in whole if not line.startswith(b'{"error"')]

    @property
    def ends(self) -> int:
        """How many tasks it has seen end."""
        return sum(b'"state":"finished","execution_state":null' in line for line in self.lines)

    @property
    def used(self) -> str:
        """What it cost until now."""
        process = Path(f"/proc/{self._process.pid}")
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        peak = (process / "status").read_text().partition("VmHWM:")[2].split()[0]
        return f"{seconds:.1f} s of CPU, {int(peak) // 1024} MiB at most"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)


@asynccontextmanager
async def watcher(
    platform: Platform, command: Sequence[str], path: Path
) -> AsyncGenerator[Watcher, None]:
    """Start one, and interrupt it in the end."""
    with path.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *MITO, *command, stdout=out, env=platform.home.environment
        )
    try:
        yield Watcher(process, path)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
        assert await process.wait() == 130


async def have_ended(client: MitoClient, after: int, count: int) -> None:
    """Wait until so many tasks have ended."""
    wanted = GetEventsArgs(group=client.session.user, events=("task.committed",), after=after)
    async with aclosing(client.watch_events(wanted)) as events:
        number = 0
        async for _ in events:
            number += 1
            if number == count:
                return


@pytest.mark.parity("W-01")
@pytest.mark.timeout(900)  # at full size
async def test_each_change_of_many_tasks_is_seen_once_although_services_restart(
    make_platform: Callable[..., Platform], scaled: Callable[[int, int], int], tmp_path: Path
) -> None:
    """The coordinator is killed, and then NATS; one watcher sees it, and one sleeps meanwhile."""
    many = scaled(400, 10_000)
    platform = await make_platform(workers=2, slots=8).start()
    async with MitoClient(platform.config()) as client:
        group = client.session.user
        assert platform.client("auth", group, platform.admin_password).status == 0
        start = (await client.get_events(GetEventsArgs(newest=True, limit=1))).position
        command = ("client", "-c", platform.notice["http"], "watch", "--json", "-l", "many",
                   "--since", str(start))  # fmt: skip
        async with (
            watcher(platform, command, tmp_path / "awake") as awake,
            watcher(platform, command, tmp_path / "asleep") as asleep,
        ):
            tasks = [SubmitTaskArgs(command=("true",), labels=("many",)) for _ in range(many)]
            begun = asyncio.get_running_loop().time()
            submitted = await client.submit_many(tasks)
            await eventually(lambda: awake.lines and asleep.lines, seconds=60)
            await have_ended(client, start, many // 4)
            os.kill(platform.child("mitosis coordinator"), signal.SIGKILL)
            asleep.send(signal.SIGSTOP)
            await have_ended(client, start, many // 2)
            os.kill(platform.child("nats.conf"), signal.SIGKILL)
            views = await client.wait_for_tasks(submitted)
            took = asyncio.get_running_loop().time() - begun
            asleep.send(signal.SIGCONT)
            await eventually(lambda: awake.ends == asleep.ends == many, seconds=60)
            log.warning("%s tasks in %.1f s; the watcher: %s", many, took, awake.used)
        assert asleep.lines == awake.lines
        seen = [json.loads(line) for line in awake.lines]
        assert {view.state for view in views} == {TaskState.FINISHED}
        keys = [
            (c["position"], c["task"], c["state"], c["execution_state"], c["attempt"]) for c in seen
        ]
        assert max(Counter(keys).values()) == 1
        assert [key[0] for key in keys] == sorted(key[0] for key in keys)
        # What was stored, read afterwards and counted in another way.
        stored: Counter[str] = Counter()
        wanted = GetEventsArgs(kind="task", group=group, after=start)
        async for commit in client.each_event(wanted):
            stored.update(event.event.partition("@")[0] for event in commit.events)
        shown = Counter(c["state"] for c in seen if c["execution_state"] is None)
        assert shown["pending"] == stored["task.submitted"] == many
        assert shown["finished"] == stored["task.committed"] == many
        assert shown["running"] == stored["task.assigned"]
        assert shown["ready"] == stored["task.ready"] + stored["task.requeued"]


def _time(text: str) -> str:
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
