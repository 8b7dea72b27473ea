"""The last word of a worker that died: nothing that it ran is alive.

The engine's guardian runs this program (`python -m mitosis.services.worker.epitaph FILE`) when the
worker is dead and everything that it ran is dead too. So a killed worker
costs its tasks a second, not the lease. When nobody hears it, the lease ends as without it.
"""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import msgspec

from mitosis.contract.commands import Done
from mitosis.contract.work import Leave
from mitosis.errors import MitosisError
from mitosis.nats.connection import Connection
from mitosis.nats.credentials import Token
from mitosis.services.worker.link import NatsLink
from mitosis.tls import Trust

#: Below the time for which a successor waits for the work folder, which the guardian still holds.
SPEAK_SECONDS = 5.0


class Epitaph(msgspec.Struct):
    """How to speak for the worker. Holds its token: the file is for its owner only."""

    servers: list[str]
    worker: str
    token: str
    ca: str | None = None
    insecure: bool = False

    def __repr__(self) -> str:
        return f"Epitaph(worker={self.worker!r})"


def command(path: Path) -> list[str]:
    """What the guardian runs."""
    return [sys.executable, "-m", "mitosis.services.worker.epitaph", str(path)]


def environment() -> dict[str, str]:
    """The environment of that program: it finds the same modules as this process."""
    return {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}


def write(path: Path, epitaph: Epitaph) -> None:
    """Leave the file for the guardian, in the place of an older one.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        target.write(msgspec.json.encode(epitaph))
    temporary.replace(path)


async def speak(epitaph: Epitaph) -> None:
    """Tell the coordinator.

    Raises:
        MitosisError: Nobody heard it.
    """
    connection = await Connection.open(
        epitaph.servers,
        Token(epitaph.token, "worker", epitaph.worker),
        name="mito-guardian",
        trust=Trust("nats_ca", Path(epitaph.ca) if epitaph.ca else None, epitaph.insecure),
        reconnect=False,
    )
    async with connection:
        await NatsLink(connection, epitaph.worker).ask(
            "leave", Leave("its process died", died=True), Done, timeout_seconds=SPEAK_SECONDS
        )


def main(path: Path) -> int:
    """Read the file and speak; the exit status is 0 when it was heard."""
    try:
        epitaph = msgspec.json.decode(path.read_bytes(), type=Epitaph)
    except (OSError, msgspec.MsgspecError):
        return 1  # the worker had not registered yet
    try:
        asyncio.run(asyncio.wait_for(speak(epitaph), SPEAK_SECONDS))
    except (MitosisError, TimeoutError) as error:
        sys.stderr.write(f"worker {epitaph.worker} died, and nobody could be told: {error}\n")
        return 1
    with contextlib.suppress(OSError):
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
