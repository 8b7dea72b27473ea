"""What the server sends comes out the same, however its bytes are cut."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ProtocolError

from mitosis.nats.intake import Intake as Socket
from mitosis.nats.intake import PromptParser, parse_headers, promptly
from mitosis.nats.prompt import PromptClient
from mitosis.testing.waiting import eventually

Seen = tuple[str, str, bytes, dict[str, str] | None]

HEADED = b"NATS/1.0\r\nNats-Sequence: 7\r\nName:v:w \r\n\r\n"
STATUS = b"NATS/1.0 503\r\n\r\n"


def hmsg(sid: int, reply: str, headers: bytes, body: bytes) -> bytes:
    size = len(headers)
    first = f"HMSG a.b {sid} {reply}{' ' if reply else ''}{size} {size + len(body)}\r\n"
    return first.encode() + headers + body + b"\r\n"


STREAM = b"".join(
    (
        b"MSG a.b 1 5\r\nhello\r\n",
        b"PING\r\n",
        b"MSG a.c 1 re.ply 4\r\n\r\n\r\n\r\n",
        hmsg(1, "", HEADED, b"body"),
        b"+OK\r\n",
        b"MSG nobody 9 2\r\nno\r\n",
        hmsg(1, "x.y", STATUS, b""),
        b"MSG  a.b\t2 0\r\n\r\n",
    )
)
EXPECTED: list[Seen] = [
    ("a.b", "", b"hello", None),
    ("a.c", "re.ply", b"\r\n\r\n", None),
    ("a.b", "", b"body", {"Nats-Sequence": "7", "Name": "v:w"}),
    ("a.b", "x.y", b"", {"Status": "503"}),
    ("a.b", "", b"", None),
]


class Intake(PromptClient):
    """A client without a connection, which takes in what a test gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen] = []
        self.pings = 0

    def listen(self, sid: int, callback: Callable[[Msg], Awaitable[None]]) -> Subscription:
        found = self._subs[sid] = Subscription(self, sid, ">", cb=callback)
        return found

    def see(self, message: Msg) -> None:
        self.seen.append((message.subject, message.reply, message.data, message.headers))

    async def _process_ping(self) -> None:
        self.pings += 1

    async def take(self, *parts: bytes) -> None:
        for part in parts:
            await self._ps.parse(part)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(places), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_messages_come_out_the_same_however_their_bytes_are_cut(places: list[int]) -> None:
    async def run() -> None:
        client = Intake()
        for sid in (1, 2):
            client.listen(sid, promptly(client.see))
        await client.take(*cut(STREAM, places))
        assert client.seen == EXPECTED
        assert client.pings == 1

    asyncio.run(run())


async def test_a_callback_of_another_kind_gets_its_messages_by_its_own_task() -> None:
    client = Intake()
    done = asyncio.Event()

    async def call(message: Msg) -> None:
        client.see(message)
        if len(client.seen) == len(EXPECTED):
            done.set()

    for sid in (1, 2):
        client.listen(sid, call)._start(None)  # type: ignore[no-untyped-call]
    await client.take(STREAM)
    await asyncio.wait_for(done.wait(), 5)
    assert sorted(client.seen, key=repr) == sorted(EXPECTED, key=repr)
    for subscription in client._subs.values():
        subscription._stop_processing()


async def test_a_callback_that_fails_is_logged_and_the_next_message_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Intake()

    def fail(message: Msg) -> None:
        raise RuntimeError(message.subject)

    client.listen(1, promptly(fail))
    client.listen(2, promptly(client.see))
    await client.take(STREAM)
    assert [str(record.exc_info[1]) for record in caplog.records] == ["a.b", "a.c", "a.b", "a.b"]
    assert client.seen == EXPECTED[-1:]


async def test_nothing_is_given_to_a_subscription_that_ended_in_the_same_bytes() -> None:
    client = Intake()

    def once(message: Msg) -> None:
        client.see(message)
        client._remove_sub(1)

    client.listen(1, promptly(once))
    await client.take(STREAM)
    assert client.seen == EXPECTED[:1]


async def test_after_a_reset_what_had_come_in_part_is_forgotten() -> None:
    client = Intake()
    client.listen(1, promptly(client.see))
    await client.take(b"MSG a.b 1 500\r\nhel")
    client._ps.reset()
    await client.take(b"MSG a.b 1 5\r\nhello\r\n")
    assert client.seen == EXPECTED[:1]


async def test_bytes_behind_an_error_that_ended_the_connection_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Intake()
    client.listen(1, promptly(client.see))

    async def ends(_: Any) -> None:
        client._ps.reset()

    monkeypatch.setattr(client, "_process_err", ends)
    await client.take(b"-ERR 'Stale Connection'\r\nMSG a.b 1 5\r\nhello\r\n")
    assert client.seen == []


@pytest.mark.parametrize(
    "data",
    [b"MSG a.b 1 x\r\n", b"MSG a.b 1\r\n\r\n", b"MSG\r\n", b"HMSG a.b 1 9\r\n123456789\r\n",
     b"WHAT\r\n", b"\r\n", b"x" * 100_000],
)  # fmt: skip
async def test_what_is_not_the_protocol_is_an_error(data: bytes) -> None:
    client = Intake()
    client.listen(1, promptly(client.see))
    with pytest.raises(ProtocolError):
        await client.take(data)
    assert client.seen == []


def test_a_status_and_its_description_are_headers() -> None:
    raw = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 3\r\n\r\n"
    assert parse_headers(raw) == {
        "Status": "100", "Description": "Idle Heartbeat", "Nats-Last-Consumer": "3",
    }  # fmt: skip
    assert isinstance(Intake()._ps, PromptParser)


class Wire(asyncio.Transport):
    """As much of a transport as reading looks at."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol


async def test_nothing_of_a_former_connection_is_taken_in_after_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Intake()
    client.listen(1, promptly(client.see))

    async def ends(_: Any) -> None:
        await asyncio.sleep(0)
        client._ps.reset()

    monkeypatch.setattr(client, "_process_err", ends)
    reader = asyncio.StreamReader()
    socket = Socket(client._parser, reader, Wire(asyncio.StreamReaderProtocol(reader)))
    socket.data_received(b"-ERR 'Stale Connection'\r\n")
    socket.data_received(b"MSG a.b 1 5\r\nhello\r\nMSG a.b 1 5\r\nhe")
    await eventually(lambda: socket._rare is None)
    assert client.seen == []
    await client.take(b"MSG a.b 1 5\r\nhello\r\n")
    assert client.seen == EXPECTED[:1]
