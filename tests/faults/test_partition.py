"""A cluster of NATS in two halves, each with a coordinator and a worker that live and hear nothing.

No connection of theirs is lost: what stands on one side stands on, what is told there is told.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mitosis import MitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.contract import subjects
from mitosis.domain.task import Outcome
from mitosis.events.reader import EventReader
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.store_client import StoreClient, open_store_client
from mitosis.testing.chaos.ledger import SCRIPT, Line, overlaps, read_ledger
from mitosis.testing.chaos.proxy import Cut
from mitosis.testing.chaos.site import LAB, Shape, Site
from mitosis.testing.waiting import eventually

LEASE_SECONDS = 5.0
BEATS = 400  # of 0.1 s: longer than it takes until somebody else may have the task


class Halves(Site):
    """A site whose first node, with all that is connected to it, can be cut off from the others."""

    def tear(self) -> None:
        """Cut all ways between the first node and the others."""
        self.cut_off(0, Cut.DROP)

    def log(self, name: str) -> str:
        """What a service has said."""
        return (self.root / "logs" / f"{name}.log").read_text()

    async def at_rest(self) -> None:
        """Wait until nothing is left to be stored: the start of a task, and a checkpoint on it."""
        login = ServiceLogin(self.credentials.service.name, self.credentials.service.password)
        client = await open_store_client([self.nats[1].url], login, name="test")
        try:
            async with asyncio.timeout(30):
                await _until_signed(client)
        finally:
            await client.close()

    def ledger_lines(self) -> list[Line]:
        """What tasks have written."""
        return read_ledger(self.ledger)


async def _until_signed(client: StoreClient) -> None:
    started = False
    async for batch in EventReader(client).batches():
        for message in batch:
            started = started or b"task.started" in message.payload
            if started and message.subject == subjects.events(subjects.PLATFORM_TAIL):
                return


@pytest.fixture
async def halves() -> AsyncIterator[Halves]:
    """Coordinator 1 leads, by node 1; coordinator 2 stands by, at node 2; no worker runs yet."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-halves-"))
    shape = Shape(
        workers=2, slots=1, lease_seconds=LEASE_SECONDS, nats_nodes=3,
        settings={"coordinator1": {"checkpoint_interval": "1s"}},
    )  # fmt: skip
    try:
        async with Halves(folder / "site", shape) as site:
            first, second = site.of_kind("coordinator")
            await eventually(
                lambda: ": serving" in site.log(first.name) + site.log(second.name), seconds=60
            )
            # A term anew, in which nobody has closed any connection of the first one.
            for part in (first, second):
                await part.kill()
            terms, stood_by = (
                site.log(first.name).count(": serving"),
                site.log(second.name).count("waiting as standby"),
            )
            await first.start()
            await eventually(lambda: site.log(first.name).count(": serving") > terms, seconds=60)
            await second.start()
            await eventually(
                lambda: site.log(second.name).count("waiting as standby") > stood_by, seconds=60
            )
            yield site
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_task_runs_on_one_side_only_when_a_cluster_falls_into_two_halves(
    halves: Halves,
) -> None:
    async with MitoClient(halves.client_config()) as client:
        await client.create_group(LAB)
        await halves.parts["worker1"].start()
        script = ["sh", "-c", SCRIPT, "sh", halves.ledger, halves.locks, "plain", BEATS]
        task = await client.submit_task(
            SubmitTaskArgs(command=tuple(map(str, script)), group=LAB, max_losses=10)
        )
        await eventually(halves.ledger_lines, seconds=60)
        await halves.at_rest()
        terms = halves.log("coordinator2").count(": serving")
        halves.tear()
        await eventually(lambda: halves.log("coordinator2").count(": serving") > terms, seconds=60)
        await halves.parts["worker2"].start()
        await eventually(
            lambda: any(line.attempt == 2 for line in halves.ledger_lines()), seconds=60
        )
        began = len(halves.ledger_lines())
        await eventually(lambda: len(halves.ledger_lines()) >= began + 30, seconds=30)
        assert list(overlaps(halves.ledger_lines())) == []
        await halves.heal()
        (ended,) = await client.wait_for_tasks([task])
        # An election of NATS may be longer than this lease: then it was lost once more.
        assert ended.outcome is Outcome.SUCCEEDED
        assert ended.attempt >= 2
        assert list(overlaps(halves.ledger_lines())) == []
