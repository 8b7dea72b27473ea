"""As whom Postgres runs: it refuses root, so root gives it another identity."""

import asyncio
import os
import pwd
import signal
from pathlib import Path

import msgspec

from mitosis.services.platform.failures import ServerFailed
from mitosis.services.platform.process import SAME, bare_environment, launch_line

_PROBE_BOUND_SECONDS = 20.0
_OTHER_USERS = ("nobody", "daemon")


class Identity(msgspec.Struct, frozen=True):
    """How the launcher makes the process somebody else than root."""

    launcher_word: str
    owner: tuple[int, int] | None = None
    """Who must own the data on disk, when it is not the caller."""


def candidates() -> list[Identity]:
    """Returns the identities to try, best first.

    Not root: the caller. Root: a user namespace, in which the files stay root's and nothing has to
    be reachable for others; then a real change to `nobody` or `daemon`.
    """
    if os.geteuid() != 0:
        return [Identity(SAME)]
    users = [user for name in _OTHER_USERS if (user := _user(name)) is not None]
    inside = [Identity(f"userns:{user.pw_uid}:{user.pw_gid}") for user in users[:1]]
    outside = [
        Identity(f"setuid:{user.pw_uid}:{user.pw_gid}", (user.pw_uid, user.pw_gid))
        for user in users
    ]
    return inside + outside


async def choose(
    program: Path, folder: Path, tries: list[Identity], passage: Path | None = None
) -> tuple[Identity, str]:
    """Returns the first identity under which the program runs, and the program's version line.

    Args:
        program: What is to run.
        folder: Its folder, which may be handed over; other users must be able to reach it.
        tries: The identities, best first.
        passage: A parent folder of ours that may be opened for passing through (0711).

    Raises:
        ServerFailed: none works; the message says why for each and what to do.
    """
    reasons = []
    for identity in tries:
        reason = _unreachable(folder, identity, passage)
        if reason is None:
            status, text = await _probe(program, folder, identity)
            if status == 0:
                return identity, text
            reason = text or f"exit status {status}"
        reasons.append(f"{identity.launcher_word}: {reason}")
    raise ServerFailed(
        f"{program} cannot run here ({'; '.join(reasons)}): run as a normal user, "
        "allow user namespaces, or put the data folder where other users can reach it"
    )


def hand_over(folder: Path, identity: Identity) -> None:
    """Gives a folder to whom the identity needs as owner."""
    if identity.owner is not None:
        os.chown(folder, *identity.owner)


def open_passage(passage: Path | None, identity: Identity) -> None:
    """Lets other users pass a folder of ours, not see what it holds, if the identity needs it."""
    if passage is not None and identity.owner is not None:
        passage.chmod(0o711)


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _unreachable(folder: Path, identity: Identity, passage: Path | None) -> str | None:
    """Names the parent folder that the other user may not pass; only `passage` may be opened."""
    if identity.owner is None:
        return None
    uid, gid = identity.owner
    for parent in folder.resolve().parents:
        if passage is not None and parent == passage.resolve():
            continue
        info = parent.stat()
        bit = 0o100 if info.st_uid == uid else 0o010 if info.st_gid == gid else 0o001
        if not info.st_mode & bit:
            return f"the folder {parent} is closed to that user"
    return None


async def _probe(program: Path, folder: Path, identity: Identity) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *launch_line([program, "--version"], signal.SIGKILL, identity.launcher_word),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=bare_environment(folder),
        start_new_session=True,
    )
    output, _ = await asyncio.wait_for(process.communicate(), _PROBE_BOUND_SECONDS)
    return await process.wait(), output.decode("utf-8", "replace").strip()
