"""Is the NATS server safe to serve on? Ask as a stranger.

A server without the auth callout lets everybody do everything, and looks like a working one.
"""

import ssl

from nats.errors import Error as NatsError

from mitosis.errors import Misconfigured, Unavailable
from mitosis.nats.connection import Guest
from mitosis.nats.link import Refused, address, dial

_FORBIDDEN_SUBJECTS = ("mito.events.>", "mito.live.>", "mito.work.>", ">")
_FORBIDDEN_PUBLISH = "$JS.API.INFO"
_ADVICE = (
    "run 'mito nats-config' and start the NATS server with the configuration that it writes "
    "(accounts, auth callout, limits)"
)


async def refuse_open_server(
    server: str, *, tls: ssl.SSLContext | None = None, timeout_seconds: float = 0.5
) -> bool:
    """Connect without credentials, and try what only services may do.

    Args:
        server: Address.
        tls: For the address.
        timeout_seconds: An open server lets in at once. One that asks a responder keeps a
            stranger waiting while none runs: silence counts as a closed door.

    Returns:
        Whether strangers are let in as guests. False: the server lets nobody in; before the
        responder runs this is right, after it the server does not ask our responder.

    Raises:
        Misconfigured: A stranger may do more than log in.
        Unavailable: The server does not answer.
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
        return False
    try:
        for subject in _FORBIDDEN_SUBJECTS:
            await link.subscribe(subject)
        link.send(_FORBIDDEN_PUBLISH, b"", f"_INBOX.guest.{guest.nonce}.probe")
        await link.flush(timeout_seconds)
    except (NatsError, TimeoutError) as error:
        raise Unavailable(f"the NATS server at {address(server)} does not answer") from error
    finally:
        await link.close()
    allowed = [
        f"read {subject!r}"
        for subject in _FORBIDDEN_SUBJECTS
        if not any(f'subscription to "{subject}"' in denial for denial in denials)
    ]
    if not any(_FORBIDDEN_PUBLISH.lower() in denial for denial in denials):
        allowed.append(f"use JetStream ({_FORBIDDEN_PUBLISH})")
    if allowed:
        raise Misconfigured(
            f"on the NATS server at {address(server)} a stranger without credentials may "
            f"{', '.join(allowed)}: {_ADVICE}",
            server=address(server),
            allowed=allowed,
        )
    return True


def not_asked(server: str) -> Misconfigured:
    """The error for a server that shuts everybody out and does not ask the responder."""
    return Misconfigured(
        f"the NATS server at {address(server)} does not ask this coordinator who may connect: "
        f"its auth callout is missing or names another issuer key; {_ADVICE}",
        server=address(server),
    )


async def _ignore(_: object) -> None:
    """Nobody waits for the end of a probing link."""
