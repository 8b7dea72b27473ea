"""Three NATS servers with configurations of our own command, under the whole platform."""

import asyncio
import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mitosis import MitoClient
from mitosis.contract.commands import Submitted
from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.domain.task import Outcome
from mitosis.events.messages import request
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.store_client import open_store_client
from mitosis.services.platform.ports import free_ports
from mitosis.testing.servers import S3Server
from mitosis.testing.waiting import eventually

from .conftest import Running, Site, in_shell

NAMES = ("alpha", "beta", "gamma")


class Cluster:
    """The servers of a site, by name."""

    def __init__(self, site: Site) -> None:
        ports = free_ports(6)
        self.site = site
        self.urls = [f"nats://127.0.0.1:{port}" for port in ports[:3]]
        self.config = site.write_config("cluster.toml", nats_url=",".join(self.urls), replicas=3)
        routes = ",".join(f"127.0.0.1:{port}" for port in ports[3:])
        self.files = {name: site.folder / f"{name}.conf" for name in NAMES}
        commands = [
            (
                "nats-config", "--config", self.config, "-o", self.files[name], "--port", str(port),
                "--store-dir", site.folder / name, "--cluster", "lab", "--server-name", name,
                "--cluster-port", str(route), "--routes", routes,
            )
            for name, port, route in zip(NAMES, ports[:3], ports[3:], strict=True)
        ]  # fmt: skip
        for done in site.run_all(commands):
            assert done.status == 0, done.err
        self.servers: dict[str, Running] = {}

    def start(self, *names: str) -> None:
        """Start servers."""
        for name in names:
            self.servers[name] = self.site.start_nats(self.files[name])

    async def leader(self) -> str:
        """The server that leads the event stream."""
        login = ServiceLogin("mitosis", self.site.secret)
        client = await open_store_client(self.urls, login, name="test")
        try:
            info = await request(client, f"$JS.API.STREAM.INFO.{EVENTS_STREAM}")
        finally:
            await client.close()
        assert (info["config"]["num_replicas"], len(info["cluster"]["replicas"])) == (3, 2)
        return str(info["cluster"]["leader"])


@pytest.fixture
def site(tmp_path: Path, database: str, s3_server: S3Server) -> Iterator[Site]:
    made = Site(tmp_path, database, s3_server)
    yield made
    made.close()


async def test_a_killed_leader_of_three_servers_costs_nothing_that_was_acknowledged(
    site: Site,
) -> None:
    cluster = Cluster(site)
    cluster.start(*NAMES)
    # At once: it waits until the servers have chosen their leader.
    coordinator = site.start("coordinator", "--config", cluster.config)
    await coordinator.says("serving")
    worker = site.start(
        "worker", "--coordinator", site.http, "-u", "root", "--slots", "4", "--work-dir", "work",
        MITO_PASSWORD=site.admin_password,
    )  # fmt: skip
    await worker.says("-")
    config = site.client_config(",".join(cluster.urls))
    acknowledged: list[Submitted] = []
    times: list[float] = []

    async with MitoClient(config) as client:

        async def submit(count: int) -> None:
            for _ in range(count):
                acknowledged.append(await client.submit_task(in_shell("true")))
                times.append(time.monotonic())

        submitting = asyncio.create_task(submit(150))
        await eventually(lambda: submitting.done() or len(acknowledged) >= 50, seconds=60)
        assert not submitting.done(), submitting.exception()
        leader = await cluster.leader()
        cluster.servers[leader].stop(signal.SIGKILL)
        await submitting
        longest = max(b - a for a, b in itertools.pairwise(times))
        assert longest < 20  # an election takes 4 to 9 s; other things run beside this
        views = await client.wait_for_tasks(acknowledged)
        assert {(view.outcome, view.attempt) for view in views} == {(Outcome.SUCCEEDED, 1)}
        assert [one.number for one in acknowledged] == list(range(1, 151))

        # The one that was away catches up, so that another may go.
        cluster.start(leader)
        second = await cluster.leader()
        assert second != leader
        cluster.servers[second].stop(signal.SIGKILL)
        await submit(20)
        views = await client.wait_for_tasks(acknowledged)
        assert {(view.outcome, view.attempt) for view in views} == {(Outcome.SUCCEEDED, 1)}
        assert [one.number for one in acknowledged] == list(range(1, 171))
    verified = site.run("events", "verify", "--config", cluster.config, "--json")
    assert verified.status == 0, verified.err
    assert "Traceback" not in coordinator.err + worker.err


def test_a_cluster_is_told_by_all_of_its_settings(site: Site) -> None:
    given = ("nats-config", "--config", site.config)
    refused = site.run_all(
        [
            (*given, "--cluster", "lab"),
            (*given, "--cluster", "lab", "--server-name", "a", "--routes", "127.0.0.1:1"),
            (*given, "--routes", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3"),
            (*given, "--cluster", "lab", "--server-name", "a", "--routes", "x,y,z"),
        ]
    )
    assert [done.status for done in refused] == [1, 1, 1, 1], refused
    for done, words in zip(
        refused, ("--server-name", "3 or more", "need --cluster", "host:port"), strict=True
    ):
        assert words in done.complaint
    routes = "10.0.0.1:6222,10.0.0.2:6222,10.0.0.3:6222"
    wanted = (*given, "--cluster", "lab", "--server-name", "a", "--routes", routes)
    one, other = (done.text for done in site.run_all([wanted, wanted]))
    assert one == other  # what the servers show each other is the same on all
    assert site.secret not in "".join(line for line in one.splitlines() if "route" in line)
