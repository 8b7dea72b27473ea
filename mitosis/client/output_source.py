"""What is known of the output of one task that is followed: no I/O, only what follows from what.

Three positions in each stream: `received` (what came, to tell gaps and repetitions), `consumed`
(what the caller has taken: the worker may send so much more) and `acknowledged` (the latest that
the worker was told). Negative ones stand for a beginning near the present end.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from mitosis.client.stored_output import last_lines
from mitosis.contract.output import (
    FOLLOW_SECONDS,
    MAX_BACKLOG_BYTES,
    WINDOW_BYTES,
    FollowTask,
    OutputMessage,
    OutputPiece,
    OutputReached,
)
from mitosis.contract.queries import FormerAttempt, TaskView
from mitosis.domain.task import TaskState

STREAMS = ("stdout", "stderr")
RENEW_SECONDS = FOLLOW_SECONDS / 3
SOON_SECONDS = 0.5  # until the second question to a worker that says nothing; doubles
PATIENT_TRIES = 2  # with the worker of a task that has ended

_decode = msgspec.json.Decoder(OutputMessage).decode


class OutputChunk(msgspec.Struct, frozen=True):
    """Bytes of a stream, exactly as written; a character may be cut at their ends.

    Attributes:
        task: UUID.
        attempt: Which attempt of it wrote them.
        stream: `stdout` or `stderr`.
        offset: Of the first byte in the stream of this attempt.
        data: The bytes; empty when something is missing at the end.
        skipped_bytes: Missing before these: nobody kept them until they were asked for.
    """

    task: str
    attempt: int
    stream: str
    offset: int
    data: bytes
    skipped_bytes: int = 0


class NoticeKind(StrEnum):
    """What a notice is about."""

    WAITS = "waits"
    BEGUN = "begun"
    ATTEMPT_ENDED = "attempt_ended"
    ENDED = "ended"


class OutputNotice(msgspec.Struct, frozen=True):
    """A task waits, an attempt of it was begun or has ended while it is followed, or it has ended.

    After the end of an attempt nothing more comes of that one, after that of the task nothing at
    all. The last attempt ends with the task, and has no notice of its own.

    Attributes:
        task: UUID.
        kind: What it is about.
        view: The task as it is now; it may have gone on since.
        former: The attempt that has ended, after which the task goes on.
        unseen: It came and went between two looks: what it has written is not shown.
    """

    task: str
    kind: NoticeKind
    view: TaskView
    former: FormerAttempt | None = None
    unseen: bool = False


FollowEvent = OutputChunk | OutputNotice


class Source:
    """One task, one attempt after the other: what comes of one is shown to its end first.

    Args:
        task: UUID.
        streams: Which are wanted.
        tail_lines: Begin so many lines before the present end; None: at the start.
        on_news: Called when there is something to take.
        clock: Seconds, for the times of questions.
    """

    def __init__(
        self,
        task: str,
        streams: Sequence[str],
        tail_lines: int | None,
        on_news: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.task, self._streams, self._tail_lines = task, streams, tail_lines
        self._on_news, self._clock = on_news, clock
        self._waiting: deque[FollowEvent] = deque()
        self._waiting_bytes = 0
        self._room = asyncio.Event()
        self._new_from_start = False
        self._attempt, self._token = 0, ""
        self._told = 0  # attempts up to this one are over for us
        self._of_attempt: TaskView | None = None
        self._worker: str | None = None
        self._received: dict[str, int] = {}
        self._consumed: dict[str, int] = {}
        self._acknowledged: dict[str, int] = {}
        self._again = self._repeats = False
        self._unanswered, self._ask_at = 0, 0.0
        self.wake = asyncio.Event()
        self.view: TaskView | None = None
        self.over = False
        self.refused = ""
        self.done = False

    # --- what is told -------------------------------------------------------------------------

    def look(self, view: TaskView) -> None:
        """Take in how the task is."""
        first, self.view = self.view is None, view
        if first:
            self._told = self._over_before(view)
            if not (view.state is TaskState.RUNNING or view.state.terminal or view.exit):
                self._put(OutputNotice(self.task, NoticeKind.WAITS, view))
        if self._shows:
            if view.attempt == self._attempt:
                self._of_attempt = view
                self._unanswered, self._ask_at = 0, 0.0
        else:
            self._go_on(view)
        self.wake.set()

    @property
    def _shows(self) -> bool:
        """Whether an attempt is shown that is not over for us yet."""
        return self._attempt > self._told

    @staticmethod
    def _over_before(view: TaskView) -> int:
        """Which attempts were over before anybody followed, and have left nothing to show."""
        waits = not (view.state is TaskState.RUNNING or view.state.terminal)
        return view.attempt if waits and view.exit is None else max(0, view.attempt - 1)

    def _go_on(self, view: TaskView) -> None:
        """Show the attempt that has begun, or has come and gone since the last look."""
        if view.attempt > self._told:
            self._begin(view)
        if not (view.state is TaskState.RUNNING or view.state.terminal):
            self._new_from_start = True  # the next attempt begins before our eyes

    def hear(self, worker: str, data: bytes) -> None:
        """Take in what a worker sends; to other followers too.

        Any worker may publish under its own name: who does not run the attempt is not listened to.
        """
        if worker != self._worker:
            return
        message = _decode(data)
        ours = message.follower.rpartition(":")[2] == self._token
        if not ours or message.attempt != self._attempt:
            return
        if isinstance(message, OutputReached):
            self._hear_reached(message)
        elif message.stream in self._received:
            self._hear_piece(message)

    def connection_came_back(self) -> None:
        """Messages may have been missed."""
        self._again = True
        self.wake.set()

    def _begin(self, view: TaskView) -> None:
        for unseen in range(self._told + 1, view.attempt):
            self._put_ended(view, unseen, unseen=True)
        start, runs = self._start(), view.state is TaskState.RUNNING
        self._attempt, self._worker = view.attempt, view.worker if runs else None
        self._of_attempt = view
        self._token = secrets.token_hex(16)
        self._again = self._repeats = False
        self.over = not runs
        # What it was asked before it had the task, or the program, was not answered.
        self._unanswered, self._ask_at = 0, 0.0
        self._received = dict.fromkeys(self._streams, start)
        self._consumed, self._acknowledged = dict(self._received), dict(self._received)
        if runs:
            self._put(OutputNotice(self.task, NoticeKind.BEGUN, view))

    def _put_ended(self, view: TaskView, attempt: int, *, unseen: bool) -> None:
        former = next((one for one in view.former_attempts if one.attempt == attempt), None)
        if former is not None:  # of very many only the newest are known
            self._put(OutputNotice(self.task, NoticeKind.ATTEMPT_ENDED, view, former, unseen))

    def _start(self) -> int:
        """Where an attempt begins: at its start, if it has begun while it is followed."""
        if self._tail_lines is None or self._new_from_start or self._attempt:
            return 0
        return -(MAX_BACKLOG_BYTES + 1) if self._tail_lines else -1

    def _hear_reached(self, message: OutputReached) -> None:
        self._unanswered, self.refused = 0, message.refused
        self._ask_at = self._clock() + RENEW_SECONDS
        lost = any(
            sent is not None and sent > self._received.get(stream, sent)
            for stream, sent in zip(STREAMS, (message.stdout, message.stderr), strict=True)
        )
        self.over, self._again, self._repeats = message.over, lost and not message.over, False
        self.wake.set()

    def _hear_piece(self, piece: OutputPiece) -> None:
        at, data, offset = self._received[piece.stream], piece.data, piece.offset
        end = offset + len(data)
        if at < 0:
            if piece.backlog:
                data = last_lines(data, self._tail_lines or 0)
            at = offset = end - len(data)
            self._consumed[piece.stream] = self._acknowledged[piece.stream] = at
        elif offset - piece.skipped_bytes > at:
            # Once: what is on its way already does not fit either.
            self._again, self._repeats = not self._repeats, True
            self.wake.set()
            return
        elif end <= at:
            return
        elif offset < at:
            data, offset = data[at - offset :], at
        self._received[piece.stream] = end
        if data:
            self._put(
                OutputChunk(self.task, self._attempt, piece.stream, offset, data, offset - at)
            )

    # --- what is asked ------------------------------------------------------------------------

    def due_in(self) -> float | None:
        """In how many seconds the worker is to be asked; None: not before something happens."""
        if not self._attempt or self.over:
            return None
        half = WINDOW_BYTES // 2
        if self._again or any(
            at - max(self._acknowledged[stream], 0) >= half for stream, at in self._consumed.items()
        ):
            return 0.0
        return max(0.0, self._ask_at - self._clock())

    def question(self) -> FollowTask:
        """What to ask now."""
        pause = min(RENEW_SECONDS, SOON_SECONDS * 2**self._unanswered)
        self._unanswered += 1
        self._ask_at = self._clock() + pause
        self._acknowledged = dict(self._consumed)
        again, self._again = self._again, False
        at = self._consumed
        return FollowTask(
            self.task, self._attempt, self._token, at.get("stdout"), at.get("stderr"), again
        )

    def farewell(self) -> FollowTask | None:
        """What to say when it is not followed any more; None: nothing."""
        if not self._attempt or self.over:
            return None
        return FollowTask(self.task, self._attempt, self._token, stop=True)

    # --- the end ------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether an attempt or the task has ended, and nothing more comes of its worker."""
        view = self.view
        if view is None:
            return False
        if not self._shows:
            return view.state.terminal
        ended = view.attempt != self._attempt or view.state is not TaskState.RUNNING
        return ended and (self.over or self._unanswered > PATIENT_TRIES)

    def missing(self) -> tuple[TaskView, dict[str, int]] | None:
        """What is known of the attempt that is shown, and from where each stream is missing."""
        if not self._shows or self._of_attempt is None:
            return None
        return self._of_attempt, dict(self._received)

    def settle(self) -> TaskView | None:
        """Close the attempt that was shown, and go on with what is so now.

        Returns:
            The task, if it has ended with that.
        """
        view, shown = self.view, self._attempt
        assert view is not None  # noqa: S101  it is complete
        if view.state.terminal and shown in {0, view.attempt}:
            return view
        unseen = self._worker is None and self._of_attempt is not None and not self._of_attempt.exit
        self._told, self._worker, self.over = shown, None, True
        self._new_from_start = True
        self._put_ended(view, shown, unseen=unseen)
        self._go_on(view)
        self.wake.set()
        return None

    # --- what is given out --------------------------------------------------------------------

    async def give(self, event: FollowEvent) -> None:
        """Put something that is read from a store; waits while much has not been taken."""
        while self._waiting_bytes >= WINDOW_BYTES:
            self._room.clear()
            await self._room.wait()
        self._put(event)

    def take(self) -> FollowEvent | None:
        """Return what comes next, None: nothing is there."""
        if not self._waiting:
            return None
        event = self._waiting.popleft()
        if isinstance(event, OutputChunk):
            self._waiting_bytes -= len(event.data)
            self._room.set()
            if event.attempt == self._attempt:
                self._consumed[event.stream] = event.offset + len(event.data)
                self.wake.set()
        return event

    def _put(self, event: FollowEvent) -> None:
        self._waiting.append(event)
        if isinstance(event, OutputChunk):
            self._waiting_bytes += len(event.data)
        self._on_news()
