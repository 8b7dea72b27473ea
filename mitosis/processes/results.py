"""How runs end, from what a runner tells, or from what is known when it cannot tell."""

import os
from pathlib import Path
from typing import Any

from mitosis.domain.resources import Limits
from mitosis.processes.guard.frames import Message
from mitosis.processes.runs import (
    Cause,
    Exited,
    Lost,
    NotBegun,
    Outcome,
    RunResult,
    Signaled,
    SpawnFailed,
    StreamResult,
    Survivor,
)


def told(message: Message, folder: Path, limits: Limits | None) -> RunResult:
    """What an ENDED message says of a run in this folder, with these limits."""
    streams = [StreamResult(*counts) for counts in message[10]] or [StreamResult()] * 2
    cause: Cause = message[3]
    return RunResult(
        outcome=_outcome(message[2]),
        cause=cause,
        started_at=message[4],
        ended_at=message[5],
        wall_seconds=message[6],
        user_cpu_seconds=message[7],
        system_cpu_seconds=message[8],
        max_rss_bytes=message[9],
        stdout=streams[0],
        stderr=streams[1],
        leftovers_killed=message[11],
        tree_clean=message[12],
        limits_hit=message[14],
        limits=limits,
        survivors=tuple(Survivor(*process) for process in message[15]),
        mounts=tuple(Path(os.fsdecode(point)) for point in message[16]),
        mounts_gone=message[17],
        folder=folder,
        left_nothing=message[13],
    )


def lost(outcome: Lost, *, now: float, started_at: float, clean: bool, folder: Path) -> RunResult:
    """The end of a run whose runner died; `started_at` 0: it is not known to have begun."""
    return RunResult(
        outcome=outcome,
        cause="own",
        started_at=started_at or now,
        ended_at=now,
        wall_seconds=now - started_at if started_at else 0.0,
        tree_clean=clean,
        folder=folder,
    )


def unstarted(failure: SpawnFailed, now: float, folder: Path) -> RunResult:
    """The end of a run that no runner could be told of."""
    return RunResult(outcome=failure, cause="own", started_at=now, ended_at=now, folder=folder)


def not_begun(now: float, folder: Path) -> RunResult:
    """The end of a run that was lined up and has come back."""
    return RunResult(
        outcome=NotBegun(),
        cause="own",
        started_at=now,
        ended_at=now,
        folder=folder,
        left_nothing=True,
    )


def _outcome(said: tuple[Any, ...]) -> Outcome:
    kind = said[0]
    if kind == "exited":
        return Exited(said[1])
    if kind == "signaled":
        return Signaled(said[1], said[2])
    if kind == "spawn_failed":
        return SpawnFailed(said[1], said[2], said[3])
    return Lost(said[1])
