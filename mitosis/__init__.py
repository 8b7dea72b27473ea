"""Mitosis: campaigns of commands over many machines, event-sourced on NATS JetStream.

The SDK: `MitoClient`, its blocking form `SyncMitoClient`, `ClientConfig` and the argument structs
in `mitosis.config.client`, the names of states, outcomes, roles and kinds of output, what `follow`
yields, when a wait is over, and the error tree in `mitosis.errors`. Names are loaded when they are
used, so that `import mitosis` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mitosis._version import __version__

if TYPE_CHECKING:
    from mitosis import errors
    from mitosis.client.blocking import SyncMitoClient
    from mitosis.client.client import MitoClient
    from mitosis.client.output_source import NoticeKind, OutputChunk, OutputNotice
    from mitosis.config.client import ClientConfig, WaitUntil
    from mitosis.domain.roles import Role
    from mitosis.domain.task import ArtifactKind, Outcome, TaskState
    from mitosis.errors import MitosisError

__all__ = [
    "ArtifactKind",
    "ClientConfig",
    "MitoClient",
    "MitosisError",
    "NoticeKind",
    "Outcome",
    "OutputChunk",
    "OutputNotice",
    "Role",
    "SyncMitoClient",
    "TaskState",
    "WaitUntil",
    "__version__",
    "errors",
]

_HOMES = {
    "ArtifactKind": "mitosis.domain.task",
    "ClientConfig": "mitosis.config.client",
    "MitoClient": "mitosis.client.documented",
    "MitosisError": "mitosis.errors",
    "NoticeKind": "mitosis.client.output_source",
    "Outcome": "mitosis.domain.task",
    "OutputChunk": "mitosis.client.output_source",
    "OutputNotice": "mitosis.client.output_source",
    "Role": "mitosis.domain.roles",
    "SyncMitoClient": "mitosis.client.blocking",
    "TaskState": "mitosis.domain.task",
    "WaitUntil": "mitosis.config.client",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("mitosis.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mitosis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
