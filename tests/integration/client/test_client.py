import asyncio
import contextlib
import socket
import threading
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from mitosis import MitoClient, SyncMitoClient
from mitosis.config.client import ClientConfig, CreateUserArgs, SubmitTaskArgs
from mitosis.domain.limits import MAX_BATCH
from mitosis.domain.roles import Role
from mitosis.domain.task import Outcome, TaskState
from mitosis.errors import (
    AuthenticationFailed,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
    WrongState,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    ClientOf = Callable[[ClientConfig], Any]
    from tests.integration.client.conftest import SmallPlatform

HOST = "127.0.0.1"
HELLO = SubmitTaskArgs(command=("echo", "hello"))


async def test_a_password_logs_in_once_and_the_session_is_kept(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig
) -> None:
    async with client_of(config) as client:
        assert (await client.whoami()).username == "alice"
    assert config.credential_path is not None
    stored = config.credential_path.read_text()
    assert "alice:token-1" in stored
    assert config.credential_path.stat().st_mode & 0o777 == 0o600
    platform.valid = "token-2"
    without_password = replace(config, password=None, user=None)
    async with client_of(without_password) as client:
        assert (await client.whoami()).username == "alice"
    assert config.credential_path.read_text() == stored


async def test_nobody_logged_in_is_an_error_that_says_how(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig
) -> None:
    with pytest.raises(AuthenticationFailed, match="mito client auth bob"):
        await client_of(replace(config, user="bob", password=None)).connect()
    with pytest.raises(AuthenticationFailed, match="nobody is logged in"):
        await client_of(replace(config, user=None, password=None)).connect()


async def test_a_wrong_password_leaves_no_session(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig
) -> None:
    with pytest.raises(AuthenticationFailed, match="wrong user or password"):
        await client_of(replace(config, password="wrong")).connect()
    assert config.credential_path is not None
    assert not config.credential_path.exists()


async def test_commands_and_reads_reach_the_platform(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig, unknown_task: str
) -> None:
    async with client_of(config) as client:
        await client.create_user(CreateUserArgs(username="bob", password="x"))
        assert await client.get_groups() == {"alice": Role.ADMIN, "lab": Role.READ}
        submitted = await client.submit_task(HELLO)
        assert submitted.number == 1
        assert (await client.get_task(submitted.task[:8])).spec.argv == ("echo", "hello")
        assert (await client.get_tasks()).total == 1
        assert (await client.cancel_task(submitted.task[:8])).task == submitted.task
        with pytest.raises(WrongState, match="ended already"):
            await client.cancel_task(submitted.task)
        with pytest.raises(NotFound):
            await client.get_task(unknown_task)
        with pytest.raises(InvalidInput):
            await client.submit_task(SubmitTaskArgs(command=()))


async def test_a_lost_answer_is_asked_for_again_with_the_same_id(
    client_of: "ClientOf",
    platform: "SmallPlatform",
    config: ClientConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mitosis.client.retry.TRY_SECONDS", 0.2)
    platform.silent = 2
    async with client_of(config) as client:
        submitted = await client.submit_task(HELLO)
    assert len(platform.tasks) == 1
    assert submitted.task in platform.tasks
    asked = platform.commands["task.submit"]
    assert len(asked) == 3
    assert len(set(asked)) == 1


async def test_no_answer_at_all_means_that_the_outcome_is_unknown(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig
) -> None:
    platform.silent = 1_000
    async with client_of(replace(config, timeout=timedelta(seconds=0.5))) as client:
        with pytest.raises(OutcomeUnknown, match="may or may not") as caught:
            await client.submit_task(replace(HELLO, key="my-key"))
    assert caught.value.details["command"] == "my-key"


async def test_many_submits_travel_in_few_requests_and_keep_their_order(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig
) -> None:
    many = [SubmitTaskArgs(command=("echo", str(n))) for n in range(2 * MAX_BATCH + 1)]
    async with client_of(config) as client:
        submitted = await client.submit_many(many)
    assert [s.number for s in submitted] == list(range(1, len(many) + 1))
    assert len(set(platform.commands["task.submit"])) == 3


async def test_watching_shows_each_change_and_ends_with_the_last_task(
    platform: "SmallPlatform", config: ClientConfig
) -> None:
    seen: list[tuple[str, TaskState]] = []
    async with MitoClient(config) as client:
        first, second = await client.submit_many([HELLO, HELLO])
        async for view in client.watch([first, second.task]):
            seen.append((view.uuid, view.state))
            if len(seen) == 2:
                platform.end(first.task, Outcome.SUCCEEDED)
            if len(seen) == 3:
                platform.end(second.task, Outcome.FAILED)
    assert {task for task, _ in seen[:2]} == {first.task, second.task}
    assert seen[2:] == [(first.task, TaskState.FINISHED), (second.task, TaskState.FINISHED)]


async def test_an_end_of_which_no_message_came_is_still_seen(
    platform: "SmallPlatform", config: ClientConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mitosis.client.watching.REFRESH_SECONDS", 0.1)
    async with MitoClient(config) as client:
        submitted = await client.submit_task(HELLO)
        ended = asyncio.create_task(client.wait_for_tasks([submitted]))
        async for view in client.watch([submitted]):
            if not view.state.terminal:
                platform.end(submitted.task, Outcome.SUCCEEDED, tell=False)
        (view,) = await ended
    assert view.outcome is Outcome.SUCCEEDED


async def test_tasks_that_have_ended_already_are_returned_at_once_in_order(
    platform: "SmallPlatform", config: ClientConfig
) -> None:
    async with MitoClient(config) as client:
        submitted = await client.submit_many([HELLO] * 60)
        for one in submitted:
            platform.end(one.task, Outcome.SUCCEEDED, tell=False)
        views = await client.wait_for_tasks(reversed(submitted))
    assert [v.uuid for v in views] == [s.task for s in reversed(submitted)]


async def test_a_wait_ends_with_its_time_and_the_task_goes_on(
    platform: "SmallPlatform", config: ClientConfig
) -> None:
    async with MitoClient(config) as client:
        submitted = await client.submit_task(HELLO)
        with pytest.raises(Unavailable, match="0 of 1 tasks"):
            await client.wait_for_tasks([submitted], timedelta(seconds=0.2))
    assert platform.tasks[submitted.task].state is TaskState.READY


async def test_waiting_for_an_unknown_task_says_so(
    platform: "SmallPlatform", config: ClientConfig, unknown_task: str
) -> None:
    async with MitoClient(config) as client:
        with pytest.raises(NotFound, match=unknown_task):
            await client.wait_for_tasks([unknown_task])


async def test_an_answer_that_may_be_old_is_pointed_out(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig
) -> None:
    notes: list[str] = []
    platform.stale = True
    client = client_of(config)
    client.session.stale = notes.append
    async with client:
        await client.get_tasks()
    assert len(notes) == 1


async def test_a_history_that_may_lack_its_end_is_asked_for_again_while_there_is_time(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig
) -> None:
    notes: list[str] = []
    client = client_of(config)
    client.session.stale = notes.append
    async with client:
        platform.stale_histories = 2
        await client.get_events()
        assert (platform.stale_histories, notes) == (-1, [])
    short = client_of(replace(config, timeout=timedelta(seconds=0.3)))
    short.session.stale = notes.append
    async with short:
        platform.stale_histories = 1_000_000
        await short.get_events()
    assert len(notes) == 1, "it ends, and says so"


async def test_the_blocking_client_is_the_same_client(
    platform: "SmallPlatform", config: ClientConfig
) -> None:
    def program() -> list[str]:
        with SyncMitoClient(config) as client:
            submitted = client.submit_task(HELLO)
            client.cancel_task(submitted.task)
            return [view.state.value for view in client.watch([submitted])]

    assert await asyncio.to_thread(program) == ["cancelled"]


def test_the_blocking_client_has_every_method() -> None:
    methods = vars(MitoClient).items()
    names = {name for name, value in methods if callable(value) and not name.startswith("_")}
    assert names <= {name for name in vars(SyncMitoClient) if not name.startswith("_")}


def test_a_blocking_client_that_cannot_connect_leaves_no_thread(tmp_path: Path) -> None:
    import threading

    config = ClientConfig(
        coordinator_addr="nats://127.0.0.1:1", credential_path=tmp_path / "c",
        timeout=timedelta(seconds=0.1),
    )  # fmt: skip
    before = set(threading.enumerate())
    with pytest.raises(Unavailable), SyncMitoClient(config):
        pass
    assert set(threading.enumerate()) <= before


async def test_a_session_that_cannot_be_kept_serves_and_is_ended(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig, tmp_path: Path
) -> None:
    (tmp_path / "flat").write_text("")
    client = client_of(replace(config, credential_path=tmp_path / "flat" / "credentials"))
    warnings: list[str] = []
    client.session.warn = warnings.append
    assert (await client.whoami()).username == "alice"
    assert client.session.unkept is not None
    (warning,) = warnings
    assert str(tmp_path / "flat" / "credentials") in warning
    assert platform.revoked == []
    await client.close()
    assert platform.revoked == ["s1"]
    async with client_of(config) as kept:
        assert kept.session.unkept is None
    assert platform.revoked == ["s1"]


async def test_a_password_may_lie_in_a_file(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("right\n")
    async with client_of(replace(config, password=None, password_file=file)) as client:
        assert client.session.user == "alice"


# --- the deadline ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "count"), [("nats", 1), ("nats", 3), ("http", 1)])
async def test_where_all_are_silent_a_client_says_so_within_its_deadline(
    client_of: "ClientOf", config: ClientConfig, kind: str, count: int
) -> None:
    async with AsyncExitStack() as stack:
        addresses = []
        for _ in range(count):
            silent = await stack.enter_async_context(await asyncio.start_server(_mute, HOST, 0))
            addresses.append(f"{kind}://{HOST}:{silent.sockets[0].getsockname()[1]}")
        hasty = replace(config, coordinator_addr=",".join(addresses), timeout=timedelta(seconds=1))
        began = time.monotonic()
        with pytest.raises(Unavailable, match=HOST):
            await client_of(hasty).whoami()
        assert time.monotonic() - began < 2


async def test_servers_that_are_silent_leave_time_for_one_that_answers(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig
) -> None:
    async with await asyncio.start_server(_mute, HOST, 0) as silent:
        quiet = f"nats://{HOST}:{silent.sockets[0].getsockname()[1]}"
        several = ",".join([quiet, quiet, config.coordinator_addr])
        async with client_of(replace(config, coordinator_addr=several)) as client:
            assert (await client.whoami()).username == "alice"


async def test_a_command_that_begins_while_nats_is_away_is_done_when_it_is_back(
    client_of: "ClientOf", platform: "SmallPlatform", config: ClientConfig
) -> None:
    told = threading.Event()
    there = urlsplit(config.coordinator_addr)
    with socket.socket() as port:  # nobody listens yet: it refuses
        port.bind((HOST, 0))
        address = f"nats://{HOST}:{port.getsockname()[1]}"
        client = client_of(replace(config, coordinator_addr=address))
        client.session.waiting = lambda *_: told.set()
        submitted = asyncio.create_task(client.submit_task(HELLO))
        await asyncio.to_thread(told.wait, 10)
        assert told.is_set()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back, forth = await asyncio.open_connection(there.hostname, there.port)
            await asyncio.gather(_pour(reader, forth), _pour(back, writer))

        async with await asyncio.start_server(relay, sock=port):
            assert (await submitted).number == 1
            await client.close()
    assert len(platform.tasks) == 1


async def _mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing."""
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


async def _pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()
