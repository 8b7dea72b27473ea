"""How an attempt ended, from how its program ended."""

from mitosis.domain.retry import RetryCause
from mitosis.domain.task.spec import EndCause, Exit, ExitKind, Outcome

#: Of a signal that ended a program: it came from the program itself, another task or a person.
FOREIGN_SIGNAL = "not sent by the platform"


def judge(end: Exit, *, cancel_requested: bool) -> tuple[Outcome, str]:
    """Say how a task ended, from how its program ended.

    A program that ends by itself keeps its own outcome, even when a cancel was on its way. A
    timeout is a timeout although the program, asked to stop, ended with code 0.
    """
    if end.kind is ExitKind.NOT_STARTED:
        return Outcome.ERROR, end.reason or "the program could not be started"
    if end.cause is EndCause.TIMEOUT:
        return Outcome.TIMED_OUT, "the timeout was over"
    if end.cause is EndCause.CANCEL or (end.cause is not EndCause.OWN and cancel_requested):
        return Outcome.CANCELLED, "cancelled while it ran"
    if end.kind is ExitKind.CODE and end.number == 0:
        return Outcome.SUCCEEDED, ""
    what = f"{'exit code' if end.kind is ExitKind.CODE else 'signal'} {end.number}"
    if end.reason:
        return Outcome.FAILED, f"{end.reason} ({what})"
    # Signals of a timeout, a cancel or a limit have their own reasons.
    return Outcome.FAILED, what if end.kind is ExitKind.CODE else f"{what}, {FOREIGN_SIGNAL}"


def retry_cause(outcome: Outcome, end: Exit) -> RetryCause | None:
    """Say what a task may be tried again for after this end; None: for nothing."""
    if outcome is Outcome.TIMED_OUT:
        return RetryCause.TIMEOUT
    if outcome is Outcome.FAILED:
        return RetryCause.EXIT if end.kind is ExitKind.CODE else RetryCause.SIGNAL
    return None
