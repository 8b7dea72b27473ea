"""Logging in over a real server: what is answered, how long it takes, and what a token is worth."""

import asyncio
import time

import jwt
import pytest

from mitosis.contract import login
from mitosis.contract.subjects import login as login_subject
from mitosis.domain import user as users
from mitosis.domain import worker as workers
from mitosis.errors import AuthenticationFailed, NoCoordinator, TooManyTries, Unavailable
from mitosis.nats.asking import call
from mitosis.nats.connection import Connection, Guest, ServiceLogin, Token
from tests.integration.nats.conftest import SERVICE, error_of

WORKER = "0b7e4f2e-1111-4222-8333-444455556666"


async def log_in(guest: Connection, username: str, password: str) -> login.SessionToken:
    reply = await call(
        guest,
        login_subject("password"),
        login.PasswordLogin(username, password),
        login.SessionToken,
        timeout_seconds=10,
    )
    assert reply.result is not None
    return reply.result


async def test_a_guest_gets_a_session_that_opens_a_connection_of_the_user(platform):
    guest = await platform.connect(Guest())
    session = await log_in(guest, "alice", "correct horse")
    assert (session.username, session.admin) == ("alice", False)
    assert session.session in platform.accounts.users["alice"].sessions
    alice = await platform.connect(Token(session.token, "user", "alice"))
    assert alice.is_connected
    assert [c.name for c in await platform.authentication.connections.live("user:alice")] == [
        "test"
    ]


async def test_hello_says_version_and_term(platform):
    guest = await platform.connect(Guest())
    reply = await call(
        guest, login_subject("hello"), login.Hello(), login.Welcome, timeout_seconds=5
    )
    assert reply.result is not None
    assert reply.result.term == 7
    assert reply.result.version


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(platform):
    guest = await platform.connect(Guest())
    answers = [
        await error_of(lambda name=name: log_in(guest, name, "wrong"))
        for name in ("alice", "nobody", "no such name!", "")
    ]
    assert {(type(a), a.message, str(a.details)) for a in answers} == {
        (AuthenticationFailed, "wrong user name or password", "{}")
    }


async def test_an_unknown_user_takes_as_long_as_a_wrong_password(platform):
    async def seconds(name: str) -> float:
        guest = await platform.connect(Guest())
        best = 1e9
        for _ in range(3):
            started = time.perf_counter()
            await error_of(lambda: log_in(guest, name, "wrong"))
            best = min(best, time.perf_counter() - started)
        return best

    known, unknown = await seconds("alice"), await seconds("nobody")
    assert known / 3 < unknown < known * 3  # without the equal work the ratio is over 20


async def test_a_locked_user_hears_so_only_with_the_right_password(platform):
    platform.accounts.tell("alice", users.ChangeUserState(users.UserPhase.LOCKED))
    guest = await platform.connect(Guest())
    right = await error_of(lambda: log_in(guest, "alice", "correct horse"))
    wrong = await error_of(lambda: log_in(guest, "alice", "wrong"))
    assert right.code == "unauthenticated"
    assert right.details["state"] == "locked"
    assert "state" not in wrong.details


async def test_too_many_wrong_passwords_must_wait_and_are_told_how_long(platform):
    guest = await platform.connect(Guest())
    for _ in range(5):
        assert (await error_of(lambda: log_in(guest, "alice", "no"))).code == "unauthenticated"
    error = await error_of(lambda: log_in(guest, "alice", "correct horse"))
    assert isinstance(error, TooManyTries)
    assert 0 < error.details["retry_after_seconds"] <= 1
    assert (await log_in(guest, "bob", "correct horse")).username == "bob"


async def test_guesses_in_parallel_do_not_outrun_the_count(platform):
    guest = await platform.connect(Guest())
    errors = await asyncio.gather(
        *(error_of(lambda: log_in(guest, "alice", "no")) for _ in range(20))
    )
    tried = sum(error.code == "unauthenticated" for error in errors)
    assert tried <= 5 + 1  # one more for the second thread


