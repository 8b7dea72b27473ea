"""What holds for the whole command line: the form of the output and the client's own options."""

import contextvars
from datetime import timedelta
from pathlib import Path

import msgspec

from mitosis.cli.usage import UsageError

__all__ = ["ClientFlags", "Invocation", "UsageError", "current"]


class ClientFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Options between `mito client` and its command; None: not given."""

    config: Path | None = None
    coordinator: str | None = None
    credential_path: Path | None = None
    user: str | None = None
    password: str | None = None
    password_file: Path | None = None
    timeout: timedelta | None = None
    coordinator_ca: Path | None = None
    insecure: bool | None = None
    interactive: bool = False

    def __repr__(self) -> str:
        return f"ClientFlags(config={self.config}, user={self.user!r})"


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """`json`: the result, or the error, is one JSON value on standard output."""

    json: bool = False
    client: ClientFlags = ClientFlags()


current: contextvars.ContextVar[Invocation] = contextvars.ContextVar(
    "invocation",
    default=Invocation(),  # noqa: B039  frozen
)
