"""One contract for both ways of asking: the same answers, the same errors in the same words."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from mitosis.contract import login
from mitosis.contract.subjects import login as login_subject
from mitosis.domain import user as users
from mitosis.errors import (
    AuthenticationFailed,
    Misconfigured,
    MitosisError,
    NoCoordinator,
    StoreUnavailable,
    TooLarge,
    Unavailable,
)
from mitosis.nats.asking import call
from mitosis.nats.connection import Connection, Guest, Msg, ServiceLogin, Token
from mitosis.nats.server_config import TlsFiles
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.testing.servers import SERVICE_USER, SYSTEM_USER
from mitosis.testing.waiting import eventually
from tests.integration.nats.certificates import Certificates, by
from tests.integration.nats.conftest import SERVICE, error_of, kill
from tests.integration.nats.lines import KINDS, Line, open_line

Open = Callable[..., Awaitable[Line]]


@pytest.fixture(params=KINDS)
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Open connections of one of the two kinds; they are closed at the end."""
    opened: list[Line] = []

    async def connect(servers, credentials, **options) -> Line:
        line = await open_line(request.param, servers, credentials, **options)
        opened.append(line)
        return line

    yield connect
    for line in opened:
        await line.close()


@pytest.fixture
async def service(shared_server):
    async with await Connection.open([shared_server], SERVICE, name="answers") as connection:
        yield connection


async def answer_everything(connection: Connection, subject: str) -> None:
    def answer(message: Msg) -> None:
        connection.publish(message.reply, b"re:" + message.data)

    await connection.subscribe(subject, answer)
    await connection.flush()