async def test_a_password_works_for_a_plain_nats_client_too(platform):
    connection = await platform.connect(ServiceLogin("alice", "correct horse"), "nats-cli")
    await connection.flush()
    error = await error_of(lambda: platform.connect(ServiceLogin("alice", "wrong")))
    assert isinstance(error, AuthenticationFailed)


async def test_a_tampered_or_foreign_token_is_refused_with_the_advice_to_log_in(platform):
    good = (await platform.token_of("alice")).token
    head, claims, signature = good.split(".")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    other_claims = jwt.encode(
        {"iss": "mitosis", "typ": "user", "sub": "root", "sid": "s1", "iat": 1, "exp": 9e9},
        "x" * 32,
        algorithm="HS256",
    )
    unsigned = jwt.encode(
        {"iss": "mitosis", "typ": "user", "sub": "alice", "sid": "s1", "iat": 1, "exp": 9e9},
        None,  # type: ignore[arg-type]
        algorithm="none",
    )
    for bad in (f"{head}.{claims}.{flipped}", other_claims, unsigned, "nonsense", "x" * 3500):
        error = await error_of(lambda bad=bad: platform.connect(Token(bad, "user", "alice")))
        assert isinstance(error, AuthenticationFailed), error
        assert "log in again" in error.message
        assert bad not in error.message


async def test_an_expired_token_is_refused(platform):
    token = platform.keys.issue(
        "user", "alice", sid="s1", issued_at=time.time() - 100, exp=time.time() - 1
    )
    error = await error_of(lambda: platform.connect(Token(token, "user", "alice")))
    assert isinstance(error, AuthenticationFailed)


async def test_a_connection_ends_with_its_token(platform):
    token = await platform.token_of("alice", seconds=2)
    alice = await platform.connect(token)
    async with asyncio.timeout(10):
        await alice.wait_closed()
    assert isinstance(alice.failure, AuthenticationFailed)
    error = await error_of(lambda: alice.request("mito.query.alice.x.y", b"", 1))
    assert "log in again" in error.message


@pytest.mark.parametrize("end", ["revoked", "locked", "deleted"])
async def test_a_token_whose_session_or_user_has_ended_is_refused(platform, end):
    token = await platform.token_of("alice")
    command = {
        "revoked": users.RevokeSession("s1"),
        "locked": users.ChangeUserState(users.UserPhase.LOCKED),
        "deleted": users.ChangeUserState(users.UserPhase.DELETED),
    }[end]
    platform.accounts.tell("alice", command)
    error = await error_of(lambda: platform.connect(token))
    assert isinstance(error, AuthenticationFailed)


async def test_a_token_of_a_worker_that_is_gone_is_refused(platform):
    token = platform.token_of_worker(WORKER)
    platform.accounts.tell_worker(WORKER, workers.LeaveWorker())
    error = await error_of(lambda: platform.connect(token))
    assert isinstance(error, AuthenticationFailed)


async def test_without_a_responder_nobody_new_gets_in_and_the_error_says_so(own_server):
    errors = await asyncio.gather(
        *(
            error_of(
                lambda credentials=credentials: Connection.open(
                    [own_server.url], credentials, name="test"
                )
            )
            for credentials in (Guest(), Token("x", "user", "alice"))
        )
    )
    for error in errors:
        assert isinstance(error, NoCoordinator)
        assert "no coordinator answers" in error.message
        assert own_server.url in error.message


async def test_a_responder_that_is_too_slow_does_not_make_a_good_token_look_refused(own_server):
    """A crowd that comes back at once may have to wait; nobody may be told to log in again."""
    async with await Connection.open([own_server.url], SERVICE, name="slow") as service:
        asked: list[bytes] = []
        await service.subscribe("$SYS.REQ.USER.AUTH", lambda message: asked.append(message.data))
        await service.flush()
        error = await error_of(
            lambda: Connection.open([own_server.url], Token("x", "user", "alice"), name="test")
        )
    assert asked
    assert isinstance(error, Unavailable)
