"""A real nats-server without accounts, and a small platform behind it that keeps tasks in memory.

The client speaks its real wire form over real connections. The whole platform, with permissions and
storage, is in the end-to-end tests.
"""

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from mitosis.client.client import MitoClient
from mitosis.client.network import InPlace
from mitosis.config.client import ClientConfig
from mitosis.contract import subjects
from mitosis.contract.commands import (
    Cancelled,
    CancelTask,
    CreateUser,
    Done,
    RevokeSession,
    SubmitMany,
    SubmitResult,
    SubmitTask,
    Submitted,
    SubmittedMany,
)
from mitosis.contract.login import Hello, PasswordLogin, SessionToken, Welcome
from mitosis.contract.queries import (
    EventPage,
    GetTask,
    GroupList,
    ListEvents,
    ListTasks,
    TaskPage,
    TaskView,
    WhoAmI,
)
from mitosis.contract.wire import Nothing, Reply
from mitosis.domain.names import task_uuid
from mitosis.domain.roles import Role
from mitosis.domain.task import Exit, ExitKind, Outcome, TaskSpec, TaskState
from mitosis.errors import AuthenticationFailed, NotFound, WrongState
from mitosis.nats.blocking import finish
from mitosis.nats.connection import Connection, ServiceLogin
from mitosis.nats.rpc import Caller, Endpoints
from mitosis.services.platform.binaries import nats_server

