"""The file of stored sessions: `user:token` lines, for its owner's eyes only.

    # http://127.0.0.1:5000
    alice:eyJhbGciOi...

A comment line names the platform of the lines below it, so that sessions of several platforms live
side by side and no token is ever shown to another platform. Lines above every comment (the
original's form) count for any platform. The newest session of a platform stands first: it is the
one that is used when no user is named.

Many processes share the file. A writer holds the lock beside it, changes what it reads then, and
puts a whole new file in the place of the old one: nobody sees or leaves half a file, also when a
writer is killed. A damaged line costs only the session that stood there.
"""

import contextlib
import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mitosis.errors import Misconfigured

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_SESSIONS = 1_000  # the oldest ones go first
LOCK_SECONDS = 10.0  # a writer needs milliseconds; one that is stopped must not hold up all others
_PAUSE_SECONDS = 0.01
_LINE = re.compile(r"(?P<user>[!-~]+?):(?P<token>[!-~]{1,8192})", re.ASCII)


class StoredSession(NamedTuple):
    """One line. `platform` empty: any."""

    platform: str
    user: str
    token: str

    def __repr__(self) -> str:
        return f"StoredSession(platform={self.platform!r}, user={self.user!r})"


class CredentialFile:
    """Sessions of this user on this machine. Concurrent writers wait for each other."""

    def __init__(self, path: Path) -> None:
        """`path` need not exist. A symbolic link stays one: the file that it names is written."""
        self.path = path

    def find(self, platform: str, user: str | None) -> StoredSession | None:
        """Return the session of a user, or the first one when no user is named.

        Raises:
            Misconfigured: The file cannot be read.
        """
        sessions = self._read()
        for wanted in (platform, ""):
            for session in sessions:
                if session.platform == wanted and user in {None, session.user}:
                    return session
        return None

    def store(self, session: StoredSession, *, first: bool = True) -> None:
        """Keep a session, in the place of an older one of the same user. Blocking, up to 10 s.

        Args:
            session: The new one.
            first: Use it from now on when no user is named; False: only if there is no other.

        Raises:
            Misconfigured: The file cannot be written.
        """
        with self._locked():
            before = self._first(session.platform)
            others = self._others(session.platform, session.user)
            keeps_place = before is None or before.user == session.user
            self._write([session, *others] if first or keeps_place else [*others, session])

    def forget(self, platform: str, user: str) -> None:
        """Drop the session of a user, if there is one.

        Raises:
            Misconfigured: The file cannot be written.
        """
        with self._locked():
            self._write(self._others(platform, user))

    def _first(self, platform: str) -> StoredSession | None:
        return next((s for s in self._read() if s.platform in {platform, ""}), None)

    def _others(self, platform: str, user: str) -> list[StoredSession]:
        return [s for s in self._read() if s.user != user or s.platform not in {platform, ""}]

    def _read(self) -> list[StoredSession]:
        try:
            with self.path.open("rb") as stream:
                text = stream.read(MAX_FILE_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable("read", error) from error
        sessions, damaged, platform = [], 0, ""
        for line in filter(None, map(str.strip, text.split("\n"))):
            if line.startswith("#"):
                platform = line.removeprefix("#").strip()
            elif match := _LINE.fullmatch(line):
                sessions.append(StoredSession(platform, match["user"], match["token"]))
            else:
                damaged += 1
        if damaged:
            log.warning(
                "%s damaged in the credential file %s: the sessions that stood there are lost, "
                "log in again",
                "a line is" if damaged == 1 else f"{damaged} lines are", self.path,
            )  # fmt: skip
        return sessions

    def _write(self, sessions: list[StoredSession]) -> None:
        kept = sessions[:MAX_SESSIONS]
        lines = []
        for platform in dict.fromkeys(["", *(session.platform for session in kept)]):
            lines += [f"# {platform}"] if platform else []
            lines += [f"{s.user}:{s.token}" for s in kept if s.platform == platform]
        target = Path(os.path.realpath(self.path))
        temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}.new")
        try:
            self._sweep(target)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w") as stream:
                    stream.write("".join(f"{line}\n" for line in lines))
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._unusable("written", error) from error

    @staticmethod
    def _sweep(target: Path) -> None:
        """Remove what a killed writer has left; whoever has the lock is the only writer."""
        for path in target.parent.iterdir():
            if path.name.startswith(f".{target.name}.") and path.name.endswith(".new"):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        target = Path(os.path.realpath(self.path))
        lock = target.with_name(f".{target.name}.lock")
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable("written", error) from error
        try:
            self._take(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise self._unusable("written", error) from error
            except OSError as error:
                raise self._unusable("locked", error) from error
            else:
                return
            time.sleep(_PAUSE_SECONDS)

    def _unusable(self, verb: str, error: OSError) -> Misconfigured:
        reason = error.strerror or str(error)
        if isinstance(error, BlockingIOError):
            reason = f"another process has held its lock for {LOCK_SECONDS:g} s"
        return Misconfigured(
            f"the credential file {self.path} cannot be {verb}: {reason}; "
            "name another one by --credential-path"
        )
