"""Which stored objects an event names: asked by the sweeper before it deletes anything."""

from collections.abc import Collection, Sequence

from mitosis.artifacts.names import task_of
from mitosis.errors import NotFound
from mitosis.services.coordinator.core import Core


class NamedObjects:
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
            state = await self._core.task(task)
        except NotFound:
            return set()
        try:
            return {artifact.object_name for artifact in state.artifacts}
        finally:
            self._core.release(state.group, task)
