"""Who must wait before the next try: by name and by address, whatever else happens."""

import pytest

from mitosis.domain import user
from mitosis.domain.user import User, UserPhase
from mitosis.errors import AuthenticationFailed, TooManyTries
from mitosis.services.auth.password_check import (
    FREE_TRIES_OF_A_SOURCE,
    FREE_TRIES_OF_A_USER,
    PasswordCheck,
)
from mitosis.services.auth.throttle import Throttle


class Turn:
    async def __aenter__(self) -> None:
        """There is always room."""

    async def __aexit__(self, *_: object) -> None:
        """There is always room."""


class PlainPasswords:
    """Compares without hashing; Argon2id has its own tests."""

    def turn(self) -> Turn:
        return Turn()

    async def verify(self, password: str, stored: str | None) -> bool:
        return stored is not None and password == stored


class Accounts:
    def __init__(self) -> None:
        self.users = {name: User(name, f"pw of {name}", False, 8) for name in ("alice", "bob")}

    def user(self, name: str) -> User | None:
        return self.users.get(name)


class Login:
    """A check with a clock that the test turns."""

    def __init__(self) -> None:
        self.now, self.accounts = 1_000.0, Accounts()
        self.check = PasswordCheck(self.accounts, PlainPasswords(), lambda: self.now)  # type: ignore[arg-type]

    async def outcome(self, name: str, source: str, *, right: bool = False) -> str:
        password = f"pw of {name}" if right else "wrong"
        try:
            return (await self.check.check(name, password, source)).name
        except TooManyTries as error:
            return f"wait {error.details['retry_after_seconds']:g}"
        except AuthenticationFailed:
            return "wrong"


@pytest.fixture
def login() -> Login:
    return Login()


@pytest.mark.parity("D-070")
async def test_a_name_must_wait_wherever_the_tries_come_from(login):
    for number in range(FREE_TRIES_OF_A_USER):
        assert await login.outcome("alice", f"192.0.2.{number}") == "wrong"
    assert await login.outcome("alice", "198.51.100.1", right=True) == "wait 1"
    assert await login.outcome("bob", "192.0.2.1", right=True) == "bob"
    login.now += 1
    assert await login.outcome("alice", "192.0.2.1") == "wrong"
    assert await login.outcome("alice", "192.0.2.1", right=True) == "wait 2"
    login.now += 2
    assert await login.outcome("alice", "192.0.2.1", right=True) == "alice"
    assert await login.outcome("alice", "192.0.2.1") == "wrong", "the count begins anew"


@pytest.mark.parity("D-070")
async def test_an_address_must_wait_whatever_the_names(login):
    for number in range(FREE_TRIES_OF_A_SOURCE):
        assert await login.outcome(f"guess-{number}", "192.0.2.1") == "wrong"
    assert await login.outcome("bob", "192.0.2.1", right=True) == "wait 1"
    assert await login.outcome("bob", "192.0.2.2", right=True) == "bob"
    assert await login.outcome("bob", "", right=True) == "bob", "unknown: only the name counts"


async def test_a_lab_behind_one_address_may_mistype_for_ever(login):
    for number in range(3 * FREE_TRIES_OF_A_SOURCE):
        assert await login.outcome("alice" if number % 2 else "bob", "192.0.2.1") == "wrong"
        assert await login.outcome("alice", "192.0.2.1", right=True) == "alice"
        assert await login.outcome("bob", "192.0.2.1", right=True) == "bob"


async def test_a_locked_account_is_told_so_only_with_the_right_password(login):
    login.accounts.users["alice"] = user.evolve(
        login.accounts.users["alice"], user.UserStateChanged(UserPhase.LOCKED)
    )
    with pytest.raises(AuthenticationFailed) as refusal:
        await login.check.check("alice", "pw of alice", "192.0.2.1")
    assert refusal.value.details == {"state": "locked"}
    with pytest.raises(AuthenticationFailed) as refusal:
        await login.check.check("alice", "wrong", "192.0.2.1")
    assert refusal.value.details == {}


def test_forgiving_never_counts_below_nothing() -> None:
    throttle = Throttle(free=1)
    throttle.forgive("nobody")
    throttle.failed("a", 0.0)
    throttle.failed("a", 0.0)
    assert throttle.wait_seconds("a", 0.0) > 0
    throttle.forgive("a")
    assert len(throttle) == 1
    throttle.forgive("a")
    throttle.forgive("a")
    assert len(throttle) == 0
