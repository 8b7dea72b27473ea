"""The worker by its configuration file: every key of `[worker]`, each by its own effect."""

import contextlib
import json
import secrets
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import DEFAULT_COORDINATOR, SubmitTaskArgs
from mitosis.config.loader import load
from mitosis.config.worker import WorkerConfig
from mitosis.domain.roles import Role
from mitosis.domain.task import TaskState
from mitosis.testing.servers import PostgresServer, S3Server

from ..conftest import Platform, Site, in_shell
from .machines import Account, Machine, machine, soon

UUID_LOG = "{uuid}.log"


def write_config(box: Machine, **values: Any) -> Path:
    """A file with a section [worker]."""
    path = box.folder / "worker.toml"
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    path.write_text("[worker]\n" + "".join(lines))
    return path


def default_log(box: Machine) -> Path:
    """Where a worker logs that was told to, but not where (V-034)."""
    return box.folder / ".cache" / "mitosis" / "worker" / UUID_LOG.format(uuid=box.uuid)


class Setup(NamedTuple):
    """Workers of alice: `full` has every key, `terse` only some, `bare` has no file at all."""

    alice: Account
    one: str
    two: str
    full: Machine
    terse: Machine
    bare: Machine


@pytest.fixture(scope="module")
def setup(platform: Platform, admin: SyncMitoClient) -> Iterator[Setup]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mito-test-")))
        alice = Account(platform, admin, folder)
        stack.callback(alice.client.close)
        one, two = (f"group-{secrets.token_hex(4)}" for _ in range(2))
        for group in (one, two):
            alice.client.create_group(group)
        full, terse, bare = (
            stack.enter_context(machine(folder / name)) for name in ("full", "terse", "bare")
        )
        address = platform.notice["http"]
        config = write_config(
            full, coordinator_addr=address, polling_interval="400ms", heartbeat_interval="1h",
            lifetime="1h", user=alice.name, password=alice.password,
            credential_path="kept/credentials", groups=[one, f"{two}:read"], tags=["gpu"],
            labels=["rack1"], slots=2, file_log=True, log_path="logs/exact.log",
        )  # fmt: skip
        full.run_worker("--config", config)
        config = write_config(
            terse, coordinator_addr=address, polling_interval="1h", heartbeat_interval="400ms",
            credential_path=str(alice.credentials), file_log=True,
        )  # fmt: skip
        terse.run_worker("--config", config)
        stored = bare.folder / ".config" / "mitosis" / "credentials"
        stored.parent.mkdir(parents=True)
        stored.write_bytes(alice.credentials.read_bytes())
        stored.chmod(0o600)
        bare.run_worker(MITO_COORDINATOR_ADDR=address)
        for box in (full, terse, bare):
            box.registered()
        yield Setup(alice, one, two, full, terse, bare)


@pytest.mark.parity("S-080", "S-088")
def test_the_section_takes_effect_and_without_groups_only_the_own_one_is_served(
    setup: Setup,
) -> None:
    view = setup.alice.worker(setup.full.uuid)
    own = setup.alice.name
    assert view.roles == {setup.one: Role.WRITE, setup.two: Role.READ, own: Role.ADMIN}
    assert (view.labels, view.slots) == (("rack1",), 2)
    assert setup.alice.worker(setup.terse.uuid).roles == {own: Role.ADMIN}
    assert setup.alice.worker(setup.bare.uuid).roles == {own: Role.ADMIN}
    # Two workers without tags are idle, and still the task of another group waits.
    task = setup.alice.client.submit_task(SubmitTaskArgs(command=("true",), group=setup.one))
    assert setup.alice.client.get_task(task.task).state is TaskState.READY
    setup.alice.client.cancel_task(task.task)


@pytest.mark.parity("S-081")
def test_the_worker_registers_at_the_address_of_the_file_whose_default_is_the_seeds(
    setup: Setup, platform: Platform
) -> None:
    assert setup.alice.worker(setup.full.uuid).state == "normal"
    assert platform.notice["http"] != DEFAULT_COORDINATOR
    assert load(WorkerConfig, env={}, cwd=setup.bare.root).config.coordinator_addr == (
        "http://127.0.0.1:5000"
    )


def heartbeats(setup: Setup, box: Machine, count: int = 3) -> list[Any]:
    """Wait for some heartbeats of a worker, and return their times."""
    seen: set[Any] = set()

    def enough() -> bool:
        seen.add(setup.alice.worker(box.uuid).last_heartbeat_at)
        return len(seen) >= count

    soon(enough)
    return sorted(seen)


@pytest.mark.parity("S-082")
def test_the_worker_asks_whether_it_missed_something_at_the_polling_interval(setup: Setup) -> None:
    """The heartbeat interval is an hour, and a quarter of the lease minutes: only this is short."""
    times = heartbeats(setup, setup.full)
    assert (times[1] - times[0]).total_seconds() >= 0.3


