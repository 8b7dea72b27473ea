"""A name and a password: right, wrong, locked, or too many tries."""

import time
from collections.abc import Callable

from mitosis.domain.names import check_name
from mitosis.domain.user import User, UserPhase
from mitosis.errors import AuthenticationFailed, InvalidInput, TooManyTries
from mitosis.services.auth.accounts import Accounts
from mitosis.services.auth.passwords import Passwords
from mitosis.services.auth.throttle import Throttle

FREE_TRIES_OF_A_USER = 5
FREE_TRIES_OF_A_SOURCE = 30  # many people may sit behind one address


class PasswordCheck:
    """The one place where a password is compared, whichever way it came in."""

    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._monotonic = monotonic
        self._by_user = Throttle(FREE_TRIES_OF_A_USER)
        self._by_source = Throttle(FREE_TRIES_OF_A_SOURCE)

    async def check(self, username: str, password: str, source: str) -> User:
        """Return the active user to whom the password belongs.

        Args:
            username: As typed; an unknown one takes as long and gets the same answer.
            password: As typed.
            source: Address that it came from; empty when unknown, then only the name counts.

        Raises:
            AuthenticationFailed: Wrong, or the account is locked (`details["state"]`), which is
                said only to who knows the password.
            TooManyTries: Wait `details["retry_after_seconds"]`.
            Unavailable: Too many logins at once.
        """
        name = username if _may_be_a_name(username) else ""
        # Inside the turn: tries in parallel cannot outrun the count of failures.
        async with self._passwords.turn():
            self._refuse_the_hasty(name, source)
            user = self._accounts.user(name) if name else None
            if user is not None and user.phase is UserPhase.DELETED:
                user = None
            right = await self._passwords.verify(password, user.password_hash if user else None)
            if user is None or not right:
                self._count_failure(name, source)
                raise AuthenticationFailed("wrong user name or password")
        self._by_user.succeeded(name)
        self._by_source.forgive(source)  # a whole lab may sit there, with a typo now and then
        # The account may have changed while the password was checked.
        user = self._accounts.user(name)
        if user is None or not user.active:
            raise AuthenticationFailed(
                f"user {name!r} is locked: ask an administrator", state="locked"
            )
        return user

    def _refuse_the_hasty(self, name: str, source: str) -> None:
        now = self._monotonic()
        wait = self._by_user.wait_seconds(name, now)
        if source:
            wait = max(wait, self._by_source.wait_seconds(source, now))
        if wait > 0:
            raise TooManyTries(
                f"too many failed logins: try again in {wait:.0f} s",
                retry_after_seconds=round(wait, 1),
            )

    def _count_failure(self, name: str, source: str) -> None:
        now = self._monotonic()
        self._by_user.failed(name, now)
        if source:
            self._by_source.failed(source, now)


def _may_be_a_name(text: str) -> bool:
    try:
        check_name(text, "user")
    except InvalidInput:
        return False
    return True
