"""Messages between worker, guardian and runners: frames of 4 bytes of length and a marshal tuple.

Both ends are the same interpreter on one machine, so marshal is safe and cheap: 9 us a task for
both messages on both ends, where JSON takes 30 (docs/decisions/0005-execution-engine.md). Sends
never block; what the socket refuses waits in a bounded queue.
"""

import marshal
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

Message = tuple[Any, ...]

# Worker to runner.
RUN = 1  # run, argv, env, timeout, grace, stop signal, to file?, tail, cap, end, limits or None
STOP = 2  # run, cause, grace and stop signal, each None for that of the run
LEASE = 3  # deadline on the machine clock
TAIL = 4  # request, run, stream, bytes
PING = 5  # number; to the guardian too
CLEAN = 6  # nothing; always answered by CLEANED
DISCARD = 7  # path of a folder that a lost runner left
QUIT = 8  # to the guardian too
READ = 9  # request, run, stream, offset (-1: the present end, -2: one before), bytes
RECALL = 10  # run, which comes back with all behind it; nothing when it has begun

# Runner to worker.
READY = 20  # pid, folder, folders set aside
STARTED = 21  # run, pid, machine clock
ENDED = 22  # run, outcome, cause, times, usage, streams, leftovers, tree clean?, untouched?,
#             limits that were hit, survivors, mount points, whether they are gone
CLEANED = 23  # folder, folders set aside
TAILED = 24  # request, bytes
PONG = 25  # number; from the guardian too
PIECE = 26  # request, offset or -1, bytes, whether more can come
RECALLED = 27  # run, which was lined up, was not begun and will not be

# Worker to guardian.
FORK = 30  # slot, root, slots that share out old folders or None, user; carries a descriptor
KILL = 31  # slot
EPITAPH = 32  # argv, env

# Guardian to worker.
HELLO = 40  # abilities
LOST = 41  # slot, wait status, swept?
ASIDE = 42  # folders that could not be removed

#: No message is larger. Far above what a kernel accepts as arguments and environment (6 MiB).
MAX_FRAME_BYTES = 16 << 20
#: Bound of what waits for a peer that does not read.
MAX_QUEUED_BYTES = 32 << 20
_RECEIVE_BYTES = 1 << 16
_JOINED_BYTES = 1 << 15
_MAX_DESCRIPTORS = 16
_HEADER = 4


class Closed(Exception):
    """The other end is gone. Any error of the socket means this.

    A peer that dies with messages unread resets the connection instead of ending it.
    """


class Overflow(Exception):
    """The other end has not read for so long that the queue is full."""


def encode(message: Message) -> bytes:
    """The frame of a message.

    Raises:
        ValueError: the message is larger than `MAX_FRAME_BYTES`, or holds a foreign type.
    """
    body = marshal.dumps(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"message of {len(body)} bytes, at most {MAX_FRAME_BYTES} are allowed")
    return len(body).to_bytes(_HEADER, "big") + body


class Channel:
    """One end of a socket pair: whole messages in, queued messages out, never blocking."""

    __slots__ = ("_inbox", "_outbox", "_queued", "descriptors", "sock")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.set_inheritable(False)
        self.sock = sock
        #: Descriptors that arrived, in their order; filled by `receive_with_descriptors`.
        self.descriptors: deque[int] = deque()
        self._inbox = bytearray()
        self._outbox: deque[tuple[bytes | memoryview, Sequence[int]]] = deque()
        self._queued = 0

    def fileno(self) -> int:
        """Descriptor to poll."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close the socket; what is queued is dropped."""
        self._outbox.clear()
        self._queued = 0
        self.sock.close()

    @property
    def waiting(self) -> bool:
        """Whether something is queued: poll for writing, then call `flush`."""
        return bool(self._outbox)

    @property
    def queued_bytes(self) -> int:
        """What waits for the other end to read."""
        return self._queued

    def post(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Queue a message without sending it.

        Raises:
            Overflow: too much is queued already.
            ValueError: the message is too large.
        """
        frame = encode(message)
        if self._queued + len(frame) > MAX_QUEUED_BYTES:
            raise Overflow(f"{self._queued} bytes are waiting to be read")
        self._outbox.append((frame, descriptors))
        self._queued += len(frame)

    def flush(self) -> bool:
        """Send what the socket takes; whether nothing is left.

        Raises:
            Closed: the other end is gone.
        """
        outbox = self._outbox
        while outbox:
            if len(outbox) > 1:
                self._join()
            data, descriptors = outbox[0]
            try:
                if descriptors:
                    sent = socket.send_fds(self.sock, [data], list(descriptors))
                else:
                    sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as problem:
                raise Closed(str(problem)) from problem
            self._queued -= sent
            if sent == len(data):
                outbox.popleft()
            else:
                outbox[0] = (memoryview(data)[sent:], ())
        return True

    def _join(self) -> None:
        """Make one piece of small messages, which then cost one call, and wake their reader once.

        A message with descriptors stays the first of its piece.
        """
        outbox = self._outbox
        first, descriptors = outbox.popleft()
        pieces, size = [first], len(first)
        while outbox and not outbox[0][1] and size + len(outbox[0][0]) <= _JOINED_BYTES:
            pieces.append(outbox.popleft()[0])
            size += len(pieces[-1])
        outbox.appendleft((b"".join(pieces) if len(pieces) > 1 else first, descriptors))

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Queue a message and send what the socket takes; whether nothing is left."""
        self.post(message, descriptors)
        return self.flush()

    def receive(self) -> list[Message]:
        """The messages that are complete.

        Raises:
            Closed: the other end is gone.
        """
        try:
            data = self.sock.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as problem:
            raise Closed(str(problem)) from problem
        return self._take(data)

    def receive_with_descriptors(self) -> list[Message]:
        """As `receive`, also collecting descriptors sent along."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.sock, _RECEIVE_BYTES, _MAX_DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as problem:
            raise Closed(str(problem)) from problem
        for descriptor in descriptors:
            # recv_fds of Python 3.11 drops its flags, so not by MSG_CMSG_CLOEXEC.
            os.set_inheritable(descriptor, False)
            self.descriptors.append(descriptor)
        return self._take(data)

    def _take(self, data: bytes) -> list[Message]:
        if not data:
            raise Closed("end of stream")
        inbox = self._inbox
        inbox += data
        messages: list[Message] = []
        start = 0
        while len(inbox) - start >= _HEADER:
            end = start + _HEADER + int.from_bytes(inbox[start : start + _HEADER], "big")
            if len(inbox) < end:
                break
            messages.append(marshal.loads(bytes(inbox[start + _HEADER : end])))  # noqa: S302 - own peer
            start = end
        del inbox[:start]
        return messages
