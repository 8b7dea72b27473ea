"""A Ctrl-C reaches the thread that waits, whatever other threads do at that moment.

When another thread took the signal, the one that waited was not woken up: one Ctrl-C in fifty was
lost by a `wait` of the interactive mode. So no other thread may take one.
"""

import asyncio
import io
import signal
import threading
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from mitosis import ClientConfig, MitoClient, SyncMitoClient
from mitosis.cli.output import progress
from mitosis.cli.running import open_client
from mitosis.client.waiting import WaitProgress
from mitosis.contract.queries import TaskView
from mitosis.events.loop_thread import EventLoopThread


def takes_ctrl_c() -> bool:
    """Whether this thread may be the one that takes a signal of the process."""
    return signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


async def of_its_threads(_: MitoClient) -> bool:
    return await asyncio.to_thread(takes_ctrl_c)


async def of_its_own(_: MitoClient) -> bool:
    return takes_ctrl_c()


def those_who_take_ctrl_c() -> set[str]:
    """The threads of this process that may take a signal of it, by the kernel's word."""
    takers = set()
    for thread in threading.enumerate():
        status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        (blocked,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
        if not int(blocked, 16) & 1 << (signal.SIGINT - 1):
            takers.add(type(thread).__name__)
    return takers


@pytest.fixture
def config() -> ClientConfig:
    return ClientConfig.load(coordinator_addr="http://127.0.0.1:9")


def test_the_thread_of_a_blocking_client_leaves_ctrl_c_to_its_caller(config: ClientConfig) -> None:
    client = SyncMitoClient(config)
    try:
        assert not client.run(of_its_own)
        assert not client.run(of_its_threads)
    finally:
        client.close()
    assert takes_ctrl_c()


def test_threads_of_a_command_leave_ctrl_c_to_its_event_loop(config: ClientConfig) -> None:
    with open_client(config, on_loop=True) as run:
        assert run(of_its_own)
        assert not run(of_its_threads)


def test_the_thread_of_the_event_store_leaves_ctrl_c_to_its_caller() -> None:
    async def ask() -> bool:
        return takes_ctrl_c()

    thread = EventLoopThread()
    try:
        assert not thread.call(ask())
    finally:
        thread.close()


def test_what_draws_how_far_it_is_leaves_ctrl_c_to_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "_can_move", lambda: True)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    screen = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(progress, "_console", lambda: screen)
    before = threading.active_count()
    with progress.counting("Waiting") as counted:
        counted(WaitProgress(cast("TaskView", None), total=1, running=1))
        assert threading.active_count() == before + 1
        assert "_RefreshThread" not in those_who_take_ctrl_c()
    with progress.moving("file") as moved:
        assert moved is not None
        moved(1, 2)
        assert threading.active_count() == before + 1
        assert "_RefreshThread" not in those_who_take_ctrl_c()
    assert takes_ctrl_c()
