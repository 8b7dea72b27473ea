"""What another NATS client needs to act as the user who is logged in."""

from pathlib import Path

import msgspec

from mitosis.client.session import Session
from mitosis.nats.credentials import Token, inbox_prefix


class NatsAccess(msgspec.Struct, frozen=True):
    """How to connect: what the session of this client may do, for as long as it lasts.

    Attributes:
        servers: Addresses of the NATS servers.
        token: The signed token of the session; a secret.
        inbox_prefix: Where answers may be wanted; of this connection alone.
        ca: File of the authority whose certificates are to be believed; None: those of the system.
    """

    servers: tuple[str, ...]
    token: str
    inbox_prefix: str
    ca: Path | None

    def __repr__(self) -> str:
        return f"NatsAccess(servers={self.servers!r}, inbox_prefix={self.inbox_prefix!r})"


async def nats_access(session: Session) -> NatsAccess:
    """Return what to connect with; see `MitoClient.get_nats_access`."""
    connection = await session.open()
    servers = await session.servers()
    credentials = connection.credentials
    assert isinstance(credentials, Token)  # noqa: S101  a session acts by one
    ca = session.nats_trust(servers).ca
    return NatsAccess(
        tuple(servers), credentials.token, inbox_prefix(credentials),
        None if ca is None else ca.absolute(),
    )  # fmt: skip
