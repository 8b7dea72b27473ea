"""nats-py's client without its detour on the way out.

nats-py hands every message to a task that writes it, which costs a turn of the event loop and a
task switch each time. Here everything that was sent in one turn is written at the end of the same
turn: as well coalesced, and sooner. While the server does not read, the task takes over again and
waits for it.
"""

import asyncio
from typing import Any

from nats.aio.client import Client

PROMPT_BYTES = 256 * 1024  # unsent; above it the flusher task waits for the server


class PromptClient(Client):
    """A client that writes at the end of the turn in which something was sent."""

    _is_due = False

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
        if writer is None or writer.transport.get_write_buffer_size() > PROMPT_BYTES:
            if self._flush_queue.empty():
                self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())
            return
        pending, self._pending = self._pending, []
        self._pending_data_size = 0
        writer.writelines(pending)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        if force_flush or not self.is_connected:
            return await super()._flush_pending(force_flush)
        self.write_soon()
        return None
