"""What a task may use of its worker's machine, and how it is asked to stop."""

from collections.abc import Callable
from typing import Any

import msgspec

from mitosis.domain.durations import format_duration, format_exact_size
from mitosis.domain.limits import (
    MAX_SIZE_BYTES,
    MAX_TIMEOUT_SECONDS,
    MIN_TIMEOUT_SECONDS,
    check_number,
)
from mitosis.domain.nearest import one_of
from mitosis.errors import InvalidInput

MIN_MEMORY_BYTES = 1 << 20  # below this no dynamic program can start
MIN_OPEN_FILES = 8
MAX_OPEN_FILES = 1 << 30  # Linux: the largest fs.nr_open
MAX_PROCESSES = 1 << 22  # Linux: PID_MAX_LIMIT
MAX_GRACE_SECONDS = 86_400.0
DEFAULT_GRACE_SECONDS = 10.0  # as in the original
DEFAULT_STOP_SIGNAL = "TERM"

#: Signals that programs take for a wish to stop, and the one that leaves them no choice.
STOP_SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "ABRT", "WINCH", "KILL")


class Limits(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True
):
    """What a task may use at most; None for no limit.

    How each is kept on a machine is among the guarantees of its worker (docs/programs.md).

    Attributes:
        memory_bytes: Of the whole tree of processes.
        cpu_seconds: User and system time of the whole tree.
        processes: Processes and threads of the whole tree at a time.
        open_files: Descriptors of each process.
        file_size_bytes: Of each file that is written.
    """

    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    processes: int | None = None
    open_files: int | None = None
    file_size_bytes: int | None = None

    def check(self) -> None:
        """Refuse what no machine can keep.

        Raises:
            InvalidInput: A value is out of its bounds.
        """
        if self is NO_LIMITS:
            return
        for field, bound in _BOUNDS.items():
            value = getattr(self, field)
            if value is not None:
                check_number(value, bound.field, bound.low, bound.high)

    def within(self, ceilings: "Limits") -> bool:
        """Whether nothing is asked for that is above a ceiling."""
        return all(
            most is None or asked is None or asked <= most
            for asked, most in zip(_values(self), _values(ceilings), strict=True)
        )

    def or_else(self, defaults: "Limits", ceilings: "Limits") -> "Limits":
        """Return these limits, the default for each that is None, and no more than the ceilings.

        A ceiling without a default is the default too: else who asks for nothing would have more
        than who asks for much.
        """
        chosen: dict[str, Any] = {}
        for field in _BOUNDS:
            wanted, most = getattr(self, field), getattr(ceilings, field)
            wanted = getattr(defaults, field) if wanted is None else wanted
            known = [value for value in (wanted, most) if value is not None]
            chosen[field] = min(known, default=None)
        return Limits(**chosen)

    def texts(self) -> dict[str, str]:
        """Return what is limited, each with its value, as people write it."""
        return {
            bound.noun: bound.show(value)
            for field, bound in _BOUNDS.items()
            if (value := getattr(self, field)) is not None
        }


NO_LIMITS = Limits()


class _Bound(msgspec.Struct, frozen=True):
    """One kind of limit: its name in errors and elsewhere, its range, and how it is written."""

    field: str
    noun: str
    low: float
    high: float
    show: Callable[[Any], str] = str


_BOUNDS = {
    "memory_bytes": _Bound(
        "memory in bytes", "memory", MIN_MEMORY_BYTES, MAX_SIZE_BYTES, format_exact_size
    ),
    "cpu_seconds": _Bound(
        "CPU time in seconds", "CPU time", MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS,
        format_duration,
    ),
    "processes": _Bound("processes", "processes", 1, MAX_PROCESSES),
    "open_files": _Bound("open files", "open files", MIN_OPEN_FILES, MAX_OPEN_FILES),
    "file_size_bytes": _Bound(
        "file size in bytes", "file size", 0, MAX_SIZE_BYTES, format_exact_size
    ),
}  # fmt: skip


def _values(limits: Limits) -> tuple[float | None, ...]:
    return msgspec.structs.astuple(limits)


def check_stop_signal(text: str) -> str:
    """Return the name of a signal without SIG, in capitals.

    Raises:
        InvalidInput: None that a task can be stopped by.
    """
    name = text.upper().removeprefix("SIG")
    if name not in STOP_SIGNALS:
        raise InvalidInput(
            f"{text[:40]!r} is no signal to stop a task by: {one_of(name[:40], STOP_SIGNALS)}",
            field="stop signal",
        )
    return name


def check_grace(seconds: float) -> None:
    """Check the time between the stop signal and the kill.

    Raises:
        InvalidInput: Out of its bounds.
    """
    check_number(seconds, "grace in seconds", 0, MAX_GRACE_SECONDS)
