"""Which error ends the command with which exit status (design, Command line). One table."""

import errno
from typing import TYPE_CHECKING

from mitosis import errors

if TYPE_CHECKING:
    from mitosis.contract.queries import TaskView

DONE = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
NOT_PERMITTED = 4
CONFLICT = 5
UNAVAILABLE = 6
INTERRUPTED = 130
PIPE_CLOSED = 141  # 128 + SIGPIPE, as the shell would say

# As shells say it of a program that they ran.
NOT_EXECUTABLE = 126
NO_PROGRAM = 127
BY_SIGNAL = 128
TIMED_OUT = 124  # as the program `timeout`

STATUS: dict[type[errors.MitosisError], int] = {
    errors.MitosisError: FAILED,
    errors.Rejection: FAILED,
    errors.InvalidInput: FAILED,
    errors.TooLarge: FAILED,
    errors.NotFound: NOT_FOUND,
    errors.NotAllowed: NOT_PERMITTED,
    errors.WrongState: CONFLICT,
    errors.StaleAttempt: CONFLICT,
    errors.AlreadyExists: CONFLICT,
    errors.LimitReached: FAILED,
    errors.TooManyTries: NOT_PERMITTED,
    errors.AuthenticationFailed: NOT_PERMITTED,
    errors.Unavailable: UNAVAILABLE,
    errors.StoreUnavailable: UNAVAILABLE,
    errors.Overloaded: UNAVAILABLE,
    errors.ViewUnavailable: UNAVAILABLE,
    errors.ObjectsUnavailable: UNAVAILABLE,
    errors.NoCoordinator: UNAVAILABLE,
    errors.OutcomeUnknown: UNAVAILABLE,
    errors.VersionConflict: CONFLICT,
    errors.Fenced: CONFLICT,
    errors.CorruptData: FAILED,
    errors.WorkerFault: FAILED,
    errors.Misconfigured: FAILED,
    errors.InvalidSettings: USAGE,
}


def exit_status(error: errors.MitosisError) -> int:
    """Return the exit status for an error."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def status_of_task(view: "TaskView") -> int:
    """Return the exit status for a task that was waited for or followed and has ended."""
    from mitosis.domain.task import ExitKind, Outcome

    if view.outcome is Outcome.SUCCEEDED:
        return DONE
    if view.outcome is Outcome.TIMED_OUT:
        return TIMED_OUT
    end = view.exit
    if end is not None and view.outcome is Outcome.FAILED:
        if end.kind is ExitKind.SIGNAL:
            return BY_SIGNAL + end.number
        return end.number or FAILED
    if end is not None and end.kind is ExitKind.NOT_STARTED:
        if end.number == errno.ENOENT:
            return NO_PROGRAM
        if end.number in {errno.EACCES, errno.ENOEXEC, errno.EPERM}:
            return NOT_EXECUTABLE
    return FAILED
