"""The blocking link against a server that says exactly what a test wants, byte by byte."""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mitosis.errors import NoCoordinator, StoreUnavailable, Unavailable
from mitosis.nats.blocking import BlockingConnection, finish
from mitosis.nats.blocking_dial import dial
from mitosis.nats.blocking_link import BlockingLink
from mitosis.nats.connection import Connection
from mitosis.nats.credentials import Credentials, Guest, ServiceLogin
from mitosis.nats.failures import Refused

INFO = b'INFO {"server_id":"S","max_payload":1000,"headers":true}\r\n'
SERVICE = ServiceLogin("service", "password")
Play = Callable[[socket.socket], None]


class Script:
    """A server that plays one scene per connection, in their order."""

    def __init__(self, *scenes: Play) -> None:
        self._scenes = list(scenes)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for scene in self._scenes:
            stream, _ = self._listener.accept()
            with stream:
                stream.settimeout(10)
                scene(stream)
        self._listener.close()

    def stop(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def play() -> Iterator[Callable[..., str]]:
    scripts: list[Script] = []

    def start(*scenes: Play) -> str:
        scripts.append(Script(*scenes))
        return scripts[-1].url

    yield start
    for script in scripts:
        script.stop()


def read_until(stream: socket.socket, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        more = stream.recv(4096)
        if not more:
            return seen
        seen += more
    return seen


def welcome(stream: socket.socket) -> None:
    stream.sendall(INFO)
    read_until(stream, b"PING\r\n")
    stream.sendall(b"PONG\r\n")


def until_closed(stream: socket.socket) -> bytes:
    seen = b""
    while more := stream.recv(4096):
        seen += more
    return seen


def reply_subject(request: bytes) -> bytes:
    return request.split(b"PUB ", 1)[1].split()[1]


def opened(server: str, credentials: Credentials = SERVICE, seconds: float = 5.0) -> BlockingLink:
    return finish(
        dial(server, credentials, name="x", inbox="in.*", tls=None, timeout_seconds=seconds)
    )


def asked(server: str, seconds: float = 5.0) -> bytes:
    """Ask once; the server must have closed nothing before."""

    async def ask() -> bytes:
        async with await BlockingConnection.open([server], SERVICE, name="x") as connection:
            return await connection.request("t", b"hello", seconds)

    return finish(ask())


def answering(*pieces: bytes) -> Play:
    """Answer the first request with these pieces, `@` standing for where the answer goes."""

    def scene(stream: socket.socket) -> None:
        welcome(stream)
        reply = reply_subject(read_until(stream, b"hello\r\n"))
        for piece in pieces:
            stream.sendall(piece.replace(b"@", reply))
        until_closed(stream)

    return scene


def test_who_connects_says_so_and_listens_on_its_own_inbox(play: Callable[..., str]) -> None:
    seen: list[bytes] = []

    def scene(stream: socket.socket) -> None:
        stream.sendall(INFO)
        seen.append(read_until(stream, b"PING\r\n"))
        stream.sendall(b"PONG\r\n")
        until_closed(stream)

    finish(opened(play(scene)).close())
    connect, sub, ping = seen[0].decode().splitlines()
    assert connect.startswith("CONNECT {")
    assert '"user":"service"' in connect
    assert '"pass":"password"' in connect
    assert '"no_responders":true' in connect
    assert (sub, ping) == ("SUB in.* 1", "PING")


def test_an_answer_may_come_byte_by_byte(play: Callable[..., str]) -> None:
    def scene(stream: socket.socket) -> None:
        for at in range(len(INFO)):
            stream.sendall(INFO[at : at + 1])
        read_until(stream, b"PING\r\n")
        stream.sendall(b"PONG\r\n")
        reply = reply_subject(read_until(stream, b"hello\r\n"))
        for byte in b"MSG %b 1 4\r\n\r\n\r\n\r\n" % reply:
            stream.sendall(bytes([byte]))
        until_closed(stream)

    assert asked(play(scene)) == b"\r\n\r\n"


@pytest.mark.parametrize(
    "before",
    [
        b"PING\r\n", b"+OK\r\n", b"PONG\r\n", INFO, b"MSG other 1 2\r\nhi\r\n",
        b"MSG @x 1 back 2\r\nhi\r\n", b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n",
        b"HMSG other 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        b"HMSG other 1 16 16\r\nNATS/1.0 \xff\xfe\xfd\r\n\r\n\r\n",
    ],
)  # fmt: skip
def test_what_comes_before_the_answer_does_not_disturb_it(
    play: Callable[..., str], before: bytes
) -> None:
    assert asked(play(answering(before + b"MSG @ 1 back 2\r\nyo\r\n"))) == b"yo"


def test_a_header_is_no_part_of_the_answer(play: Callable[..., str]) -> None:
    answer = b"HMSG @ 1 17 19\r\nNATS/1.0\r\na:b\r\n\r\nyo\r\n"
    assert asked(play(answering(answer))) == b"yo"


def test_a_header_of_the_server_says_that_nobody_listens(play: Callable[..., str]) -> None:
    server = play(answering(b"HMSG @ 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"))
    with pytest.raises(NoCoordinator):
        asked(server)


def test_a_ping_is_answered(play: Callable[..., str]) -> None:
    seen: list[bytes] = []

    def scene(stream: socket.socket) -> None:
        welcome(stream)
        reply = reply_subject(read_until(stream, b"hello\r\n"))
        stream.sendall(b"PING\r\n")
        seen.append(read_until(stream, b"PONG\r\n"))
        stream.sendall(b"MSG %b 1 0\r\n\r\n" % reply)
        until_closed(stream)

    assert asked(play(scene)) == b""
    assert seen == [b"PONG\r\n"]


def test_what_came_between_two_requests_is_taken_in_before_the_second(
    play: Callable[..., str],
) -> None:
    pinged = threading.Event()

    def scene(stream: socket.socket) -> None:
        welcome(stream)
        reply = reply_subject(read_until(stream, b"1\r\n"))
        stream.sendall(b"MSG %b 1 1\r\n1\r\nPING\r\n" % reply)
        pinged.set()
        seen = read_until(stream, b"2\r\n")
        assert seen.startswith(b"PONG\r\nPUB ")
        stream.sendall(b"MSG %b 1 1\r\n2\r\n" % reply_subject(seen))
        until_closed(stream)

    async def ask() -> list[bytes]:
        async with await BlockingConnection.open([server], SERVICE, name="x") as connection:
            first = await connection.request("t", b"1", 5)
            pinged.wait(5)
            return [first, await connection.request("t", b"2", 5)]

    server = play(scene)
    assert finish(ask()) == [b"1", b"2"]


def test_an_end_between_two_requests_costs_the_second_one_nothing(
    play: Callable[..., str],
) -> None:
    ended = threading.Event()

    def first(stream: socket.socket) -> None:
        answering_once(stream)

    def answering_once(stream: socket.socket) -> None:
        welcome(stream)
        reply = reply_subject(read_until(stream, b"hello\r\n"))
        stream.sendall(b"MSG %b 1 2\r\nyo\r\n" % reply)

    def second(stream: socket.socket) -> None:
        ended.set()
        answering_once(stream)
        until_closed(stream)

    async def ask() -> list[bytes]:
        async with await BlockingConnection.open([server], SERVICE, name="x") as connection:
            one = await connection.request("t", b"hello", 5)
            select.select([connection._link._stream], [], [], 5)  # the end has come
            return [one, await connection.request("t", b"hello", 5)]

    server = play(first, second)
    assert finish(ask()) == [b"yo", b"yo"]
    assert ended.is_set()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HELLO\r\n", b"MSG\r\n", b"MSG a\r\n", b"MSG @ 1 x\r\n", b"MSG @ 1 -3\r\n",
        b"MSG @ 1 99999999999\r\n", b"HMSG @ 1 2\r\n", b"MSG a b c d e 1\r\n",
        b"MSG @ 1 2\r\nlonger", b"x" * 70_000,
        b"-ERR 'Unknown Protocol Operation'\r\n", b"-ERR 'Stale Connection'\r\n", b"INFO {\r\n",
    ],
)  # fmt: skip
def test_what_makes_no_sense_ends_the_link_and_not_the_program(
    play: Callable[..., str], nonsense: bytes
) -> None:
    server = play(answering(nonsense))
    with pytest.raises(Unavailable, match="lost before the answer came"):
        asked(server)


