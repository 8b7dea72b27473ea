"""What a server lets a stranger do, found by trying; policy is services/auth/probe.py."""

import ssl
from collections.abc import Sequence

from nats.aio.client import Client
from nats.errors import Error as NatsError

from mitosis.errors import Unavailable
from mitosis.nats.credentials import Guest
from mitosis.nats.failures import Refused, address
from mitosis.nats.link import dial


async def subjects_open_to_strangers(
    server: str,
    *,
    read: Sequence[str],
    write: Sequence[str],
    tls: ssl.SSLContext | None,
    timeout_seconds: float,
) -> list[str] | None:
    """Connect without credentials, and try to subscribe and to publish.

    Returns:
        Those of the subjects that the server did not deny; None if it lets no stranger in, or
        does not decide in time.

    Raises:
        Unavailable: No server answers.
    """
    denials: list[str] = []
    guest = Guest()
    try:
        link = await dial(
            server,
            guest,
            name="",
            tls=tls,
            timeout_seconds=timeout_seconds,
            on_closed=_ignore,
            on_error=lambda error: denials.append(str(error).lower()),
        )
    except Refused:
        return None
    try:
        for subject in read:
            await link.subscribe(subject)
        for subject in write:
            link.send(subject, b"", f"_INBOX.guest.{guest.nonce}.probe")
        await link.flush(timeout_seconds)  # denials come before the answer to this
    except (NatsError, TimeoutError) as error:
        raise Unavailable(f"the NATS server at {address(server)} does not answer") from error
    finally:
        await link.close()
    return [
        subject
        for subject in (*read, *write)
        if not any(f'"{subject.lower()}"' in denial for denial in denials)
    ]


async def _ignore(_: Client) -> None:
    """Nobody waits for the end of this link."""
