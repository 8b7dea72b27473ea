"""Files for those who run a platform: they agree with what the code writes and expects."""

import configparser
import re
from pathlib import Path

import pytest
import yaml

from mitosis.config.coordinator import CoordinatorConfig
from mitosis.nats.nkeys import issuer_account
from mitosis.nats.server_config import CalloutConfig, NatsServerConfig, StaticUser, render

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PEM = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
"""


def test_the_nats_configuration_of_the_compose_file_is_the_one_that_is_written() -> None:
    issuer = issuer_account(PEM)
    default = CoordinatorConfig()
    text = render(
        NatsServerConfig(
            store_dir="$NATS_STORE_DIR",
            host="0.0.0.0",  # noqa: S104  in a container
            service_users=(StaticUser(name=default.nats_user, password="$KV_PASSWORD"),),
            system_users=(
                StaticUser(name=default.nats_system_user, password="$NATS_SYSTEM_PASSWORD"),
            ),
            callout=CalloutConfig(issuer=issuer),
        )
    )
    # The server reads variables where no quotes are.
    expected = re.sub(r'"(\$\w+)"', r"\1", text.replace(issuer, "$NATS_ISSUER"))
    found = (ROOT / "deploy" / "nats.conf").read_text()
    assert found.partition("\n")[2] == expected, "write it anew: see this test"
    used = set(re.findall(r"\$(\w+)", expected))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert used == set(compose["services"]["nats"]["environment"])


def parsed(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def unit(path: Path) -> configparser.SectionProxy:
    parser = parsed(path)
    timed = path.with_suffix(".timer").exists()
    assert set(parser) == {"DEFAULT", "Unit", "Service", *["Install"] * (not timed)}
    return parser["Service"]


def test_there_is_a_unit_for_each_service_and_for_the_check_of_history() -> None:
    assert [path.name for path in UNITS] == [
        "mito-coordinator.service", "mito-projector.service", "mito-verify.service",
        "mito-worker@.service",
    ]  # fmt: skip


def test_history_is_checked_once_a_week_and_a_finding_is_a_failed_unit() -> None:
    service = unit(ROOT / "deploy" / "systemd" / "mito-verify.service")
    assert service["Type"] == "oneshot"
    assert "Restart" not in service
    timer = parsed(ROOT / "deploy" / "systemd" / "mito-verify.timer")
    assert (timer["Timer"]["OnCalendar"], timer["Timer"]["Persistent"]) == ("weekly", "yes")
    assert timer["Install"]["WantedBy"] == "timers.target"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_that_exists_and_is_hardened(path: Path) -> None:
    from mitosis.cli.main import root_app

    service = unit(path)
    program, *arguments = service["ExecStart"].replace("%i", "one").split()
    assert program == "/usr/local/bin/mito"
    root_app().parse_args(arguments, exit_on_error=False, print_error=False)
    assert service["User"] != "root"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["UMask"] == "0077"
    assert service.get("Restart") == ("on-failure" if service.get("Type") != "oneshot" else None)
    assert not [key for key in service if "PASSWORD" in service[key].upper()]


def test_a_worker_alone_is_told_to_stop_and_has_the_time_for_it() -> None:
    service = unit(ROOT / "deploy" / "systemd" / "mito-worker@.service")
    assert service["KillMode"] == "mixed"
    assert service["TimeoutStopSec"] == "10min"
    assert service["Delegate"] == "yes"
    assert "RestrictNamespaces" not in service  # tasks may run in one of their own


@pytest.mark.parity("D-103")
def test_every_change_must_pass_the_full_suite() -> None:
    """Lint, types, generated pages and all tests, from a fresh installation."""
    steps = re.findall(r"^step (.+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    said = "\n".join(steps)
    for word in ("ruff check", "ruff format --check", "lint-imports", "mypy", "--check docs"):
        assert word in said
    assert any(re.search(r"bin/pytest\b(?!.*tests/unit)", step) for step in steps)
