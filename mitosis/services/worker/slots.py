"""The engine as the worker uses it: told when a slot becomes free."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mitosis.processes.engine import Engine
from mitosis.processes.slot import Slot
from mitosis.processes.user import TaskUser


class SlotEngine(Engine):
    """An engine that tells of free slots: after the release of a run, its folder is cleaned first.

    Attributes:
        on_free: Called when a slot can take a program.
    """

    def __init__(
        self,
        slots: int,
        root: Path,
        *,
        lock_fds: Sequence[int] = (),
        epitaph: Sequence[str] = (),
        epitaph_env: Mapping[str, str] | None = None,
        adopts_orphans: bool = False,
        isolate: bool = False,
        user: TaskUser | None = None,
    ) -> None:
        super().__init__(
            slots,
            root,
            lock_fds=lock_fds,
            epitaph=epitaph,
            epitaph_env=epitaph_env,
            adopts_orphans=adopts_orphans,
            isolate=isolate,
            user=user,
        )
        self.on_free: Callable[[], None] = lambda: None

    def slot_free(self, slot: Slot) -> None:
        """The slot can take a task."""
        super().slot_free(slot)
        self.on_free()
