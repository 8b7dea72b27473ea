"""Whom clients and workers believe; the coordinator's authority vouches for its services too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mitosis.tls import Trust

INSECURE_WARNING = (
    "insecure is set: whoever answers at the addresses is trusted unseen; name the authority of "
    "their certificates by coordinator_ca instead"
)


class HasAuthorities(Protocol):
    """The settings that [client] and [worker] share."""

    @property
    def coordinator_ca(self) -> Path | None:
        """Of `https://`."""
        ...

    @property
    def nats_ca(self) -> Path | None:
        """Of NATS."""
        ...

    @property
    def s3_ca(self) -> Path | None:
        """Of S3."""
        ...

    @property
    def insecure(self) -> bool:
        """Believe anybody."""
        ...


def coordinator_trust(config: HasAuthorities) -> Trust:
    """Return whom to believe at the HTTP endpoint."""
    return Trust("coordinator_ca", config.coordinator_ca, config.insecure)


def store_trust(config: HasAuthorities) -> Trust:
    """Return whom to believe at the S3 store."""
    return Trust("s3_ca", config.s3_ca or config.coordinator_ca, config.insecure)


def nats_trust(config: HasAuthorities, servers: Sequence[str]) -> Trust:
    """Return whom to believe at these NATS servers.

    `nats_ca` demands TLS of every server; the coordinator's authority does of `tls://` ones only.
    """
    tls = any(server.startswith(("tls://", "wss://")) for server in servers)
    return Trust(
        "nats_ca", config.nats_ca or (config.coordinator_ca if tls else None), config.insecure
    )
