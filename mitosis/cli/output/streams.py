"""The end of a process that writes: what is buffered goes out, or the status says why it did not.

Imports little, so that a short answer stays quick.
"""

import os
import sys
from collections.abc import Callable

from mitosis.cli.exit_codes import FAILED, PIPE_CLOSED


def delivered(run: Callable[[], int]) -> int:
    """Run what writes to standard output, and send that out.

    Args:
        run: Returns the exit status.

    Returns:
        That status; `PIPE_CLOSED` when the reader has gone, `FAILED` when the output could not be
        written, for example to a full disk.
    """
    open_missing_streams()
    try:
        status = run()
        flush()
    except BrokenPipeError:
        abandon_stdout()
        return PIPE_CLOSED
    except OSError as error:
        sys.stderr.write(f"mito: the output cannot be written: {error.strerror or error}\n")
        abandon_stdout()
        return FAILED
    return status


def flush() -> None:
    """Send out what is buffered; an error shows here and not at the end of the interpreter."""
    sys.stdout.flush()
    sys.stderr.flush()


def abandon_stdout() -> None:
    """Point standard output nowhere, after its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_missing_streams() -> None:
    """Give a process that was started with closed streams something to read and to write to."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123  kept to the end
