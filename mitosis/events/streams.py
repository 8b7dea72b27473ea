"""The stream of events: its definition and its creation.

A stream that exists with other settings is never changed silently: durability and the promise that
nothing is deleted hang on them. Source of the settings: docs/decisions/0002-event-store.md.
"""

import re
from typing import Any

import msgspec
from nats.aio.client import Client

from mitosis.contract import subjects
from mitosis.errors import Misconfigured
from mitosis.events.messages import found_or_made, request

MINIMUM_SERVER = (2, 12)  # atomic batches: JetStream API level 2
DUPLICATE_WINDOW_SECONDS = 120
_NANOSECONDS = 1_000_000_000


class StreamDefinition(msgspec.Struct, frozen=True):
    """A stream that stores commits.

    Attributes:
        name: Name of the stream.
        prefix: Commits are stored under `<prefix>.<tail of the aggregate>`.
        live: What was stored is republished under `<live>.<tail>`; empty for not at all.
        replicas: 1, 3 or 5 servers that keep it.
        extra_subjects: Further subjects that the stream takes, not republished.
    """

    name: str = subjects.EVENTS_STREAM
    prefix: str = subjects.EVENTS
    live: str = subjects.LIVE
    replicas: int = 1
    extra_subjects: tuple[str, ...] = ()

    def config(self) -> dict[str, Any]:
        """Return the settings as the JetStream API takes them."""
        config: dict[str, Any] = {
            "name": self.name,
            "subjects": [f"{self.prefix}.>", *self.extra_subjects],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
            "max_msgs_per_subject": -1,
            "num_replicas": self.replicas,
            "allow_direct": True,
            "allow_atomic": True,
            "deny_delete": True,
            "deny_purge": True,
            "compression": "none",  # s2 loses blocks: docs/decisions/0040
            "duplicate_window": DUPLICATE_WINDOW_SECONDS * _NANOSECONDS,
        }
        if self.live:
            config["republish"] = {"src": f"{self.prefix}.>", "dest": f"{self.live}.>"}
        return config


EVENTS = StreamDefinition()


def check_version(version: str) -> None:
    """Refuse a server that is too old.

    Raises:
        Misconfigured: The server is older than `MINIMUM_SERVER`.
    """
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found and tuple(map(int, found.groups())) >= MINIMUM_SERVER:
        return
    wanted = ".".join(map(str, MINIMUM_SERVER))
    msg = (
        f"nats-server {version or 'of unknown version'} is too old: the event store needs "
        f"{wanted} or newer (atomic batches). Update the server."
    )
    raise Misconfigured(msg, version=version, wanted=wanted)


async def ensure_stream(nc: Client, definition: StreamDefinition = EVENTS) -> None:
    """Create the stream if it is not there; accept one that is there with the same settings.

    One that is compressed is not from now on.

    Raises:
        Misconfigured: The server is too old, or the stream exists with other settings.
        StoreUnavailable: JetStream does not answer or cannot create it.
    """
    server = nc.connected_server_version
    check_version(f"{server.major}.{server.minor}.{server.patch}")
    found = await found_or_made(nc, definition.config())
    plain = found | {"compression": definition.config()["compression"]}
    _compare(definition, plain)
    if found != plain:
        await request(nc, f"$JS.API.STREAM.UPDATE.{definition.name}", plain)


def _compare(definition: StreamDefinition, found: dict[str, Any]) -> None:
    wanted = definition.config()
    wanted.setdefault("republish", None)
    differences = [
        f"{key} is {_shown(found.get(key))}, wanted {_shown(value)}"
        for key, value in wanted.items()
        if (found.get(key) or None) != (value or None)
    ]
    if differences:
        msg = (
            f"the stream {definition.name} exists with other settings: {'; '.join(differences)}. "
            "Change it with `nats stream edit`, or point Mitosis at another stream."
        )
        raise Misconfigured(msg, stream=definition.name, differences=differences)


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
