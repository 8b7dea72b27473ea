"""Commands about accounts and their sessions."""

import msgspec


class CreateUser(msgspec.Struct):
    """Needs a platform administrator. The password travels to the coordinator only."""

    username: str
    password: str
    admin: bool = False

    def __repr__(self) -> str:
        return f"CreateUser(username={self.username!r}, admin={self.admin})"


class RevokeSession(msgspec.Struct, omit_defaults=True):
    """End one of one's own sessions; `session` empty: all of them."""

    session: str = ""
