"""A real nats-server with the platform's configuration, and real authentication on it."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mitosis.domain import user as users
from mitosis.domain import worker as workers
from mitosis.domain.roles import Role
from mitosis.errors import MitosisError
from mitosis.nats.connection import Connection, ServiceLogin, Token
from mitosis.nats.nkeys import issuer_account
from mitosis.nats.server_config import CalloutConfig
from mitosis.services.auth.key_files import load_keys
from mitosis.services.auth.passwords import Passwords
from mitosis.services.auth.service import Authentication
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.platform.binaries import nats_server
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.testing.servers import SERVICE_USER, SYSTEM_USER, open_nats, outside_of_loops
from mitosis.testing.waiting import eventually

SERVICE = ServiceLogin(SERVICE_USER.name, SERVICE_USER.password)
SYSTEM = ServiceLogin(SYSTEM_USER.name, SYSTEM_USER.password)
LIFETIME_SECONDS = 600


def callout(keys: TokenKeys) -> CalloutConfig:
    return CalloutConfig(issuer=issuer_account(keys.private_pem), timeout_seconds=1.5)


def write_pair(folder: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


class MemoryAccounts:
    """Accounts by the real rules of the domain, kept in memory instead of in the stream."""

    def __init__(self) -> None:
        self.users: dict[str, users.User] = {}
        self.roles: dict[str, dict[str, Role]] = {}
        self.workers: dict[str, workers.Worker] = {}

    def user(self, name: str) -> users.User | None:
        return self.users.get(name)

    def roles_of(self, name: str) -> Mapping[str, Role]:
        return self.roles.get(name, {})

    def worker(self, uuid: str) -> workers.Worker | None:
        return self.workers.get(uuid)

    async def open_session(
        self, user: str, session: str, expires_at: datetime, source: str = ""
    ) -> None:
        self.tell(user, users.OpenSession(session, expires_at, datetime.now(UTC), source))

    def tell(self, name: str, command: users.Command) -> None:
        state = self.users.get(name)
        for event in users.decide(state, command):
            state = users.evolve(state, event)
        assert state is not None
        self.users[name] = state

    def tell_worker(self, uuid: str, command: workers.Command) -> None:
        state = self.workers.get(uuid)
        for event in workers.decide(state, command):
            state = workers.evolve(state, event)
        assert state is not None
        self.workers[uuid] = state


class Platform:
    """Server, accounts, authentication, and the means to come in as anybody."""

    def __init__(self, url: str, keys: TokenKeys) -> None:
        self.url = url
        self.keys = keys
        self.accounts = MemoryAccounts()
        self.lost_workers: list[str] = []
        self._opened: list[Connection] = []

    async def start(self, password_hash: str) -> None:
        self.service = await self.connect(SERVICE, "coordinator")
        self.system = await self.connect(SYSTEM, "coordinator-system")
        self.add_user("alice", password_hash, {"alice": Role.ADMIN, "lab": Role.READ})
        self.add_user("bob", password_hash, {"bob": Role.ADMIN})
        self.add_user("root", password_hash, {"root": Role.ADMIN}, admin=True)
        self.authentication = Authentication(
            self.accounts,
            self.keys,
            self.service,
            self.system,
            server=self.url,
            term=lambda: 7,
            session_seconds=LIFETIME_SECONDS,
            clock=time.time,
            on_worker_gone=self.lost_workers.append,
        )
        await self.authentication.start()

    async def stop(self) -> None:
        await self.authentication.stop()
        for connection in self._opened:
            await connection.close()

    def add_user(
        self, name: str, password_hash: str, roles: dict[str, Role], *, admin: bool = False
    ) -> None:
        self.accounts.tell(name, users.CreateUser(name, password_hash, admin))
        self.accounts.roles[name] = roles

    async def connect(self, credentials, name="test", **options) -> Connection:
        connection = await Connection.open([self.url], credentials, name=name, **options)
        self._opened.append(connection)
        return connection

    async def token_of(self, user: str, session: str = "s1", seconds: float = 300) -> Token:
        now = time.time()
        expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
        await self.accounts.open_session(user, session, expires_at)
        text = self.keys.issue("user", user, sid=session, issued_at=now, exp=now + seconds)
        return Token(text, "user", user)

    async def enter(self, user: str, **options) -> Connection:
        return await self.connect(await self.token_of(user), f"cli-{user}", **options)

    def token_of_worker(self, uuid: str) -> Token:
        self.accounts.tell_worker(
            uuid, workers.RegisterWorker(uuid, "alice", {"lab": Role.WRITE}, 1, 60.0)
        )
        now = time.time()
        return Token(self.keys.issue("worker", uuid, issued_at=now, exp=now + 300), "worker", uuid)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> TokenKeys:
    return load_keys(*write_pair(tmp_path_factory.mktemp("keys")))


@pytest.fixture(scope="session")
def shared_server(keys: TokenKeys) -> Iterator[str]:
    with outside_of_loops(open_nats(callout=callout(keys))) as server:
        yield server.url


@pytest.fixture
async def own_server(keys: TokenKeys, tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    """A server that the test may kill."""
    server = EmbeddedNats(
        tmp_path / "nats",
        service_users=(SERVICE_USER,),
        system_users=(SYSTEM_USER,),
        callout=callout(keys),
        sync_always=False,
    )
    async with server:
        yield server


async def kill(server: EmbeddedNats) -> None:
    """End a server as a crash would; `restart` brings it back at the same address."""
    os.kill(server.process.pid, signal.SIGKILL)
    await server.process.wait()


@pytest.fixture
async def open_server(tmp_path: Path) -> AsyncIterator[str]:
    """A server as it comes: everybody may do everything."""
    process = await asyncio.create_subprocess_exec(
        nats_server(), "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(tmp_path),
        "--ports_file_dir", str(tmp_path), "-l", str(tmp_path / "log"),
    )  # fmt: skip
    try:
        ports = tmp_path / f"nats-server_{process.pid}.ports"
        text = await eventually(lambda: ports.exists() and ports.read_text())
        yield json.loads(text)["nats"][0]
    finally:
        process.kill()
        await process.wait()


@pytest.fixture(scope="session")
def password_hash() -> str:
    async def make() -> str:
        passwords = Passwords()
        try:
            return await passwords.hash("correct horse")
        finally:
            passwords.close()

    return asyncio.run(make())


@pytest.fixture
async def platform(
    shared_server: str, keys: TokenKeys, password_hash: str
) -> AsyncIterator[Platform]:
    platform = Platform(shared_server, keys)
    await platform.start(password_hash)
    yield platform
    await platform.stop()


Failing = Callable[[], Awaitable[object]]


async def error_of(action: Failing) -> MitosisError:
    """Return the error with which the action must end."""
    try:
        result = await action()
    except MitosisError as error:
        return error
    raise AssertionError(f"no error but {result!r}")


async def may_subscribe(connection: Connection, subject: str) -> bool:
    """Ask the server: a denied subscription is an error that comes before the next PONG."""
    return not await _denied(connection, lambda: connection.raw.subscribe(subject))


async def may_publish(connection: Connection, subject: str) -> bool:
    return not await _denied(connection, lambda: connection.raw.publish(subject, b"x"))


async def _denied(connection: Connection, action: Callable[[], object]) -> bool:
    denials: list[Exception] = []
    raw = connection.raw
    usual = raw._error_cb

    async def note(error: Exception) -> None:
        denials.append(error)

    raw._error_cb = note
    try:
        await action()
        await connection.flush()
    finally:
        raw._error_cb = usual
    assert all("permissions violation" in str(denial).lower() for denial in denials), denials
    return bool(denials)
