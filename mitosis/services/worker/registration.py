"""Becoming a worker: a user registers it, and it gets an identity of its own."""

import logging
import math
import time
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from mitosis._version import __version__
from mitosis.client.retry import asleep, persist
from mitosis.config.trust import nats_trust
from mitosis.config.worker import WorkerConfig
from mitosis.contract.commands import Registered, RegisterWorker
from mitosis.domain.limits import MAX_REASON_BYTES, clip_text
from mitosis.errors import AuthenticationFailed, Unavailable
from mitosis.nats.connection import Connection
from mitosis.nats.credentials import Token
from mitosis.processes.runs import Abilities
from mitosis.services.worker.identity import Machine

log = logging.getLogger(__name__)

T = TypeVar("T")

NEW_WORKER_SECONDS = 2.0
PAUSE_SECONDS = 0.1


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
    """Register, and open the worker's own connection; both together have the time of one request.

    Raises:
        NoCoordinator: Nobody answers.
        Unavailable: What was registered is not let in.
        AuthenticationFailed: Nobody is logged in, or not any more.
        NotAllowed: The user may not give a worker to one of the groups.
    """
    deadline = time.monotonic() + config.as_client().timeout.total_seconds()
    try:
        registered = await access.command("worker", "register", wanted, Registered)
        servers = await access.servers()
    finally:
        await access.close()
    connection = await _enter(registered, servers, config, deadline)
    return Membership(registered, connection, servers)


async def _enter(
    registered: Registered, servers: list[str], config: WorkerConfig, deadline: float
) -> Connection:
    """Open the connection of a worker that was registered a moment ago.

    The coordinator may have gone since. One that is overtaken in this moment may still say who gets
    in, and not know the worker.
    """
    worker, began = registered.worker, time.monotonic()
    refused_until = math.inf  # from the first refusal on
    # It may have been registered at the last moment.
    deadline = max(deadline, began + NEW_WORKER_SECONDS)

    async def once(_: float) -> Connection:
        return await Connection.open(
            servers,
            Token(registered.token, "worker", worker),
            name=f"mito-worker-{worker}",
            trust=nats_trust(config, servers),
            deadline=deadline,
        )

    def tell(error: Unavailable, left: float) -> None:
        log.warning(
            "worker %s is registered, and not let in: %s (trying again for up to %.0f s)",
            worker, error, left,
        )  # fmt: skip

    while True:
        try:
            return await persist(once, deadline - began, sleep=asleep, until=deadline, told=tell)
        except AuthenticationFailed as error:
            refused_until = min(refused_until, time.monotonic() + NEW_WORKER_SECONDS)
            if time.monotonic() >= min(refused_until, deadline):
                raise Unavailable(
                    f"worker {worker} was registered, and is not known any more: register again"
                ) from error
        await asleep(PAUSE_SECONDS)
