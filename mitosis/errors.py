"""The whole error tree: what can go wrong, with its facts, its code and its advice.

MitosisError
├── Rejection               a rule said no; nothing was stored
│   ├── InvalidInput        a value that cannot be accepted (TooLarge: over a bound)
│   ├── NotFound            no such thing, or not visible to the one who asks
│   ├── NotAllowed          the actor lacks the role
│   ├── WrongState          the thing is in a state that excludes the command
│   │   └── StaleAttempt    a report of an attempt that is no longer the live one
│   ├── AlreadyExists       the name or the key is taken
│   └── LimitReached        a quota or a bound of the platform
│       └── TooManyTries    too many failed logins; says how long to wait
├── AuthenticationFailed    bad credentials, expired or revoked session
├── Unavailable             a service does not answer; the same request may be sent again
│   ├── StoreUnavailable    NATS JetStream
│   ├── Overloaded          too much at once: nothing was done, wait and try again
│   ├── ViewUnavailable     Postgres or the projector
│   ├── ObjectsUnavailable  the S3 store
│   ├── NoCoordinator       nobody answers at the address
│   └── OutcomeUnknown      the command may or may not have been stored
├── VersionConflict         somebody else wrote first (internal)
│   └── Fenced              another coordinator holds the term: this one must stop writing
├── CorruptData             stored bytes that cannot be what we wrote
├── WorkerFault             this worker cannot set up a task; the task goes elsewhere
└── Misconfigured           a setting that does not work with the world as it is
    └── InvalidSettings     a file, variable or option that cannot be read as settings

`code` is stable and is the same in replies, JSON output, logs and the SDK.
"""

from typing import Any, ClassVar

REPAIR = (
    "Stop the platform and run `mito events repair --data FOLDER` (of separate services: --config "
    "FILE), which says what is wrong and brings back what the archive has"
)
"""What to do about a damaged event stream; the end of a message."""


class MitosisError(Exception):
    """Base of every error that Mitosis raises on purpose.

    Args:
        message: One sentence for a person: what was wrong, with what value, what to do.
        **details: Facts for programs; values must be JSON.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message


class Rejection(MitosisError):
    """A rule said no. Nothing was stored."""

    code = "rejected"


class InvalidInput(Rejection):
    """A value that cannot be accepted."""

    code = "invalid"


class TooLarge(InvalidInput):
    """A value over its bound; `details` has `size` and `limit`."""

    code = "invalid.too_large"


class NotFound(Rejection):
    """No such thing, or none that the asker may see."""

    code = "not_found"


class NotAllowed(Rejection):
    """The actor lacks the role that the operation needs."""

    code = "not_allowed"


class WrongState(Rejection):
    """The thing is in a state that excludes the command."""

    code = "conflict.state"


class StaleAttempt(WrongState):
    """A report about an attempt that is not the live one any more."""

    code = "conflict.stale_attempt"


class AlreadyExists(Rejection):
    """The name or the idempotency key is taken by something else."""

    code = "conflict.exists"


class LimitReached(Rejection):
    """A quota or a bound of the platform is used up."""

    code = "limit_reached"


class TooManyTries(LimitReached):
    """Too many failed logins; `details["retry_after_seconds"]` says how long to wait."""

    code = "limit_reached.login"


class AuthenticationFailed(MitosisError):
    """The credentials are wrong, expired or revoked."""

    code = "unauthenticated"


class Unavailable(MitosisError):
    """A service does not answer. The same request may be sent again.

    Attributes:
        is_final: Whether it is of no use, or not right, to try again without asking anybody.
    """

    code = "unavailable"
    is_final = False


class StoreUnavailable(Unavailable):
    """NATS JetStream does not take or give events."""

    code = "unavailable.store"


class Overloaded(Unavailable):
    """Too much is asked for at once; nothing was done. `details["retry_after_seconds"]`: wait."""

    code = "unavailable.overloaded"


class ViewUnavailable(Unavailable):
    """The read models cannot be asked."""

    code = "unavailable.views"


class ObjectsUnavailable(Unavailable):
    """The S3 store does not answer."""

    code = "unavailable.objects"

    @property
    def is_away(self) -> bool:
        """Whether it may answer later by itself: nothing that we were told of it is wrong."""
        return self.details.get("cause") not in {"tls", "InvalidResponseError"}


class NoCoordinator(Unavailable):
    """Nobody answers as a coordinator at the address."""

    code = "unavailable.coordinator"


class OutcomeUnknown(Unavailable):
    """The command may or may not have been stored; `details["command"]` names it."""

    code = "unavailable.outcome_unknown"


class VersionConflict(MitosisError):
    """Somebody else wrote to the aggregate first. Resolved inside, never shown to a user."""

    code = "internal.version_conflict"


class Fenced(VersionConflict):
    """Another coordinator has opened a term: this one may not write any more."""

    code = "internal.fenced"


class CorruptData(MitosisError):
    """Stored bytes that cannot be what was written; `details` has `position` and `subject`."""

    code = "corrupt"


class WorkerFault(MitosisError):
    """This worker could not set the task up (folder, disk, spawn): not the task's fault."""

    code = "worker_fault"


class Misconfigured(MitosisError):
    """A setting that cannot work; the message names value, source and way out."""

    code = "misconfigured"


class InvalidSettings(Misconfigured):
    """A file, variable or option that cannot be read as settings, with the place and a hint."""

    code = "misconfigured.settings"


def every_error() -> dict[str, type[MitosisError]]:
    """Return code -> class for the tree of this file; codes are unique (a test holds this).

    Special cases that one part of the product has of its own are left out: whatever a process has
    loaded, the same code is the same class.
    """
    found: dict[str, type[MitosisError]] = {}
    pending: list[type[MitosisError]] = [MitosisError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(sub for sub in cls.__subclasses__() if sub.__module__ == __name__)
    return found


def from_wire(code: str, message: str, details: dict[str, Any]) -> MitosisError:
    """Rebuild an error that crossed a process border.

    A code of a newer version falls back to the nearest parent that is known here
    (`a.b.c` -> `a.b` -> `a`), so that exit status and handling stay right.
    """
    known = every_error()
    wanted = code
    while wanted not in known and "." in wanted:
        wanted = wanted.rpartition(".")[0]
    error = known.get(wanted, MitosisError)(message)
    error.details = dict(details)  # whatever the keys are called, `message` and `self` too
    if error.code != code:
        error.details.setdefault("original_code", code)
    return error
