"""The sections of a run, in the order in which they are measured."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bench import commands, objects
from bench.peers import run as peers
from bench.platform import Shape, Up
from bench.scale import history, queues
from bench.sizes import Bench
from bench.work import SLOTS
from bench.workloads import alone, latency, outputs, sleeps, submits, true, unspawned

Alone = Callable[[Bench], None]
OnPlatform = Callable[[Bench, Up], Awaitable[None]]

#: One worker with two slots: what all campaigns of programs run on.
WORKER = Shape(workers=1, slots=SLOTS)
NOBODY = Shape(workers=0)
RELAXED = Shape(workers=0, relaxed=True)


class Section(NamedTuple):
    """A part of a run that can be had alone; those next to each other share a platform.

    Attributes:
        name: On the command line; several sections may have the same one.
        measure: What is done, on a platform of the `shape` if there is one.
        quick: Whether the quick form has it.
    """

    name: str
    measure: Alone | OnPlatform
    shape: Shape | None = None
    quick: bool = True


SECTIONS = (
    Section("engine", alone.measure),
    Section("peers", peers.measure, quick=False),
    Section("true", true.measure, WORKER),
    Section("latency", latency.measure, WORKER),
    Section("terminal", outputs.terminal, WORKER),
    Section("results", outputs.results, WORKER),
    Section("sleeps", sleeps.measure, WORKER),
    Section("objects", objects.measure, WORKER, quick=False),
    Section("client", commands.measure, WORKER, quick=False),
    Section("simulated", unspawned.synced, NOBODY),
    Section("submit", submits.synced, NOBODY),
    Section("queued", submits.queued, NOBODY, quick=False),
    Section("simulated", unspawned.relaxed, RELAXED, quick=False),
    Section("submit", submits.relaxed, RELAXED, quick=False),
    Section("queues", queues.measure, quick=False),
    Section("history", history.measure, quick=False),
)
