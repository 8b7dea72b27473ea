"""Secret variables: sealed before a submit or a change is decided, told to workers, erased."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from mitosis.contract import commands, subjects, wire, work
from mitosis.domain import task
from mitosis.domain.access import need_role, need_secret_right, need_sight
from mitosis.domain.limits import MAX_KEY_BYTES, check_text
from mitosis.domain.names import check_name, check_uuid, task_uuid
from mitosis.domain.roles import Role
from mitosis.domain.secret import check_secrets
from mitosis.domain.task import as_submitted
from mitosis.domain.user import User
from mitosis.errors import CorruptData, MitosisError, Unavailable
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.core import Core, Verbs
from mitosis.services.coordinator.report_checks import check_attempt, live_task
from mitosis.services.coordinator.vault import NO_SECRETS, Sealed, settling

ERASED = "its secret variables were erased: submit it again with them"
TRIES = 3


class Wanted(NamedTuple):
    """Which values of which task; lives as long as a request."""

    task: str
    values: frozenset[tuple[str, str]]


Sealings = Mapping[Wanted, Sealed]


def sealed_for(sealings: Sealings, uuid: str, body: commands.SubmitTask) -> Sealed:
    """Return what the specification of a submit says of its secrets.

    Raises:
        InvalidInput, TooLarge: They cannot be. Unavailable: They came in between; send it again.
    """
    if not body.secret_env:
        return NO_SECRETS
    check_secrets(body.secret_env, body.env)
    sealed = sealings.get(_wanted(uuid, body))
    if sealed is None:
        raise Unavailable("the secret variables could not be sealed in time: send it again")
    return sealed


@asynccontextmanager
async def sealed_submits(
    core: Core, user: User, bodies: Sequence[commands.SubmitTask]
) -> AsyncIterator[Sealings]:
    """Seal the secrets of submits; whoever calls it holds the tasks (`journal`).

    Those of a task that is there already are compared with what it has. What is refused anyway is
    left out, and so are keys of submits that have not made a task.
    """
    found: dict[Wanted, Sealed] = {}
    made: list[Sealed] = []

    async def one(body: commands.SubmitTask, group: str, uuid: str) -> None:
        known = core.world.tasks.get(uuid)
        if known is not None:
            spec = as_submitted(known)[0]
            sealed = await _compared(core, group, uuid, spec, body.secret_env)
        else:
            sealed = await core.vault.seal(group, uuid, body.secret_env)
            made.append(sealed)
        found[_wanted(uuid, body)] = sealed

    def missing() -> dict[Wanted, Awaitable[None]]:
        todo: dict[Wanted, Awaitable[None]] = {}
        for body in bodies:
            place = _place(core, user, body) if body.secret_env else None
            if place is None:
                continue
            wanted = _wanted(place[1], body)
            sealed = found.get(wanted)
            # While it was sealed, the same may have been submitted by somebody else.
            late = sealed is not None and sealed.fresh is not None and place[1] in core.world.tasks
            if wanted not in todo and (sealed is None or late):
                todo[wanted] = one(body, *place)
        return todo

    with settling(core.vault, made):
        while todo := missing():
            for outcome in await asyncio.gather(*todo.values(), return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
        yield found


async def _compared(
    core: Core, group: str, uuid: str, spec: task.TaskSpec, values: dict[str, str]
) -> Sealed:
    """Return the sealing of a task if these are its secrets, else another one: a conflict."""
    names = tuple(sorted(values))
    other = Sealed(names, core.ids.commit_id())
    if spec.secrets != names:
        return other
    stored = await core.vault.open(group, uuid, spec.sealing)
    # Without the key nobody can tell; a repeat that has no effect is harmless.
    return Sealed(names, spec.sealing) if stored in (None, values) else other


def _place(core: Core, user: User, body: commands.SubmitTask) -> tuple[str, str] | None:
    """Return group and UUID; None: it is refused anyway."""
    try:
        group = check_name(body.group, "group") if body.group else user.name
        check_text(body.key, "the idempotency key", MAX_KEY_BYTES)
        check_secrets(body.secret_env, body.env)
        uuid = task_uuid(group, user.name, body.key)
        if uuid not in core.world.tasks:  # who asks again may have lost the right since
            need_role(user, core.world.groups.get(group), group, Role.WRITE, "submitting")
    except MitosisError:
        return None  # the decision says why
    return (group, uuid) if body.key else None


def _wanted(uuid: str, body: commands.SubmitTask) -> Wanted:
    return Wanted(uuid, frozenset(body.secret_env.items()))


class SecretHandlers:
    """Handler of `task.erase_secrets`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [("task.erase_secrets", commands.EraseSecrets, self.erase)]

    async def erase(self, caller: Caller, body: commands.EraseSecrets) -> None:
        """`task.erase_secrets`: for whoever submitted the task, and for Admins.

        The key is destroyed before that is stored, so what is stored is never untrue.
        """
        core, order = self._core, task.EraseSecrets(body.reason)
        core.user(caller.owner)
        async with core.kept_task(check_uuid(body.task, "task")) as found:
            uuid, group = found.task, found.group
            for _ in range(TRIES):
                self._check_right(caller.owner, uuid)
                state = core.world.tasks[uuid]
                task.decide(state, order)
                await core.vault.destroy(state.spec.sealing)
                if core.world.tasks[uuid].spec.sealing == state.spec.sealing:
                    break
            else:
                raise Unavailable(f"task {uuid} is being changed all the time: send it again")
            self._check_right(caller.owner, uuid)
            unit = core.begin(f"user:{caller.owner}", caller)
            try:
                events = unit.run(subjects.task_tail(group, uuid), order)
            except MitosisError:
                unit.close()
                raise
            core.answer(unit, caller, commands.Changed(uuid, bool(events)))

    def _check_right(self, name: str, uuid: str) -> None:
        core = self._core
        user, state = core.user(name), core.world.tasks[uuid]
        group = core.world.groups.get(state.group)
        need_sight(user, group, uuid)
        need_secret_right(user, group, state)


class SecretReports:
    """Handler of what workers ask before they start a program."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [("secrets", work.SecretsWanted, self.tell)]

    async def tell(self, caller: Caller, body: work.SecretsWanted) -> None:
        """`secrets`: the values, to the worker of a live attempt. Never kept for a repeat."""
        core, name = self._core, caller.owner
        check_attempt(body.task, body.attempt)
        answer = await self._secrets_of(live_task(core.world, name, body.task, body.attempt))
        core.standing.check()  # meanwhile another coordinator may have taken over
        live_task(core.world, name, body.task, body.attempt)
        core.answered.drop(caller)
        core.publish(caller.reply, wire.encode(wire.Reply(answer)))
        core.tally.count(caller)

    async def _secrets_of(self, state: task.Task) -> work.Secrets:
        sealing = state.spec.sealing
        if not sealing:
            return work.Secrets()
        try:
            values = await self._core.vault.open(state.group, state.task, sealing)
        except CorruptData as error:
            return work.Secrets(missing=error.message)
        return work.Secrets(missing=ERASED) if values is None else work.Secrets(values)
