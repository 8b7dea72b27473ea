"""The history file: bounded, private, and never in the way."""

import os
import stat
import threading
from pathlib import Path

import pytest

from mitosis.cli.history import HISTORY_LINES, History


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def history(tmp_path: Path, complaints: list[str]) -> History:
    return History(tmp_path / "mitosis" / "client-history", complaints.append)


def test_lines_come_back_in_their_order_from_a_private_file(history: History) -> None:
    for line in ("one", "two", "two", "one"):
        history.add(line)
    assert history.load() == ["one", "two", "one"]
    assert stat.S_IMODE(history.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(history: History) -> None:
    history.path.parent.mkdir()
    history.path.write_text("old\n")
    history.path.chmod(0o644)
    history.add("new")
    assert history.load() == ["old", "new"]
    assert stat.S_IMODE(history.path.stat().st_mode) == 0o600


def test_the_oldest_lines_go(history: History) -> None:
    history.path.parent.mkdir()
    history.path.write_text("".join(f"{n}\n" for n in range(HISTORY_LINES + 5)))
    history.add("last")
    lines = history.path.read_text().splitlines()
    assert len(lines) == HISTORY_LINES
    assert (lines[0], lines[-1]) == ("6", "last")


def test_what_could_not_be_read_back_as_a_line_is_left_out(history: History) -> None:
    for line in ("a\nb", "x" * 10_000, "bell\x07"):
        history.add(line)
    assert history.load() == []


def test_sessions_side_by_side_lose_nothing(history: History, tmp_path: Path) -> None:
    def write(name: str) -> None:
        mine = History(history.path, lambda _: None)
        for number in range(20):
            mine.add(f"{name} {number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(history.load()) == 60


@pytest.mark.parametrize("kind", ["folder", "link", "no folder", "noise"])
def test_a_useless_file_is_said_once_and_ends_nothing(
    history: History, complaints: list[str], kind: str, tmp_path: Path
) -> None:
    match kind:
        case "folder":
            history.path.mkdir(parents=True)
        case "link":
            history.path.parent.mkdir()
            history.path.symlink_to(tmp_path / "elsewhere")
        case "no folder":
            (tmp_path / "mitosis").write_text("")
        case _:
            history.path.parent.mkdir()
            history.path.write_bytes(os.urandom(5_000))
    history.load()
    history.add("a")
    history.add("b")
    assert len(complaints) == (0 if kind == "noise" else 1)
    assert all(str(history.path) in text for text in complaints)
    assert not (tmp_path / "elsewhere").exists()
