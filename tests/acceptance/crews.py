"""A user with workers of their own, and tasks that write what they do into a ledger."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mitosis import SyncMitoClient
from mitosis.contract.commands import Submitted
from mitosis.domain.task import TaskState

from .conftest import Platform, command_of, in_shell
from .parity.machines import Machine, Owner, machine, soon


class Crew:
    """A user whose group is served by the workers that the test starts, and by no other."""

    def __init__(self, platform: Platform, owner: Owner, folder: Path) -> None:
        self.owner, self.client, self.mito = owner, owner.client, owner.mito
        self.ledger = folder / "ledger"
        self._platform, self._folder = platform, folder
        self._stack = contextlib.ExitStack()

    def hire(self, *options: str, box: Machine | None = None, by: str = "") -> Machine:
        """Start a worker on a machine of its own, or anew on one that had one.

        `by`: the address of the coordinator, when it is not the usual one.
        """
        if box is None:
            folder = self._folder / f"box-{secrets.token_hex(3)}"
            box = self._stack.enter_context(machine(folder))
        if by:  # a session is kept for its address
            who, password = ("-u", self.owner.name), {"MITO_PASSWORD": self.owner.password}
        else:
            who, password = ("--credential-path", str(self.owner.credentials)), {}
        box.run_worker("-c", by or self._platform.notice["http"], *who, *options, **password)
        box.registered()
        return box

    def gated(self, name: str, **options: object) -> tuple[Submitted, Path]:
        """Submit a task that writes what it does into the ledger, and ends when its gate exists."""
        gate = self._folder / f"{name}.gate"
        script = (
            f"echo begin {name} $MITO_ATTEMPT >> {self.ledger}; "
            f"until [ -e {gate} ]; do sleep .02; done; "
            f"echo end {name} $MITO_ATTEMPT >> {self.ledger}"
        )
        return self.client.submit_task(in_shell(script, **options)), gate

    def noted(self, name: str, **options: object) -> Submitted:
        """Submit a task that writes its name into the ledger."""
        return self.client.submit_task(in_shell(f"echo {name} >> {self.ledger}", **options))

    def lines(self) -> list[str]:
        """The ledger."""
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def state(self, task: Submitted) -> TaskState:
        """Of a task, as stored."""
        return self.client.get_task(task.task).state

    def close(self) -> None:
        self._stack.close()
        self.client.close()


@contextmanager
def own_platform(settings: str = "") -> Iterator[Platform]:
    """A platform without workers, whose parts may be killed; `settings`: of its coordinator."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    platform = Platform(folder, workers=0)
    path = platform.home.folder / ".config/mitosis/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f"[coordinator]\n{settings}")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            yield runner.run(platform.start())
        finally:
            platform.close()
            shutil.rmtree(folder, ignore_errors=True)


def kill_coordinator(platform: Platform) -> None:
    """`kill -9`; its supervisor starts another one."""
    pid = soon(lambda: next(iter(platform.children("mitosis coordinator")), None), 30)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    soon(lambda: not Path(f"/proc/{pid}").exists())


@contextmanager
def frozen(platform: Platform, *words: str) -> Iterator[None]:
    """Freeze a server of a platform, and all its processes, for as long as it is entered."""
    (first,) = [pid for pid in platform.children(*words) if "launcher" not in command_of(pid)]
    below = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    pids = [first, *map(int, below)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def crew_of(platform: Platform, folder: Path) -> Iterator[Crew]:
    """A new user of a platform, with workers that end with the test."""
    with SyncMitoClient(platform.config()) as admin:
        made = Crew(platform, Owner(platform, admin, folder), folder)
    with contextlib.closing(made):
        yield made
