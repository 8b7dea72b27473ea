"""Commands about tasks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import msgspec

from mitosis.contract import commands, subjects, wire
from mitosis.contract.commands import WatchWanted
from mitosis.domain import task
from mitosis.domain.access import need_role, need_sight
from mitosis.domain.execution import parse_execution_state
from mitosis.domain.limits import MAX_BATCH, MAX_KEY_BYTES, check_text
from mitosis.domain.names import check_name, check_uuid, is_uuid, task_uuid
from mitosis.domain.roles import Role
from mitosis.domain.secret import check_secrets
from mitosis.domain.task import Task, TaskSpec, TaskState
from mitosis.domain.user import User
from mitosis.domain.watch import Verdict, Watch, check_watch
from mitosis.errors import (
    InvalidInput,
    MitosisError,
    NotFound,
    OutcomeUnknown,
    TooLarge,
    WrongState,
)
from mitosis.nats.rpc import Caller, overloaded
from mitosis.services.coordinator.core import Core, Verbs
from mitosis.services.coordinator.handlers.secrets import Sealings, sealed_for, sealed_submits
from mitosis.services.coordinator.journal import Unit
from mitosis.services.coordinator.stopping import order_stop
from mitosis.services.coordinator.vault import NO_SECRETS, Sealed, settling
from mitosis.services.coordinator.watches import fired_text, impossible_text, judge

READS_AT_ONCE = 32  # of ended tasks that are submitted again
# Of the submits of one request: deciding on so many takes some milliseconds. The first part is
# enough for the workers until the next one is stored.
FIRST_PART = 50
PART = 250
PATIENCE_SECONDS = 5.0  # of a part, while too much is on its way; its request is then asked again
MOST_IN_PARTS = 32  # requests at once; what one of them takes in memory is some megabytes at most
ERROR_CHARS = 160  # of each of up to a thousand errors, which fit into one reply

Recalled = Mapping[str, Task]
"""Tasks that have ended and that are watched or repeated, as the store has them."""

Decide = Callable[[Recalled, Sealings], None]


class TaskHandlers:
    """Handlers of `task.*`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._turns = asyncio.Lock()
        self._in_parts = 0

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [
            ("task.submit", commands.SubmitTask, self.submit),
            ("task.submit_many", commands.SubmitMany, self.submit_many),
            ("task.cancel", commands.CancelTask, self.cancel),
            ("task.label", commands.ReplaceTaskLabels, self.replace_labels),
            ("task.change", commands.ChangeTask, self.change),
        ]

    def submit(self, caller: Caller, body: commands.SubmitTask) -> Coroutine[Any, Any, None] | None:
        """`task.submit`: needs Write in the group."""
        user = self._core.user(caller.owner)
        return self._recalled(user, [body], partial(self._submit_one, caller, body))

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
        results: list[commands.SubmitResult] = []
        if len(body.tasks) > PART:
            self._core.check_room()
            return self._submit_parts(caller, body.tasks, results)
        return self._recalled(
            user,
            body.tasks,
            partial(self._submit_part, caller, body.tasks, results, len(body.tasks)),
        )

    def _submit_one(
        self,
        caller: Caller,
        body: commands.SubmitTask,
        recalled: Recalled,
        sealings: Sealings,
    ) -> None:
        user = self._core.user(caller.owner)
        unit = self._core.begin(f"user:{user.name}", caller)
        with _closed_if_refused(unit):
            submitted = self._submit(unit, user, body, recalled, sealings)
        self._core.answer(unit, caller, submitted)

    async def _submit_parts(
        self,
        caller: Caller,
        bodies: list[commands.SubmitTask],
        results: list[commands.SubmitResult],
    ) -> None:
        """Decide on a part while the one before is being stored, and on what others want between.

        Raises:
            MitosisError: Why none was submitted. OutcomeUnknown: Some were; by their keys, all can
                be submitted again.
        """
        if self._in_parts >= MOST_IN_PARTS:
            raise overloaded(f"{MOST_IN_PARTS} large submits are being decided on")
        self._in_parts += 1
        try:
            for start in (0, *range(FIRST_PART, len(bodies), PART)):
                part = bodies[start : start + PART if start else FIRST_PART]
                decide = partial(self._submit_part, caller, part, results, len(bodies))
                await self._in_turn(caller, part, decide)
        except MitosisError as error:
            accepted = sum(result.submitted is not None for result in results)
            if not accepted:
                raise
            text = f"{accepted} of {len(bodies)} tasks are on their way, then: {error}"
            raise OutcomeUnknown(text) from error
        finally:
            self._in_parts -= 1

    async def _in_turn(
        self, caller: Caller, part: list[commands.SubmitTask], decide: Decide
    ) -> None:
        """Decide on a part when there is room, which is waited for a little.

        Whoever else submits much has the next turn.
        """
        await self._take_turn()
        try:
            waiting = self._recalled(self._core.user(caller.owner), part, decide)
            if waiting is None:
                await asyncio.sleep(0)  # what was stored is heard of, and others are
                await asyncio.sleep(0)  # what follows from that is sent
        finally:
            self._turns.release()
        if waiting is not None:  # it reads from the store first: that is nobody else's time
            await waiting

    async def _take_turn(self) -> None:
        """Wait for the turn, and that there is room in it; whoever takes it releases it.

        Raises:
            Overloaded: There is none for seconds. StoreUnavailable: Nothing can be stored.
        """
        journal, turns = self._core.journal, self._turns
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await turns.acquire()
                while journal.is_busy():
                    turns.release()
                    await journal.flush()
                    await turns.acquire()
        except TimeoutError as error:
            self._core.check_store()
            raise overloaded("too much is on its way") from error

    def _submit_part(
        self,
        caller: Caller,
        bodies: list[commands.SubmitTask],
        results: list[commands.SubmitResult],
        count: int,
        recalled: Recalled,
        sealings: Sealings,
    ) -> None:
        user = self._core.user(caller.owner)
        unit = self._core.begin(f"user:{user.name}", caller)
        for one in bodies:
            try:
                submitted = self._submit(unit, user, one, recalled, sealings)
                results.append(commands.SubmitResult(submitted))
            except MitosisError as error:
                results.append(commands.SubmitResult(error=wire.error_body(error, ERROR_CHARS)))
        if len(results) == count:
            self._core.answer(unit, caller, commands.SubmittedMany(results))
        else:
            unit.close()

    async def cancel(self, caller: Caller, body: commands.CancelTask) -> None:
        """`task.cancel`: needs Write in the task's group."""
        core = self._core
        async with self._writable(caller, body.task, "cancelling") as state:
            uuid, tail = state.task, subjects.task_tail(state.group, state.task)
            unit = core.begin(f"user:{caller.owner}", caller)
            unit.run(tail, task.RequestCancel(body.reason, body.stop_signal, body.grace_seconds))
            ended = core.world.tasks[uuid].state.terminal
            core.dispatcher.task_gone(uuid)
            if not ended:
                unit.then(lambda _: self.push_cancel(core.world.tasks.get(uuid)))
            core.answer(unit, caller, commands.Cancelled(uuid, ended))

    def push_cancel(self, state: Task | None) -> None:
        """Tell the worker of a running task to stop it."""
        if state is not None and state.state is TaskState.RUNNING:
            order_stop(self._core, state)

    async def replace_labels(self, caller: Caller, body: commands.ReplaceTaskLabels) -> None:
        """`task.label`: needs Write in the task's group; also after the end of the task."""
        core = self._core
        async with self._writable(caller, body.task, "changing labels") as state:
            unit = core.begin(f"user:{caller.owner}", caller)
            with _closed_if_refused(unit):
                tail = subjects.task_tail(state.group, state.task)
                events = unit.run(tail, task.ReplaceTaskLabels(body.labels))
            core.answer(unit, caller, commands.Changed(state.task, bool(events)))

    async def change(self, caller: Caller, body: commands.ChangeTask) -> None:
        """`task.change`: needs Write in the task's group, and a task that has not started."""
        core = self._core
        wanted = body.watch
        recalled = await self._recall([wanted.task] if isinstance(wanted, WatchWanted) else [])
        async with (
            self._sealed_change(caller, body) as sealed,
            self._writable(caller, body.task, "changing a task") as state,
        ):
            uuid, user = state.task, core.user(caller.owner)
            spec, fired = self._changed_spec(user, uuid, state, body, recalled, sealed)
            unit = core.begin(f"user:{user.name}", caller)
            with _closed_if_refused(unit):
                tail = subjects.task_tail(state.group, uuid)
                change = task.ChangeTask(spec, core.clock.now(), fired)
                task.decide(state, change)  # what is refused leaves no sealing behind
                sealed.store(unit)
                events = unit.run(tail, change)
                if state.spec.sealing not in ("", spec.sealing):
                    unit.then(lambda _: core.vault.doom([state.spec.sealing]))
                runnable = self._place(unit, uuid) if events else True
            core.answer(unit, caller, commands.Changed(uuid, bool(events), runnable))

    @asynccontextmanager
    async def _sealed_change(
        self, caller: Caller, body: commands.ChangeTask
    ) -> AsyncIterator[Sealed]:
        """Seal the secret variables that a task is to have; their key goes if it does not."""
        if not body.secret_env:
            yield NO_SECRETS
            return
        check_secrets(body.secret_env, body.env or ())
        async with self._writable(caller, body.task, "changing a task") as state:
            sealed = await self._core.vault.seal(state.group, state.task, body.secret_env)
        with settling(self._core.vault, [sealed]):
            yield sealed

    @asynccontextmanager
    async def _writable(self, caller: Caller, name: str, what: str) -> AsyncIterator[Task]:
        """Return a task in whose group the user has Write, and keep it in memory while inside."""
        core = self._core
        core.user(caller.owner)
        async with core.kept_task(check_uuid(name, "task")) as state:
            user, group = core.user(caller.owner), core.world.groups.get(state.group)
            need_sight(user, group, state.task)
            need_role(user, group, state.group, Role.WRITE, what)
            yield state

    def _changed_spec(
        self,
        user: User,
        uuid: str,
        state: Task,
        body: commands.ChangeTask,
        recalled: Recalled,
        sealed: Sealed,
    ) -> tuple[TaskSpec, str]:
        """Return the new specification, and how its watch is fulfilled already."""
        spec, fired = body.of(state.spec), ""
        if body.secret_env is not None:
            spec = msgspec.structs.replace(spec, secrets=sealed.names, sealing=sealed.sealing)
        if isinstance(body.watch, WatchWanted):
            watch, fired = self._watch(user, body.watch, recalled)
            if self._core.watches.would_close_a_circle(uuid, watch):
                raise InvalidInput(
                    f"task {uuid} would wait for itself: {watch.task} waits for it", field="watch"
                )
            spec = msgspec.structs.replace(spec, watch=watch)
        elif body.watch is None:
            spec = msgspec.structs.replace(spec, watch=None)
        return spec, fired

    # --- what a task waits for ----------------------------------------------------------------

    async def _recall(self, names: Iterable[str]) -> Recalled:
        """Read tasks that have ended from the store; those that are not there miss."""
        core = self._core
        found: dict[str, Task] = {}
        for name in names:
            uuid = name.lower()
            if is_uuid(uuid) and uuid not in core.world.tasks and uuid not in found:
                try:
                    async with core.kept_task(uuid) as state:
                        found[state.task] = state
                except NotFound:
                    continue  # said when it is decided
        return found

    def _watch(self, user: User, wanted: WatchWanted, recalled: Recalled) -> tuple[Watch, str]:
        """Return what a task is to wait for, and how that is fulfilled already.

        Raises:
            InvalidInput: Malformed, or it can never be fulfilled. NotFound: No such task, or none
                that the user may see.
        """
        core = self._core
        state = parse_execution_state(wanted.state)
        uuid = check_uuid(wanted.task, "task")
        watched = core.world.tasks.get(uuid) or recalled.get(uuid)
        if watched is None or not (user.admin or watched.group in core.world.roles_of(user.name)):
            raise NotFound(f"there is no task {uuid} to watch, or none that you may see", task=uuid)
        watch = check_watch(Watch(uuid, watched.group, state, wanted.timeout_seconds))
        verdict = judge(watch, watched)
        if verdict is Verdict.IMPOSSIBLE:
            raise WrongState(impossible_text(watch, watched), task=uuid)
        return watch, fired_text(watch) if verdict is Verdict.REACHED else ""

    def _place(self, unit: Unit, uuid: str) -> bool:
        """Let a task wait for another one or for a worker; return whether one could run it."""
        core = self._core
        core.dispatcher.task_gone(uuid)
        core.watches.begin(uuid)
        if core.world.tasks[uuid].state is TaskState.READY:
            return core.dispatcher.task_ready(unit, uuid)
        return core.dispatcher.runnable(uuid)

    # --- submitting ---------------------------------------------------------------------------

    def _recalled(
        self, user: User, bodies: list[commands.SubmitTask], decide: Decide
    ) -> Coroutine[Any, Any, None] | None:
        """Decide, after what is needed of ended tasks was read from the store.

        These are tasks that are submitted again, and tasks that are watched or repeated.
        """
        world = self._core.world
        tasks = [
            (g := body.group or user.name, task_uuid(g, user.name, body.key)) for body in bodies
        ]
        named = [body.watch.task for body in bodies if body.watch is not None]
        named += [body.rerun_of for body in bodies if body.rerun_of]
        if (
            any(world.has_ended(uuid) and uuid not in world.tasks for _, uuid in tasks)
            or any(name not in world.tasks for name in named)
            or any(body.secret_env for body in bodies)
        ):
            return self._recall_and(user, bodies, tasks, named, decide)
        decide({}, {})  # the hot path makes no task
        return None

    async def _recall_and(
        self,
        user: User,
        bodies: list[commands.SubmitTask],
        tasks: list[tuple[str, str]],
        named: list[str],
        decide: Decide,
    ) -> None:
        """Decide with everything in memory that it stands on.

        While the store is asked for some of the tasks, others end: all of them are held.
        """
        world, journal = self._core.world, self._core.journal
        alive = [known for name in named if (known := world.tasks.get(name.lower()))]
        with ExitStack() as held:
            for group, uuid in {*tasks, *((known.group, known.task) for known in alive)}:
                held.enter_context(journal.holding(subjects.task_tail(group, uuid)))
            recalled = await self._recall(named)
            await self._bring_back([one for one in tasks if world.has_ended(one[1])])
            async with sealed_submits(self._core, user, bodies) as sealings:
                decide(recalled, sealings)

    async def _bring_back(self, tasks: list[tuple[str, str]]) -> None:
        """Bring ended tasks back into memory; the caller holds them."""

        async def one(group: str, uuid: str) -> None:
            with suppress(NotFound):  # another task whose UUID looks alike has ended
                if uuid not in self._core.world.tasks:
                    await self._core.stored_task(group, uuid)

        for start in range(0, len(tasks), READS_AT_ONCE):
            reads = (one(group, uuid) for group, uuid in tasks[start : start + READS_AT_ONCE])
            for outcome in await asyncio.gather(*reads, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    def _submit(
        self,
        unit: Unit,
        user: User,
        body: commands.SubmitTask,
        recalled: Recalled,
        sealings: Sealings,
    ) -> commands.Submitted:
        core = self._core
        name = check_name(body.group, "group") if body.group else user.name
        if not body.key:
            raise InvalidInput("a submit needs an idempotency key", field="key")
        check_text(body.key, "the idempotency key", MAX_KEY_BYTES)
        uuid = task_uuid(name, user.name, body.key)
        known = core.world.tasks.get(uuid)
        if known is None:  # who asks again, as the answer was lost, may have lost the right since
            need_role(user, core.world.groups.get(name), name, Role.WRITE, "submitting")
        number = known.number if known else core.world.numbers.get(name, 0) + 1
        tail = subjects.task_tail(name, uuid)
        try:
            watch, fired = self._watch_of(user, body, known, recalled)
            origin = body.rerun_of and self._origin_of(user, body.rerun_of, known, recalled)
            sealed = sealed_for(sealings, uuid, body)
            spec = task.TaskSpec(
                argv=body.argv,
                env=body.env,
                tags=body.tags,
                priority=body.priority,
                timeout_seconds=body.timeout_seconds,
                terminal=body.terminal,
                watch=watch,
                limits=body.limits,
                stop_signal=body.stop_signal,
                grace_seconds=body.grace_seconds,
                retry=body.retry,
                max_losses=body.max_losses,
                secrets=sealed.names,
                sealing=sealed.sealing,
            )
            now = core.clock.now()
            submit = task.SubmitTask(
                uuid, name, user.name, number, spec, body.labels, now, fired, origin
            )
            if sealed.fresh is not None:
                task.decide(known, submit)  # what is refused leaves no sealing behind
                sealed.store(unit)
            events = unit.run(tail, submit)
        finally:
            if known:
                core.journal.release(tail)
        runnable = self._place(unit, uuid) if events else True
        return commands.Submitted(uuid, name, number, runnable)

    def _origin_of(self, user: User, name: str, known: Task | None, recalled: Recalled) -> str:
        """Return the task that a submit repeats, which the user must see the first time."""
        core, uuid = self._core, check_uuid(name, "task")
        origin = core.world.tasks.get(uuid) or recalled.get(uuid)
        if known is None and (
            origin is None or not (user.admin or origin.group in core.world.roles_of(user.name))
        ):
            raise NotFound(
                f"there is no task {uuid} to repeat, or none that you may see", task=uuid
            )
        return uuid

    def _watch_of(
        self, user: User, body: commands.SubmitTask, known: Task | None, recalled: Recalled
    ) -> tuple[Watch | None, str]:
        """Return the watch of a submit. A repeated one is not judged again: it may have ended."""
        if body.watch is None:
            return None, ""
        if known is None:
            return self._watch(user, body.watch, recalled)
        first = known.submitted[0] if known.submitted else known.spec
        watch = Watch(
            check_uuid(body.watch.task, "task"),
            first.watch.group if first.watch else known.group,
            parse_execution_state(body.watch.state),
            body.watch.timeout_seconds,
        )
        return watch, ""


@contextmanager
def _closed_if_refused(unit: Unit) -> Iterator[None]:
    """Close a unit that a rule has refused, so that the next one can begin."""
    try:
        yield
    except MitosisError:
        unit.close()
        raise
