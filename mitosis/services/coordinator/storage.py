"""Which stored objects an event names: asked by the sweeper before it deletes anything."""

from collections.abc import Collection, Sequence

from mitosis.artifacts.names import task_of
from mitosis.errors import NotFound
from mitosis.services.coordinator.core import Core


class NamedArtifacts:
    """Looks tasks up in memory or in the store, those of the given objects only."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, objects: Sequence[str]) -> Collection[str]:
        """Return those objects that must stay: named by an event, or promised to somebody."""
        kept = self._core.uploads.names()
        for task in {task_of(name) for name in objects}:
            kept |= await self._named_by(task)
        return kept

    async def _named_by(self, task: str) -> set[str]:
        try:
            async with self._core.kept_task(task) as state:
                return {artifact.object_name for artifact in state.artifacts}
        except NotFound:
            return set()


class NamedAttachments:
    """Those of all attachments, which are in memory while they are not deleted."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, objects: Sequence[str]) -> Collection[str]:
        """Return those objects that must stay: named by an event, or promised to somebody."""
        wanted = set(objects)
        files = self._core.world.attachments.values()
        named = {file.object_name for file in files if file.object_name}
        return (self._core.uploads.names() | named) & wanted
