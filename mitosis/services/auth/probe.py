"""Is the NATS server safe to serve on? Ask as a stranger.

A server without the auth callout lets everybody do everything, and looks like a working one.
"""

import ssl

from mitosis.errors import Misconfigured, Unavailable
from mitosis.nats.failures import address
from mitosis.nats.stranger import subjects_open_to_strangers

_READ = ("mito.events.>", "mito.live.>", "mito.work.>", ">")
_WRITE = ("$JS.API.INFO",)
_ADVICE = (
    "run 'mito nats-config' and start the NATS server with the configuration that it writes "
    "(accounts, auth callout, limits)"
)


async def refuse_open_server(
    server: str, *, tls: ssl.SSLContext | None = None, timeout_seconds: float = 0.5
) -> bool:
    """Connect without credentials, and try what only services may do.

    Args:
        server: Address; of a cluster all addresses, separated by commas.
        tls: For the address.
        timeout_seconds: An open server lets in at once. One that asks a responder keeps a
            stranger waiting while none runs: silence counts as a closed door.

    Returns:
        Whether strangers are let in as guests. False: the server lets nobody in; before the
        responder runs this is right, after it the server does not ask our responder. Of a cluster:
        whether all that answer let them in.

    Raises:
        Misconfigured: A stranger may do more than log in.
        Unavailable: The server does not answer; of a cluster none does.
    """
    welcome: list[bool] = []
    failures: list[Unavailable] = []
    for one in server.split(","):
        try:
            welcome.append(await _lets_guests_in(one.strip(), tls, timeout_seconds))
        except Unavailable as error:
            failures.append(error)
    if not welcome:
        raise failures[0]
    return all(welcome)


async def _lets_guests_in(server: str, tls: ssl.SSLContext | None, timeout_seconds: float) -> bool:
    allowed = await subjects_open_to_strangers(
        server, read=_READ, write=_WRITE, tls=tls, timeout_seconds=timeout_seconds
    )
    if allowed is None:
        return False
    if not allowed:
        return True
    deeds = [f"read {subject!r}" for subject in allowed if subject in _READ]
    deeds += [f"use JetStream ({subject})" for subject in allowed if subject in _WRITE]
    raise Misconfigured(
        f"on the NATS server at {address(server)} a stranger without credentials may "
        f"{', '.join(deeds)}: {_ADVICE}",
        server=address(server),
        allowed=deeds,
    )


def not_asked(server: str) -> Misconfigured:
    """The error for a server that shuts everybody out and does not ask the responder."""
    return Misconfigured(
        f"the NATS server at {_shown(server)} does not ask this coordinator who may connect: "
        f"its auth callout is missing or names another issuer key; {_ADVICE}",
        server=_shown(server),
    )


def _shown(server: str) -> str:
    return ", ".join(address(one.strip()) for one in server.split(","))