@pytest.mark.parity("S-083")
def test_the_last_heartbeat_advances_by_the_interval_of_the_file(setup: Setup) -> None:
    quiet = setup.alice.worker(setup.bare.uuid).last_heartbeat_at  # the default is minutes
    times = heartbeats(setup, setup.terse)
    assert (times[1] - times[0]).total_seconds() >= 0.3
    assert setup.alice.worker(setup.bare.uuid).last_heartbeat_at == quiet


@pytest.mark.parity("S-085")
def test_a_stored_session_is_used_from_the_path_of_the_file(setup: Setup) -> None:
    """`terse` knew no name and no password; `full` has stored its own session, privately."""
    assert setup.alice.worker(setup.terse.uuid).owner == setup.alice.name
    stored = setup.full.folder / "kept" / "credentials"
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert f"{setup.alice.name}:" in stored.read_text()
    assert setup.alice.password not in stored.read_text()


@pytest.mark.parity("S-086", "S-087")
def test_name_and_password_of_the_file_log_in_without_asking(setup: Setup) -> None:
    assert setup.alice.worker(setup.full.uuid).owner == setup.alice.name
    assert not list(setup.full.folder.glob(".config/mitosis/credentials"))


@pytest.mark.parity("S-089")
def test_tags_are_those_of_the_file_and_none_without(setup: Setup) -> None:
    assert setup.alice.worker(setup.full.uuid).tags == ("gpu",)
    assert setup.alice.worker(setup.terse.uuid).tags == ()


@pytest.mark.parity("S-090", "V-034")
def test_a_log_file_of_the_workers_own_appears_when_it_is_asked_for(setup: Setup) -> None:
    soon(lambda: default_log(setup.terse).exists())
    assert not list(setup.bare.folder.rglob("*.log"))


@pytest.mark.parity("S-091")
def test_an_exact_log_path_is_that_file_and_no_other(setup: Setup) -> None:
    exact = setup.full.folder / "logs" / "exact.log"
    soon(exact.exists)
    assert not default_log(setup.full).exists()


@pytest.mark.parity("S-092")
def test_a_worker_starts_without_any_file(setup: Setup) -> None:
    assert not list(setup.bare.folder.rglob("*.toml"))
    assert setup.alice.worker(setup.bare.uuid).owner == setup.alice.name


def test_workers_with_one_log_share_it_and_say_who_they_are(
    platform: Platform, setup: Setup, tmp_path: Path
) -> None:
    with machine(tmp_path / "sharing") as box:
        config = write_config(
            box, coordinator_addr=platform.notice["http"], shared_log=True, retain=True,
            skip_redis=True, credential_path=str(setup.alice.credentials),
        )  # fmt: skip
        uuids = []
        for _ in range(2):
            box.run_worker("--config", config)
            uuids.append(box.registered())
            assert box.process.stop() == 0
            box.process.close()
        (log,) = (box.folder / ".cache" / "mitosis" / "worker").iterdir()
        assert log.name.startswith("workers.log.20")
        for uuid in uuids:
            assert f"[worker:{uuid}] " in log.read_text()


# --- a platform with short times ----------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty(postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[Site]:
    """A coordinator with a lease of 3 s and sessions of 6 s."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mito-test-")))
        database = stack.enter_context(postgres_server.database())
        site = Site(folder, database, s3_server)
        stack.callback(site.close)
        site.start_nats(site.nats_config())
        config = site.write_config(
            "hasty.toml", heartbeat_timeout="3s", access_token_expires_in="6s"
        )
        coordinator = site.start("coordinator", "--config", config)
        soon(lambda: "serving" in coordinator.err or coordinator.ended(), 60.0)
        yield site


def _hasty_worker(site: Site, box: Machine, *more: str) -> None:
    box.run_worker("-c", site.nats, "-u", "root", *more, MITO_PASSWORD=site.admin_password)
    box.registered()


@pytest.mark.parity("S-054")
def test_a_silent_worker_is_removed_after_the_timeout_and_its_task_is_requeued(
    hasty: Site, tmp_path: Path
) -> None:
    with machine(tmp_path / "silent") as box, SyncMitoClient(hasty.client_config()) as client:
        _hasty_worker(hasty, box)
        task = client.submit_task(in_shell("sleep 600"))
        soon(lambda: client.get_task(task.task).started_at)
        box.process.process.send_signal(signal.SIGSTOP)
        view = soon(lambda: (v := client.get_task(task.task)).state is TaskState.READY and v)
        assert (view.losses, view.worker) == (1, None)
        gone = client.get_worker(box.uuid)
        assert (gone.state, "3 s" in gone.reason) == ("gone", True)
        client.cancel_task(task.task)


@pytest.mark.parity("S-084")
def test_a_worker_ends_after_its_lifetime_or_after_the_coordinators_token_setting(
    hasty: Site, tmp_path: Path
) -> None:
    with machine(tmp_path / "named") as named, machine(tmp_path / "unset") as unset:
        config = write_config(named, lifetime="2s")
        _hasty_worker(hasty, named, "--config", str(config))
        _hasty_worker(hasty, unset)
        assert named.process.wait(20) == 0
        assert not unset.process.ended()
        assert unset.process.wait(20) == 0
        for box in (named, unset):
            assert "its lifetime is over" in box.process.err
