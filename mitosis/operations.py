"""What operators run beside the services, with the services' own credentials and settings.

Like bootstrap.py, it is where settings, adapters and the work itself meet; every function imports
what it needs when it is called.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from mitosis.bootstrap import nats_trust, run
from mitosis.config.coordinator import CoordinatorConfig

if TYPE_CHECKING:
    from mitosis.nats.connection import Connection
    from mitosis.projections.beside import History, Progress, Rebuilt
    from mitosis.projections.comparison import Compared

T = TypeVar("T")


def rebuild_projections(config: CoordinatorConfig, progress: "Progress") -> "Rebuilt":
    """Build the read models anew from the stream; they serve all the time.

    Raises:
        CorruptData: Stream and archive differ, or the stream cannot be read.
        Unavailable: NATS or Postgres does not answer; nothing was changed.
        WrongState: Another rebuild or verification is under way.
    """
    from mitosis.projections.beside import rebuild

    return run(_with_history(config, lambda history: rebuild(config.database, history, progress)))


def verify_projections(config: CoordinatorConfig, progress: "Progress") -> "Compared":
    """Compare every row of the read models with what the stream makes; nothing is changed.

    Raises:
        As `rebuild_projections`.
    """
    from mitosis.projections.comparison import verify

    return run(_with_history(config, lambda history: verify(config.database, history, progress)))


async def _with_history(config: CoordinatorConfig, work: "Callable[[History], Awaitable[T]]") -> T:
    from mitosis.contract.subjects import EVENTS_STREAM
    from mitosis.projections.beside import History
    from mitosis.services.projector.decoding import decode
    from mitosis.services.projector.source import StreamSource

    async with connected(config, "mito-projections") as connection:
        source = StreamSource(connection, budget_seconds=30.0)
        return await work(History(source, decode, EVENTS_STREAM))


@asynccontextmanager
async def connected(config: CoordinatorConfig, name: str) -> "AsyncIterator[Connection]":
    """Give a connection of a service to NATS."""
    from mitosis.nats.connection import Connection
    from mitosis.nats.credentials import ServiceLogin

    login = ServiceLogin(config.nats_user, config.nats_password)
    async with await Connection.open(
        [config.nats_url], login, name=name, trust=nats_trust(config)
    ) as connection:
        yield connection