# --- asking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1024 * 1024 - 3])
async def test_an_answer_of_any_size_comes_whole(connect, service, shared_server, size):
    await answer_everything(service, "t.echo")
    line = await connect([shared_server], SERVICE)
    body = (
        os.urandom(size // 2) + b"\r\n" * (size // 4) + b"\0" * (size - size // 2 - size // 4 * 2)
    )
    assert await line.request("t.echo", body, 10) == b"re:" + body


async def test_each_request_gets_its_own_answer(connect, service, shared_server):
    await answer_everything(service, "t.echo")
    line = await connect([shared_server], SERVICE)
    for number in range(200):
        assert await line.request("t.echo", b"%d" % number, 10) == b"re:%d" % number


async def test_a_late_answer_is_not_taken_for_that_of_the_next_request(
    connect, service, shared_server
):
    held: list[Msg] = []

    def answer(message: Msg) -> None:
        if message.data == b"late":
            held.append(message)
            return
        for late in held:
            service.publish(late.reply, b"too late")
        service.publish(message.reply, b"in time")

    await service.subscribe("t.late", answer)
    await service.flush()
    line = await connect([shared_server], SERVICE)
    assert type(await error_of(lambda: line.request("t.late", b"late", 0.05))) is Unavailable
    assert await line.request("t.late", b"next", 10) == b"in time"
    assert held


async def test_an_empty_answer_with_a_header_is_an_answer(connect, service, shared_server):
    async def answer(message: Msg) -> None:
        await service.raw.publish(message.reply, b"", headers={"Status": "200", "a": "b"})

    await service.subscribe("t.header", answer)
    await service.flush()
    line = await connect([shared_server], SERVICE)
    assert await line.request("t.header", b"", 10) == b""


async def test_a_request_that_nobody_listens_to_ends_at_once(connect, shared_server):
    line = await connect([shared_server], SERVICE)
    error = await error_of(lambda: line.request("t.nobody", b"", 30))
    assert isinstance(error, NoCoordinator)
    assert line.address in error.message
    assert error.details == {"subject": "t.nobody"}


async def test_jetstream_that_does_not_listen_is_the_stores_failure(connect, shared_server):
    line = await connect([shared_server], SERVICE)
    error = await error_of(lambda: line.request("$JS.ACK.no.such.stream", b"", 30))
    assert isinstance(error, StoreUnavailable)


async def test_a_request_without_an_answer_ends_in_time(connect, service, shared_server):
    await service.subscribe("t.silent", lambda _: None)
    await service.flush()
    line = await connect([shared_server], SERVICE)
    started = time.monotonic()
    error = await error_of(lambda: line.request("t.silent", b"", 0.3))
    assert 0.3 <= time.monotonic() - started < 5
    assert type(error) is Unavailable
    assert "0.3 s" in error.message


async def test_a_message_that_is_too_large_is_refused_and_the_next_one_goes(
    connect, service, shared_server
):
    await answer_everything(service, "t.echo")
    line = await connect([shared_server], SERVICE)
    size = service.raw.max_payload + 1
    error = await error_of(lambda: line.request("t.echo", b"x" * size, 5))
    assert isinstance(error, TooLarge)
    assert error.details == {"size": size, "limit": service.raw.max_payload}
    assert await line.request("t.echo", b"1", 5) == b"re:1"


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0\r\n", "a\tb"])
async def test_a_subject_cannot_smuggle_commands(connect, shared_server, subject):
    line = await connect([shared_server], SERVICE)
    with pytest.raises(ValueError, match="malformed subject"):
        await line.request(subject, b"", 5)


# --- losses ---------------------------------------------------------------------------------------


async def test_it_comes_back_with_the_server(connect, own_server):
    line = await connect([own_server.url], SERVICE)
    one = await Connection.open([own_server.url], SERVICE, name="one")
    await answer_everything(one, "t.echo")
    assert await line.request("t.echo", b"1", 5) == b"re:1"
    await kill(own_server)
    early = asyncio.create_task(line.request("t.echo", b"2", 20))
    await own_server.restart()
    outcome = (await asyncio.gather(early, return_exceptions=True))[0]
    # The early request may have come before the other side was back, or before the loss was seen.
    assert outcome == b"re:2" or isinstance(outcome, Unavailable)
    await eventually(lambda: one.is_connected)
    await one.flush()
    assert await line.request("t.echo", b"3", 20) == b"re:3"
    await one.close()


async def test_a_server_that_stays_away_ends_the_request_in_time(connect, own_server):
    line = await connect([own_server.url], SERVICE)
    await kill(own_server)
    async with asyncio.timeout(30):
        while True:
            started = time.monotonic()
            error = await error_of(lambda: line.request("t.echo", b"", 0.5))
            assert type(error) is Unavailable
            if "no answer" in error.message:
                break
            await asyncio.sleep(0.01)  # it was on its way when the loss was seen
    assert 0.5 <= time.monotonic() - started < 4
    assert "0.5 s" in error.message


async def test_a_request_under_way_hears_of_the_loss_at_once(connect, own_server):
    async with await Connection.open([own_server.url], SERVICE, name="one") as one:
        asked = asyncio.Event()
        await one.subscribe("t.silent", lambda _: asked.set())
        await one.flush()
        line = await connect([own_server.url], SERVICE)
        request = asyncio.create_task(error_of(lambda: line.request("t.silent", b"", 60)))
        await asked.wait()
        await kill(own_server)
        async with asyncio.timeout(5):
            assert "lost before the answer" in (await request).message


async def test_without_reconnecting_a_loss_is_the_end(connect, own_server):
    line = await connect([own_server.url], SERVICE, reconnect=False)
    await kill(own_server)
    for _ in range(2):
        error = await error_of(lambda: line.request("t.echo", b"", 5))
        assert isinstance(error, Unavailable)
    assert "lost" in error.message or "is down" in error.message  # before its end was told


async def test_a_closed_connection_asks_nothing(connect, shared_server):
    line = await connect([shared_server], SERVICE)
    await line.close()
    error = await error_of(lambda: line.request("t.echo", b"", 5))
    assert type(error) is Unavailable
    await line.close()


async def test_one_server_that_answers_is_enough(connect, shared_server):
    servers = ["nats://127.0.0.1:1", shared_server, "nats://127.0.0.1:2"]
    for _ in range(5):  # the order is drawn at random
        line = await connect(servers, SERVICE)
        assert isinstance(
            await error_of(lambda line=line: line.request("t.x", b"", 5)), Unavailable
        )


# --- identities -----------------------------------------------------------------------------------


async def test_a_guest_gets_a_session_whose_token_lets_the_user_in(connect, platform):
    guest = await connect([platform.url], Guest())
    reply = await call(
        guest,
        login_subject("password"),
        login.PasswordLogin("alice", "correct horse"),
        login.SessionToken,
        timeout_seconds=10,
    )
    assert reply.result is not None
    await connect([platform.url], Token(reply.result.token, "user", "alice"), name="mito-client")
    live = await platform.authentication.connections.live("user:alice")
    assert [connection.name for connection in live] == ["mito-client"]


async def test_an_error_of_the_other_side_arrives_with_its_type(connect, platform):
    guest = await connect([platform.url], Guest())
    error = await error_of(
        lambda: call(
            guest,
            login_subject("password"),
            login.PasswordLogin("alice", "wrong"),
            login.SessionToken,
            timeout_seconds=10,
        )
    )
    assert type(error) is AuthenticationFailed
    assert error.message == "wrong user name or password"


async def test_a_subject_that_is_denied_is_logged_and_the_connection_goes_on(
    connect, platform, caplog
):
    alice = await connect([platform.url], await platform.token_of("alice"))
    error = await error_of(lambda: alice.request("mito.cmd.bob.task.submit", b"{}", 0.3))
    assert type(error) is Unavailable
    assert any(
        record.levelname == "WARNING" and "mito.cmd.bob.task.submit" in record.getMessage()
        for record in caplog.records
    )
    error = await error_of(lambda: alice.request("mito.query.alice.task.list", b"{}", 5))
    assert isinstance(error, NoCoordinator)


async def test_a_token_that_ends_meanwhile_ends_the_connection(connect, platform):
    alice = await connect([platform.url], await platform.token_of("alice"))
    assert isinstance(
        await error_of(lambda: alice.request("mito.query.alice.x.y", b"", 5)), NoCoordinator
    )
    platform.accounts.tell("alice", users.RevokeSession("s1"))
    await platform.authentication.connections.kick_user("alice")
    async with asyncio.timeout(10):
        while not isinstance(
            error := await error_of(lambda: alice.request("mito.query.alice.x.y", b"", 5)),
            AuthenticationFailed,
        ):
            assert isinstance(error, Unavailable)  # the loss itself is seen first
            await asyncio.sleep(0.01)
    assert "log in again" in error.message
    assert alice.failure is error


# --- what both say in the same words --------------------------------------------------------------


async def errors_of_both(
    open_it: Callable[[str], Awaitable[object]],
) -> tuple[MitosisError, MitosisError]:
    first, second = await asyncio.gather(
        *(error_of(lambda kind=kind: open_it(kind)) for kind in KINDS)
    )
    return first, second


async def same_error(open_it: Callable[[str], Awaitable[object]]) -> MitosisError:
    first, second = await errors_of_both(open_it)
    assert (type(second), second.message, second.details) == (
        type(first), first.message, first.details,
    )  # fmt: skip
    return first


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        ("nats://127.0.0.1:1", Unavailable),
        ("nats://no-such-host.invalid:4222", Unavailable),
        ("nats://somebody:hidden@127.0.0.1:1", Unavailable),
        ("nats://", Misconfigured),
        ("nats://host:port", Misconfigured),
        ("mailto:someone", Misconfigured),
    ],
)
@pytest.mark.parametrize("credentials", [SERVICE, Guest()], ids=["service", "guest"])
async def test_an_address_that_does_not_work(server, kind, credentials):
    error = await same_error(lambda k: open_line(k, [server], credentials))
    assert isinstance(error, kind), error
    assert server.replace("somebody:hidden@", "") in error.message
    assert "hidden" not in f"{error} {error.details}"


