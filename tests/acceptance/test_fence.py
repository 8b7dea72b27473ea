"""The fence: a leading coordinator that was frozen, and is back, stores and gives out nothing."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from mitosis import MitoClient
from mitosis.config.client import CreateUserArgs, SubmitTaskArgs
from mitosis.contract.commands import Submitted
from mitosis.domain.attachment import AttachmentStored
from mitosis.domain.group import GroupCreated
from mitosis.domain.platform import TermStarted
from mitosis.domain.task import Outcome, TaskSubmitted
from mitosis.errors import LimitReached, MitosisError, OutcomeUnknown
from mitosis.projections.commit import Commit
from mitosis.testing.waiting import eventually

from .conftest import Platform, in_shell
from .standby import Pair, stored_commits, with_standby

IN_SOCKET = 100
HASTY = 10  # of whose submits nobody waits for the end
GROUPS, GROUP_QUOTA = 8, 3
FILES, FILE_BYTES, FILE_QUOTA = 8, 30_000, 3
SLOTS = 2
PATIENCE = timedelta(seconds=90)  # more than a takeover takes on a busy machine

Told = Submitted | MitosisError


def writing(ledger: Path, count: int) -> list[SubmitTaskArgs]:
    """Tasks that tell a ledger when they start and end."""
    return [
        in_shell(f"echo start $MITO_TASK_UUID >> {ledger}; echo end >> {ledger}", key=key)
        for key in (secrets.token_hex(8) for _ in range(count))
    ]


async def told(client: MitoClient, task: SubmitTaskArgs) -> Told:
    """Submit, and return whatever the client is told."""
    try:
        return await client.submit_task(task)
    except MitosisError as error:
        return error


async def granted(asked: Sequence[asyncio.Task[object]]) -> int:
    """How many of these were granted; the others were refused for their quota."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(error) for error in refused} == {LimitReached}, refused
    return len(answers) - len(refused)


async def stopped(pid: int) -> None:
    """Wait until a process is stopped for good."""
    stat = Path(f"/proc/{pid}/stat")
    await eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")


def position_of_term(commits: Sequence[Commit], number: int) -> int:
    """Where a term begins."""
    starts = [c.position for c in commits for e in c.events if isinstance(e, TermStarted)]
    assert len(starts) == number, starts
    return starts[-1]


def most_at_once(ledger: Path) -> int:
    """How many tasks ran at the same time, at most."""
    now = most = 0
    for line in ledger.read_text().splitlines():
        now += 1 if line.startswith("start") else -1
        most = max(most, now)
    assert now == 0
    return most


@pytest.mark.timeout(300)
async def test_a_frozen_leader_stores_none_of_what_lies_in_its_socket(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    """No number, slot or quota is given twice, and every client is told what is true."""
    platform = await make_platform(workers=1, slots=SLOTS).start()
    ledger, file = tmp_path / "ledger", tmp_path / "file"
    file.write_bytes(secrets.token_bytes(FILE_BYTES))
    cut, later = writing(ledger, IN_SOCKET), writing(ledger, IN_SOCKET)
    lost = writing(ledger, HASTY)
    async with (
        with_standby(platform) as pair,
        MitoClient(platform.config(timeout=PATIENCE)) as client,
        MitoClient(platform.config(timeout=timedelta(seconds=2))) as hasty,
    ):
        bob = await with_quotas(client, platform)
        async with bob:
            answers = await with_leader_frozen(pair, client, cut)
            waiting = [asyncio.create_task(told(client, task)) for task in later]
            groups = [asyncio.create_task(bob.create_group(f"of-bob-{n}")) for n in range(GROUPS)]
            files = [
                asyncio.create_task(bob.upload_attachment(file, f"file-{n}")) for n in range(FILES)
            ]
            unheard = await asyncio.gather(*(told(hasty, task) for task in lost))
            assert [type(one) for one in unheard] == [OutcomeUnknown] * HASTY
            assert not any(one.done() for one in [*waiting, *groups, *files])
            await pair.second_leads()
            # It wakes while the others ask the new one for the same.
            pair.thaw_first()
            heard: list[Told] = [*await asyncio.gather(*answers), *await asyncio.gather(*waiting)]
            assert await granted(groups) == GROUP_QUOTA
            assert await granted(files) == FILE_QUOTA
            await pair.first_stands_by()
            tasks = [*cut, *later, *lost]
            again = [await client.submit_task(task) for task in tasks]
            ended = await client.wait_for_tasks(again)
            commits = await stored_commits(platform)
    assert heard == again[: len(heard)], "another answer than the first one"
    assert {view.outcome for view in ended} == {Outcome.SUCCEEDED}
    assert sorted(view.number for view in ended) == list(range(1, len(tasks) + 1))
    submits = Counter(
        event.task for one in commits for event in one.events if isinstance(event, TaskSubmitted)
    )
    assert submits == dict.fromkeys((one.task for one in again), 1)
    second_term = position_of_term(commits, 2)
    places = {one.tail.rpartition(".")[2]: one.position for one in reversed(commits)}
    assert all(places[one.task] > second_term for one in again[len(cut) :])
    assert quota_granted(commits) == (GROUP_QUOTA, FILE_QUOTA)
    starts = Counter(line for line in ledger.read_text().splitlines() if line != "end")
    assert starts == dict.fromkeys((f"start {one.task}" for one in again), 1)
    assert most_at_once(ledger) <= SLOTS
    verified = platform.home.run("events", "verify", "--config", pair.config)
    assert verified.status == 0, verified.err


async def with_quotas(client: MitoClient, platform: Platform) -> MitoClient:
    """Make a user with room for a few groups and files, and return a client of theirs."""
    await client.create_user(CreateUserArgs(username="bob", password="of-bob-it-is"))
    await client.set_group_quota("bob", str(GROUP_QUOTA + 1))  # beside the own group
    await client.set_storage_quota("bob", str(FILE_QUOTA * FILE_BYTES + FILE_BYTES // 2))
    return MitoClient(platform.config("bob", "of-bob-it-is", timeout=PATIENCE))


async def with_leader_frozen(
    pair: Pair, client: MitoClient, tasks: Sequence[SubmitTaskArgs]
) -> list[asyncio.Task[Told]]:
    """Freeze the leader in the midst of submits: some are stored, and not all are answered."""
    waiting = [asyncio.create_task(told(client, task)) for task in tasks]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    pair.freeze_first()
    await stopped(pair.first)
    return waiting


def quota_granted(commits: Sequence[Commit]) -> tuple[int, int]:
    """How many groups and files of bob's are in the stream."""
    events = [event for one in commits for event in one.events]
    groups = [e for e in events if isinstance(e, GroupCreated) and e.name.startswith("of-bob-")]
    files = [event for event in events if isinstance(event, AttachmentStored)]
    return len(groups), len(files)
