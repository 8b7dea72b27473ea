"""nats-py's client without its detours: those on the way in are in intake.py.

On the way out nats-py hands every message to a task that writes it, which costs a turn of the event
loop and a task switch each time. Here everything that was sent in one turn is written at the end of
the same turn: as well coalesced, and sooner. While the server does not read, the task takes over
again and waits for it.
"""

import asyncio
from typing import Any

from nats.aio.client import Client
from nats.errors import (
    ConnectionClosedError,
    MaxPayloadError,
    OutboundBufferLimitError,
    ProtocolError,
    UnexpectedEOF,
)

from mitosis.nats.intake import Intake, PromptParser

PROMPT_BYTES = 256 * 1024  # unsent; above it the flusher task waits for the server


class PromptClient(Client):
    """A client that writes at the end of the turn in which something was sent."""

    _is_due = False

    def __init__(self) -> None:
        super().__init__()
        self._ps = self._parser = PromptParser(self)

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that whoever sends should `make_room` first."""
        return self.is_connected and self._pending_data_size > self._max_pending_size

    async def make_room(self) -> None:
        """Wait until what waits is on its way."""
        await super()._flush_pending(force_flush=True)

    def post(self, subject: str, payload: bytes, reply: str, headers: bytes) -> None:
        """Send a message with headers, like `publish`, but now; nothing is checked or escaped.

        Args:
            subject: Where to.
            payload: What.
            reply: Where the answer is awaited; "" for none.
            headers: `name: value` lines, each with its line end.

        Raises:
            NatsError: Nothing was sent: the connection is closed, or down and its buffer full.
        """
        size, length = len(payload), len(headers) + 12
        if self.is_closed:
            raise ConnectionClosedError
        if size > self._max_payload:
            raise MaxPayloadError
        if not self.is_connected and size + self._pending_data_size > self._max_pending_size:
            raise OutboundBufferLimitError
        first = f"HPUB {subject} {reply} {length} {length + size}\r\nNATS/1.0\r\n".encode()
        command = b"%b%b\r\n%b\r\n" % (first, headers, payload)
        self._pending.append(command)
        self._pending_data_size += len(command)
        self.write_soon()

    def write_soon(self) -> None:
        """Have everything that is pending written at the end of this turn of the event loop."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        self._is_due = False
        if not self.is_connected or not self._pending or self._flush_queue is None:
            return
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None and writer.transport.is_closing():
            return  # the end of the connection is about to be told
        if writer is None or writer.transport.get_write_buffer_size() > PROMPT_BYTES:
            if self._flush_queue.empty():
                self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())
            return
        pending, self._pending = self._pending, []
        self._pending_data_size = 0
        writer.writelines(pending)

    async def _read_loop(self) -> None:
        """Read until the connection ends or this is cancelled."""
        streams: Any = self._transport
        intake = Intake(self._parser, streams._io_reader, streams._io_writer.transport)
        error: Exception = UnexpectedEOF()
        try:
            await intake.ended
            await self._error_cb(error)
        except asyncio.CancelledError:
            return  # as nats-py ends its own
        except (ProtocolError, OSError) as found:
            error = found
        finally:
            intake.stop()
        await self._process_op_err(error)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        if force_flush or not self.is_connected:
            return await super()._flush_pending(force_flush)
        self.write_soon()
        return None