@pytest.mark.parametrize("piece", [b"MSG @ 1 5\r\nhel", b"MSG @", b""])
def test_an_end_in_the_middle_of_an_answer_is_a_loss(
    play: Callable[..., str], piece: bytes
) -> None:
    def scene(stream: socket.socket) -> None:
        welcome(stream)
        stream.sendall(piece.replace(b"@", reply_subject(read_until(stream, b"hello\r\n"))))

    server = play(scene)
    with pytest.raises(Unavailable, match="lost before the answer came"):
        asked(server)


def test_a_server_that_drips_cannot_hold_up_a_request(play: Callable[..., str]) -> None:
    def scene(stream: socket.socket) -> None:
        welcome(stream)
        read_until(stream, b"hello\r\n")
        try:
            while True:
                stream.sendall(b"+OK\r\n")
                time.sleep(0.005)
        except OSError:
            return

    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"in 0\.2 s"):
        asked(play(scene), 0.2)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9\r\n", b"INFO nonsense\r\n", b"INFO []\r\n", b"", b"INFO {"]
)
@pytest.mark.parametrize(
    ("credentials", "kind"), [(SERVICE, StoreUnavailable), (Guest(), NoCoordinator)]
)
def test_what_is_no_nats_server_is_nobody(
    play: Callable[..., str], greeting: bytes, credentials: Credentials, kind: type[Exception]
) -> None:
    server = play(lambda stream: stream.sendall(greeting))
    with pytest.raises(kind) as caught:
        opened(server, credentials)
    assert server in str(caught.value)


