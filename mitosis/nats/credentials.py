"""Who a connection is: what it presents to the server, and the inbox that it may use."""

import base64
import os
import re

import msgspec

from mitosis.contract.login import session_of
from mitosis.contract.subjects import GUEST_INBOX, USER_INBOX, WORKER_INBOX, inbox

SERVICE_INBOX = "_INBOX.service"
NONCE = re.compile(r"[A-Za-z0-9]{16,64}", re.ASCII)
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def random_token(length: int = 26) -> str:
    """Return random letters and digits of base 32; 26 of them are 130 bits."""
    return base64.b32encode(os.urandom(5 * length // 8 + 1)).decode()[:length]


class ServiceLogin(msgspec.Struct, frozen=True, tag="service"):
    """A static user of the NATS configuration: coordinator, projector, operator.

    Attributes:
        settings: Where name and password come from, for who has to correct them.
    """

    user: str
    password: str
    settings: str = "nats_user and nats_password"

    def __repr__(self) -> str:
        return f"ServiceLogin(user={self.user!r})"


class Token(msgspec.Struct, frozen=True, tag="token"):
    """An open session of a user, or the own token of a worker.

    Attributes:
        token: The signed token; a secret.
        kind: `user` or `worker`.
        owner: Name of the user, or UUID of the worker; must be what the token says.
    """

    token: str
    kind: str
    owner: str

    def __repr__(self) -> str:
        return f"Token(kind={self.kind!r}, owner={self.owner!r})"


class Guest(msgspec.Struct, frozen=True, tag="guest"):
    """Nobody yet: may only log in. `nonce` is its private inbox, drawn at random."""

    nonce: str = msgspec.field(default_factory=random_token)


Credentials = ServiceLogin | Token | Guest


def inbox_prefix(credentials: Credentials) -> str:
    """Return the inbox prefix for one connection; replies come on `<prefix>.<token>`.

    It lies inside what the server allows to this identity, and two connections of one identity
    never share it. That of a user names the session, so that an answer, and with it a command,
    belongs to a session (decisions/0028).
    """
    match credentials:
        case ServiceLogin():
            return inbox(SERVICE_INBOX, random_token())
        case Guest(nonce):
            return inbox(GUEST_INBOX, nonce)
        case Token(kind="worker", owner=owner):
            return f"{inbox(WORKER_INBOX, owner)}.{random_token()}"
        case Token(token=token, owner=owner):
            session = session_of(token)  # a malformed one names none, and is refused as a whole
            named = session if _SESSION.fullmatch(session) else "none"
            return f"{inbox(USER_INBOX, owner)}.{named}.{random_token()}"


def connect_options(credentials: Credentials, name: str) -> dict[str, str]:
    """Return what is sent to the server. A guest's name is its nonce, which the callout reads."""
    match credentials:
        case ServiceLogin(user, password):
            return {"name": name, "user": user, "password": password}
        case Guest(nonce):
            return {"name": nonce}
        case Token(token):
            return {"name": name, "token": token}
