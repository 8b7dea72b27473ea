"""nats-py's client without its detour on the way in.

nats-py tries its patterns one after the other on each message, cuts it from the front of its
buffer, parses all headers, and hands it through a queue to the task of its subscription. Here a
message is cut out of the bytes in which it came, its headers are parsed when somebody asks for
them, and a callback made by `promptly` is called at once, in the order of arrival. Everything that
is rare (pings, errors, callbacks of other kinds) is left to nats-py.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

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
    """Takes apart what the server sends."""

    def reset(self) -> None:
        """Forget what has come in part: a new connection begins."""
        super().reset()
        self._kept: list[bytes] = []
        self._missing = 0
        self._resets = getattr(self, "_resets", 0) + 1

    async def parse(self, data: bytes = b"") -> None:
        """Take in bytes, and hand out every message that is whole.

        Raises:
            ProtocolError: It is not the protocol of NATS.
        """
        if self._kept:
            self._kept.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._kept)
            self._kept = []
        resets, at, end = self._resets, 0, len(data)
        while at < end and self._resets == resets:
            stop = data.find(END, at)
            if stop < 0:
                if end - at > MOST_LINE_BYTES:
                    raise ProtocolError
                self._keep(data[at:], 1)
                return
            words = data[at:stop].split()
            if words and words[0] in _FEWEST_WORDS:
                if len(words) < _FEWEST_WORDS[words[0]]:
                    raise ProtocolError
                after = stop + 4 + _number(words[-1])
                if after > end:
                    self._keep(data[at:], after - end)
                    return
                await self._hand_out(words, data[stop + 2 : after - 2])
            else:
                after = stop + 2
                await super().parse(data[at:after])
            at = after

    def _keep(self, rest: bytes, missing: int) -> None:
        """Wait for at least so many bytes more."""
        self._kept, self._missing = [rest], missing

    async def _hand_out(self, words: list[bytes], body: bytes) -> None:
        """Give a message to its subscription.

        Args:
            words: `MSG subject sid [reply] size`, or `HMSG subject sid [reply] headers size`.
            body: Headers and payload.
        """
        client: Any = self.nc
        headed = words[0] == b"HMSG"
        reply = words[3] if len(words) > _FEWEST_WORDS[words[0]] else b""
        cut = _number(words[-2]) if headed else 0
        sid = _number(words[2])
        subscription = client._subs.get(sid)
        if subscription is None:
            return
        take = getattr(subscription._cb, _PROMPTLY, None)
        if take is None or subscription._max_msgs:
            await client._process_msg(sid, words[1], reply, body[cut:], body[:cut])
            return
        subscription._received += 1
        message = Arrived(client, words[1].decode(), reply.decode(), body[cut:], body[:cut])
        try:
            take(message)
        except Exception as error:  # noqa: BLE001  one bad message must not end the connection
            await client._error_cb(error)


def _number(word: bytes) -> int:
    try:
        return int(word)
    except ValueError:
        raise ProtocolError from None
