"""What authentication needs to know about accounts; the coordinator has it in memory."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from mitosis.domain.roles import Role
from mitosis.domain.user import User
from mitosis.domain.worker import Worker


class Accounts(Protocol):
    """Users, their roles and workers, as of the newest commit."""

    def user(self, name: str) -> User | None:
        """The account, also a locked or deleted one; None for an unknown name."""
        ...

    def roles_of(self, name: str) -> Mapping[str, Role]:
        """Role by group, of groups that are not deleted."""
        ...

    def worker(self, uuid: str) -> Worker | None:
        """The worker, also one that is gone; None for an unknown UUID."""
        ...

    async def open_session(
        self, user: str, session: str, expires_at: datetime, source: str = ""
    ) -> None:
        """Store the session; returns when it is committed. `source`: address of the login.

        Raises:
            Rejection: A rule of the user says no, such as too many open sessions.
            Unavailable: It could not be stored.
        """
        ...
