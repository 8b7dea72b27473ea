"""Commands that come again after the replies are forgotten, with the term that has done them.

Whoever got no answer asks again, for minutes. What was done already would then be refused for what
it has done itself ("exists already", "has ended already"), be done twice ("two more groups"), or
undo what somebody else has done since. Each commit names the command that it is of, so the store
tells what was done; it is asked as long as somebody may still be asking.

Submits and completed uploads are not here: their keys make them the same ones for ever.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from mitosis.contract import commands, subjects
from mitosis.domain.names import check_name, check_uuid
from mitosis.domain.task import TaskState
from mitosis.events.reader import EventReader
from mitosis.nats.rpc import Caller
from mitosis.runtime import Clock
from mitosis.services.coordinator import history
from mitosis.services.coordinator.core import Core, Handler, HasDone

LOOK_BACK = 100_000  # commits; a minute at full speed
LOOK_SECONDS = 900.0  # of a term; longer than anybody repeats a command by default


class Repeat(NamedTuple):
    """How a verb is answered that was done in a former term.

    Attributes:
        tail: Of the aggregate in which its commit stands; raises InvalidInput for no such name.
        answer: What its reply was.
    """

    tail: Callable[[Caller, Any], str]
    answer: Callable[[Core, Any], msgspec.Struct]


def once(core: Core, verb: str, handler: Handler) -> Handler:
    """Let a handler answer what a former term has done, and not do it again."""
    repeat = REPEATS.get(verb)
    if repeat is None:
        return handler

    async def handle(caller: Caller, body: Any) -> None:
        if caller.request_id and await _was_done(core, repeat, caller, body):
            unit = core.journal.unit(f"user:{caller.owner}")
            core.answer(unit, caller, repeat.answer(core, body))
            return
        outcome: Awaitable[None] | None = handler(caller, body)
        if outcome is not None:
            await outcome

    return handle


def former_commands(reader: EventReader, clock: Clock, position: int) -> HasDone:
    """Return how a term that begins now, behind a position, finds what former ones have done."""
    began = clock.monotonic()

    async def has_done(tail: str, actor: str, command: str) -> bool:
        if clock.monotonic() - began > LOOK_SECONDS:
            return False
        start = max(1, position - LOOK_BACK)
        return await history.has_done(reader, tail, actor, command, start=start, upto=position)

    return has_done


async def _was_done(core: Core, repeat: Repeat, caller: Caller, body: Any) -> bool:
    tail = repeat.tail(caller, body)
    return await core.has_done(tail, f"user:{caller.owner}", caller.request_id)


def _task(_: Caller, body: Any) -> str:
    return subjects.task_tail("*", check_uuid(body.task, "task"))


def _cancelled(core: Core, body: commands.CancelTask) -> commands.Cancelled:
    uuid = check_uuid(body.task, "task")
    state = core.world.tasks.get(uuid)
    return commands.Cancelled(uuid, state is None or state.state.terminal)


def _changed(_: Core, body: Any) -> commands.Changed:
    return commands.Changed(check_uuid(body.task, "task"), True)


def _changed_spec(core: Core, body: commands.ChangeTask) -> commands.Changed:
    uuid = check_uuid(body.task, "task")
    state = core.world.tasks.get(uuid)
    waits = state is not None and state.state in {TaskState.PENDING, TaskState.READY}
    return commands.Changed(uuid, True, not waits or core.dispatcher.runnable(uuid))


def _done(_: Core, __: Any) -> commands.Done:
    return commands.Done()


def _user(_: Caller, body: Any) -> str:
    return subjects.user_tail(check_name(body.username, "user"))


def _own(caller: Caller, _: Any) -> str:
    return subjects.user_tail(caller.owner)


def _group(_: Caller, body: Any) -> str:
    return subjects.group_tail(check_name(body.group, "group"))


def _new_group(_: Caller, body: commands.CreateGroup) -> str:
    return subjects.group_tail(check_name(body.name, "group"))


def _worker(_: Caller, body: Any) -> str:
    return subjects.worker_tail(check_uuid(body.worker, "worker"))


def _worker_changed(_: Core, body: Any) -> commands.WorkerChanged:
    return commands.WorkerChanged(check_uuid(body.worker, "worker"))


def _attachment(caller: Caller, body: commands.DeleteAttachment) -> str:
    return subjects.attachment_tail(check_name(body.group or caller.owner, "group"), body.key)


def _group_quota(core: Core, body: commands.ChangeGroupQuota) -> commands.NewQuota:
    return commands.NewQuota(core.world.users[body.username].group_quota)


def _storage_quota(core: Core, body: commands.ChangeStorageQuota) -> commands.NewQuota:
    return commands.NewQuota(core.world.groups[body.group].storage_quota_bytes)


_OF_WORKERS = ("drain", "update_tags", "update_labels", "update_roles", "remove_roles",
               "update_slots", "pause", "resume")  # fmt: skip

REPEATS: dict[str, Repeat] = {
    "task.cancel": Repeat(_task, _cancelled),
    "task.label": Repeat(_task, _changed),
    "task.change": Repeat(_task, _changed_spec),
    "task.erase_secrets": Repeat(_task, _changed),
    "artifact.delete": Repeat(_task, _done),
    "attachment.delete": Repeat(_attachment, _done),
    "user.create": Repeat(_user, _done),
    "user.change_password": Repeat(_own, _done),
    "user.reset_password": Repeat(_user, _done),
    "user.set_state": Repeat(_user, _done),
    "user.set_admin": Repeat(_user, _done),
    "user.set_group_quota": Repeat(_user, _group_quota),
    "group.create": Repeat(_new_group, _done),
    "group.change_members": Repeat(_group, _done),
    "group.set_state": Repeat(_group, _done),
    "group.set_storage_quota": Repeat(_group, _storage_quota),
    **{f"worker.{verb}": Repeat(_worker, _worker_changed) for verb in _OF_WORKERS},
}
"""By verb; what is not here has the same effect and the same answer however often it comes."""
