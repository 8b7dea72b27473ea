"""What a program gives in another form than the SDK asks for, before anything is sent.

One text where several are meant, for one: Python would take it letter by letter.
"""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mitosis.client.client import MitoClient
from mitosis.config.client import (
    ChangeTaskArgs,
    GetTasksArgs,
    GetUsersArgs,
    GetWorkersArgs,
    SubmitTaskArgs,
)
from mitosis.errors import InvalidInput

UUID = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"
ONE: Any = "text"

CALLS: dict[str, Callable[[MitoClient], Coroutine[Any, Any, Any]]] = {
    "command": lambda c: c.submit_task(SubmitTaskArgs(command=ONE)),
    "tags": lambda c: c.submit_task(SubmitTaskArgs(command=("true",), tags=ONE)),
    "labels": lambda c: c.submit_task(SubmitTaskArgs(command=("true",), labels=ONE)),
    "command of a change": lambda c: c.change_task(ChangeTaskArgs(task=UUID, command=ONE)),
    "tags of a change": lambda c: c.change_task(ChangeTaskArgs(task=UUID, tags=ONE)),
    "labels of a task": lambda c: c.update_task_labels(UUID, ONE),
    "tasks": lambda c: c.wait_for_tasks(ONE),
    "creators": lambda c: c.get_tasks(GetTasksArgs(creators=ONE)),
    "states": lambda c: c.get_tasks(GetTasksArgs(states=ONE)),
    "outcomes": lambda c: c.get_tasks(GetTasksArgs(outcomes=ONE)),
    "tags of tasks": lambda c: c.get_tasks(GetTasksArgs(tags=ONE)),
    "labels of tasks": lambda c: c.get_tasks(GetTasksArgs(labels=ONE)),
    "roles": lambda c: c.get_workers(GetWorkersArgs(roles=ONE)),
    "tags of workers": lambda c: c.get_workers(GetWorkersArgs(tags=ONE)),
    "labels of workers": lambda c: c.get_workers(GetWorkersArgs(labels=ONE)),
    "tags of a worker": lambda c: c.update_worker_tags(UUID, ONE),
    "labels of a worker": lambda c: c.update_worker_labels(UUID, ONE),
    "groups": lambda c: c.remove_worker_roles(UUID, ONE),
    "removed": lambda c: c.change_members("lab", {}, ONE),
    "states of users": lambda c: c.get_users(GetUsersArgs(states=ONE)),
}


@pytest.mark.parametrize("what", CALLS)
async def test_one_text_where_several_are_meant_is_refused_before_anything_is_sent(
    what: str,
) -> None:
    client = MitoClient()  # not connected, and nothing answers at its address
    with pytest.raises(InvalidInput, match=rf"{what.split(maxsplit=1)[0]} is one text, 'text'"):
        await CALLS[what](client)


OTHER: dict[str, Callable[[MitoClient], Coroutine[Any, Any, Any]]] = {
    "described by SubmitTaskArgs": lambda c: c.submit_task({}),  # type: ignore[arg-type]
    "no kind of output: did you mean": lambda c: c.get_artifact(UUID, "resullt"),
    "no kind of output: use one": lambda c: c.delete_artifact(UUID, "x"),
    "No such file": lambda c: c.upload_attachment("/no/such/file"),
    "cannot be read": lambda c: c.upload_artifact(UUID, "result", "/no/such/file"),
    "there is no folder": lambda c: c.get_attachment("lab", "key", "/no/such/folder/file"),
    "cannot unpack to": lambda c: c.get_artifact(UUID, "result", "/no/such/folder", extract=True),
}


@pytest.mark.parametrize("complaint", OTHER)
async def test_texts_are_taken_for_paths_and_kinds_and_nonsense_is_named(complaint: str) -> None:
    client = MitoClient()
    with pytest.raises(InvalidInput, match=complaint):
        await OTHER[complaint](client)
