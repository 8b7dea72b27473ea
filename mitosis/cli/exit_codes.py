"""Which error ends the command with which exit status (design, Command line). One table."""

from mitosis import errors

DONE = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
NOT_PERMITTED = 4
CONFLICT = 5
UNAVAILABLE = 6
INTERRUPTED = 130

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
