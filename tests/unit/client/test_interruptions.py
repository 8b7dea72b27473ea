"""A Ctrl-C reaches the thread that waits, whatever other threads do at that moment.

When another thread took the signal, the one that waited was not woken up: one Ctrl-C in fifty was
lost by a `wait` of the interactive mode. So no other thread of ours takes one; a thread in which
programs may be started takes it, and who waits looks for it.
"""

import asyncio
import contextlib
import io
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from mitosis import ClientConfig, MitoClient, SyncMitoClient
from mitosis.cli.output import progress
from mitosis.cli.running import kept_connection, open_client
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
        try:
            status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
        except FileNotFoundError:
            continue  # it has ended meanwhile: it takes nothing any more
        (blocked,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
        if not int(blocked, 16) & 1 << (signal.SIGINT - 1):
            takers.add(type(thread).__name__)
    return takers


def those_who_draw() -> set[str]:
    """The threads that exist only while something is drawn."""
    return {type(one).__name__ for one in threading.enumerate()} & {"_RefreshThread"}


@pytest.fixture
def config() -> ClientConfig:
    return ClientConfig.load(coordinator_addr="http://127.0.0.1:9")


@pytest.fixture
def client(config: ClientConfig) -> Iterator[SyncMitoClient]:
    with contextlib.closing(SyncMitoClient(config)) as client:
        yield client


def test_a_ctrl_c_that_the_thread_of_a_blocking_client_takes_ends_the_call(
    client: SyncMitoClient,
) -> None:
    not_interrupted = []

    async def wait_long(_: MitoClient) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                await asyncio.Event().wait()
        not_interrupted.append(True)

    with pytest.raises(KeyboardInterrupt):
        client.run(wait_long)
    assert not not_interrupted
    assert takes_ctrl_c()


def test_a_program_that_an_action_or_a_callback_starts_can_be_interrupted_and_terminated(
    client: SyncMitoClient,
) -> None:
    """It has the blocked signals of the thread that started it, for as long as it lives."""
    blocked = "print(*__import__('signal').pthread_sigmask(0, ()))"

    async def started(_: MitoClient) -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", blocked, stdout=asyncio.subprocess.PIPE
        )
        return (await process.communicate())[0].strip()

    async def of_a_callback(_: MitoClient) -> bytes:
        command = [sys.executable, "-c", blocked]
        return (await asyncio.to_thread(subprocess.check_output, command)).strip()

    assert client.run(started) == client.run(of_a_callback) == b""


def test_the_thread_of_the_interactive_mode_leaves_ctrl_c_to_its_prompt(
    config: ClientConfig,
) -> None:
    with kept_connection(), open_client(config) as run:
        assert not run(of_its_own)
        assert not run(of_its_threads)
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
    with progress.counting("Waiting") as counted:
        counted(WaitProgress(cast("TaskView", None), total=1, running=1))
        assert those_who_draw() - those_who_take_ctrl_c() == {"_RefreshThread"}
    with progress.moving("file") as moved:
        assert moved is not None
        moved(1, 2)
        assert those_who_draw() - those_who_take_ctrl_c() == {"_RefreshThread"}
    assert takes_ctrl_c()
