import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mitosis.errors import Misconfigured
from mitosis.services.worker import identity
from mitosis.services.worker.drain import Departure
from mitosis.services.worker.identity import Record, WorkFolder, this_machine


def test_a_folder_is_used_by_one_worker_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_WAIT_SECONDS", 0.1)
    folder = WorkFolder.open(tmp_path / "w")
    folder.write_record("w-1", this_machine(folder.path))
    with pytest.raises(Misconfigured, match=f"by worker w-1 .process {os.getpid()} on"):
        WorkFolder.open(tmp_path / "w")
    folder.close()
    WorkFolder.open(tmp_path / "w").close()


def test_the_lock_is_held_as_long_as_a_helper_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_WAIT_SECONDS", 0.1)
    folder = WorkFolder.open(tmp_path / "w")
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[folder.lock_fd]
    ) as helper:
        folder.close()
        with pytest.raises(Misconfigured, match="in use"):
            WorkFolder.open(tmp_path / "w")
        helper.communicate(b"\n")
    WorkFolder.open(tmp_path / "w").close()


def test_workers_without_a_named_folder_take_the_first_free_one(tmp_path: Path) -> None:
    first = WorkFolder.open_any(tmp_path)
    second = WorkFolder.open_any(tmp_path)
    assert (first.path.name, second.path.name) == ("1", "2")
    first.close()
    third = WorkFolder.open_any(tmp_path)
    assert third.path.name == "1"
    second.close()
    third.close()


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="work_dir"):
        WorkFolder.open(tmp_path / "file" / "w")


def test_the_record_tells_who_works_here(tmp_path: Path) -> None:
    folder = WorkFolder.open(tmp_path)
    machine = this_machine(tmp_path)
    folder.write_record("w-1", machine)
    record = msgspec.json.decode((tmp_path / "worker.json").read_bytes(), type=Record)
    assert record == Record("w-1", machine.machine, machine.boot, machine.host, os.getpid())
    folder.close()


def test_the_outbox_is_empty_at_the_start(tmp_path: Path) -> None:
    folder = WorkFolder.open(tmp_path)
    (folder.outbox() / "left.tar.gz").touch()
    assert list(folder.outbox().iterdir()) == []
    folder.close()


def test_a_machine_keeps_its_identity_and_differs_from_its_clones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = this_machine(tmp_path)
    assert here == this_machine(tmp_path)
    assert len(here.machine) == 32
    monkeypatch.setattr(identity.socket, "gethostname", lambda: "a-clone")
    assert this_machine(tmp_path).machine != here.machine


def test_clones_with_one_name_differ_by_their_network_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_NETWORK", tmp_path / "net")
    (tmp_path / "net" / "eth0" / "device").mkdir(parents=True)
    (tmp_path / "net" / "bridge").mkdir()
    known = []
    for card, bridge in (("52:54:00:00:00:01", "1"), ("52:54:00:00:00:02", "1")):
        (tmp_path / "net" / "eth0" / "address").write_text(f"{card}\n")
        (tmp_path / "net" / "bridge" / "address").write_text(f"{bridge}\n")
        known.append(this_machine(tmp_path))
    (tmp_path / "net" / "bridge" / "address").write_text("2\n")  # no card: it comes and goes
    known.append(this_machine(tmp_path))
    assert known[0].machine != known[1].machine == known[2].machine
    assert known[0].boot


def test_where_no_network_card_is_seen_a_boot_of_ones_own_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_NETWORK", tmp_path / "none")
    assert this_machine(tmp_path).boot == ""


def test_a_folder_is_the_same_for_a_successor_and_another_one_when_it_was_made_anew(
    tmp_path: Path,
) -> None:
    def seen() -> str:
        folder = WorkFolder.open(tmp_path / "work")
        folder.close()
        return folder.identity

    first = seen()
    assert first.startswith(f"{tmp_path / 'work'} ")
    assert seen() == first
    shutil.rmtree(tmp_path / "work")
    assert seen() != first


def test_a_new_folder_is_refused_while_something_runs_in_a_former_one_of_its_path(
    tmp_path: Path,
) -> None:
    place = tmp_path / "work"
    inside = {"PATH": os.environ["PATH"], "MITO_EXEC_DIR": str(place / "slots/slot-0-0/work")}
    left = subprocess.Popen(["sleep", "60"], env=inside)
    try:
        for _ in range(2):
            with pytest.raises(Misconfigured, match=f"what that runs is alive .*{left.pid}"):
                WorkFolder.open(place)
        other = WorkFolder.open_any(tmp_path)
        assert other.path == tmp_path / "1"
        other.close()
    finally:
        left.kill()
        left.wait()
    folder = WorkFolder.open(place)
    folder.close()


def test_a_machine_without_an_id_gets_one_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_MACHINE_ID", tmp_path / "none")
    first = this_machine(tmp_path)
    assert first == this_machine(tmp_path)
    (tmp_path / "machine-id").unlink()
    assert this_machine(tmp_path) != first


def test_the_first_signal_lets_tasks_finish_and_the_second_hands_them_back() -> None:
    departure = Departure()
    heard: list[tuple[str, bool]] = []
    departure.listen(lambda reason, force: heard.append((reason, force)))
    departure.on_signal("SIGTERM")
    departure.on_signal("SIGTERM")
    departure.on_signal("SIGTERM")
    assert heard == [("the worker got SIGTERM", False), ("the worker got SIGTERM", True)]


def test_a_late_listener_hears_the_present_wish() -> None:
    departure = Departure()
    departure.wish("order", force=True)
    departure.wish("another", force=False)
    heard: list[tuple[str, bool]] = []
    departure.listen(lambda reason, force: heard.append((reason, force)))
    assert heard == [("order", True)]