PASSWORD = "right"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="session")
def open_nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("open-nats")
    config = folder / "server.conf"
    config.write_text('listen: "127.0.0.1:-1"\n')
    process = subprocess.Popen([str(nats_server()), "-c", str(config)], stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        told = b"Listening for client connections on "
        line = next(line for line in process.stderr if told in line)
        yield f"nats://{line.partition(told)[2].decode().strip()}"
    finally:
        process.terminate()
        process.communicate(timeout=10)


class SmallPlatform:
    """Answers as coordinator and projector for user `alice`; tests look at what it was asked."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.tasks: dict[str, TaskView] = {}
        self.commands: dict[str, list[str]] = {}
        self.asked = asyncio.Event()
        self.silent = 0
        self.stale = False
        self.stale_histories = 0
        self.valid = "token-1"
        self.revoked: list[str] = []
        self._done: dict[str, Submitted] = {}

    async def start(self) -> list[Endpoints]:
        login = Endpoints(self.connection, subjects.LOGIN_ALL)
        login.add("hello", Hello, lambda _, __: Welcome("1", 1))
        login.add("password", PasswordLogin, self.login)
        commands = Endpoints(self.connection, subjects.COMMANDS_ALL)
        commands.add("task.submit", SubmitTask, self.submit)
        commands.add("task.submit_many", SubmitMany, self.submit_many)
        commands.add("task.cancel", CancelTask, self.cancel)
        commands.add("user.create", CreateUser, lambda _, __: Done())
        commands.add("session.revoke", RevokeSession, self.revoke)
        queries = Endpoints(self.connection, subjects.QUERIES_ALL)
        queries.add("task.get", GetTask, self.get)
        queries.add("task.list", ListTasks, self.list)
        queries.add("event.list", ListEvents, self.history)
        queries.add("user.whoami", Nothing, lambda c, _: WhoAmI(c.owner, False, {}))
        queries.add(
            "group.list", Nothing, lambda _, __: GroupList({"alice": Role.ADMIN, "lab": Role.READ})
        )
        for endpoints in (login, commands, queries):
            await endpoints.start()
        await self.connection.flush()
        return [login, commands, queries]

    def login(self, _: Caller, body: PasswordLogin) -> SessionToken:
        if body.password != PASSWORD:
            raise AuthenticationFailed("wrong user or password")
        return SessionToken(body.username, False, self.valid, "s1", AT + timedelta(days=7))

    def revoke(self, _: Caller, body: RevokeSession) -> Done:
        self.revoked.append(body.session)
        return Done()

    def submit(self, caller: Caller, body: SubmitTask) -> Submitted | None:
        self.commands.setdefault("task.submit", []).append(caller.request_id)
        self.asked.set()
        group = body.group or caller.owner
        task = task_uuid(group, caller.owner, body.key)
        if task not in self.tasks:
            number = len(self.tasks) + 1
            spec = TaskSpec(body.argv, body.env, body.tags, body.priority, body.timeout_seconds)
            self.tasks[task] = view(task, group, number, spec, body.labels)
        if self.silent:  # done, and the answer is lost
            self.silent -= 1
            return None
        return Submitted(task, group, self.tasks[task].number, runnable=not body.tags)

    def submit_many(self, caller: Caller, body: SubmitMany) -> SubmittedMany:
        results = [self.submit(caller, task) for task in body.tasks]
        return SubmittedMany([SubmitResult(submitted=result) for result in results])

    def cancel(self, _: Caller, body: CancelTask) -> Cancelled:
        if self.tasks[body.task].state.terminal:
            raise WrongState(f"task {body.task} has ended already")
        self.end(body.task, Outcome.CANCELLED)
        return Cancelled(body.task, True)

    def get(self, _: Caller, body: GetTask) -> TaskView:
        found = [task for uuid_, task in self.tasks.items() if uuid_.startswith(body.task)]
        if not found:
            raise NotFound(f"there is no task {body.task}")
        return found[0]

    def list(self, caller: Caller, body: ListTasks) -> Reply[TaskPage]:
        wanted = [
            task
            for task in self.tasks.values()
            if (not body.uuids or task.uuid in body.uuids)
            and task.group == (body.group or caller.owner)
        ]
        page = TaskPage(wanted[-body.limit :], len(wanted), {"ready": len(wanted)})
        return Reply(page, 1, self.stale)

    def history(self, _: Caller, __: ListEvents) -> Reply[EventPage]:
        self.stale_histories -= 1
        return Reply(EventPage([], 1, False), 1, stale=self.stale_histories >= 0)

    def end(self, task: str, outcome: Outcome, *, tell: bool = True) -> None:
        """End a task, and show it live as the store does."""
        ended = self.tasks[task]
        ended.state, ended.outcome = outcome.state, outcome
        ended.exit = Exit(ExitKind.CODE, 0)
        if tell:
            tail = subjects.task_tail(ended.group, task)
            self.connection.publish(subjects.live(tail), b"{}")


def view(task: str, group: str, number: int, spec: TaskSpec, labels: tuple[str, ...]) -> TaskView:
    return TaskView(
        uuid=task, number=number, group=group, creator="alice", state=TaskState.READY,
        outcome=None, reason="", spec=spec, labels=labels, attempt=0, losses=0, worker=None,
        created_at=AT, updated_at=AT, started_at=None, ended_at=None, cancel_requested=False,
        steps=[], exit=None, artifacts=[], warnings=[],
    )  # fmt: skip


@pytest.fixture
async def platform(open_nats_url: str) -> AsyncIterator[SmallPlatform]:
    login = ServiceLogin("service", "any")
    async with await Connection.open([open_nats_url], login, name="platform") as connection:
        platform = SmallPlatform(connection)
        endpoints = await platform.start()
        yield platform
        await asyncio.gather(*(each.stop() for each in endpoints))


class InThread:
    """A client that asks in place, in a thread: its methods suspend, as those of the others do."""

    def __init__(self, config: ClientConfig) -> None:
        self._client = MitoClient(config, InPlace())
        self.session = self._client.session

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **options: Any) -> Any:
            return await asyncio.to_thread(finish, method(*args, **options))

        return call

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@pytest.fixture(params=[MitoClient, InThread], ids=["loop", "in place"])
def client_of(request: pytest.FixtureRequest) -> Callable[[ClientConfig], Any]:
    """Make a client of one of the two kinds: what both must do is the same."""
    return request.param


@pytest.fixture
def config(open_nats_url: str, tmp_path: Path) -> ClientConfig:
    return ClientConfig(
        coordinator_addr=open_nats_url,
        credential_path=tmp_path / "credentials",
        user="alice",
        password=PASSWORD,
        timeout=timedelta(seconds=20),
    )


@pytest.fixture
def unknown_task() -> str:
    return str(uuid.uuid4())