async def test_no_server_at_all():
    await same_error(lambda kind: open_line(kind, [], SERVICE))


async def test_a_wrong_password_of_a_service(shared_server):
    wrong = ServiceLogin(SERVICE.user, "not-the-password")
    error = await same_error(lambda kind: open_line(kind, [shared_server], wrong))
    assert isinstance(error, AuthenticationFailed)
    assert "nats_password" in error.message
    assert "not-the-password" not in f"{error!r} {error.details}"


async def test_a_token_that_is_not_accepted(platform):
    for token in ("nonsense", "x" * 3500, "a.b.c"):
        error = await same_error(
            lambda kind, token=token: open_line(kind, [platform.url], Token(token, "user", "alice"))
        )
        assert isinstance(error, AuthenticationFailed)
        assert token not in error.message


async def test_an_expired_token(platform):
    now = time.time()
    token = platform.keys.issue("user", "alice", sid="s1", issued_at=now - 100, exp=now - 1)
    error = await same_error(
        lambda kind: open_line(kind, [platform.url], Token(token, "user", "alice"))
    )
    assert isinstance(error, AuthenticationFailed)


async def test_nobody_decides_who_may_connect(own_server):
    errors = await asyncio.gather(
        *(
            same_error(lambda kind, who=who: open_line(kind, [own_server.url], who))
            for who in (Guest(), Token("x", "user", "alice"))
        )
    )
    assert [type(error) for error in errors] == [NoCoordinator, NoCoordinator]


