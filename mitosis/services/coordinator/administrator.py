"""The first administrator: created once, and given a new password only when told to."""

import logging

from mitosis.contract import subjects
from mitosis.domain import user
from mitosis.domain.user import UserPhase
from mitosis.errors import Misconfigured
from mitosis.services.auth.passwords import Passwords
from mitosis.services.coordinator.core import Core
from mitosis.services.coordinator.handlers.users import add_user

log = logging.getLogger(__name__)

ACTOR = "system:coordinator"


async def ensure_admin(
    core: Core, passwords: Passwords, name: str, password: str, *, reset: bool
) -> None:
    """Create the administrator; an existing account is left as it is, unless `reset`.

    Args:
        core: Of the term.
        passwords: Hashes.
        name: The setting `admin_user`.
        password: The setting `admin_password`.
        reset: Make an existing account an active administrator with this password; all its
            sessions end.

    Raises:
        Misconfigured: The account is deleted.
    """
    account = core.world.users.get(name)
    if account is not None and not reset:
        return
    if account is not None and account.phase is UserPhase.DELETED:
        raise Misconfigured(
            f"user {name!r} is deleted, which cannot be undone: name another one by --admin-user",
            key="admin_user",
        )
    password_hash = await passwords.hash(password)
    unit = core.journal.unit(ACTOR)
    if account is None:
        add_user(core, unit, name, password_hash, admin=True)
    else:
        tail = subjects.user_tail(name)
        unit.run(tail, user.ChangeUserState(UserPhase.ACTIVE))
        unit.run(tail, user.ChangeAdmin(admin=True))
        unit.run(tail, user.ChangePassword(password_hash))
    await core.stored(unit)
    log.info("administrator %r %s", name, "created" if account is None else "has a new password")
