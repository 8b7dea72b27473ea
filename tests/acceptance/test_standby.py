"""Two coordinators: one leads, the other stands by, takes over, and nothing happens twice."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from mitosis import SyncMitoClient
from mitosis.domain.task import Outcome
from mitosis.testing.waiting import eventually

from .conftest import Platform, in_shell


async def test_a_standby_takes_over_from_a_frozen_coordinator_which_then_stands_by_itself(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    platform = await make_platform(workers=1, slots=2).start()
    config = platform.data / "config" / "coordinator.toml"
    second = platform.home.start("coordinator", "--config", config, "--bind", "127.0.0.1:0")
    try:
        await eventually(lambda: "waiting as standby" in second.err, seconds=30)
        first = next(
            pid
            for pid in platform.children("coordinator", str(config))
            if pid != second.process.pid
        )
        ledger, gate = tmp_path / "ledger", tmp_path / "gate"
        with SyncMitoClient(platform.config()) as client:
            wait = f"until [ -e {gate} ]; do sleep 0.05; done"
            running = client.submit_task(
                in_shell(f"echo start >> {ledger}; {wait}; echo end >> {ledger}")
            )
            await eventually(ledger.exists)
            os.kill(first, signal.SIGSTOP)
            await eventually(lambda: "term 2: serving" in second.err, seconds=30)
            led_by_second = [client.submit_task(in_shell("true")) for _ in range(3)]
            os.kill(first, signal.SIGCONT)
            log = platform.data / "logs" / "coordinator.log"
            await eventually(
                lambda: "holds term 2: waiting as standby" in log.read_text(), seconds=30
            )
            led_by_second += [client.submit_task(in_shell("true")) for _ in range(3)]
            os.kill(second.process.pid, signal.SIGKILL)
            await eventually(lambda: "term 3: serving" in log.read_text(), seconds=30)
            gate.touch()
            ended = client.wait_for_tasks([running, *led_by_second])
            assert {task.outcome for task in ended} == {Outcome.SUCCEEDED}
            assert [task.attempt for task in ended] == [1] * 7
            assert [task.number for task in ended] == list(range(1, 8))
        assert ledger.read_text() == "start\nend\n"
    finally:
        second.close()
    verified = platform.home.run("events", "verify", "--config", config)
    assert verified.status == 0, verified.err
