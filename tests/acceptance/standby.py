"""A platform with a second coordinator, and what its event stream says."""

import contextlib
import os
import signal
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from mitosis.events.reader import EventReader
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.store_client import open_store_client
from mitosis.projections.commit import Commit
from mitosis.services.projector.decoding import decode
from mitosis.testing.waiting import eventually

from .conftest import Platform, Running

TAKEOVER_SECONDS = 10.0  # the promise; 3.3 to 4.2 s were measured at a load of three
START_SECONDS = 30.0  # of a process, until it stands by


class Pair(NamedTuple):
    """Two coordinators of one platform: the process that leads, and the one that stands by."""

    platform: Platform
    config: Path
    first: int
    second: Running

    def freeze_first(self) -> None:
        """Stop the time of the one that leads at the start."""
        os.kill(self.first, signal.SIGSTOP)

    def thaw_first(self) -> None:
        """Let it go on."""
        os.kill(self.first, signal.SIGCONT)

    @property
    def first_log(self) -> str:
        """What the first one has said."""
        return (self.platform.data / "logs" / "coordinator.log").read_text()

    async def second_leads(self, term: int = 2) -> None:
        """Wait until the second one has taken over."""
        said = f"term {term}: serving"
        await eventually(lambda: said in self.second.err, seconds=TAKEOVER_SECONDS)

    async def first_leads(self, term: int) -> None:
        """Wait until the first one has taken over again."""
        said = f"term {term}: serving"
        await eventually(lambda: said in self.first_log, seconds=TAKEOVER_SECONDS)

    async def first_stands_by(self, term: int = 2) -> None:
        """Wait until the first one has seen that it leads no more."""
        said = f"holds term {term}: waiting as standby"
        await eventually(lambda: said in self.first_log, seconds=START_SECONDS)


@contextlib.asynccontextmanager
async def with_standby(platform: Platform) -> AsyncIterator[Pair]:
    """Start a second coordinator beside that of a running platform."""
    config = platform.data / "config" / "coordinator.toml"
    second = platform.home.start("coordinator", "--config", config, "--bind", "127.0.0.1:0")
    try:
        await eventually(lambda: "waiting as standby" in second.err, seconds=START_SECONDS)
        (first,) = {*platform.children("coordinator", str(config))} - {second.process.pid}
        yield Pair(platform, config, first, second)
    finally:
        second.close()


async def stored_commits(platform: Platform) -> list[Commit]:
    """All that is in the event stream, with its events."""
    config = (platform.data / "config" / "coordinator.toml").read_text()
    values = tomllib.loads(config)["coordinator"]
    login = ServiceLogin(values["nats_user"], values["nats_password"])
    client = await open_store_client([values["nats_url"]], login, name="test")
    try:
        batches = EventReader(client).batches(follow=False)
        return [decode(*one) async for batch in batches for one in batch]
    finally:
        await client.close()
