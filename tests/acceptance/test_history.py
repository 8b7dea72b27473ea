"""What was stored, asked for and watched by its users."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import aclosing

from mitosis import MitoClient
from mitosis.config.client import GetEventsArgs, SubmitTaskArgs
from mitosis.contract.queries import CommitView

from .conftest import Person, Platform


def names(commit: CommitView) -> list[str]:
    return [event.event.partition("@")[0] for event in commit.events]


def test_a_cancellation_tells_who_asked_for_it_and_from_where(person: Person) -> None:
    client = person.client
    submitted = client.submit_task(SubmitTaskArgs(command=("sleep", "60")))
    client.cancel_task(submitted.task, "enough")
    page = client.get_events(GetEventsArgs(kind="task", name=submitted.task))
    cancelled = page.commits[-1]
    assert names(cancelled)[-1] == "task.cancelled"
    assert cancelled.actor == f"user:{person.name}"
    assert cancelled.source == "127.0.0.1"
    (session,) = client.get_sessions().sessions
    assert cancelled.session == session.session


async def test_a_watch_sees_every_commit_once_although_coordinator_and_nats_restart(
    make_platform: Callable[..., Platform],
) -> None:
    platform = await make_platform().start()
    async with MitoClient(platform.config()) as client:
        group = client.session.user
        before = await client.get_events(GetEventsArgs(group=group, newest=True, limit=1))
        wanted = GetEventsArgs(group=group, after=before.position)
        submits = [SubmitTaskArgs(command=("true",)) for _ in range(60)]
        seen: list[CommitView] = []

        async def work() -> None:
            for number, submit in enumerate(submits):
                await client.submit_task(submit)
                if number == 15:
                    os.kill(platform.child("mitosis coordinator"), signal.SIGKILL)
                if number == 40:
                    os.kill(platform.child("nats.conf"), signal.SIGKILL)

        worker = asyncio.create_task(work())
        async with asyncio.timeout(120), aclosing(client.watch_events(wanted)) as watching:
            ended = 0
            async for commit in watching:
                seen.append(commit)
                ended += "task.committed" in names(commit)
                if ended == len(submits):
                    break
        await worker
        there = [one async for one in client.each_event(wanted)]
        positions = [commit.position for commit in seen]
        assert positions == sorted(set(positions))
        assert positions == [commit.position for commit in there][: len(seen)]
