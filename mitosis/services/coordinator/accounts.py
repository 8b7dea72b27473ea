"""What the authentication service asks the coordinator."""

from collections.abc import Mapping
from datetime import datetime

from mitosis.contract import subjects
from mitosis.domain import user
from mitosis.domain.roles import Role
from mitosis.domain.user import User
from mitosis.domain.worker import Worker
from mitosis.services.coordinator.core import Core


class CoordinatorAccounts:
    """Accounts as they are in the coordinator's memory, which is never behind."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def user(self, name: str) -> User | None:
        """Return an account."""
        return self._core.world.users.get(name)

    def roles_of(self, name: str) -> Mapping[str, Role]:
        """Return the groups of a user with the role in each."""
        return self._core.world.roles_of(name)

    def worker(self, uuid: str) -> Worker | None:
        """Return a registered worker."""
        return self._core.world.workers.get(uuid)

    async def open_session(
        self, name: str, session: str, expires_at: datetime, source: str = ""
    ) -> None:
        """Store a new session. `source`: address of the login.

        Raises:
            Rejection: The account may not have one.
            Unavailable: It could not be stored.
        """
        core = self._core
        core.check_store()
        unit = core.journal.unit(f"user:{name}")
        command = user.OpenSession(session, expires_at, core.clock.now(), source)
        unit.run(subjects.user_tail(name), command)
        await core.stored(unit)
