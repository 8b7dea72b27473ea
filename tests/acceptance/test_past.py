"""The past, as its users ask for it: what was recorded then is what `--as-of` answers later."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from mitosis import MitoClient, Role, SyncMitoClient
from mitosis.config.client import (
    CreateUserArgs,
    GetAttachmentsArgs,
    GetEventsArgs,
    GetTasksArgs,
    GetWorkersArgs,
    SubmitTaskArgs,
)
from mitosis.domain.task import Outcome
from mitosis.errors import WrongState

from .conftest import Done, Person, Platform, in_shell

MOMENTS = 50
TRIES = 200


class Recorded(NamedTuple):
    """What was answered at a position, and when that was."""

    position: int
    answers: list[Any]
    asked: dict[str, Any]


class Campaign:
    """A user with a group of his own, who does one thing after the other."""

    def __init__(self, client: MitoClient, admin: MitoClient, group: str, folder: Path) -> None:
        self.client, self.admin, self.group, self._folder = client, admin, group, folder
        self.pick = random.Random(3)  # noqa: S311  the same campaign in every run
        self.tasks: list[str] = []
        self.keys: list[str] = []

    async def act(self) -> None:
        """Do something; what cannot be done just now is refused and changes nothing."""
        does = (self.submit, self.submit, self._label, self._cancel, self._upload, self._worker)
        try:
            await self.pick.choice((*does, self._member))()
        except WrongState:
            return

    async def submit(self) -> None:
        script = self.pick.choice(("true", "sleep 0.3", "exit 3", "echo x > $MITO_RESULT_DIR/x"))
        args = in_shell(script, group=self.group, labels=(f"run-{len(self.tasks) % 3}",))
        self.tasks.append((await self.client.submit_task(args)).task)

    async def _label(self) -> None:
        await self.client.update_task_labels(self.pick.choice(self.tasks), ("again",))

    async def _cancel(self) -> None:
        await self.client.cancel_task(self.pick.choice(self.tasks[-3:]), "not needed")

    async def _upload(self) -> None:
        if self.keys and self.pick.random() < 0.4:
            await self.client.delete_attachment(self.group, self.keys.pop())
            return
        file = self._folder / "file"
        file.write_bytes(b"x" * self.pick.randrange(1, 999))
        key = f"in/{self.pick.randrange(5)}"
        await self.client.upload_attachment(file, key, self.group)
        self.keys = [*(one for one in self.keys if one != key), key]

    async def _worker(self) -> None:
        page = await self.admin.get_workers(GetWorkersArgs(group=self.group))
        worker = self.pick.choice(page.workers).uuid
        await self.admin.update_worker_labels(worker, (f"rack-{self.pick.randrange(4)}",))

    async def _member(self) -> None:
        role = self.pick.choice((Role.WRITE, Role.ADMIN))  # less ends what its workers do here
        await self.client.change_members(self.group, {self.admin.session.user: role})

    async def ask(self, asked: dict[str, Any], as_of: Any = None) -> list[Any]:
        """Ask everything, of now or of the past."""
        c, group = self.client, self.group
        answers: list[Any] = [
            await c.get_task(asked["task"], as_of),
            await c.get_task("last", as_of),
            await c.get_tasks(GetTasksArgs(group=group, as_of=as_of, **asked["filters"])),
            await c.get_worker(asked["worker"], as_of),
            await c.get_workers(GetWorkersArgs(group=group, as_of=as_of)),
            await c.get_group(group, as_of),
            await c.get_groups(as_of),
            await c.get_attachments(GetAttachmentsArgs(group=group, as_of=as_of)),
        ]
        for view in (answers[3], *answers[4].workers):
            view.last_heartbeat_at = None  # no event, so no past has it
        return answers

    async def position(self) -> int:
        """The newest position that the reads include."""
        wanted = GetEventsArgs(group=self.group, newest=True, limit=1)
        return (await self.client.get_events(wanted)).position

    async def record(self, worker: str) -> Recorded:
        """Ask until nothing has been stored from the first question to the last answer."""
        filters: tuple[dict[str, Any], ...] = (
            {}, {"states": ("running",)}, {"outcomes": (Outcome.FAILED,)}, {"labels": ("again",)},
            {"limit": 3, "offset": 2}, {"count_only": True},
        )  # fmt: skip
        asked = {
            "task": self.pick.choice(self.tasks), "worker": worker,
            "filters": self.pick.choice(filters),
        }  # fmt: skip
        for _ in range(TRIES):
            before = await self.position()
            answers = await self.ask(asked)
            if await self.position() == before:
                return Recorded(before, answers, asked)
        raise AssertionError("something was stored all the time")


@pytest.mark.parity("W-02")
async def test_the_past_answers_what_was_recorded_at_fifty_moments(
    platform: Platform, tmp_path: Path
) -> None:
    async with MitoClient(platform.config()) as admin:
        password = "long enough for everybody"
        await admin.create_user(CreateUserArgs(username="historian", password=password))
        # What another test left behind is unreachable, which is no event: no past has it.
        before = [one for one in (await admin.get_workers()).workers if one.state == "normal"]
        workers = [one.uuid for one in before]
        async with MitoClient(platform.config("historian", password)) as client:
            await client.change_members("historian", {platform.notice["admin_user"]: Role.WRITE})
            for one in workers:
                await admin.update_worker_roles(one, {"historian": Role.WRITE})
            campaign = Campaign(client, admin, "historian", tmp_path)
            try:
                await recorded_and_asked_again(campaign, workers)
            finally:
                for view in before:
                    await admin.update_worker_labels(view.uuid, view.labels)
                    await admin.remove_worker_roles(view.uuid, ["historian"])


async def recorded_and_asked_again(campaign: Campaign, workers: list[str]) -> None:
    await campaign.submit()
    recorded = []
    for _ in range(MOMENTS):
        for _ in range(campaign.pick.randrange(1, 4)):
            await campaign.act()
        recorded.append(await campaign.record(campaign.pick.choice(workers)))
    await campaign.client.wait_for_tasks(campaign.tasks, timeout=timedelta(minutes=2))
    for one in recorded:
        assert await campaign.ask(one.asked, one.position) == one.answers
    times = {c.position: c.time async for c in campaign.admin.each_event()}
    asked = 0
    for one in recorded:
        last = times[max(position for position in times if position <= one.position)]
        later = [time for position, time in times.items() if position > one.position]
        later.append(datetime.now(UTC))
        if last < min(later):  # else no time is between them
            between = last + (min(later) - last) / 2
            assert await campaign.ask(one.asked, between) == one.answers
            asked += 1
    assert asked > MOMENTS / 2


@pytest.mark.parity("W-02")
def test_commands_answer_from_the_past_and_say_what_no_past_has(person: Person) -> None:
    client = person.client
    task = client.submit_task(SubmitTaskArgs(command=("true",), labels=("early",))).task
    (first,) = client.get_events(GetEventsArgs(kind="task", name=task)).commits
    client.update_task_labels(task, ("late",))
    client.cancel_task(task, "enough")
    at = ("--as-of", str(first.position))
    one, listed, counted, group, groups, files, ahead, nobody, wrong = (
        person.shell(*command) for command in (
            ("--json", "get", "task", task, *at),
            ("--json", "get", "tasks", "--state", "pending,ready", *at),
            ("tasks", "query", "--count", "--as-of", first.time.isoformat()),
            ("--json", "get", "group", person.name, *at),
            ("get", "groups", *at),
            ("--json", "get", "attachments", *at),
            ("get", "task", task, "--as-of", "9000000000"),
            ("get", "task", task, "--as-of", "2020-01-01"),
            ("get", "task", task, "--as-of", "some day"),
        )
    )  # fmt: skip
    assert (one.json["labels"], one.json["state"]) == (["early"], "ready")
    assert [view["uuid"] for view in listed.json["tasks"]] == [task]
    assert counted.text == "1"
    assert group.json["task_count"] == 1
    assert groups.text == f"{person.name} = Admin"
    assert files.json["total"] == 0
    assert (ahead.status, nobody.status, wrong.status) == (1, 3, 2)
    assert "the newest one is" in ahead.complaint
    assert "'some day' is no point of the past" in wrong.err


def test_workers_of_the_past_are_shown_without_a_heartbeat(
    shell: Callable[..., Done], admin: SyncMitoClient
) -> None:
    position = admin.get_events(GetEventsArgs(newest=True, limit=1)).position
    done = shell("--json", "get", "workers", "--as-of", str(position))
    assert done.json["workers"]
    assert {view["last_heartbeat_at"] for view in done.json["workers"]} == {None}
    worker = done.json["workers"][0]["uuid"]
    done = shell("get", "worker", worker, "--as-of", str(position))
    assert "no past has it" in done.err
    assert shell("get", "worker", worker, "--as-of", "0").status == 3


def test_a_replay_makes_the_read_models_of_a_moment_in_another_database(
    platform: Platform, person: Person
) -> None:
    task = person.client.submit_task(SubmitTaskArgs(command=("true",))).task
    (first,) = person.client.get_events(GetEventsArgs(kind="task", name=task)).commits
    person.client.cancel_task(task, "enough")
    name = f"past_{person.name}"
    command = ("--json", "events", "replay", "--into", name, "--config",
               platform.data / "config" / "coordinator.toml")  # fmt: skip
    done = platform.home.run(*command, "--to", str(first.position))
    assert done.status == 0, done.err
    assert done.json["position"] == first.position
    with psycopg.connect(done.json["database"]) as past:
        found = past.execute("SELECT state FROM views.tasks WHERE uuid = %s", (task,))
        assert found.fetchall() == [("ready",)]
    other = platform.home.run(*command, "--to", str(first.position + 1))
    assert other.status == 5, other
    assert f"up to {first.position}, not" in other.json["error"]["message"]