async def test_somebody_decides_too_slowly(own_server):
    async with await Connection.open([own_server.url], SERVICE, name="slow") as service:
        await service.subscribe("$SYS.REQ.USER.AUTH", lambda _: None)
        await service.flush()
        error = await same_error(
            lambda kind: open_line(kind, [own_server.url], Token("x", "user", "alice"))
        )
    assert isinstance(error, Unavailable)


async def test_a_server_that_hangs(own_server):
    os.kill(own_server.process.pid, signal.SIGSTOP)
    await eventually(lambda: states_of(own_server.process.pid) == {"T"})
    try:
        for credentials in (Guest(), SERVICE):
            error = await same_error(
                lambda kind, credentials=credentials: open_line(
                    kind, [own_server.url], credentials, connect_timeout_seconds=0.3
                )
            )
            assert isinstance(error, Unavailable)
            assert "no answer in time" in error.message
    finally:
        os.kill(own_server.process.pid, signal.SIGCONT)


def states_of(pid: int) -> set[str]:
    """Return the states of all threads of a process; T: it is stopped."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in threads}


async def test_tls_that_is_wanted_and_not_offered(shared_server, tmp_path):
    trust = by(Certificates(tmp_path).authority)
    error = await same_error(lambda kind: open_line(kind, [shared_server], SERVICE, trust=trust))
    assert isinstance(error, Misconfigured)
    assert "nats_ca" in error.message


async def test_an_authority_that_cannot_be_read(shared_server):
    trust = by("/no/such/ca.pem")
    error = await same_error(lambda kind: open_line(kind, [shared_server], SERVICE, trust=trust))
    assert isinstance(error, Misconfigured)


async def test_tls_of_an_own_authority_works_and_that_of_a_foreign_one_is_refused(tmp_path):
    certificates = Certificates(tmp_path)
    cert, key = certificates.for_server()
    server = EmbeddedNats(
        tmp_path / "nats",
        service_users=(SERVICE_USER,),
        system_users=(SYSTEM_USER,),
        sync_always=False,
        configure=lambda config: replace(config, tls=TlsFiles(cert_file=cert, key_file=key)),
    )
    foreign = by(Certificates(tmp_path / "foreign").authority)
    trust = by(certificates.authority)
    async with server:
        async with await Connection.open([server.url], SERVICE, name="one", trust=trust) as one:
            await answer_everything(one, "t.echo")
            for scheme in ("nats", "tls"):
                url = server.url.replace("nats", scheme, 1)
                for kind in KINDS:
                    line = await open_line(kind, [url], SERVICE, trust=trust)
                    body = os.urandom(300_000)
                    for _ in range(3):
                        assert await line.request("t.echo", body, 5) == b"re:" + body
                    await line.close()
        error = await same_error(lambda kind: open_line(kind, [server.url], SERVICE, trust=foreign))
        assert "unknown authority" in error.message
        error = await same_error(lambda kind: open_line(kind, [server.url], SERVICE))
        assert isinstance(error, Misconfigured)
