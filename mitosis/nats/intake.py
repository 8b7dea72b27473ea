"""nats-py's client without its detour on the way in.

nats-py reads by a stream and a task, tries its patterns one after the other on each message, cuts
it from the front of its buffer, parses all headers, and hands it through a queue to the task of its
subscription. Here a message is cut out of the bytes as they come from the socket, its headers are
parsed when somebody asks for them, and a callback made by `promptly` is called at once, in the
order of arrival. Everything that is rare (pings, errors, callbacks of other kinds) is left to
nats-py.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

log = logging.getLogger(__name__)

END = b"\r\n"
MOST_LINE_BYTES = 64 * 1024  # of one without its end; the server's own are shorter by far

_PROMPTLY = "promptly"
_FEWEST_WORDS = {b"MSG": 4, b"HMSG": 5}


def promptly(callback: Callable[[Msg], None]) -> Callable[[Msg], Awaitable[None]]:
    """Return a callback for nats-py's `subscribe` that a `PromptClient` calls without a task."""

    async def call(message: Msg) -> None:
        callback(message)

    setattr(call, _PROMPTLY, callback)
    return call


class Arrived(Msg):
    """A message as it came."""

    def __init__(  # a dataclass would set eight fields: this is the hot path
        self, client: Client, subject: str, reply: str, data: bytes, raw_headers: bytes
    ) -> None:
        self._client = client
        self.subject = subject
        self.reply = reply
        self.data = data
        self._raw_headers = raw_headers

    @property
    def headers(self) -> dict[str, str] | None:  # type: ignore[override]
        """Its headers by name; None when there are none."""
        return parse_headers(self._raw_headers) if self._raw_headers else None


def parse_headers(raw: bytes) -> dict[str, str]:
    """Return the headers of a block `NATS/1.0[ status[ description]]`, then `name: value` lines.

    Status and description are given as the headers `Status` and `Description`.
    """
    first, *lines = raw.split(END)
    _, _, inline = first.partition(b" ")
    status, _, description = inline.strip().partition(b" ")
    headers = {}
    if status:
        headers["Status"] = status.decode("utf-8", "replace")
    if description:
        headers["Description"] = description.decode("utf-8", "replace")
    for line in lines:
        name, mark, value = line.partition(b":")
        if mark:
            key = name.strip().decode("utf-8", "replace")
            headers[key] = value.strip().decode("utf-8", "replace")
    return headers


class PromptParser(Parser):
    """Takes apart what the server sends; `resets` counts connections."""

    def reset(self) -> None:
        """Forget what has come in part: a new connection begins."""
        super().reset()
        self._kept: list[bytes] = []
        self._missing = 0
        self.resets = getattr(self, "resets", 0) + 1

    def take(self, data: bytes) -> bytes:
        """Take in bytes, and hand out the messages that are whole, until something rare comes.

        Returns:
            The rare thing, which is for `parse`, and what stands behind it; nothing as a rule.

        Raises:
            ProtocolError: It is not the protocol of NATS.
        """
        if self._kept:
            self._kept.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return b""
            data = b"".join(self._kept)
            self._kept = []
        at, end = 0, len(data)
        while at < end:
            stop = data.find(END, at)
            if stop < 0:
                if end - at > MOST_LINE_BYTES:
                    raise ProtocolError
                self._keep(data[at:], 1)
                return b""
            words = data[at:stop].split()
            if not words or words[0] not in _FEWEST_WORDS:
                return data[at:]
            if len(words) < _FEWEST_WORDS[words[0]]:
                raise ProtocolError
            after = stop + 4 + _number(words[-1])
            if after > end:
                self._keep(data[at:], after - end)
                return b""
            if not self._hand_out(words, data[stop + 2 : after - 2]):
                return data[at:]
            at = after
        return b""

    async def parse(self, data: bytes = b"") -> None:
        """Take in bytes, rare things too.

        Raises:
            ProtocolError: It is not the protocol of NATS.
        """
        resets = self.resets
        while (rest := self.take(data)) and self.resets == resets:
            stop = rest.find(END)
            words = rest[:stop].split()
            if words and words[0] in _FEWEST_WORDS:
                after = stop + 4 + _number(words[-1])
                await self._pass_on(words, rest[stop + 2 : after - 2])
            else:
                after = stop + 2
                await super().parse(rest[:after])
            if self.resets != resets:
                return
            data = rest[after:]

    def _keep(self, rest: bytes, missing: int) -> None:
        """Wait for at least so many bytes more."""
        self._kept, self._missing = [rest], missing

    def _hand_out(self, words: list[bytes], body: bytes) -> bool:
        """Give a message to its subscription; False: that is for nats-py to do.

        Args:
            words: `MSG subject sid [reply] size`, or `HMSG subject sid [reply] headers size`.
            body: Headers and payload.
        """
        client: Any = self.nc
        subscription = client._subs.get(_number(words[2]))
        if subscription is None:
            return True
        take = getattr(subscription._cb, _PROMPTLY, None)
        if take is None or subscription._max_msgs:
            return False
        cut, reply = _cut_and_reply(words)
        subscription._received += 1
        message = Arrived(client, words[1].decode(), reply.decode(), body[cut:], body[:cut])
        try:
            take(message)
        except Exception:  # one bad message must not end the connection
            log.exception("the callback of subject %s failed", subscription.subject)
        return True

    async def _pass_on(self, words: list[bytes], body: bytes) -> None:
        """Leave a message to nats-py."""
        cut, reply = _cut_and_reply(words)
        client: Any = self.nc
        await client._process_msg(_number(words[2]), words[1], reply, body[cut:], body[:cut])


