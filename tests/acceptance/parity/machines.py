"""Machines with one worker each, started as their user would do it."""

import asyncio
import contextlib
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from mitosis import ClientConfig, SyncMitoClient
from mitosis.config.client import CreateUserArgs
from mitosis.contract.queries import WorkerView
from mitosis.testing.waiting import eventually

from ..conftest import Done, Home, Platform, Running

T = TypeVar("T")

_UUID = re.compile(r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.MULTILINE)


def soon(question: Callable[[], T], seconds: float = 20.0) -> T:
    """`eventually` for tests without a loop."""
    return asyncio.run(eventually(question, seconds=seconds))


class Machine(Home):
    """A user's machine with a worker process, ended with the test at the latest."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.running: Running | None = None
        self.uuid = ""

    def run_worker(self, *arguments: str | Path, **more: str) -> Running:
        """Start a worker; whether it will register is another question."""
        self.running = self.start("worker", *arguments, **more)
        return self.running

    @property
    def process(self) -> Running:
        """The worker's."""
        assert self.running is not None
        return self.running

    def registered(self) -> str:
        """Wait for the UUID, which stands alone on a line of standard output."""

        def announced() -> list[str]:
            assert not self.process.ended(), self.process.err
            return _UUID.findall(self.process.out)

        (self.uuid,) = soon(announced)
        return self.uuid

    def close(self) -> None:
        if self.running is not None:
            self.running.close()


class Account:
    """A user with a client by the SDK."""

    def __init__(self, platform: Platform, admin: SyncMitoClient, folder: Path) -> None:
        self.name = f"user-{secrets.token_hex(4)}"
        self.password = secrets.token_hex(12)
        admin.create_user(CreateUserArgs(username=self.name, password=self.password))
        self.credentials = folder / f"credentials-{self.name}"
        self.client = SyncMitoClient(
            ClientConfig(
                coordinator_addr=platform.notice["http"],
                credential_path=self.credentials,
            )
        )
        self.client.login(self.name, self.password)

    def worker(self, uuid: str) -> WorkerView:
        """The worker as this user sees it."""
        return self.client.get_worker(uuid)


class Owner(Account):
    """A user with the executable; no worker serves their group, so their tasks wait."""

    def __init__(self, platform: Platform, admin: SyncMitoClient, folder: Path) -> None:
        super().__init__(platform, admin, folder)
        self._platform = platform

    def mito(self, *arguments: str | Path) -> Done:
        """Run `mito client` as this user."""
        return self._platform.client("--credential-path", self.credentials, *arguments)


@contextmanager
def machine(root: Path) -> Iterator[Machine]:
    """A machine that is shut down at the end."""
    made = Machine(root)
    try:
        yield made
    finally:
        made.close()


class Link:
    """A network between a machine and a server, which can be cut and joined again."""

    def __init__(self, server: str) -> None:
        """`server` is a URL; `address` is the same server by this link."""
        parts = urlsplit(server)
        self._server = (str(parts.hostname), int(parts.port or 0))
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.address = f"{parts.scheme}://127.0.0.1:{port}"
        self._whole = True
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Break what stands, and let nothing through."""
        self._whole = False
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """Let connections through again."""
        self._whole = True

    def close(self) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in (self._listener, *self._ends):
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            if not self._whole:
                near.close()
                continue
            far = socket.create_connection(self._server)
            self._ends += [near, far]
            for source, target in ((near, far), (far, near)):
                thread = threading.Thread(target=_carry, args=(source, target))
                thread.start()
                self._threads.append(thread)


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # one of the two was cut
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