def test_a_refusal_is_one_also_when_only_the_end_of_the_stream_comes(
    play: Callable[..., str],
) -> None:
    def hang_up(stream: socket.socket) -> None:
        stream.sendall(INFO)
        read_until(stream, b"PING\r\n")

    with pytest.raises(Refused) as caught:
        opened(play(hang_up), Guest())
    assert not caught.value.decided
    with pytest.raises(StoreUnavailable):
        opened(play(hang_up), SERVICE)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"-ERR 'Authorization Violation'\r\n", Refused),
        (b"-ERR 'Authentication Timeout'\r\n", Refused),
        (b"-ERR 'User Authentication Revoked'\r\n", Refused),
        (b"-ERR 'maximum connections exceeded'\r\n", NoCoordinator),
    ],
)
def test_what_the_server_says_in_place_of_a_welcome(
    play: Callable[..., str], said: bytes, kind: type[Exception]
) -> None:
    def scene(stream: socket.socket) -> None:
        stream.sendall(INFO)
        read_until(stream, b"PING\r\n")
        stream.sendall(said)

    with pytest.raises(kind):
        opened(play(scene), Guest())


def test_other_servers_of_the_cluster_are_learned_and_tried_after_a_loss(
    play: Callable[..., str],
) -> None:
    def answer(stream: socket.socket) -> None:
        answering(b"MSG @ 1 5\r\nother\r\n")(stream)

    other = play(answer)

    def scene(stream: socket.socket) -> None:
        place = other.removeprefix("nats://").encode()
        stream.sendall(b'INFO {"max_payload":1000,"connect_urls":["%b"]}\r\n' % place)
        read_until(stream, b"PING\r\n")
        stream.sendall(b"PONG\r\n")
        read_until(stream, b"hello\r\n")

    async def ask() -> bytes:
        async with await BlockingConnection.open([first], SERVICE, name="x") as connection:
            with pytest.raises(Unavailable, match="lost before"):
                await connection.request("t", b"hello", 5)
            return await connection.request("t", b"hello", 5)

    first = play(scene)
    assert finish(ask()) == b"other"


