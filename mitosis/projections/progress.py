"""How far the read models are, and waiting for them to be further."""

import asyncio


class Progress:
    """Position up to which everything is visible, and those who wait for more of it."""

    def __init__(self) -> None:
        self._applied = 0
        self._waiters: set[tuple[int, asyncio.Future[None]]] = set()
        self._wanted = asyncio.Event()

    @property
    def applied_position(self) -> int:
        """Everything up to this position can be read."""
        return self._applied

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiters)

    def advance(self, position: int) -> None:
        """Tell a new position; it can be an older one after a rebuild."""
        self._applied = position
        for waiter in [w for w in self._waiters if w[0] <= position]:
            self._waiters.discard(waiter)
            if not waiter[1].done():
                waiter[1].set_result(None)

    async def wait_for(self, position: int, timeout_seconds: float) -> bool:
        """Wait until everything up to `position` can be read; False: not in this time."""
        if self._applied >= position:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (position, future)
        self._waiters.add(waiter)
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_seconds):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    async def until_wanted(self, timeout_seconds: float) -> None:
        """Return when somebody begins to wait, or after this time."""
        self._wanted.clear()
        if self._waiters or timeout_seconds <= 0:
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._wanted.wait()
        except TimeoutError:
            return
