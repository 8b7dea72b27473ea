"""Bringing the files of completion up to date: in a process of its own, that nobody waits for.

It asks nobody, says nothing, and ends after a few seconds in any case.
"""

import contextlib
import fcntl
import json
import os
import shlex
import signal
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from mitosis.cli.completion import store
from mitosis.cli.completion.shells import OPTIONS
from mitosis.cli.completion.tree import make_tree
from mitosis.cli.invocation import Invocation, current
from mitosis.config.client import GetTasksArgs, GetWorkersArgs
from mitosis.errors import MitosisError
from mitosis.nats.blocking import finish

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient

LONGEST_SECONDS = 15
REQUEST_TIME = timedelta(seconds=5)


def refresh() -> int:
    """Ask for what the files should hold, unless another process is doing that."""
    signal.alarm(LONGEST_SECONDS)
    options = json.loads(os.environ.pop(OPTIONS, "[]"))
    with _alone() as alone:
        if not alone:
            return 0
        _refresh_tree()
        place = store.values_place(options, os.environ)
        if not store.load_values(place)[1]:
            return 0
        try:
            store.store_values(place, finish(_ask(options)))
        except MitosisError:
            store.store_failure(place)  # nobody there, or nobody logged in: tried again later
            return 1
    return 0


def _refresh_tree() -> None:
    if store.load_tree()[1]:
        return
    from mitosis.cli.main import root_app

    store.store_tree(make_tree(root_app()))


async def _ask(options: list[str]) -> store.Known:
    from mitosis.cli.client import read_flags
    from mitosis.cli.running import client_config
    from mitosis.client.client import MitoClient
    from mitosis.client.network import InPlace

    current.set(Invocation(client=read_flags(options)))
    config = msgspec.structs.replace(client_config(), timeout=REQUEST_TIME)
    async with MitoClient(config, InPlace()) as client:
        return await _values(client)


async def _values(client: "MitoClient") -> store.Known:
    groups = await client.get_groups()
    tasks = await client.get_tasks(GetTasksArgs())
    workers = await client.get_workers(GetWorkersArgs())
    newest = tasks.tasks[::-1]
    return {
        "group": [(name, role.label) for name, role in sorted(groups.items())],
        "task": [
            (task.uuid, f"#{task.number} {task.state.value} {shlex.join(task.spec.argv)[:60]}")
            for task in newest
        ],
        "worker": [(worker.uuid, f"{worker.state} {worker.host}") for worker in workers.workers],
        "tag": _once(tag for task in newest for tag in task.spec.tags),
        "label": _once(label for task in newest for label in task.labels),
    }


def _once(texts: Iterator[str]) -> list[tuple[str, str]]:
    return [(text, "") for text in dict.fromkeys(texts)]


@contextlib.contextmanager
def _alone() -> Iterator[bool]:
    """Whether no other process is at it; true until the end of the block."""
    folder = store.folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
