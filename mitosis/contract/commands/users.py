"""Commands about accounts and their sessions."""

import msgspec

from mitosis.domain.quotas import QuotaChange
from mitosis.domain.user import UserPhase


class CreateUser(msgspec.Struct, forbid_unknown_fields=True):
    """Needs a platform administrator. The password travels to the coordinator only."""

    username: str
    password: str
    admin: bool = False

    def __repr__(self) -> str:
        return f"CreateUser(username={self.username!r}, admin={self.admin})"


class ChangePassword(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Replace one's own password; all sessions but `kept_session` end."""

    old_password: str
    new_password: str
    kept_session: str = ""

    def __repr__(self) -> str:
        return "ChangePassword(...)"


class ResetPassword(msgspec.Struct, forbid_unknown_fields=True):
    """Needs a platform administrator. All sessions of the user end."""

    username: str
    new_password: str

    def __repr__(self) -> str:
        return f"ResetPassword(username={self.username!r})"


class ChangeUserState(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs a platform administrator. Locked and deleted end all sessions.

    Deleted is for ever: the user's tasks are cancelled and the user's workers drained.
    """

    username: str
    state: UserPhase
    reason: str = ""


class ChangeAdmin(msgspec.Struct, forbid_unknown_fields=True):
    """Needs a platform administrator. The last one stays."""

    username: str
    admin: bool


class ChangeGroupQuota(msgspec.Struct, forbid_unknown_fields=True):
    """Needs a platform administrator. How many groups the user may have, the own one included."""

    username: str
    change: QuotaChange


class RevokeSession(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """End a session; `session` empty: all of them but `kept_session`.

    `username` empty: one's own; those of others need a platform administrator.
    """

    session: str = ""
    kept_session: str = ""
    username: str = ""
