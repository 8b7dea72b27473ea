"""Becoming a worker: a user registers it, and it gets an identity of its own."""

from typing import NamedTuple, Protocol, TypeVar

import msgspec

from mitosis._version import __version__
from mitosis.config.trust import nats_trust
from mitosis.config.worker import WorkerConfig
from mitosis.contract.commands import Registered, RegisterWorker
from mitosis.domain.limits import MAX_REASON_BYTES, clip_text
from mitosis.nats.connection import Connection
from mitosis.nats.credentials import Token
from mitosis.processes.runs import Abilities
from mitosis.services.worker.identity import Machine

T = TypeVar("T")


class UserAccess(Protocol):
    """What the worker needs of the user who starts it: the SDK's session is one."""

    async def command(
        self, noun: str, verb: str, body: msgspec.Struct, result: type[T], key: str = ""
    ) -> T:
        """Send a command as this user."""

    async def servers(self) -> list[str]:
        """Addresses of the NATS servers."""

    async def close(self) -> None:
        """The connection is not needed for now; the next command opens it again."""


def registration(
    config: WorkerConfig, machine: Machine, folder: str, abilities: Abilities
) -> RegisterWorker:
    """What the worker says about itself; `folder` is the identity of its work folder."""
    return RegisterWorker(
        groups=config.groups,
        tags=config.tags,
        labels=config.labels,
        slots=config.slots,
        machine=machine.machine,
        boot=machine.boot,
        folder=folder,
        host=machine.host,
        version=__version__,
        lifetime_seconds=config.lifetime.total_seconds() if config.lifetime else None,
        guarantees=tuple(clip_text(one, MAX_REASON_BYTES) for one in abilities.guarantees()),
        default_limits=config.default_limits,
        ceilings=config.ceilings,
    )


class Membership(NamedTuple):
    """A registration, with the worker's own connection and the servers that it knows."""

    registered: Registered
    connection: Connection
    servers: list[str]


async def register(access: UserAccess, wanted: RegisterWorker, config: WorkerConfig) -> Membership:
    """Register, and open the worker's own connection.

    Raises:
        NoCoordinator: Nobody answers.
        AuthenticationFailed: Nobody is logged in, or not any more.
        NotAllowed: The user may not give a worker to one of the groups.
    """
    try:
        registered = await access.command("worker", "register", wanted, Registered)
        servers = await access.servers()
    finally:
        await access.close()
    connection = await Connection.open(
        servers,
        Token(registered.token, "worker", registered.worker),
        name=f"mito-worker-{registered.worker}",
        trust=nats_trust(config, servers),
    )
    return Membership(registered, connection, servers)
