"""Telling the coordinator what happened: one request in flight, the rest rides in the next.

While the worker has tasks at hand that were sent ahead, nobody waits for the answer: then reports
are gathered until half of those are begun, or for `GATHER_SECONDS`. One request with ten reports,
and the ten assignments that it brings, costs worker, NATS and coordinator a fraction of ten.

Nothing is lost while nobody answers: what happened waits, in its order, and is told later. It is
bounded by the attempts that a worker holds, each of which has a few reports at most.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from itertools import chain

from mitosis.contract.work import Reports, Verdicts
from mitosis.domain.task import Exit
from mitosis.errors import MitosisError, ObjectsUnavailable, TooLarge
from mitosis.services.worker.drafts import Draft, Key
from mitosis.services.worker.link import Link, check_registered, longer

log = logging.getLogger(__name__)

MAX_REPORTS = 256  # contract/work.py: in one request
GATHER_SECONDS = 0.05


class Reporter:
    """The queue of reports and the loop that sends them."""

    def __init__(
        self,
        link: Link,
        on_verdict: Callable[[Draft, str], None],
        now: Callable[[], float],
        leaving: Callable[[], str] = lambda: "",
        at_hand: Callable[[], int] = lambda: 0,
        on_answered: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is sent before `run`.

        Args:
            link: To the coordinator.
            on_verdict: Told what became of each report.
            now: The machine's clock, in seconds.
            leaving: Why the worker takes nothing new; empty: it does.
            at_hand: How many attempts wait here for a slot.
            on_answered: Called after each request, when what it said is told.
        """
        self._link = link
        self._on_verdict = on_verdict
        self._now = now
        self._leaving = leaving
        self._at_hand = at_hand
        self._on_answered = on_answered
        self._most_at_hand = 0
        self._due = asyncio.Event()
        self._waiting: deque[Draft] = deque()
        self._sent: list[Draft] = []
        self._aside: list[Draft] = []
        self._last: dict[Key, Draft] = {}
        self._wake = asyncio.Event()
        self._limit = MAX_REPORTS
        self._pause = 0.0

    def add(self, draft: Draft) -> None:
        """Queue a report, merged into one about the same attempt that still waits."""
        last = self._last.get(draft.key)
        if last is not None and last.merge(draft):
            return
        self._waiting.append(draft)
        self._last[draft.key] = draft
        self._wake.set()
        if not self._may_gather():
            self._due.set()

    def forget(self, key: Key) -> None:
        """Drop what still waits about an attempt."""
        self._aside = [draft for draft in self._aside if draft.key != key]
        if self._last.pop(key, None) is not None:
            self._waiting = deque(draft for draft in self._waiting if draft.key != key)

    def has(self, key: Key) -> bool:
        """Whether something about an attempt waits here, or is sent and not answered yet."""
        drafts = chain(self._sent, self._waiting, self._aside)
        return any(draft.key == key for draft in drafts)

    async def run(self) -> None:
        """Send until cancelled.

        Raises:
            Unregistered: The coordinator does not know this worker.
        """
        while True:
            await self._wake.wait()
            if self._waiting and self._may_gather():
                await self._gather()
            self._due.clear()
            self._most_at_hand = 0
            self._sent = batch = self._take()
            if batch:
                await self._send(batch)
                self._sent = []
                self._on_answered()
            else:
                self._wake.clear()

    def _may_gather(self) -> bool:
        """Whether more than half of what was at hand since the last request still is."""
        at_hand = self._at_hand()
        self._most_at_hand = max(self._most_at_hand, at_hand)
        return 2 * at_hand > self._most_at_hand

    async def _gather(self) -> None:
        """Wait for more reports, as long as there is enough to do meanwhile."""
        try:
            async with asyncio.timeout(GATHER_SECONDS):
                await self._due.wait()
        except TimeoutError:
            return

    def _take(self) -> list[Draft]:
        batch = [self._waiting.popleft() for _ in range(min(self._limit, len(self._waiting)))]
        for draft in batch:
            if self._last.get(draft.key) is draft:
                del self._last[draft.key]
        return batch

    async def _send(self, batch: list[Draft]) -> None:
        """Send until it is answered: the same batch with the same id has one effect."""
        command_id, pause = secrets.token_hex(16), 0.0
        while True:
            now = self._now()
            try:
                verdicts = await self._link.ask(
                    "report",
                    Reports([draft.report(now) for draft in batch], self._leaving()),
                    Verdicts,
                    command_id=command_id,
                )
                break
            except TooLarge:
                self._split(batch)
                return
            except ObjectsUnavailable as error:
                log.warning("the store of artifacts is away: %s", error)
                self._set_aside(batch, self._now() - now)
                return
            except MitosisError as error:
                check_registered(error)
                if not pause:
                    log.warning("%d reports wait: %s", len(batch), error)
            pause = longer(pause)
            await asyncio.sleep(pause)
        self._limit = min(MAX_REPORTS, self._limit * 2)
        if len(verdicts.codes) != len(batch):
            log.error("%d verdicts on %d reports", len(verdicts.codes), len(batch))
        self._judge(batch, verdicts.codes, self._now() - now)

    def _split(self, batch: list[Draft]) -> None:
        """Over the bound of one request: send less at once."""
        self._limit = max(1, len(batch) // 2)
        if len(batch) == 1:
            _shorten(batch[0])
        self._put_back(batch)

    def _put_back(self, drafts: list[Draft]) -> None:
        for draft in reversed(drafts):
            self._waiting.appendleft(draft)
            self._last.setdefault(draft.key, draft)
        self._wake.set()

    def _set_aside(self, batch: list[Draft], asked_seconds: float) -> None:
        """Reports of uploads wait until their objects can be looked at; the others go on."""
        uploads = [draft for draft in batch if draft.artifacts]
        self._put_back([draft for draft in batch if not draft.artifacts])
        self._put_back_later(uploads, asked_seconds)

    def _put_back_later(self, drafts: list[Draft], asked_seconds: float) -> None:
        """Try again after a pause, but for what its delivery has given up by now."""
        drafts = [draft for draft in drafts if draft.goes_on(asked_seconds)]
        if not drafts:
            return
        if not self._aside:
            self._pause = longer(self._pause)
            asyncio.get_running_loop().call_later(self._pause, self._come_back)
        self._aside += drafts

    def _come_back(self) -> None:
        drafts, self._aside = self._aside, []
        self._put_back(drafts)

    def _judge(self, batch: list[Draft], codes: list[str], asked_seconds: float) -> None:
        again = []
        for draft, code in zip(batch, codes, strict=False):
            if code.startswith("unavailable"):
                again.append(draft)
                continue
            if code:
                log.warning("report on task %s attempt %d: %s", *draft.key, code)
            self._on_verdict(draft, code)
        again += batch[len(codes) :]
        if again:
            self._put_back_later(again, asked_seconds)
        else:
            self._pause = 0.0


def _shorten(draft: Draft) -> None:
    """Leave the output of a program out, which is all that can make one report so large."""
    end = draft.exit
    draft.warnings = [text[:200] for text in draft.warnings[:5]]
    if end is not None:
        draft.exit = Exit(end.kind, end.number, end.cause, end.reason[:200], end.usage)
