import tomllib
from pathlib import Path

import pytest

from mitosis.errors import Misconfigured
from mitosis.services.platform.binaries import nats_server, postgres_folder, weed
from mitosis.services.platform.credentials import Credentials
from mitosis.services.platform.service_config import (
    Addresses,
    coordinator_config,
    toml_text,
    worker_config,
)

ADDRESSES = Addresses(
    nats="nats://127.0.0.1:4222",
    http="http://127.0.0.1:5000",
    database="postgresql://mito@/mitosis?host=/short",
    s3="http://127.0.0.1:9000",
)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "plain",
        'a"b',
        "a\\b",
        "\x00\x1f\x7f",
        "tab\tline\nend\r",
        "é 日本 🧬",
        "#'",
        -3,
        0.5,
        True,
    ],
)
def test_what_is_written_is_read_back(value: str | float) -> None:
    values = {"first": value, "last": "unharmed"}
    assert tomllib.loads(toml_text(values)) == values


def test_a_list_is_read_back_as_one() -> None:
    assert tomllib.loads(toml_text({"tags": ("a", 'b"')})) == {"tags": ["a", 'b"']}


def test_a_path_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(Misconfigured, match="work_dir"):
        toml_text({"work_dir": "/data/\udcff"})


def test_the_coordinator_gets_every_key_that_it_needs(tmp_path: Path) -> None:
    config = coordinator_config(ADDRESSES, Credentials(tmp_path))
    assert config["bind"] == "127.0.0.1:5000"
    assert set(config) == {
        "bind", "db_url", "s3_url", "s3_access_key", "s3_secret_key",
        "nats_url", "nats_user", "nats_password", "nats_system_user", "nats_system_password",
        "admin_user", "admin_password",
        "access_token_private_path", "access_token_public_path", "shutdown_secret_path",
    }  # fmt: skip


def test_a_worker_gets_no_service_secret(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    config = worker_config(
        ADDRESSES, credentials, slots=2, work_folder=tmp_path, credential_path=tmp_path / "session"
    )
    assert set(config) == {
        "coordinator_addr",
        "user",
        "password",
        "slots",
        "work_dir",
        "tags",
        "credential_path",
    }
    assert credentials.service.password not in config.values()


def test_the_programs_of_the_wheels_are_found_without_importing_them() -> None:
    programs = [nats_server(), weed(), postgres_folder() / "postgres", postgres_folder() / "initdb"]
    assert all(program.is_file() for program in programs)
