"""The soak test, small: `just soak` runs it with 20,000 tasks."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.soak import SLOTS, Fitness, soak
from bench.soak_tasks import KINDS, kind_of
from mitosis import MitoClient, SyncMitoClient
from mitosis.config.client import GetTasksArgs

from .conftest import Platform
from .parity.machines import Account, machine


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parity("F-11")
def test_a_worker_is_as_fit_after_many_mixed_tasks_and_the_ledger_is_exact(
    platform: Platform,
    admin: SyncMitoClient,
    scratch: Path,
    scaled: Callable[[int, int], int],
) -> None:
    folder = scratch / f"soak-{secrets.token_hex(3)}"
    folder.mkdir()
    count = scaled(200, 20_000)
    with contextlib.ExitStack() as stack:
        user = Account(platform, admin, folder)
        stack.callback(user.client.close)
        box = stack.enter_context(machine(folder / "box"))
        box.run_worker(
            "-c", platform.notice["http"], "--credential-path", user.credentials,
            "--slots", str(SLOTS), "--work-dir", folder / "work",
        )  # fmt: skip
        box.registered()

        async def run() -> list[str]:
            async with MitoClient(platform.config(user.name, user.password)) as client:
                worker = box.process.process.pid
                return await soak(client, "", worker, folder / "work", folder / "ledger", count)

        assert asyncio.run(run()) == []
        page = user.client.get_tasks(GetTasksArgs(count_only=True))
        assert page.total == count


def test_the_kinds_are_all_there_in_each_hundred() -> None:
    assert sum(kind.share for kind in KINDS) == 100
    assert {kind_of(number).name for number in range(100)} == {kind.name for kind in KINDS}
    assert [kind_of(number) for number in range(100)].count(KINDS[0]) == KINDS[0].share


def test_growth_is_noticed() -> None:
    before = Fitness(3, 60, 8, 100 << 20, 20)
    assert Fitness(3, 62, 8, 110 << 20, 20).complaints(before) == []
    for grown in (
        Fitness(4, 60, 8, 100 << 20, 20), Fitness(3, 70, 8, 100 << 20, 20),
        Fitness(3, 60, 20, 100 << 20, 20), Fitness(3, 60, 8, 200 << 20, 20),
        Fitness(3, 60, 8, 100 << 20, 21),
    ):  # fmt: skip
        assert len(grown.complaints(before)) == 1
