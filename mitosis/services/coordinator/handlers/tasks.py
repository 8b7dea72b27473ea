"""Commands about tasks."""

from collections.abc import Callable, Coroutine
from typing import Any

from mitosis.contract import commands, subjects, wire, work
from mitosis.domain import task
from mitosis.domain.access import need_role
from mitosis.domain.limits import MAX_BATCH, MAX_KEY_BYTES, check_text
from mitosis.domain.names import check_name, check_uuid, task_uuid
from mitosis.domain.roles import Role
from mitosis.domain.task import Task, TaskState
from mitosis.domain.user import User
from mitosis.errors import InvalidInput, MitosisError, TooLarge
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.core import Core, Verbs
from mitosis.services.coordinator.journal import Unit


class TaskHandlers:
    """Handlers of `task.*`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [
            ("task.submit", commands.SubmitTask, self.submit),
            ("task.submit_many", commands.SubmitMany, self.submit_many),
            ("task.cancel", commands.CancelTask, self.cancel),
        ]

    def submit(self, caller: Caller, body: commands.SubmitTask) -> Coroutine[Any, Any, None] | None:
        """`task.submit`: needs Write in the group."""
        user = self._core.user(caller.owner)
        return self._recalled(user, [body], lambda: self._submit_one(caller, user, body))

    def submit_many(
        self, caller: Caller, body: commands.SubmitMany
    ) -> Coroutine[Any, Any, None] | None:
        """`task.submit_many`: each is decided on its own, all are stored before the reply."""
        user = self._core.user(caller.owner)
        if len(body.tasks) > MAX_BATCH:
            raise TooLarge(
                f"{len(body.tasks)} tasks in one request, at most {MAX_BATCH} are possible",
                size=len(body.tasks),
                limit=MAX_BATCH,
            )
        return self._recalled(user, body.tasks, lambda: self._submit_all(caller, user, body.tasks))

    def _submit_one(self, caller: Caller, user: User, body: commands.SubmitTask) -> None:
        unit = self._core.begin(f"user:{user.name}", caller)
        try:
            submitted = self._submit(unit, user, body)
        except MitosisError:
            unit.close()
            raise
        self._core.answer(unit, caller, submitted)

    def _submit_all(self, caller: Caller, user: User, bodies: list[commands.SubmitTask]) -> None:
        unit = self._core.begin(f"user:{user.name}", caller)
        results = []
        for one in bodies:
            try:
                results.append(commands.SubmitResult(self._submit(unit, user, one)))
            except MitosisError as error:
                results.append(commands.SubmitResult(error=wire.error_body(error)))
        self._core.answer(unit, caller, commands.SubmittedMany(results))

    async def cancel(self, caller: Caller, body: commands.CancelTask) -> None:
        """`task.cancel`: needs Write in the task's group."""
        core = self._core
        user = core.user(caller.owner)
        uuid = check_uuid(body.task, "task")
        state = await core.task(uuid)
        tail = subjects.task_tail(state.group, uuid)
        try:
            need_role(
                user, core.world.groups.get(state.group), state.group, Role.WRITE, "cancelling"
            )
            unit = core.begin(f"user:{user.name}", caller)
            unit.run(tail, task.RequestCancel(body.reason))
            ended = core.world.tasks[uuid].state.terminal
            core.dispatcher.task_gone(uuid)
            if not ended:
                unit.then(lambda _: self.push_cancel(core.world.tasks.get(uuid)))
            core.answer(unit, caller, commands.Cancelled(uuid, ended))
        finally:
            core.journal.release(tail)

    def push_cancel(self, state: Task | None) -> None:
        """Tell the worker of a running task to stop it."""
        if state is not None and state.state is TaskState.RUNNING:
            message = wire.encode(work.CancelAttempt(state.task, state.attempt))
            self._core.publish(subjects.control(state.worker), message)

    def _recalled(
        self, user: User, bodies: list[commands.SubmitTask], decide: Callable[[], None]
    ) -> Coroutine[Any, Any, None] | None:
        """Decide, after tasks that have ended and are submitted again were read from the store."""
        world = self._core.world
        again = []
        for body in bodies:
            group = body.group or user.name
            uuid = task_uuid(group, user.name, body.key)
            if world.has_ended(uuid) and uuid not in world.tasks:
                again.append((group, uuid))
        if again:
            return self._recall_and(again, decide)
        decide()  # the hot path makes no task
        return None

    async def _recall_and(self, tasks: list[tuple[str, str]], decide: Callable[[], None]) -> None:
        for group, uuid in tasks:
            if await self._core.read_aggregate(subjects.task_tail(group, uuid)) is not None:
                await self._core.stored_task(group, uuid)
        decide()

    def _submit(self, unit: Unit, user: User, body: commands.SubmitTask) -> commands.Submitted:
        core = self._core
        name = check_name(body.group, "group") if body.group else user.name
        need_role(user, core.world.groups.get(name), name, Role.WRITE, "submitting")
        if not body.key:
            raise InvalidInput("a submit needs an idempotency key", field="key")
        check_text(body.key, "the idempotency key", MAX_KEY_BYTES)
        uuid = task_uuid(name, user.name, body.key)
        known = core.world.tasks.get(uuid)
        number = known.number if known else core.world.numbers.get(name, 0) + 1
        spec = task.TaskSpec(
            argv=body.argv,
            env=body.env,
            tags=body.tags,
            priority=body.priority,
            timeout_seconds=body.timeout_seconds,
            terminal=body.terminal,
        )
        tail = subjects.task_tail(name, uuid)
        try:
            events = unit.run(
                tail, task.SubmitTask(uuid, name, user.name, number, spec, body.labels)
            )
        finally:
            if known:
                core.journal.release(tail)
        runnable = core.dispatcher.task_ready(unit, uuid) if events else True
        return commands.Submitted(uuid, name, number, runnable)
