"""Who this worker is: its machine, the machine's present boot, and its locked work folder.

The lock is held by the worker and by the engine's helpers. So whoever gets it knows that every
process of the former worker is dead, and all that they ran (design, Time, leases and leadership).

A path alone does not name a folder: it can be removed and made anew beside a worker that lives on,
and be another one in each container. So there is a mark in it. Nor is one machine known from its
clone by its id and its name; the addresses of its network cards are taken to it. What is told apart
though it is the same costs a lease; what is taken for the same though it is not runs tasks twice.
"""

import fcntl
import hashlib
import os
import socket
import time
import uuid
from pathlib import Path

import msgspec

from mitosis.errors import Misconfigured
from mitosis.processes.strays import running_below

MAX_FOLDERS = 4_096  # default folders of workers of one user on one machine
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MACHINE_ID = Path("/etc/machine-id")
_NETWORK = Path("/sys/class/net")
_MARK = "mark"
_WAIT_SECONDS = 10.0  # for helpers of a killed worker, which have a last word (epitaph.py)
_PAUSE_SECONDS = 0.05


class Machine(msgspec.Struct, frozen=True):
    """Where a worker runs. `machine` and `boot` are compared, never read.

    `boot` is empty where the machine cannot be told from its clones, such as in a container: each
    of them has a boot of its own, and none proves that the others are dead.
    """

    machine: str
    boot: str
    host: str


class Record(msgspec.Struct):
    """`worker.json`: who uses the folder; for people and for the next worker. No secrets."""

    worker: str
    machine: str
    boot: str
    host: str
    pid: int


class WorkFolder:
    """A folder that one worker at a time uses. Made by `open`; close it last.

    Attributes:
        identity: Path and mark. Who holds the lock of the same one has succeeded its worker.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd
        mark = path / _MARK
        is_new = not mark.exists()
        self.identity = f"{path.resolve()} {_made_id(mark)}"
        if is_new and (found := running_below(self.slots.resolve())):
            mark.unlink()
            raise _still_used(path, found)

    @classmethod
    def open(cls, path: Path) -> "WorkFolder":
        """Make and lock a folder. Blocking, for at most ten seconds.

        Raises:
            Misconfigured: It cannot be made, or another worker uses it, or used one that was
                removed here and what it runs is alive.
        """
        fd = _open_lock(path)
        deadline = time.monotonic() + _WAIT_SECONDS
        while not _lock(fd):
            if time.monotonic() > deadline:
                os.close(fd)
                raise Misconfigured(
                    f"the work folder {path} is in use{_user_of(path)}: name another one by "
                    "work_dir, or end that worker",
                    setting="work_dir",
                )
            time.sleep(_PAUSE_SECONDS)
        return cls._locked(path, fd)

    @classmethod
    def open_any(cls, parent: Path) -> "WorkFolder":
        """Lock the first free one of the default folders `1`, `2`, ... below `parent`.

        Raises:
            Misconfigured: None can be made, or all are in use, or see `open`.
        """
        for number in range(1, MAX_FOLDERS + 1):
            path = parent / str(number)
            fd = _open_lock(path)
            if _lock(fd):
                return cls._locked(path, fd)
            os.close(fd)
        raise Misconfigured(
            f"all {MAX_FOLDERS} work folders in {parent} are in use: name another one by work_dir",
            setting="work_dir",
        )

    @classmethod
    def _locked(cls, path: Path, fd: int) -> "WorkFolder":
        try:
            return cls(path, fd)
        except BaseException:
            os.close(fd)
            raise

    def restore(self) -> bool:
        """Make the folder anew when it is gone, locked as at the start; whether it was gone.

        Helpers that live on hold the lock of the old one: start them anew.

        Raises:
            Misconfigured: It cannot be made, or another worker has taken its place.
        """
        fd = _open_lock(self.path)
        try:
            if os.path.sameopenfile(fd, self.lock_fd):
                return False
            if not _lock(fd):
                raise Misconfigured(
                    f"the work folder {self.path} is in use{_user_of(self.path)}",
                    setting="work_dir",
                )
            os.dup2(fd, self.lock_fd, inheritable=False)
        finally:
            os.close(fd)
        return True

    @property
    def slots(self) -> Path:
        """Where the engine makes the folders of its slots."""
        return self.path / "slots"

    @property
    def epitaph(self) -> Path:
        """What the guardian reads when the worker has died; has the worker's token."""
        return self.path / "epitaph.json"

    def outbox(self) -> Path:
        """An empty folder for archives that are being sent."""
        folder = self.path / "outbox"
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in folder.iterdir():
            left.unlink()
        return folder

    def let_others_pass(self) -> None:
        """Let the user that tasks run as come to the slots below, and see nothing else."""
        self.path.chmod(0o711)

    def write_record(self, worker: str, machine: Machine) -> None:
        """Say who uses the folder."""
        record = Record(worker, machine.machine, machine.boot, machine.host, os.getpid())
        temporary = self.path / ".worker.json"
        temporary.write_bytes(msgspec.json.encode(record) + b"\n")
        temporary.replace(self.path / "worker.json")

    def close(self) -> None:
        """Give the lock back; it is free when the helpers are gone too."""
        os.close(self.lock_fd)


def this_machine(folder: Path) -> Machine:
    """Identify the machine.

    The id of the system is mixed with the host's name and its network cards: cloned machines and
    containers of one image share the first, and taking two machines for one would let a living
    worker be called dead. Where the system has no id, one is made and kept in `folder`.

    Raises:
        Misconfigured: The made id cannot be stored.
    """
    host = socket.gethostname()[:255]
    known = _read(_MACHINE_ID) or _made_id(folder / "machine-id")
    cards = _network_cards()
    names = "\n".join((known, host, *cards))
    digest = hashlib.sha256(names.encode("utf-8", "replace")).hexdigest()
    return Machine(digest[:32], _read(_BOOT_ID) if cards else "", host)


def _network_cards() -> list[str]:
    """The addresses of the cards that a device stands behind; none in most containers."""
    try:
        found = {
            _read(card / "address") for card in _NETWORK.iterdir() if (card / "device").exists()
        }
    except OSError:
        return []
    return sorted(found - {""})


def _made_id(path: Path) -> str:
    known = _read(path)
    if not known:
        known = uuid.uuid4().hex
        try:
            path.write_text(known)
        except OSError as error:
            raise Misconfigured(
                f"the work folder {path.parent} cannot be written: {error.strerror}",
                setting="work_dir",
            ) from error
    return known


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _open_lock(path: Path) -> int:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Misconfigured(
            f"the work folder {path} cannot be used: {error.strerror}; name another one by "
            "work_dir",
            setting="work_dir",
        ) from error


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_used(path: Path, pids: list[int]) -> Misconfigured:
    shown = ", ".join(map(str, pids[:10]))
    return Misconfigured(
        f"the work folder {path} was removed while a worker used it, and what that runs is alive "
        f"(processes {shown}): end that worker, or name another folder by work_dir",
        setting="work_dir",
    )


def _user_of(path: Path) -> str:
    try:
        record = msgspec.json.decode((path / "worker.json").read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return ""
    return f" by worker {record.worker} (process {record.pid} on {record.host})"