def _cut_and_reply(words: list[bytes]) -> tuple[int, bytes]:
    """Return how many bytes of a message are headers, and the subject of its answer."""
    reply = words[3] if len(words) > _FEWEST_WORDS[words[0]] else b""
    return _number(words[-2]) if words[0] == b"HMSG" else 0, reply


def _number(word: bytes) -> int:
    try:
        return int(word)
    except ValueError:
        raise ProtocolError from None


class Intake(asyncio.Protocol):
    """Reads a connection for a parser, without a stream and a task in between.

    Attributes:
        ended: Set when the connection has ended: by the server, or with the error.
    """

    def __init__(
        self, parser: PromptParser, reader: asyncio.StreamReader, transport: asyncio.Transport
    ) -> None:
        """Take the place of the stream that has read the greeting, and what it has read since."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parser = parser
        self._streams: Any = transport.get_protocol()
        self._rare: asyncio.Task[None] | None = None
        self._waiting: list[bytes] = []
        self._over = False
        transport.set_protocol(self)
        stream: Any = reader
        if stream._paused:
            transport.resume_reading()
        if data := bytes(stream._buffer):
            self.data_received(data)
        if stream._exception is not None or stream._eof:
            self._end(stream._exception)

    def stop(self) -> None:
        """Hand out nothing more; what is rare and has begun goes on."""
        self._over = True

    def data_received(self, data: bytes) -> None:
        """Take in what has come."""
        client: Any = self._parser.nc
        if self._over or client.is_reconnecting or client.is_closed:
            return
        if self._rare is not None:
            self._waiting.append(data)
            return
        try:
            rest = self._parser.take(data)
        except ProtocolError as error:
            self._end(error)
            return
        if rest:
            self._rare = asyncio.create_task(self._parse(rest), name="rare things of NATS")

    async def _parse(self, rest: bytes) -> None:
        """Take in something rare, and what has come behind it meanwhile."""
        resets = self._parser.resets
        try:
            await self._parser.parse(rest)
            while self._waiting and self._parser.resets == resets:
                data, self._waiting = b"".join(self._waiting), []
                await self._parser.parse(data)
        except (ProtocolError, OSError) as error:
            self._end(error)
        finally:
            self._rare = None

    def eof_received(self) -> bool | None:
        """Note that the server says nothing more."""
        self._end(None)
        stays: bool | None = self._streams.eof_received()
        return stays

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self._end(exc)
        self._streams.connection_lost(exc)

    def pause_writing(self) -> None:
        """Let those wait who write."""
        self._streams.pause_writing()

    def resume_writing(self) -> None:
        """Let them go on."""
        self._streams.resume_writing()

    def _end(self, error: BaseException | None) -> None:
        """Tell the end, when all that came before it has been taken in."""
        self._over = True
        if self._rare is None:
            self._tell(error)
        else:
            self._rare.add_done_callback(lambda _: self._tell(error))

    def _tell(self, error: BaseException | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)
