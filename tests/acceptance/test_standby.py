"""Two coordinators: one leads, the other stands by, takes over, and nothing happens twice."""

import asyncio
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.domain.task import Outcome
from mitosis.testing.waiting import eventually

from .conftest import Platform, in_shell
from .standby import with_standby


@pytest.mark.parity("D-030")
async def test_a_standby_takes_over_from_a_frozen_coordinator_which_then_stands_by_itself(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    platform = await make_platform(workers=1, slots=2).start()
    async with with_standby(platform) as pair:
        ledger, gate = tmp_path / "ledger", tmp_path / "gate"
        with SyncMitoClient(platform.config()) as client:
            wait = f"until [ -e {gate} ]; do sleep 0.05; done"
            running = client.submit_task(
                in_shell(f"echo start >> {ledger}; {wait}; echo end >> {ledger}")
            )
            await eventually(ledger.exists)
            pair.freeze_first()
            await pair.second_leads()
            led_by_second = [client.submit_task(in_shell("true")) for _ in range(3)]
            pair.thaw_first()
            await pair.first_stands_by()
            led_by_second += [client.submit_task(in_shell("true")) for _ in range(3)]
            os.kill(pair.second.process.pid, signal.SIGKILL)
            await pair.first_leads(3)
            gate.touch()
            ended = client.wait_for_tasks([running, *led_by_second])
            assert {task.outcome for task in ended} == {Outcome.SUCCEEDED}
            assert [task.attempt for task in ended] == [1] * 7
            assert [task.number for task in ended] == list(range(1, 8))
        assert ledger.read_text() == "start\nend\n"
    verified = platform.home.run("events", "verify", "--config", pair.config)
    assert verified.status == 0, verified.err


@pytest.mark.parametrize("address", ["nats", "http"])
async def test_a_command_that_is_begun_while_a_standby_takes_over_is_done_within_its_deadline(
    make_platform: Callable[..., Platform], address: str
) -> None:
    """By `http` it would ask the frozen coordinator where the platform is."""
    platform = await make_platform(workers=1, slots=2).start()
    client = ("client", "-c", platform.notice[address])
    async with with_standby(platform) as pair:
        run = functools.partial(asyncio.to_thread, platform.home.run)
        logged_in = await run(*client, "auth", "mitosis_admin", platform.admin_password)
        assert logged_in.status == 0, logged_in
        try:
            if address == "http":
                pair.freeze_first()
            else:
                os.kill(pair.first, signal.SIGKILL)
            done = await run(*client, "--timeout", "30s", "submit", "--", "true")
            assert done.status == 0, done
            # One that was killed is started again by its supervisor, and may be the first.
            led = pair.second.err + (pair.first_log if address == "nats" else "")
            assert "term 2: serving" in led
        finally:
            if address == "http":
                pair.thaw_first()
