import os
import socket
import stat
from pathlib import Path

import pytest

from mitosis.services.platform.failures import FolderRefused, PortTaken
from mitosis.services.platform.keeper import BackOff
from mitosis.services.platform.logs import LogFile
from mitosis.services.platform.ports import KeptPorts, free_ports, is_free
from mitosis.services.platform.socket_folder import SocketFolder


@pytest.fixture
def taken_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_not_free(taken_port: int) -> None:
    assert not is_free(taken_port)


def test_free_ports_are_all_different() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20
    assert all(is_free(port) for port in found)


def test_the_port_of_the_last_run_is_kept(tmp_path: Path) -> None:
    ports = KeptPorts(tmp_path / "ports.json")
    first = ports.choose("http", None)
    assert ports.choose("http", free_ports(1)[0]) == first


def test_the_preferred_port_is_taken_when_it_is_free(tmp_path: Path) -> None:
    preferred = free_ports(1)[0]
    assert KeptPorts(tmp_path / "ports.json").choose("http", preferred) == preferred


def test_another_port_is_found_when_the_preferred_one_is_taken(
    tmp_path: Path, taken_port: int
) -> None:
    ports = KeptPorts(tmp_path / "ports.json")
    ports.save({"other": 1, "http": taken_port})
    chosen = ports.choose("http", taken_port)
    assert chosen != taken_port
    assert ports.load() == {"other": 1, "http": chosen}


def test_a_port_that_is_asked_for_is_taken_before_the_kept_one(
    tmp_path: Path, taken_port: int
) -> None:
    ports = KeptPorts(tmp_path / "ports.json")
    kept, wanted = free_ports(2)
    ports.save({"http": kept})
    assert ports.choose("http", None, wanted=wanted) == wanted
    with pytest.raises(PortTaken, match=str(taken_port)):
        ports.choose("http", None, wanted=taken_port)
    assert ports.load() == {"http": wanted}


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_file_of_ports_counts_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ports.json"
    path.write_text(text)
    assert KeptPorts(path).load() == {}


def test_a_log_over_its_limit_starts_anew_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", limit_bytes=100)
    writer = log.open()
    os.write(writer, b"x" * 101)
    log.bound()
    os.write(writer, b"after\n")
    os.close(writer)
    assert log.path.read_bytes() == b"after\n"
    kept = tmp_path / "a.log.1"
    assert kept.read_bytes() == b"x" * 101
    assert {stat.S_IMODE(path.stat().st_mode) for path in (log.path, kept)} == {0o600}


def test_a_log_within_its_limit_is_let_alone(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", limit_bytes=100)
    log.path.write_bytes(b"x" * 100)
    log.bound()
    assert log.path.stat().st_size == 100


def test_the_tail_is_the_last_lines_on_one(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    assert log.tail() == ""
    log.path.write_bytes(b"\xff" * 9000 + b"\none\ntwo\nthree\n")
    assert log.tail(2) == "two | three"


def test_pauses_between_restarts_grow_up_to_a_cap() -> None:
    back_off = BackOff(first_seconds=0.1, longest_seconds=5)
    pauses = [back_off.pause(failures) for failures in range(1, 9)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert back_off.pause(10_000) == 5


def test_a_short_plain_path_holds_the_socket_itself(tmp_path: Path) -> None:
    wanted = Path("/tmp/data/run")
    assert SocketFolder(wanted).path == wanted


@pytest.mark.parametrize("name", ["x" * 100, "with blank", "é", "a,b", "a%b", "a?b=c&d"])
def test_a_path_that_a_socket_cannot_have_gets_a_short_folder(name: str) -> None:
    folders = SocketFolder(Path("/data") / name), SocketFolder(Path("/data2") / name)
    assert all(len(os.fsencode(folder.path)) <= 85 for folder in folders)
    assert folders[0].path != folders[1].path
    assert SocketFolder(Path("/data") / name).path == folders[0].path


def test_a_socket_folder_is_private_and_goes_with_its_content(tmp_path: Path) -> None:
    folder = SocketFolder(Path(f"/data/{'x' * 100}/{os.getpid()}"))
    try:
        made = folder.make()
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        (made / ".s.PGSQL.5432").touch()
        assert folder.make() == made
    finally:
        folder.remove()
    assert not made.exists()


def test_a_link_in_the_place_of_the_socket_folder_is_refused(tmp_path: Path) -> None:
    folder = SocketFolder(Path(f"/data/{'y' * 100}/{os.getpid()}"))
    folder.path.symlink_to(tmp_path)
    try:
        with pytest.raises(FolderRefused, match="belongs to somebody else"):
            folder.make()
    finally:
        folder.path.unlink()
