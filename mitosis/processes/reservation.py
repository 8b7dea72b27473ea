"""A slot taken before its run starts."""

import os

from mitosis.processes.guard import frames
from mitosis.processes.run import Run
from mitosis.processes.runs import RunSpec
from mitosis.processes.slot import OnEnded, OnStarted, Slot, SlotState


class Reservation:
    """Inputs can be put into the folder of its slot, before the run starts or without one."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._generation = slot.generation
        self._over = False
        self.folder = slot.folder

    @property
    def slot(self) -> int:
        """Number of the slot."""
        return self._slot.number

    def start(
        self,
        spec: RunSpec,
        on_started: OnStarted | None = None,
        on_ended: OnEnded | None = None,
    ) -> Run:
        """Start the run, once.

        Raises:
            RuntimeError: the reservation was used or given back.
            ValueError: the spec is out of bounds.
        """
        spec.check()
        self._use()
        if self._slot.generation != self._generation or not self._slot.connected:
            return self._slot.start_lost(self.folder, on_ended)
        return self._slot.start(spec, on_started, on_ended)

    def release(self) -> None:
        """Give the slot back without a run; the folder is emptied.

        Raises:
            RuntimeError: the reservation was used or given back.
        """
        self._use()
        if self._slot.state is not SlotState.RESERVED:
            return
        self._slot.state = SlotState.CLEANING
        if self._slot.generation != self._generation:
            self._slot.send((frames.DISCARD, os.fsencode(self.folder)))
        else:
            self._slot.send((frames.CLEAN,))

    def _use(self) -> None:
        if self._over:
            raise RuntimeError("a reservation is used once")
        self._over = True
