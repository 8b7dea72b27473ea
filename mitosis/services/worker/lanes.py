"""Reports in two lanes: those about uploads hold up nobody else.

The coordinator asks the store about what was uploaded before it answers, which takes as long as it
takes. What else happens is told beside. What is said of one attempt stays in its order.
"""

import asyncio
from collections.abc import Callable

from mitosis.services.worker.drafts import Draft, Key
from mitosis.services.worker.link import Link
from mitosis.services.worker.report import Reporter


class Lanes:
    """Two reporters, and what waits for the other one to be answered."""

    def __init__(
        self,
        link: Link,
        on_verdict: Callable[[Draft, str], None],
        now: Callable[[], float],
        leaving: Callable[[], str] = lambda: "",
        at_hand: Callable[[], int] = lambda: 0,
    ) -> None:
        """Nothing is sent before `run`; see `Reporter` for the arguments."""
        self._plain = Reporter(
            link, on_verdict, now, leaving, at_hand, on_answered=self._let_follow
        )
        self._uploads = Reporter(link, on_verdict, now, leaving, on_answered=self._let_follow)
        self._behind: list[Draft] = []

    def add(self, draft: Draft) -> None:
        """Queue a report behind what its attempt has said before."""
        lane, other = self._plain, self._uploads
        if draft.artifacts:
            lane, other = other, lane
        if other.has(draft.key) or any(before.key == draft.key for before in self._behind):
            self._behind.append(draft)
        else:
            lane.add(draft)

    def forget(self, key: Key) -> None:
        """Drop what still waits about an attempt."""
        self._behind = [draft for draft in self._behind if draft.key != key]
        self._plain.forget(key)
        self._uploads.forget(key)

    async def run(self) -> None:
        """Send until cancelled.

        Raises:
            Unregistered: The coordinator does not know this worker.
        """
        lanes = [asyncio.create_task(lane.run()) for lane in (self._plain, self._uploads)]
        try:
            done, _ = await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
            for lane in done:
                lane.result()
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    def _let_follow(self) -> None:
        behind, self._behind = self._behind, []
        for draft in behind:
            self.add(draft)
