"""A platform as a user gets it: `mito` as a program, started once a session, and the public SDK."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mitosis import ClientConfig, MitoClient, SyncMitoClient
from mitosis.config.client import CreateUserArgs, SubmitTaskArgs
from mitosis.contract.commands import Submitted
from mitosis.contract.queries import TaskView
from mitosis.services.platform.binaries import nats_server
from mitosis.services.platform.ports import free_ports
from mitosis.testing.servers import S3Server
from mitosis.testing.waiting import eventually, processes_with

MITO = (sys.executable, "-m", "mitosis")
START_SECONDS = 90.0  # idle machines need a tenth of it
COMMAND_SECONDS = 60.0


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output without the last line end."""
        return self.out.decode().rstrip("\n")

    @property
    def json(self) -> Any:
        """Standard output, which must be exactly one JSON value on one line."""
        assert self.out.count(b"\n") == 1, self.out
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """Standard error, which must be one line of ours and no traceback."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("mito: "), self.err
        return lines[0]


class Home:
    """A user of the machine: an own folder with a home in it, and the commands that are run there.

    Whatever is started here, and all that it leaves behind, has the folder in its command line or
    in its environment, by which it can be found.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "home"
        self.folder.mkdir(parents=True)
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH") if key in os.environ}
        self.environment = {**kept, "HOME": str(self.folder)}

    def run(
        self,
        *arguments: str | Path,
        seconds: float = COMMAND_SECONDS,
        stdin: bytes | None = b"",
        more: Mapping[str, str] | None = None,
    ) -> Done:
        """Run `mito` with these arguments to its end."""
        done = subprocess.run(
            [*MITO, *(str(argument) for argument in arguments)],
            env={**self.environment, **(more or {})}, cwd=self.folder,
            input=stdin, capture_output=True, timeout=seconds, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def run_all(self, commands: Sequence[Sequence[str | Path]], **more: Any) -> list[Done]:
        """Run some commands side by side; what they do must not depend on their order."""
        return side_by_side(lambda command: self.run(*command, **more), commands)

    def start(self, *arguments: str | Path, **more: str) -> "Running":
        """Start `mito` with these arguments in a process group of its own."""
        return Running([*MITO, *map(str, arguments)], {**self.environment, **more}, self.folder)

    def processes(self) -> list[int]:
        """What runs of everything that was started here."""
        return processes_with(str(self.root))


class Running:
    """A started service; its output goes to files, so that it can never block."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        self._out = tempfile.TemporaryFile()  # noqa: SIM115  kept to the end
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command, env=dict(environment), cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=self._out, stderr=self._err, start_new_session=True,
        )  # fmt: skip

    @property
    def out(self) -> str:
        """Standard output so far."""
        return _content(self._out.fileno())

    @property
    def raw_out(self) -> bytes:
        """The same as bytes."""
        return os.pread(self._out.fileno(), 1 << 20, 0)

    @property
    def err(self) -> str:
        """Standard error so far."""
        return _content(self._err.fileno())

    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.process.poll() is not None

    def wait(self, seconds: float = 60.0) -> int:
        """The exit status."""
        return self.process.wait(seconds)

    async def says(self, text: str, seconds: float = START_SECONDS) -> None:
        """Wait for a text in its output."""

        def said() -> bool:
            assert text in self.err + self.out or not self.ended(), self.err
            return text in self.err + self.out

        await eventually(said, seconds=seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Send a signal and wait for the end."""
        if not self.ended():
            self.process.send_signal(number)
        return self.wait(seconds)

    def close(self) -> None:
        """Leave nothing of it, however the test went."""
        if not self.ended():
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._out.close()
        self._err.close()


class Platform:
    """`mito up` and how to speak with it."""

    def __init__(self, root: Path, *arguments: str, workers: int = 2, slots: int = 2) -> None:
        self.home, self.data = Home(root), root / "data"
        self.ready_file = self.home.folder / "ready.json"
        self._arguments = (
            "up", "--data", str(self.data), "--workers", str(workers), "--slots", str(slots),
            "--bind", "127.0.0.1:0", "--nats-port", "0", "--ready-file", str(self.ready_file),
            *arguments,
        )  # fmt: skip
        self.running: Running | None = None
        self.notice: dict[str, str] = {}

    async def start(self) -> Self:
        """Start it and wait until it serves."""
        self.ready_file.unlink(missing_ok=True)  # of a platform that was killed
        running = self.running = self.home.start(*self._arguments)

        def ready() -> bool:
            assert not running.ended(), running.err
            return self.ready_file.exists()

        await eventually(ready, seconds=START_SECONDS)
        self.notice = json.loads(self.ready_file.read_bytes())
        return self

    def add(self, *arguments: str) -> Self:
        """Start with more arguments from now on."""
        self._arguments = (*self._arguments, *arguments)
        return self

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `mito` is started with."""
        return self._arguments

    @property
    def supervisor(self) -> Running:
        """The started process."""
        assert self.running is not None
        return self.running

    @property
    def admin_password(self) -> str:
        """Of the administrator."""
        return Path(self.notice["admin_password_file"]).read_text().strip()

    def config(self, user: str = "", password: str = "", **more: Any) -> ClientConfig:
        """Settings of a client that acts as this user; default: the administrator."""
        return ClientConfig(
            coordinator_addr=self.notice["nats"],
            credential_path=self.home.folder / f"credentials-{secrets.token_hex(4)}",
            user=user or self.notice["admin_user"],
            password=password or self.admin_password,
            **more,
        )

    def open_client(self) -> MitoClient:
        """The administrator, by the SDK with an event loop; to be entered."""
        return MitoClient(self.config())

    def client(self, *arguments: str | Path, **more: Any) -> Done:
        """Run `mito client` against this platform."""
        return self.home.run("client", "-c", self.notice["http"], *arguments, **more)

    def child(self, *words: str) -> int:
        """The one process of this platform whose command line has all the words."""
        found = [pid for pid in self.home.processes() if all(w in command_of(pid) for w in words)]
        assert len(found) == 1, {pid: command_of(pid) for pid in found}
        return found[0]

    def children(self, *words: str) -> list[int]:
        """Those processes of this platform whose command line has all the words."""
        return [pid for pid in self.home.processes() if all(w in command_of(pid) for w in words)]

    def close(self) -> None:
        """End it in order, else by force."""
        if self.running is not None:
            try:
                self.running.stop()
            finally:
                self.running.close()


def side_by_side(
    run: Callable[[Sequence[str | Path]], Done], commands: Sequence[Sequence[str | Path]]
) -> list[Done]:
    """Run commands on as many cores as there are, and return how they ended in their order."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        return list(threads.map(run, commands))


def command_of(pid: int) -> str:
    """The command line of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def in_shell(script: str, **options: Any) -> SubmitTaskArgs:
    """A task that is a shell script."""
    return SubmitTaskArgs(command=("sh", "-c", script), **options)


def ended(client: SyncMitoClient, *tasks: Submitted | SubmitTaskArgs) -> list[TaskView]:
    """Submit what is not yet, wait for all, and return how they ended."""
    submitted = [client.submit_task(t) if isinstance(t, SubmitTaskArgs) else t for t in tasks]
    return list(client.wait_for_tasks(submitted))


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder with a short path (sockets lie below it)."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def platform(scratch: Path) -> Iterator[Platform]:
    """The platform that all tests share which do not break it."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        started = Platform(scratch)
        try:
            runner.run(started.start())
            with SyncMitoClient(started.config()) as client:  # many tests make groups on it
                client.set_group_quota(started.notice["admin_user"], "+1000")
            yield started
        finally:
            started.close()


@pytest.fixture
def make_platform() -> Iterator[Callable[..., Platform]]:
    """Platforms of one test alone, which may break them."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    made: list[Platform] = []

    def make(**options: Any) -> Platform:
        made.append(Platform(folder / str(len(made)), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def admin(platform: Platform) -> Iterator[SyncMitoClient]:
    """The administrator, by the SDK."""
    with SyncMitoClient(platform.config()) as client:
        yield client


class Person(NamedTuple):
    """A user of one test alone, logged in; no worker serves their group, so their tasks wait."""

    name: str
    client: SyncMitoClient
    shell: Callable[..., Done]


@pytest.fixture
def person(platform: Platform, admin: SyncMitoClient, tmp_path: Path) -> Iterator[Person]:
    name, password = f"person-{secrets.token_hex(4)}", secrets.token_hex(16)
    admin.create_user(CreateUserArgs(username=name, password=password))
    path = tmp_path / "credentials"
    config = ClientConfig(coordinator_addr=platform.notice["http"], credential_path=path)

    def shell(*arguments: str | Path, **more: Any) -> Done:
        return platform.client("--credential-path", path, *arguments, **more)

    with contextlib.closing(SyncMitoClient(config)) as client:
        client.login(name, password)
        yield Person(name, client, shell)


@pytest.fixture(scope="session")
def shell(platform: Platform) -> Callable[..., Done]:
    """`mito client ...` of the administrator, who has logged in by it."""
    done = platform.client("auth", platform.notice["admin_user"], platform.admin_password)
    assert done.status == 0, done.err
    return platform.client


@pytest.fixture(scope="session")
def alice(admin: SyncMitoClient) -> tuple[str, str]:
    """Name and password of a user without rights."""
    name, password = f"alice-{secrets.token_hex(4)}", secrets.token_hex(16)
    admin.create_user(CreateUserArgs(username=name, password=password))
    return name, password


def _content(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 20, 0).decode(errors="replace")


class Site(Home):
    """Services that the user runs, with a configuration for the services of the platform."""

    def __init__(self, folder: Path, database: str, s3: S3Server) -> None:
        super().__init__(folder)
        self.secret = secrets.token_hex(12)
        self.admin_password = secrets.token_hex(12)
        nats_port, http_port = free_ports(2)
        self.nats, self.http = f"nats://127.0.0.1:{nats_port}", f"http://127.0.0.1:{http_port}"
        self._started: list[Running] = []
        self._make_keys()
        name = f"site-{secrets.token_hex(4)}"
        self.values = {
            "bind": self.http.removeprefix("http://"),
            "db_url": database,
            "s3_url": s3.url,
            "s3_access_key": s3.keys.access_key,
            "s3_secret_key": s3.keys.secret_key,
            "artifacts_bucket": f"{name}-artifacts",
            "attachments_bucket": f"{name}-attachments",
            "nats_url": self.nats,
            "nats_user": "mitosis",
            "nats_password": self.secret,
            "nats_system_password": self.secret,
            "admin_user": "root",
            "admin_password": self.admin_password,
        }
        self.config = self.write_config("config.toml")

    def write_config(self, name: str, **other: str | int) -> Path:
        """Write a configuration of the coordinator; some values may be others."""
        path = self.folder / name
        values = {**self.values, **other}
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
        path.write_text("[coordinator]\n" + "".join(lines))
        return path

    def nats_config(self) -> Path:
        """What `mito nats-config` writes for this configuration."""
        path = self.folder / "nats.conf"
        port = self.nats.rpartition(":")[2]
        store = self.folder / "nats-store"
        done = self.run(
            "nats-config", "--config", self.config, "-o", path, "--port", port,
            "--store-dir", store, "--relaxed-sync",
        )  # fmt: skip
        assert (done.status, done.text) == (0, str(path)), done
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return path

    def start(self, *arguments: str | Path, **more: str) -> Running:
        """Start a service; it is ended with the site at the latest."""
        self._started.append(super().start(*arguments, **more))
        return self._started[-1]

    def start_nats(self, config: Path) -> Running:
        """Start a nats-server with a configuration."""
        command = [nats_server(), "-c", str(config)]
        self._started.append(Running(command, self.environment, self.folder))
        return self._started[-1]

    def client_config(self, address: str = "") -> ClientConfig:
        """Of the administrator."""
        return ClientConfig(
            coordinator_addr=address or self.nats,
            credential_path=self.folder / "sdk-credentials",
            user="root",
            password=self.admin_password,
        )

    def commands(self) -> list[str]:
        """Command lines of what runs here."""
        return [line for line in map(command_of, self.processes()) if line]

    def close(self) -> None:
        """End everything."""
        for one in reversed(self._started):
            one.close()

    def _make_keys(self) -> None:
        key = Ed25519PrivateKey.generate()
        pem, form = Encoding.PEM, PrivateFormat.PKCS8
        private = self.folder / "private.pem"
        private.write_bytes(key.private_bytes(pem, form, NoEncryption()))
        private.chmod(0o600)
        public = key.public_key().public_bytes(pem, PublicFormat.SubjectPublicKeyInfo)
        (self.folder / "public.pem").write_bytes(public)
