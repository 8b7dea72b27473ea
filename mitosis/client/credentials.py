"""The file of stored sessions: `user:token` lines, for its owner's eyes only.

    # http://127.0.0.1:5000
    alice:eyJhbGciOi...

A comment line names the platform of the lines below it, so that sessions of several platforms live
side by side and no token is ever shown to another platform. Lines above every comment (the
original's form) count for any platform. The newest session of a platform stands first: it is the
one that is used when no user is named.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mitosis.errors import Misconfigured

MAX_FILE_BYTES = 1024 * 1024


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
        """`path` need not exist."""
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
        """Keep a session, in the place of an older one of the same user.

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
                text = stream.read(MAX_FILE_BYTES).decode()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable("read", error) from error
        sessions, platform = [], ""
        for line in text.splitlines():
            user, colon, token = line.strip().partition(":")
            if line.startswith("#"):
                platform = line.removeprefix("#").strip()
            elif colon and user and token:
                sessions.append(StoredSession(platform, user, token.strip()))
        return sessions

    def _write(self, sessions: list[StoredSession]) -> None:
        platforms = dict.fromkeys(["", *(session.platform for session in sessions)])
        lines = []
        for platform in platforms:
            lines += [f"# {platform}"] if platform else []
            lines += [f"{s.user}:{s.token}" for s in sessions if s.platform == platform]
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w") as stream:
                    stream.write("".join(f"{line}\n" for line in lines))
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(self.path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._unusable("written", error) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable("written", error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _unusable(self, verb: str, error: Exception) -> Misconfigured:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return Misconfigured(
            f"the credential file {self.path} cannot be {verb}: {reason}; "
            "name another one by --credential-path"
        )
