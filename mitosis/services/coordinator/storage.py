"""Which stored objects an event names: asked by the sweeper before it deletes anything.

The store of objects has no fence, and the memory of a coordinator that was frozen or cut off does
not know what another one has named meanwhile. So none of them says that an object may go before it
is sure of its standing.
"""

from collections.abc import Collection, Sequence

from mitosis.artifacts.names import belongs_to_attempt, task_of
from mitosis.domain.task import TaskState
from mitosis.errors import NotFound
from mitosis.services.coordinator.core import Core


class NamedArtifacts:
    """Looks tasks up in memory or in the store, those of the given objects only."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, objects: Sequence[str]) -> Collection[str]:
        """Return those objects that must stay.

        They are named by an event, promised to somebody, or of the live attempt of a task: its
        worker may have been unable to report them yet.

        Raises:
            Unavailable: Another coordinator may have taken over, or the store does not answer.
        """
        kept = self._core.uploads.names()
        by_task: dict[str, list[str]] = {}
        for name in objects:
            by_task.setdefault(task_of(name), []).append(name)
        for task, names in by_task.items():
            kept |= await self._kept_of(task, names)
        self._core.standing.check()
        return kept

    async def _kept_of(self, task: str, names: list[str]) -> set[str]:
        try:
            async with self._core.kept_task(task) as state:
                kept = {artifact.object_name for artifact in state.artifacts}
                if state.state is TaskState.RUNNING:
                    kept |= {n for n in names if belongs_to_attempt(n, task, state.attempt)}
                return kept
        except NotFound:
            return set()


class NamedAttachments:
    """Those of all attachments, which are in memory while they are not deleted."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, objects: Sequence[str]) -> Collection[str]:
        """Return those objects that must stay: named by an event, or promised to somebody.

        Raises:
            Unavailable: Another coordinator may have taken over.
        """
        self._core.standing.check()
        wanted = set(objects)
        files = self._core.world.attachments.values()
        named = {file.object_name for file in files if file.object_name}
        return (self._core.uploads.names() | named) & wanted
