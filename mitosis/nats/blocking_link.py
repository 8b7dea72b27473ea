"""One TCP connection to a NATS server, for a thread that waits for each answer.

The part of the protocol that a command needs which asks and leaves: no event loop, no library
(decisions/0041). Bytes come in by `recv`, every wait has a deadline of `time.monotonic`.
"""

import logging
import socket
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec

from mitosis._version import __version__
from mitosis.nats import failures
from mitosis.nats.reach import first_that_answers

if TYPE_CHECKING:
    import ssl

log = logging.getLogger(__name__)

DEFAULT_PORT = 4222
MAX_LINE_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # nats-server takes no larger ones
_READ_BYTES = 64 * 1024
_ON_THE_WIRE = {"password": "pass", "token": "auth_token"}  # as the protocol calls them
_END = b"\r\n"


class Message(NamedTuple):
    """What came in. `status`: of a header that the server itself wrote, such as `503`."""

    subject: str
    data: bytes
    status: str


class Broken(Exception):
    """The link is of no use any more: its stream has ended, or makes no sense."""


class Said(Exception):
    """An error of the server in place of a welcome."""


class NoTls(Exception):
    """TLS cannot be agreed; the argument says why."""


class _Info(msgspec.Struct):
    """What the server tells first."""

    max_payload: int = 1024 * 1024
    tls_required: bool = False
    connect_urls: list[str] | None = None