async def test_what_needs_an_event_loop_is_not_run_without_one(play: Callable[..., str]) -> None:
    import asyncio

    with pytest.raises(RuntimeError, match="needs an event loop"):
        finish(asyncio.sleep(1))


def test_both_kinds_of_connection_are_opened_by_the_same_arguments() -> None:
    import inspect

    theirs = inspect.signature(Connection.open).parameters
    ours = inspect.signature(BlockingConnection.open).parameters
    assert set(theirs) - set(ours) == {"on_disconnect"}
    assert all(ours[name].default == theirs[name].default for name in ours)


def test_a_request_that_was_sent_by_half_is_never_filled_up_with_the_next_one(
    play: Callable[..., str],
) -> None:
    seen: list[bytes] = []
    late = threading.Event()

    def first(stream: socket.socket) -> None:
        stream.sendall(INFO.replace(b"1000", b"64000000"))
        read_until(stream, b"PING\r\n")
        stream.sendall(b"PONG\r\n")
        late.wait(10)
        while more := stream.recv(1 << 20):
            seen.append(more)

    async def ask() -> bytes:
        async with await BlockingConnection.open([server], SERVICE, name="x") as connection:
            with pytest.raises(Unavailable, match="no answer"):
                await connection.request("t", b"x" * 32_000_000, 0.3)
            late.set()
            return await connection.request("t", b"hello", 5)

    server = play(first, answering(b"MSG @ 1 2\r\nyo\r\n"))
    assert finish(ask()) == b"yo"
    assert b"".join(seen).count(b"PUB") == 1


HALVES = (b"MSG @ 1 30\r\nhel", b"HMSG @ 1 12 30\r\nNATS/1.0\r\n\r\nhel")


@pytest.mark.parametrize("half", HALVES)
def test_an_answer_that_came_by_half_in_time_is_not_read_on_as_something_else(
    play: Callable[..., str], half: bytes
) -> None:
    async def ask() -> bytes:
        async with await BlockingConnection.open([server], SERVICE, name="x") as connection:
            with pytest.raises(Unavailable, match="no answer"):
                await connection.request("t", b"hello", 0.3)
            assert connection._link is None
            return await connection.request("t", b"hello", 5)

    server = play(answering(half), answering(b"MSG @ 1 2\r\nyo\r\n"))
    assert finish(ask()) == b"yo"


@pytest.mark.parametrize("half", HALVES)
def test_ctrl_c_in_the_middle_of_an_answer_leaves_nothing_of_it(
    play: Callable[..., str], half: bytes
) -> None:
    opened: list[BlockingConnection] = []

    def first(stream: socket.socket) -> None:
        welcome(stream)
        reply = reply_subject(read_until(stream, b"hello\r\n"))
        stream.sendall(half.replace(b"@", reply))
        link = opened[0]._link
        assert link is not None
        deadline = time.monotonic() + 10
        while not link._read.endswith(b"hel") and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
        until_closed(stream)

    async def ask() -> bytes:
        async with await BlockingConnection.open([server], SERVICE, name="x") as connection:
            opened.append(connection)
            with pytest.raises(KeyboardInterrupt):
                await connection.request("t", b"hello", 10)
            assert connection._link is None
            return await connection.request("t", b"hello", 5)

    server = play(first, answering(b"MSG @ 1 2\r\nyo\r\n"))
    assert finish(ask()) == b"yo"
