"""What a user does wrong, or finds broken: one clear line, the right status, nothing half-done."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mitosis.services.platform.ports import free_ports
from mitosis.testing.servers import PostgresServer, S3Server

from .conftest import Done, Home, Platform, Site


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[Site]:
    """Services where all is well: each test names one that is not."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    with postgres_server.database() as database:
        made = Site(folder, database, s3_server)
        try:
            made.start_nats(made.nats_config())
            yield made
        finally:
            made.close()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def closed_port() -> int:
    """Nobody listens there."""
    return free_ports(1)[0]


def refused(done: Done, status: int, *words: str) -> None:
    """Check the status, that one line says it all, and that nothing was printed as a result."""
    assert (done.status, done.out) == (status, b""), done
    for word in words:
        assert word in done.complaint


DOWN = {
    "nats_url": "nats://127.0.0.1:{port}",
    "db_url": "postgres://mitosis:hush-hush@127.0.0.1:{port}/mitosis",
    "s3_url": "http://127.0.0.1:{port}",
}


@pytest.mark.parametrize(
    ("service", "setting"),
    [
        *(("coordinator", setting) for setting in DOWN),
        ("projector", "nats_url"),
        ("projector", "db_url"),  # of the S3 server it only signs addresses
    ],
)
def test_a_service_that_is_down_at_start_is_named(
    site: Site, closed_port: int, service: str, setting: str
) -> None:
    config = site.write_config("down.toml", **{setting: DOWN[setting].format(port=closed_port)})
    done = site.run(service, "--config", config)
    refused(done, 6, f"127.0.0.1:{closed_port}", setting)
    assert "hush-hush" not in done.err


def test_a_wrong_s3_key_is_told_from_a_server_that_is_down(site: Site) -> None:
    config = site.write_config("key.toml", s3_secret_key="not-the-secret-key")
    done = site.run("coordinator", "--config", config)
    refused(done, 1, site.values["s3_url"], "s3_secret_key")
    assert "not-the-secret-key" not in done.err


def test_a_wrong_nats_password_is_said_to_be_one(site: Site) -> None:
    config = site.write_config("password.toml", nats_password="not-the-password")
    done = site.run("coordinator", "--config", config)
    refused(done, 4, site.nats, "nats_password")
    assert "not-the-password" not in done.err


def test_a_database_that_does_not_exist_is_named(site: Site) -> None:
    config = site.write_config(
        "database.toml", db_url=site.values["db_url"].replace("/test_", "/missing_")
    )
    refused(site.run("coordinator", "--config", config), 1, "missing_", "db_url")


def test_a_port_in_use_is_named(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        done = site.run("coordinator", "--config", site.config, "--bind", address)
    refused(done, 1, address, "--bind")


def test_a_missing_key_pair_is_named_with_the_way_to_make_one(site: Site, tmp_path: Path) -> None:
    private = tmp_path / "none.pem"
    config = site.write_config("keys.toml", access_token_private_path=str(private))
    commands = [[name, "--config", config] for name in ("coordinator", "nats-config")]
    for done in site.run_all(commands):
        refused(done, 1, str(private), "openssl")


@pytest.mark.parametrize(
    "command", [["coordinator"], ["projector"], ["worker"], ["client", "auth"]]
)
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, command: list[str]) -> None:
    home = Home(tmp_path / "user")
    missing, broken, unknown = (tmp_path / name for name in ("none.toml", "bad.toml", "odd.toml"))
    broken.write_text("[coordinator\nbind = 1")
    section = {"client": "client", "worker": "worker"}.get(command[0], "coordinator")
    key = {"client": "usr", "worker": "slot"}.get(command[0], "bnd")
    near = {"client": "user", "worker": "slots"}.get(command[0], "bind")
    unknown.write_text(f"# one line\n[{section}]\n{key} = 1\n")

    paths = [missing, tmp_path, broken, unknown]
    done = home.run_all([[command[0], "--config", path, *command[1:]] for path in paths])
    for one, path in zip(done, paths, strict=True):
        refused(one, 2, str(path))
    refused(done[-1], 2, f"{unknown}:3", key, near)


def test_a_value_that_cannot_be_is_named_with_its_source(tmp_path: Path) -> None:
    home = Home(tmp_path / "user")
    done = home.run("coordinator", more={"MITO_DB_URL": "mysql://root:hush-hush@there/x"})
    refused(done, 2, "MITO_DB_URL")
    assert "hush-hush" not in done.err


@pytest.mark.parametrize("scheme", ["http", "nats"])
def test_without_a_coordinator_client_and_worker_say_where_they_looked(
    tmp_path: Path, closed_port: int, scheme: str
) -> None:
    home = Home(tmp_path / "user")
    address = f"{scheme}://127.0.0.1:{closed_port}"
    who = {"MITO_USER": "somebody", "MITO_PASSWORD": "whatever"}
    commands = [
        ["client", "-c", address, "--timeout", "1s", "get", "tasks"],
        ["client", "-c", address, "--timeout", "1s", "auth", "somebody", "word"],
        ["worker", "--coordinator", address, "--work-dir", tmp_path / "w"],
    ]
    *clients, worker = home.run_all(commands, more=who)
    for done in clients:
        refused(done, 6, address)
    waits, ends = worker.err.splitlines()  # its log says at once what it waits for
    assert worker.status == 6
    assert address in waits
    assert "trying again" in waits
    assert address in ends


def test_a_nats_server_without_a_coordinator_is_no_platform(site: Site) -> None:
    done = site.run(
        "client", "-c", site.nats, "--timeout", "3s", "auth", "root", site.admin_password
    )
    refused(done, 6, "coordinator", site.nats)


def test_what_is_no_coordinator_is_said_to_be_none(tmp_path: Path, s3_server: S3Server) -> None:
    done = Home(tmp_path / "user").run("client", "-c", s3_server.url, "auth", "root", "word")
    refused(done, 6, s3_server.url)


def test_a_worker_with_a_wrong_password_does_not_stay(platform: Platform, tmp_path: Path) -> None:
    home = Home(tmp_path / "user")
    done = home.run(
        "worker", "--coordinator", platform.notice["http"], "-u", platform.notice["admin_user"],
        more={"MITO_PASSWORD": "not the password"},
    )  # fmt: skip
    refused(done, 4)
    assert home.processes() == []


@pytest.mark.parametrize("groups", ["no-such-group", "mitosis_admin:boss"])
def test_a_worker_for_a_group_that_cannot_be_is_refused(
    platform: Platform, tmp_path: Path, groups: str
) -> None:
    home = Home(tmp_path / "user")
    done = home.run(
        "worker", "--coordinator", platform.notice["http"], "-u", platform.notice["admin_user"],
        "--groups", groups, more={"MITO_PASSWORD": platform.admin_password},
    )  # fmt: skip
    assert done.status == (2 if ":" in groups else 3), done
    assert groups.rsplit(":", maxsplit=1)[-1] in done.complaint
