"""A platform in which every connection is secured by a private authority (F-55)."""

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from mitosis import ClientConfig, SyncMitoClient
from mitosis.domain.task import ArtifactKind, Outcome, TaskState
from mitosis.testing.certificates import DAY, Authority, Streams, Terminator
from mitosis.testing.servers import PostgresServer, S3Server
from mitosis.testing.waiting import eventually

from .conftest import Running, Site, in_shell


class Secured(NamedTuple):
    """The site, its authority, and what ends TLS before Postgres and S3.

    Postgres and S3 can be reached by TLS only: their own addresses are in no settings.
    """

    site: Site
    authority: Authority
    postgres: Terminator
    s3: Terminator
    coordinator: Running
    nats: Running

    @property
    def certificate(self) -> tuple[Path, Path]:
        """Of every server."""
        folder = self.authority.path.parent
        return folder / "server.pem", folder / "server.key"


@pytest.fixture(scope="module")
def secured(postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[Secured]:
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        database = stack.enter_context(postgres_server.database())
        site = Site(folder, database, s3_server)
        stack.callback(site.close)
        authority = Authority(folder / "tls", "the laboratory")
        certificate = authority.issue("127.0.0.1")
        sockets = database.rpartition("host=")[2]
        name = database.partition("?")[0].rpartition("/")[2]
        s3_port = int(s3_server.url.rpartition(":")[2])

        async def to_postgres() -> Streams:
            return await asyncio.open_unix_connection(f"{sockets}/.s.PGSQL.5432")

        async def to_s3() -> Streams:
            return await asyncio.open_connection("127.0.0.1", s3_port)

        postgres, s3 = Terminator(to_postgres, postgres=True), Terminator(to_s3)
        ports = stack.enter_context(serving(postgres, s3))
        for terminator in (postgres, s3):
            terminator.show(certificate)
        site.nats, site.http = site.nats.replace("nats:", "tls:"), f"https://{site.http[7:]}"
        site.values |= {
            "db_url": f"postgres://mito@127.0.0.1:{ports[0]}/{name}",
            "db_ca": str(authority.path),
            "s3_url": f"https://127.0.0.1:{ports[1]}",
            "s3_ca": str(authority.path),
            "nats_url": site.nats,
            "nats_ca": str(authority.path),
            "tls_cert": str(certificate[0]),
            "tls_key": str(certificate[1]),
        }
        site.config = site.write_config("config.toml")
        nats = site.start_nats(nats_config(site, certificate))
        coordinator = site.start("coordinator", "--config", site.config)
        asyncio.run(coordinator.says("serving"))
        yield Secured(site, authority, postgres, s3, coordinator, nats)


def nats_config(site: Site, certificate: tuple[Path, Path]) -> Path:
    path = site.folder / "nats.conf"
    done = site.run(
        "nats-config", "--config", site.config, "-o", path, "--relaxed-sync",
        "--port", site.nats.rpartition(":")[2], "--store-dir", site.folder / "nats-store",
        "--tls-cert", certificate[0], "--tls-key", certificate[1],
    )  # fmt: skip
    assert done.status == 0, done
    return path


@contextlib.contextmanager
def serving(*terminators: Terminator) -> Iterator[list[int]]:
    """Run them in a thread of their own; yield their ports."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = contextlib.AsyncExitStack()

    async def begin() -> list[int]:
        return [await stack.enter_async_context(one.listening()) for one in terminators]

    try:
        yield asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def client_config(secured: Secured, **more: object) -> ClientConfig:
    site = secured.site
    return ClientConfig(
        coordinator_addr=site.http,
        coordinator_ca=secured.authority.path,
        credential_path=site.folder / "credentials",
        user="root",
        password=site.admin_password,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parity("F-55")
async def test_everything_works_by_one_authority_and_survives_a_new_one_while_a_task_runs(
    secured: Secured, tmp_path: Path
) -> None:
    """Certificates and authority are replaced; NATS is restarted, Postgres and S3 cut."""
    site, authority = secured.site, secured.authority
    worker = site.start(
        "worker", "-c", site.http, "--coordinator-ca", authority.path, "--work-dir", "work",
        MITO_USER="root", MITO_PASSWORD=site.admin_password,
    )  # fmt: skip
    await worker.says("registered as worker")
    gate = tmp_path / "gate"
    script = f"while ! [ -e {gate} ]; do sleep 0.1; done; echo kept > $MITO_RESULT_DIR/f"
    with SyncMitoClient(client_config(secured)) as client:
        task = client.submit_task(in_shell(script)).task
        await eventually(lambda: client.get_task(task).state is TaskState.RUNNING)

        new = Authority(tmp_path / "new", "the new laboratory")
        for issued, known in zip(new.issue("127.0.0.1"), secured.certificate, strict=True):
            shutil.copy(issued, known)
        shutil.copy(new.path, authority.path)
        secured.nats.stop()
        site.start_nats(site.folder / "nats.conf")
        for terminator in (secured.postgres, secured.s3):
            terminator.show(secured.certificate)
        gate.touch()

        def ended() -> bool:
            return client.get_task(task).state is TaskState.FINISHED

        await eventually(ended, seconds=60)
        view = client.get_task(task)
        assert view.outcome is Outcome.SUCCEEDED
        assert view.attempt == 1
        client.get_artifact(task, ArtifactKind.RESULT, tmp_path)
        assert (tmp_path / "result.tar.gz").exists()
    fresh = site.run(
        "client", "-c", site.http, "--coordinator-ca", authority.path, "auth", "root",
        site.admin_password,
    )  # fmt: skip
    assert fresh.status == 0, fresh.err  # the HTTP endpoint shows the new certificate
    await eventually(lambda: "tls_cert was read anew" in secured.coordinator.err)
    worker.stop()


REASONS = {
    "nats_url": ("nats_ca", 1),
    "db_url": ("db_ca", 6),
    "s3_url": ("s3_ca", 6),
}


@pytest.mark.parity("F-55")
def test_each_service_with_an_unknown_authority_is_named_with_reason_and_setting(
    secured: Secured, tmp_path: Path
) -> None:
    site = secured.site
    foreign = str(Authority(tmp_path / "foreign").path)
    configs = [
        site.write_config(f"{key}.toml", bind="127.0.0.1:0", **{ca: foreign})
        for key, (ca, _) in REASONS.items()
    ]
    done = site.run_all([["coordinator", "--config", config] for config in configs])
    for one, (key, (ca, status)) in zip(done, REASONS.items(), strict=True):
        said = one.err.splitlines()[-1]
        assert one.status == status, one.err
        assert "of an unknown authority (the" in said
        assert f"by {ca}" in said
        assert site.values[key].rpartition("@")[2].rpartition("/")[2].partition("?")[0] in said


@pytest.mark.parity("F-55")
def test_a_wrong_host_name_and_an_expired_certificate_are_told_apart(
    secured: Secured, tmp_path: Path
) -> None:
    site = secured.site
    old = Authority(tmp_path / "old")
    expired = old.issue("127.0.0.1", begins=datetime.now(UTC) - 9 * DAY, lasts=7 * DAY)
    day = f"{datetime.now(UTC) - 2 * DAY:%Y-%m-%d}"

    async def nowhere() -> Streams:
        raise ConnectionRefusedError("nothing is behind")

    terminator = Terminator(nowhere)
    terminator.show(expired)
    with serving(terminator) as (port,):
        late = site.write_config(
            "expired.toml", bind="127.0.0.1:0", s3_url=f"https://127.0.0.1:{port}",
            s3_ca=str(old.path),
        )  # fmt: skip
        other = site.write_config(
            "other.toml", bind="127.0.0.1:0",
            nats_url=site.nats.replace("127.0.0.1", "localhost"),
        )  # fmt: skip
        own = site.write_config(
            "own.toml", bind="127.0.0.1:0", tls_cert=str(expired[0]), tls_key=str(expired[1])
        )
        named = site.http.replace("127.0.0.1", "localhost")
        ca = ("--coordinator-ca", secured.authority.path)
        done = site.run_all([
            ["coordinator", "--config", late],
            ["coordinator", "--config", other],
            ["coordinator", "--config", own],
            ["client", "-c", named, *ca, "auth", "root", "x"],
            ["client", "-c", site.http, "auth", "root", "x"],
        ], more={"XDG_CACHE_HOME": str(tmp_path)})  # where no address is remembered  # fmt: skip
    assert [one.status for one in done] == [6, 1, 1, 6, 6]
    said = [one.err.splitlines()[-1] for one in done]
    assert f"valid until {day}" in said[0]
    assert "is for 127.0.0.1, not for localhost" in said[1]
    assert f"it expired on {day}" in said[2]
    assert "is for 127.0.0.1, not for localhost" in said[3]
    assert "unknown authority" in said[4]
    assert "by coordinator_ca" in said[4]


@pytest.mark.parity("F-55")
def test_without_a_check_only_by_an_explicit_flag_and_with_a_warning(secured: Secured) -> None:
    site = secured.site
    done = site.run("client", "-c", site.http, "--insecure", "auth", "root", site.admin_password)
    assert done.status == 0, done.err
    assert "mito: insecure is set: whoever answers" in done.err
    refused = site.run("client", "-c", site.http, "auth", "root", site.admin_password)
    assert refused.status in {1, 6}  # by NATS, whose address is remembered, or by the endpoint
    assert "insecure" not in refused.err  # the way out that is offered is not this one
