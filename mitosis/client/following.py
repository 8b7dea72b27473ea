"""Following the output of tasks while they run, to the end of each.

The read models tell what is so (watching.py): which attempt runs where, and how a task has ended.
The bytes come from the worker (contract/output.py), in order, each once: what got lost on the way
is asked for again by its offset, what the worker did not keep is said, and what is missing at the
end is taken from where it was stored.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any

from mitosis.client.artifacts import Artifacts
from mitosis.client.listening import listening
from mitosis.client.output_source import (
    STREAMS,
    FollowEvent,
    NoticeKind,
    OutputChunk,
    OutputNotice,
    Source,
)
from mitosis.client.session import Session
from mitosis.client.stored_output import last_lines, stored_output
from mitosis.client.watching import follow as watch_views
from mitosis.contract import subjects
from mitosis.contract.output import FollowTask, TaskRunner
from mitosis.contract.queries import TaskView
from mitosis.domain.limits import check_number
from mitosis.errors import InvalidInput, LimitReached, MitosisError
from mitosis.nats.connection import Msg

MAX_FOLLOWED = 64
"""Tasks at once; each may have two windows of the contract in memory."""
MAX_TAIL_LINES = 10_000
FAREWELL_SECONDS = 0.5


async def follow_output(
    session: Session,
    artifacts: Artifacts,
    tasks: dict[str, str],
    streams: Sequence[str] = STREAMS,
    tail_lines: int | None = None,
) -> AsyncGenerator[FollowEvent, None]:
    """Yield the output of tasks and what happens to them, until all have ended.

    Args:
        session: Who follows.
        artifacts: For what was stored.
        tasks: UUID -> group.
        streams: Which are wanted.
        tail_lines: Begin so many lines before the present end; None: at the start.

    Raises:
        InvalidInput: Out of bounds.
        NotAllowed: No role in a group. LimitReached: Too many follow the task, or its worker.
    """
    check_wanted(len(tasks), streams, tail_lines)
    hub = _Hub(session, artifacts, tasks, streams, tail_lines)
    try:
        await hub.begin()
        while (event := await hub.next()) is not None:
            yield event
    finally:
        await hub.close()


def check_wanted(count: int, streams: Sequence[str], tail_lines: int | None) -> None:
    """Check what is to be followed.

    Raises:
        InvalidInput: Out of bounds.
    """
    if count > MAX_FOLLOWED:
        raise InvalidInput(f"{count} tasks at once: at most {MAX_FOLLOWED} can be followed")
    if not streams or set(streams) - set(STREAMS):
        raise InvalidInput(f"streams are {list(streams)}: name stdout, stderr or both")
    if tail_lines is not None:
        check_number(tail_lines, "tail", 0, MAX_TAIL_LINES)


class _Hub:
    """All tasks that are followed together."""

    def __init__(
        self,
        session: Session,
        artifacts: Artifacts,
        tasks: dict[str, str],
        streams: Sequence[str],
        tail_lines: int | None,
    ) -> None:
        self._session, self._artifacts, self._groups = session, artifacts, tasks
        self._tail_lines = tail_lines
        self._news = asyncio.Event()
        self._sources = {task: Source(task, streams, tail_lines, self._news.set) for task in tasks}
        self._turn = list(self._sources.values())
        self._running: list[asyncio.Task[None]] = []
        self._listening = contextlib.AsyncExitStack()
        self._failure: BaseException | None = None

    async def begin(self) -> None:
        """Listen, then look, then ask.

        Raises:
            NotAllowed: No role in a group.
        """
        one_of_each = {group: task for task, group in self._groups.items()}
        for task in one_of_each.values():  # the server would refuse to let us listen, silently
            await self._ask(FollowTask(task))
        heard = [subjects.output(group, task, "*") for task, group in self._groups.items()]
        await self._listening.enter_async_context(
            listening(self._session, heard, self._hear, self._connection_came_back)
        )
        self._start(self._watch())
        for source in self._turn:
            self._start(self._run(source))

    async def next(self) -> FollowEvent | None:
        """Return what comes next, of each task in turn; None: all have ended."""
        while True:
            if self._failure is not None:
                raise self._failure
            for source in list(self._turn):
                event = source.take()
                if event is not None:
                    self._turn.remove(source)
                    self._turn.append(source)
                    return event
                if source.done:
                    self._turn.remove(source)
            if not self._turn:
                return None
            self._news.clear()
            await self._news.wait()

    async def close(self) -> None:
        """Listen no more, and let the workers know."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._listening.aclose()
        farewells = [word for source in self._turn if (word := source.farewell()) is not None]
        # Who is not told notices it by the silence.
        with contextlib.suppress(TimeoutError, MitosisError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await asyncio.gather(*map(self._ask, farewells))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._running.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and self._failure is None:
            self._failure = task.exception()
        self._news.set()

    def _hear(self, message: Msg) -> None:
        task, worker = message.subject.split(".")[-2:]
        self._sources[task].hear(worker, message.data)

    def _connection_came_back(self) -> None:
        for source in self._turn:
            source.connection_came_back()

    async def _watch(self) -> None:
        async for view in watch_views(self._session, self._groups):
            self._sources[view.uuid].look(view)

    async def _ask(self, question: FollowTask) -> None:
        await self._session.query("task", "follow", question, TaskRunner)

    async def _run(self, source: Source) -> None:
        """Ask the workers of one task whenever that is due, until it has ended."""
        while True:
            if source.complete:
                if await self._close(source):
                    return
                continue
            if source.refused:
                raise LimitReached(f"task {source.task} cannot be followed now: {source.refused}")
            pause = source.due_in()
            if pause == 0.0:
                await self._ask(source.question())
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await source.wake.wait()
            source.wake.clear()

    async def _close(self, source: Source) -> bool:
        """See to what is missing of an attempt that has ended; whether the task has."""
        missing = source.missing()
        if missing is not None:
            await self._fill(source, *missing)
        ended = source.settle()
        if ended is None:
            return False
        await source.give(OutputNotice(source.task, NoticeKind.ENDED, ended))
        source.done = True
        self._news.set()
        return True

    async def _fill(self, source: Source, view: TaskView, begin: dict[str, int]) -> None:
        """Give out what is stored and was not seen live."""
        async for piece in stored_output(self._artifacts, view, begin):
            data, offset = piece.data, piece.offset
            if begin[piece.stream] < 0:
                data = last_lines(data, self._tail_lines or 0)
                offset += len(piece.data) - len(data)
            if data or piece.skipped_bytes:
                chunk = OutputChunk(
                    source.task, view.attempt, piece.stream, offset, data, piece.skipped_bytes
                )
                await source.give(chunk)
