"""Secret variables of an attempt: asked for before it is taken in.

They are in no assignment, and nowhere on the disk of this worker: only in the memory of the attempt
and in the environment of its program.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from mitosis.contract.work import Assignment, Secrets, SecretsWanted
from mitosis.domain.task import Exit, ExitKind
from mitosis.errors import MitosisError, StaleAttempt, Unavailable
from mitosis.services.worker.drafts import Key
from mitosis.services.worker.link import Link, longer

log = logging.getLogger(__name__)

MAX_WAITING = 4_096
TRIES = 20  # for about half a minute; then the coordinator pushes it again when it misses it


class Takes(Protocol):
    """What takes attempts."""

    def assign(self, assignment: Assignment, secrets: Mapping[str, str] = {}) -> None:
        """Take an assignment with what it needs."""

    def refuse(self, assignment: Assignment, end: Exit) -> None:
        """Take an assignment that cannot start."""


class Fetching:
    """Assignments whose secrets are asked for. Close it when done."""

    def __init__(self, link: Link, core: Takes) -> None:
        self._link, self._core = link, core
        self._waiting: dict[Key, asyncio.Task[None]] = {}

    def take(self, assignment: Assignment) -> None:
        """Ask, then hand it on; one that is asked for already changes nothing."""
        key = (assignment.task, assignment.attempt)
        if key in self._waiting or len(self._waiting) >= MAX_WAITING:
            return  # it is pushed again when it is missed
        task = asyncio.create_task(self._fetch(assignment), name=f"secrets {key}")
        self._waiting[key] = task
        task.add_done_callback(lambda _: self._waiting.pop(key, None))

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._waiting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, assignment: Assignment) -> None:
        wanted, pause = SecretsWanted(assignment.task, assignment.attempt), 0.0
        for _ in range(TRIES):
            try:
                found = await self._link.ask("secrets", wanted, Secrets)
            except StaleAttempt:
                return
            except Unavailable as error:
                log.info("the secrets of task %s are not told yet: %s", assignment.task, error)
                pause = longer(pause)
                await asyncio.sleep(pause)
            except MitosisError as error:
                log.warning("the secrets of task %s are not told: %s", assignment.task, error)
                return
            else:
                self._give(assignment, found)
                return

    def _give(self, assignment: Assignment, found: Secrets) -> None:
        lacking = set(assignment.spec.secrets) - set(found.values)
        if lacking:
            why = found.missing or f"the secret variable {min(lacking)} was not told"
            self._core.refuse(assignment, Exit(ExitKind.NOT_STARTED, reason=why[:500]))
        else:
            self._core.assign(assignment, found.values)
