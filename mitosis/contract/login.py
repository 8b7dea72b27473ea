"""What a guest may ask: `mito.login.<verb>`."""

from datetime import datetime

import msgspec


class Hello(msgspec.Struct):
    """`hello`: is a coordinator there?"""

    version: str = ""


class Welcome(msgspec.Struct):
    """Answer to `hello`."""

    version: str
    term: int


class PasswordLogin(msgspec.Struct):
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
