"""Tasks: submit, look, cancel, watch and wait.

What watches and waits is imported when it is wanted: no other command shall pay for it.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from mitosis.client.session import Session
from mitosis.client.submits import batches, to_cancel, to_change, to_request
from mitosis.config.client import (
    NO_WATCH,
    ChangeTaskArgs,
    GetTasksArgs,
    RerunArgs,
    SubmitTaskArgs,
    TaskEdits,
    WaitUntil,
    WatchTasksArgs,
)
from mitosis.contract.commands import (
    Cancelled,
    Changed,
    EraseSecrets,
    ReplaceTaskLabels,
    SubmitMany,
    SubmitResult,
    SubmitTask,
    Submitted,
    SubmittedMany,
)
from mitosis.contract.queries import (
    ExplainTask,
    Explanation,
    GetTask,
    ListTasks,
    TaskPage,
    TaskView,
)
from mitosis.contract.wire import error_body, raise_error
from mitosis.domain.execution import ExecutionState, parse_execution_state
from mitosis.domain.limits import (
    MAX_PAGE,
    MAX_REASON_BYTES,
    check_several,
    check_tags,
    check_text,
)
from mitosis.domain.moments import checked_moment
from mitosis.domain.names import is_uuid
from mitosis.errors import InvalidInput, NotFound, TooLarge, Unavailable

if TYPE_CHECKING:
    from mitosis.client.output_source import FollowEvent
    from mitosis.client.states import ReachedState
    from mitosis.client.task_changes import TaskChange
    from mitosis.client.waiting import WaitProgress

Submittable = TypeVar("Submittable", SubmitTaskArgs, ChangeTaskArgs, RerunArgs)


async def submit_all(
    session: Session, bodies: Sequence[SubmitTask], key: str = ""
) -> list[SubmitResult]:
    """Send submits in as few requests as it takes; return what became of each, in their order.

    Args:
        session: Who submits.
        bodies: What to submit.
        key: What the error names when no answer came.
    """
    results: list[SubmitResult] = []
    for batch in batches(bodies):
        try:
            body = SubmitMany(batch)
            answer = await session.command("task", "submit_many", body, SubmittedMany, key)
            results += answer.results
        except Unavailable as error:
            if not results:
                raise
            # What came before is done: say for these that they are not, and go no further.
            rest = len(bodies) - len(results)
            return results + [SubmitResult(error=error_body(error))] * rest
    return results


class Tasks:
    """Commands and reads about tasks. A task may be named in any of the short forms."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def submit(self, args: SubmitTaskArgs) -> Submitted:
        """Submit a task. With `args.key` given, a repeated call is the same task.

        Raises:
            InvalidInput: A value out of its bounds; nothing was sent.
            NotFound: No such group, or no such task to watch. NotAllowed: No Write role in it.
            WrongState: The watched task has ended without reaching the state.
            AlreadyExists: The key is taken by another content.

        Example:
            args = SubmitTaskArgs(command=("true",), labels=("run-7",), timeout=timedelta(hours=1))
            submitted = await client.submit_task(args)
            print(submitted.task, submitted.number)
        """
        body = to_request(await self.with_watched(args))
        return await self._session.command("task", "submit", body, Submitted, body.key)

    async def submit_many(self, tasks: Sequence[SubmitTaskArgs]) -> list[Submitted]:
        """Submit many tasks in few requests; results are in their order.

        Raises:
            MitosisError: The first one that was refused; `details` has its `index` and how many
                were accepted. The others are submitted all the same.

        Example:
            sweep = [SubmitTaskArgs(command=("echo", str(seed))) for seed in range(5)]
            submitted = await client.submit_many(sweep)
            assert len(submitted) == 5
        """
        results = await self.submit_each(tasks)
        accepted = [r.submitted for r in results if r.submitted is not None]
        for index, result in enumerate(results):
            if result.error is not None:
                result.error.details |= {"index": index, "accepted": len(accepted)}
                raise_error(result.error)
        return accepted

    async def submit_each(self, tasks: Sequence[SubmitTaskArgs]) -> list[SubmitResult]:
        """Submit many tasks, and return for each, in their order, what became of it."""
        return await submit_all(
            self._session, [to_request(await self.with_watched(args)) for args in tasks]
        )

    async def get(self, task: str, as_of: datetime | int | None = None) -> TaskView:
        """Return one task as it is now, or as it was at a time or a position of the stream.

        Who may ask for the past is decided by the roles of now.

        Raises:
            NotFound: No such task, or none that the asker may see. InvalidInput: Ambiguous, or a
                moment that is still to come.

        Example:
            submitted = await client.submit_task(SubmitTaskArgs(command=("true",)))
            await client.wait_for_tasks([submitted])
            history = await client.get_events(GetEventsArgs(kind="task", name=submitted.task))
            then = await client.get_task(submitted.task, as_of=history.commits[0].position)
            assert not then.state.terminal
        """
        body = GetTask(task, checked_moment(as_of))
        return await self._session.query("task", "get", body, TaskView)

    async def explain(self, task: str) -> Explanation:
        """Say why a task waits, or why it has waited, also after its end.

        Each moment in which it was pending or ready has one cause; those of workers come from the
        rules of dispatch, applied to what happened.

        Raises:
            NotFound: No such task, or none that the asker may see. InvalidInput: Ambiguous.

        Example:
            submitted = await client.submit_task(SubmitTaskArgs(command=("true",)))
            explanation = await client.explain_task(submitted.task)
            for wait in explanation.waits:
                print(wait.cause, wait.seconds, wait.text)
        """
        return await self._session.query("task", "explain", ExplainTask(task), Explanation)

    async def list(self, args: GetTasksArgs | None = None) -> TaskPage:
        """Return the tasks that match, newest last, in as many requests as that takes.

        Raises:
            InvalidInput: A filter that cannot be. NotFound: No such group.
            NotAllowed: No role in it. LimitReached: Too much has changed since `as_of`.

        Example:
            page = await client.get_tasks(GetTasksArgs(states=(TaskState.RUNNING,), limit=10))
            for task in page.tasks:
                print(task.uuid, task.started_at)
        """
        wanted = args or GetTasksArgs()
        body = ListTasks(
            group=wanted.group,
            creators=check_several(wanted.creators, "creators"),
            tags=check_several(wanted.tags, "tags"),
            labels=check_several(wanted.labels, "labels"),
            states=tuple(str(state) for state in check_several(wanted.states, "states")),
            outcomes=check_several(wanted.outcomes, "outcomes"),
            exit_status=wanted.exit_status,
            priority=wanted.priority,
            before=wanted.before,
            limit=wanted.limit,
            offset=wanted.offset,
            count_only=wanted.count_only,
            as_of=checked_moment(wanted.as_of),
        )
        page = part = await self._session.query("task", "list", body, TaskPage)
        wanted_in_all = min(wanted.limit, page.total - wanted.offset)
        while part.tasks and len(page.tasks) < wanted_in_all:
            # What fits into one reply is not all: go on before its oldest task.
            body.before, body.offset = page.tasks[0].number, 0
            body.limit = wanted.limit - len(page.tasks)
            part = await self._session.query("task", "list", body, TaskPage)
            page.tasks[:0] = part.tasks
        return page

    async def cancel(
        self,
        task: str,
        reason: str = "",
        *,
        stop_signal: str | None = None,
        grace: timedelta | str | None = None,
    ) -> Cancelled:
        """Cancel a task; a running one is stopped, one that uploads its outputs ends with a part.

        Args:
            task: In any of the short forms.
            reason: For its record.
            stop_signal: What asks a running program to stop, such as `INT`; `KILL` ends it at once.
                None: what the task says.
            grace: Time between that and the kill, as a timedelta or a text such as `30s`; None:
                what the task says.

        A task that is being stopped already can be cancelled again with another signal or grace;
        `KILL` and a shorter grace end the upload of what it has left, too.

        Raises:
            InvalidInput: No such signal, or a grace out of its bounds.
            WrongState: It has ended already.
            NotAllowed: No Write role in its group.
        """
        order = to_cancel(task, reason, stop_signal, grace)
        body = replace(order, task=await self._uuid(task))
        return await self._session.command("task", "cancel", body, Cancelled)

    async def replace_labels(self, task: str, labels: Iterable[str]) -> Changed:
        """Replace the labels of a task, at any time of its life and after its end.

        Raises:
            InvalidInput: A label that cannot be. NotAllowed: No Write role in its group.
        """
        body = ReplaceTaskLabels(await self._uuid(task), check_tags(labels, "labels"))
        return await self._session.command("task", "label", body, Changed)

    async def change(self, args: ChangeTaskArgs) -> Changed:
        """Change what is given of a task that has not started; the rest stays.

        Raises:
            InvalidInput: A value out of its bounds, or nothing to change.
            WrongState: It runs or has ended, or the watched task has ended without the state.
            NotFound: No such task, or no such task to watch. NotAllowed: No Write in its group.
        """
        args = await self.with_watched(args)
        body = to_change(await self._uuid(args.task), args)
        return await self._session.command("task", "change", body, Changed)

    async def erase_secrets(self, task: str, reason: str = "") -> Changed:
        """Destroy the key of a task's secret variables: nobody can ever read them again.

        An attempt that runs keeps what it has; a later one does not start, and the task ends. The
        end of a task does the same.

        Raises:
            WrongState: It has ended, and its secrets with it. InvalidInput: It has none.
            NotAllowed: Not its creator, no Admin of its group, no platform administrator.

        Example:
            args = SubmitTaskArgs(command=("true",), secret_envs={"TOKEN": "s3cret"})
            submitted = await client.submit_task(args)
        """
        body = EraseSecrets(await self._uuid(task), check_text(reason, "reason", MAX_REASON_BYTES))
        return await self._session.command("task", "erase_secrets", body, Changed)

    async def _uuid(self, task: str) -> str:
        return task.lower() if is_uuid(task) else (await self.get(task)).uuid

    async def with_watched(self, args: Submittable) -> Submittable:
        """Name the watched task by its UUID."""
        if not isinstance(args, SubmitTaskArgs | TaskEdits):
            kinds = "SubmitTaskArgs(...) or ChangeTaskArgs(...)"
            raise InvalidInput(f"a task is described by {kinds}, not by {type(args).__name__}")
        watch = args.watch
        if watch is None or watch == NO_WATCH or is_uuid(watch.task):
            return args
        parse_execution_state(watch.state)
        uuid = (await self.get(watch.task)).uuid
        return replace(args, watch=replace(watch, task=uuid))

    async def watch(self, tasks: Iterable[str | Submitted]) -> AsyncIterator[TaskView]:
        """Yield each task as it is now, then at every change, until all have ended.

        No end is missed: it subscribes first, looks then, and looks again after every gap. States
        in between may be skipped when they follow each other quickly.

        Example:
            submitted = await client.submit_task(SubmitTaskArgs(command=("true",)))
            async for task in client.watch([submitted]):
                print(task.state, task.outcome)
        """
        from mitosis.client.watching import follow, resolve

        async for view in follow(self._session, await resolve(self._session, tasks)):
            yield view

    async def follow(
        self,
        tasks: Iterable[str | Submitted],
        *,
        streams: Sequence[str] = ("stdout", "stderr"),
        tail_lines: int | None = None,
    ) -> AsyncGenerator["FollowEvent", None]:
        """Yield what tasks write while they run, and at last how each has ended.

        Chunks are bytes exactly as written, in the order of their stream, each once; what nobody
        kept is counted in `skipped_bytes`. A task that waits is waited for; a new attempt is
        announced and begins at offset 0; one that has ended gives what is stored of it. Whoever
        takes chunks slowly holds up nobody: a task that does not collect its terminal output
        keeps the last 256 KiB for those who follow.

        Args:
            tasks: In any of the short forms, or what `submit` has returned; at most 64.
            streams: `stdout`, `stderr` or both.
            tail_lines: Begin so many lines before the present end, as far as 64 KiB hold them;
                None: at the start, or the earliest that is kept.

        Raises:
            NotFound: No such task. NotAllowed: No role in its group. InvalidInput: Out of bounds.
            LimitReached: Too many follow this task or others of its worker.

        Example:
            submitted = await client.submit_task(SubmitTaskArgs(command=("echo", "hello")))
            async for event in client.follow([submitted]):
                if isinstance(event, OutputChunk):
                    print(event.stream, event.data)
        """
        from mitosis.client.artifacts import Artifacts
        from mitosis.client.following import follow_output
        from mitosis.client.watching import resolve

        wanted = await resolve(self._session, tasks)
        events = follow_output(self._session, Artifacts(self._session), wanted, streams, tail_lines)
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    async def states(self, tasks: Iterable[str | Submitted]) -> AsyncIterator["ReachedState"]:
        """Yield the execution states of tasks, such as `ExecSpawned`, as they are reached.

        Those that the latest attempt has reached before come first. It ends with the last task:
        `TaskCommitted` is the last state of each. No state of an attempt is missed, and each comes
        once, in the order of its task.

        Raises:
            NotFound: No such task, or none that the asker may see.
        """
        from mitosis.client.states import follow_states
        from mitosis.client.watching import resolve

        async for reached in follow_states(self._session, await resolve(self._session, tasks)):
            yield reached

    async def changes(
        self, wanted: WatchTasksArgs | None = None
    ) -> AsyncGenerator["TaskChange", None]:
        """Yield every change of the state of tasks, and every execution state that they reach.

        Each once, in the order of each group, also over restarts of services, lost connections and
        the sleep of this machine. Named tasks come first as they are, unless the past is wanted
        (`after`, `since`), and the end of the last of them is the end; else it goes on for ever.

        Raises:
            NotFound, NotAllowed: As for reading the tasks, or the group.
            InvalidInput: A filter that cannot be. Unavailable: Nobody has answered for ten minutes.

        Example:
            submitted = await client.submit_task(SubmitTaskArgs(command=("true",)))
            async for change in client.watch_changes(WatchTasksArgs(tasks=(submitted.task,))):
                print(change.time, change.state, change.execution_state, change.outcome)
        """
        from mitosis.client.events import Events
        from mitosis.client.task_changes import watch_changes

        events = Events(self._session)
        changes = watch_changes(self._session, events, wanted or WatchTasksArgs())
        async with contextlib.aclosing(changes):
            async for change in changes:
                yield change

    async def execution_state(self, task: str) -> ExecutionState | None:
        """Return the execution state that a task has reached last; None before the first.

        Raises:
            NotFound: No such task, or none that the asker may see. InvalidInput: Ambiguous.
        """
        steps = (await self.get(task)).steps
        return steps[-1].state if steps else None

    async def wait(
        self,
        tasks: Iterable[str | Submitted] | GetTasksArgs,
        timeout: timedelta | None = None,
        *,
        until: WaitUntil = WaitUntil.ALL,
        progress: Callable[["WaitProgress"], None] | None = None,
    ) -> Sequence[TaskView]:
        """Wait until all tasks have ended; return them in their order.

        It goes on through restarts of the services and through the sleep of this machine. Whatever
        becomes of the wait, the tasks go on.

        Args:
            tasks: In any of the short forms, or what `submit` has returned; or filters: those that
                match now, at most 10,000. Filters on states before the end may match none.
            timeout: For all of them together; None: no bound.
            until: `ANY`: until one has ended, which alone is returned. `FAILURE`: until one has
                ended without success, or all with it; all are returned, some perhaps running.
            progress: Gets how far they are, at every change, in the loop of this client.

        Raises:
            Unavailable: The time is over, or nobody has answered for ten minutes.
            NotFound: No such task, or none that matches.

        Example:
            submitted = await client.submit_task(SubmitTaskArgs(command=("sh", "-c", "exit 3")))
            (task,) = await client.wait_for_tasks([submitted], timeout=timedelta(minutes=5))
            assert (task.outcome, task.exit.number) == (Outcome.FAILED, 3)
        """
        from mitosis.client.waiting import wait_for

        wanted = await self._chosen(tasks)
        return await wait_for(self._session, wanted, until, timeout, progress)

    async def _chosen(self, tasks: Iterable[str | Submitted] | GetTasksArgs) -> dict[str, str]:
        """Return UUID -> group of tasks that are named, or that match now."""
        from mitosis.client.waiting import OPEN
        from mitosis.client.watching import resolve

        if not isinstance(tasks, GetTasksArgs):
            return await resolve(self._session, tasks)
        total = (await self.list(replace(tasks, count_only=True))).total
        if total > MAX_PAGE:
            raise TooLarge(
                f"{total} tasks match, at most {MAX_PAGE} can be waited for: narrow the filter",
                size=total, limit=MAX_PAGE,
            )  # fmt: skip
        everything = replace(tasks, limit=MAX_PAGE, offset=0, before=0, count_only=False)
        found = {view.uuid: view.group for view in (await self.list(everything)).tasks}
        if not found and not (tasks.states and OPEN.issuperset(tasks.states)):
            raise NotFound("no task matches: look with `mito client get tasks`")
        return found
