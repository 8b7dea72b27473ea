"""What a guest may ask: `mito.login.<verb>`."""

import base64
from datetime import datetime

import msgspec


class Hello(msgspec.Struct, forbid_unknown_fields=True):
    """`hello`: is a coordinator there?"""

    version: str = ""


class Welcome(msgspec.Struct):
    """Answer to `hello`."""

    version: str
    term: int


class PasswordLogin(msgspec.Struct, forbid_unknown_fields=True):
    """`password`: open a session."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"PasswordLogin(username={self.username!r})"


class SessionToken(msgspec.Struct):
    """An open session. `token` is what later connections present; keep it as a secret."""

    username: str
    admin: bool
    token: str
    session: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"SessionToken(username={self.username!r}, session={self.session!r})"


class _Claims(msgspec.Struct):
    sid: str = ""


def session_of(token: str) -> str:
    """Return the id of the session that a token belongs to; empty for a token of another kind.

    Nothing is verified: it tells the holder which of the own sessions is this one.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return ""
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Claims).sid
    except (ValueError, msgspec.MsgspecError):
        return ""
