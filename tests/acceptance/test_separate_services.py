"""The services one by one, against a NATS, a Postgres and an S3 that the user runs."""

import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import GetWorkersArgs
from mitosis.domain.task import ArtifactKind, Outcome
from mitosis.services.platform.ports import free_ports
from mitosis.testing.servers import PostgresServer, S3Server

from .conftest import Running, Site, in_shell


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[Site]:
    """A nats-server by the configuration that `mito nats-config` writes, and the rest."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    with postgres_server.database() as database:
        made = Site(folder, database, s3_server)
        try:
            made.start_nats(made.nats_config())
            yield made
        finally:
            made.close()
            shutil.rmtree(folder, ignore_errors=True)


async def start_all(site: Site) -> list[Running]:
    """A coordinator without a projector, a projector, and a worker by each kind of address."""
    coordinator = site.start("coordinator", "--config", site.config, "--no-projector")
    projector = site.start("projector", "--config", site.config)
    await coordinator.says("serving")
    workers = [
        site.start(
            "worker", "--coordinator", address, "-u", "root", "--work-dir", f"work{number}",
            MITO_PASSWORD=site.admin_password,
        )
        for number, address in enumerate((site.http, site.nats))
    ]  # fmt: skip
    for worker in workers:
        await worker.says("-")  # its UUID, once it is registered
    return [*workers, projector, coordinator]


async def test_services_that_run_separately_are_one_platform(site: Site, tmp_path: Path) -> None:
    services = await start_all(site)
    assert site.run("client", "-c", site.http, "auth", "root", site.admin_password).status == 0
    by_http = site.run("client", "-c", site.http, "submit", "--", "true")
    assert (by_http.status, by_http.err) == (0, "")
    assert site.run("client", "-c", site.nats, "auth", "root", site.admin_password).status == 0
    by_nats = site.run("client", "-c", site.nats, "get", "task", "last", "--json")
    assert by_nats.json["uuid"] == by_http.text
    with SyncMitoClient(site.client_config()) as client:
        tasks = [client.submit_task(in_shell("echo 1 > $MITO_RESULT_DIR/f")) for _ in range(8)]
        views = client.wait_for_tasks(tasks)
        assert {one.outcome for one in views} == {Outcome.SUCCEEDED}
        assert len({one.worker for one in views}) == 2
        client.get_artifact(views[0].uuid, ArtifactKind.RESULT, tmp_path)
        workers, others = services[:2], services[2:]
        assert [worker.stop() for worker in workers] == [0, 0]
        assert client.get_workers(GetWorkersArgs()).workers == []
    assert [service.stop(signal.SIGINT) for service in others] == [0, 0]
    for service in services:
        assert "Traceback" not in service.err
    assert [command for command in site.commands() if "nats-server" not in command] == []


async def test_an_output_over_the_quota_fails_the_task_and_the_others_are_kept(
    site: Site, tmp_path: Path
) -> None:
    services = await start_all(site)
    with SyncMitoClient(site.client_config()) as client:
        client.set_storage_quota("root", "100kB")
        script = (
            "head -c 400000 /dev/urandom > $MITO_RESULT_DIR/large; echo small > $MITO_EXEC_DIR/s"
        )
        (view,) = client.wait_for_tasks([client.submit_task(in_shell(script, terminal=True))])
        assert view.outcome is Outcome.FAILED
        assert {one.kind for one in view.artifacts} == {ArtifactKind.EXEC_LOG, ArtifactKind.STD_LOG}
        (warning,) = view.warnings
        assert view.reason == warning
        assert "result" in warning
        assert "quota" in warning
        client.get_artifact(view.uuid, ArtifactKind.EXEC_LOG, tmp_path)
        assert client.get_group("root").storage_used_bytes < 100_000
        *others, coordinator = services
        assert [service.stop() for service in others] == [0] * 3
        (secret,) = site.folder.rglob("*.shutdown-secret")
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert client.shutdown().changed, "an administrator needs no secret"
    assert coordinator.wait() == 0
    assert not secret.exists()


@pytest.mark.parametrize(
    "text",
    [
        "jetstream {{ store_dir: {store} }}",
        "jetstream {{ store_dir: {store} }}\n"
        "accounts {{ SYS {{ users: [{{user: mitosis_system, password: {secret}}}] }}\n"
        "  APP {{ jetstream: enabled, users: [{{user: mitosis, password: {secret}}},"
        " {{user: anybody}}] }} }}\n"
        "system_account: SYS\nno_auth_user: anybody",
    ],
)
async def test_a_nats_server_that_lets_strangers_in_is_refused_with_the_way_out(
    site: Site, tmp_path: Path, text: str
) -> None:
    config = tmp_path / "open.conf"
    (port,) = free_ports(1)
    store = tmp_path / "store"
    config.write_text(
        f"listen: 127.0.0.1:{port}\n" + text.format(store=store, secret=site.secret) + "\n"
    )
    server = site.start_nats(config)
    await server.says("Server is ready")
    done = site.run("coordinator", "--config", site.config, "--nats", f"nats://127.0.0.1:{port}")
    assert done.status == 1
    line = done.err.splitlines()[-1]  # after what it logs of its start
    assert "stranger" in line
    assert "mito nats-config" in line
    assert str(port) in line
    assert not list(store.rglob("*MITO_EVENTS*"))
    server.stop()