class BlockingLink:
    """An open link; `blocking_dial.dial` makes it. Broken or OSError of any method: it is lost.

    Attributes:
        max_payload: Bytes that the server takes in one message.
        discovered: `host:port` of other servers of its cluster.
        is_torn: Whether a message has been sent or taken in by half. What comes next would be taken
            for its rest, so nothing more may be done with the link.
    """

    max_payload = 0
    discovered: tuple[str, ...] = ()
    is_torn = False

    def __init__(self, server: str) -> None:
        """Use `dial` instead."""
        self.server = server
        self.has_greeted = False
        self._stream: socket.socket | None = None
        self._nothing_there: tuple[type[OSError], ...] = (BlockingIOError,)
        self._read = bytearray()

    def enter(
        self,
        options: dict[str, str],
        inbox: str,
        tls: "ssl.SSLContext | None",
        deadline: float,
    ) -> None:
        """Connect, and present an identity; everything that comes to `inbox` is listened to."""
        host, port = place_of(self.server)
        _left(deadline)
        name = host.encode() if host.isascii() else host  # plain names need no tables of IDNA
        self._stream = first_that_answers(name, port, deadline)
        self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        op, _, told = self._line(deadline).partition(b" ")
        if op.upper() != b"INFO":
            raise Broken("what answers is no NATS server")
        info = self._greeted(told)
        if info.tls_required:
            self._secure(host, tls, deadline)
        elif tls is not None:
            raise NoTls("nats: secure connection not available")
        connect = msgspec.json.encode(
            {
                "verbose": False, "pedantic": False, "protocol": 1, "headers": True,
                "no_responders": True, "lang": "python", "version": __version__,
                **{_ON_THE_WIRE.get(name, name): value for name, value in options.items()},
            }
        )  # fmt: skip
        self._send(b"CONNECT %b\r\nSUB %b 1\r\nPING\r\n" % (connect, inbox.encode()), deadline)
        self._await_pong(deadline)

    def publish(self, subject: str, data: bytes, reply: str, deadline: float) -> None:
        """Send a message.

        Raises:
            TooLarge: More than the server takes in one message.
        """
        if len(data) > self.max_payload:
            raise failures.too_large(len(data), self.max_payload)
        failures.check_subjects(subject, reply)
        head = f"PUB {subject} {reply} {len(data)}\r\n".encode()
        self._send(head + data + _END, deadline)

    def receive(self, deadline: float) -> Message:
        """Wait for the next message.

        Raises:
            TimeoutError: None came in time.
        """
        while True:
            message = self._handle(self._line(deadline), deadline)
            if message is not None:
                return message

    def catch_up(self) -> None:
        """Take in what has come while nobody waited, such as the end of the stream."""
        stream = self._require_stream()
        try:
            while True:
                stream.settimeout(0)
                data = stream.recv(_READ_BYTES)
                if not data:
                    raise Broken("the server closed the connection")
                self._read += data
        except self._nothing_there:
            pass
        deadline = time.monotonic() + 1.0  # for a line of which only the beginning has come
        while self._read:
            self._handle(self._line(deadline), deadline)

    async def close(self) -> None:
        """Close it; may be called twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    # --- lines ----------------------------------------------------------------------------

    def _handle(self, line: bytes, deadline: float) -> Message | None:
        op, _, rest = line.partition(b" ")
        match op.upper():
            case b"MSG":
                return self._message(rest.split(), 0, deadline)
            case b"HMSG":
                *names, header, size = rest.split()
                return self._message([*names, size], _number(header), deadline)
            case b"PING":
                self._send(b"PONG\r\n", deadline)
            case b"INFO":
                self._greeted(rest)
            case b"-ERR":
                self._complain(_text(rest))
            case b"PONG" | b"+OK":
                pass
            case _:
                raise Broken("what the server says makes no sense")
        return None

    def _message(self, words: list[bytes], header_bytes: int, deadline: float) -> Message:
        if len(words) not in {3, 4}:
            raise Broken("what the server says makes no sense")
        size = _number(words[-1])
        self.is_torn = True
        whole = self._piece(size + len(_END), deadline)
        self.is_torn = False
        if not whole.endswith(_END):
            raise Broken("what the server says makes no sense")
        header, data = whole[:header_bytes], whole[header_bytes:size]
        status = b"".join(header.split(_END, 1)[0].split()[1:2]).decode(errors="replace")
        return Message(words[0].decode(errors="replace"), data, status)

    def _greeted(self, told: bytes) -> _Info:
        try:
            info = msgspec.json.decode(told, type=_Info)
        except msgspec.MsgspecError as error:
            raise Broken("what answers is no NATS server") from error
        self.has_greeted = True
        self.max_payload = info.max_payload
        self.discovered = tuple(info.connect_urls or ())
        return info

    def _complain(self, text: str) -> None:
        if "permissions violation" not in text:
            raise Broken(text)
        # A mistake of ours or an attack; the link goes on.
        log.warning(
            "NATS permission denied: nats: %s", text,
            extra={"server": failures.address(self.server)},
        )  # fmt: skip

    def _await_pong(self, deadline: float) -> None:
        while True:
            line = self._line(deadline)
            op, _, rest = line.partition(b" ")
            if op.upper() == b"PONG":
                return
            if op.upper() == b"-ERR":
                raise Said(f"nats: {_text(rest)}")
            self._handle(line, deadline)

    # --- bytes ----------------------------------------------------------------------------

    def _line(self, deadline: float) -> bytes:
        searched = 0
        while (end := self._read.find(_END, searched)) < 0:
            if len(self._read) > MAX_LINE_BYTES:
                raise Broken("what the server says makes no sense")
            searched = max(0, len(self._read) - 1)
            self._more(deadline)
        line = bytes(self._read[:end])
        del self._read[: end + len(_END)]
        return line

    def _piece(self, size: int, deadline: float) -> bytes:
        while len(self._read) < size:
            self._more(deadline)
        piece = bytes(self._read[:size])
        del self._read[:size]
        return piece

    def _more(self, deadline: float) -> None:
        stream = self._require_stream()
        stream.settimeout(_left(deadline))
        data = stream.recv(_READ_BYTES)
        if not data:
            raise Broken("the server closed the connection")
        self._read += data

    def _send(self, data: bytes, deadline: float) -> None:
        stream = self._require_stream()
        stream.settimeout(_left(deadline))
        self.is_torn = True
        stream.sendall(data)
        self.is_torn = False

    def _secure(self, host: str, tls: "ssl.SSLContext | None", deadline: float) -> None:
        import ssl

        context = tls or ssl.create_default_context()
        stream = self._require_stream()
        stream.settimeout(_left(deadline))
        try:
            self._stream = context.wrap_socket(stream, server_hostname=host)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise Broken("the server went away while TLS was agreed on") from error
        except ssl.SSLError as error:
            raise NoTls(error) from error
        self._nothing_there = (BlockingIOError, ssl.SSLWantReadError)

    def _require_stream(self) -> socket.socket:
        if self._stream is None:
            raise Broken("the link is closed")
        return self._stream


def place_of(server: str) -> tuple[str, int]:
    """Return host and port of an address.

    Raises:
        ValueError: It is none.
    """
    parts = urlsplit(server if "://" in server else f"nats://{server}")
    if parts.scheme not in {"nats", "tls"} or not parts.hostname:
        raise ValueError("no address of a NATS server")
    return parts.hostname, parts.port or DEFAULT_PORT


def _left(deadline: float) -> float:
    """Return the seconds until then.

    Raises:
        TimeoutError: None are left.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _number(text: bytes) -> int:
    number = int(text) if text.isdigit() and len(text) < 12 else -1
    if not 0 <= number <= MAX_MESSAGE_BYTES:
        raise Broken("what the server says makes no sense")
    return number


def _text(rest: bytes) -> str:
    return rest.decode(errors="replace").strip().strip("'").lower()
