import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mitosis.client import credentials
from mitosis.client.credentials import CredentialFile, StoredSession
from mitosis.errors import Misconfigured

HERE = "http://127.0.0.1:5000"
THERE = "nats://other:4222"


@pytest.fixture
def file(tmp_path: Path) -> CredentialFile:
    return CredentialFile(tmp_path / "mitosis" / "credentials")


def test_nothing_is_found_where_nothing_is(file: CredentialFile) -> None:
    assert file.find(HERE, None) is None
    assert not file.path.exists()


def test_the_last_login_is_used_when_no_user_is_named(file: CredentialFile) -> None:
    file.store(StoredSession(HERE, "alice", "t1"))
    file.store(StoredSession(HERE, "bob", "t2"))
    assert file.find(HERE, None) == StoredSession(HERE, "bob", "t2")
    assert file.find(HERE, "alice") == StoredSession(HERE, "alice", "t1")
    assert file.find(HERE, "carol") is None


def test_a_session_for_once_does_not_become_the_usual_one(file: CredentialFile) -> None:
    file.store(StoredSession(HERE, "alice", "t1"), first=False)
    file.store(StoredSession(HERE, "bob", "t2"), first=False)
    assert file.find(HERE, None) == StoredSession(HERE, "alice", "t1")
    file.store(StoredSession(HERE, "alice", "t3"), first=False)
    assert file.find(HERE, None) == StoredSession(HERE, "alice", "t3")
    assert file.find(HERE, "bob") == StoredSession(HERE, "bob", "t2")


def test_a_token_is_never_found_for_another_platform(file: CredentialFile) -> None:
    file.store(StoredSession(HERE, "alice", "t1"))
    assert file.find(THERE, "alice") is None
    assert file.find(THERE, None) is None


def test_sessions_of_two_platforms_live_side_by_side(file: CredentialFile) -> None:
    file.store(StoredSession(HERE, "alice", "t1"))
    file.store(StoredSession(THERE, "alice", "t2"))
    file.store(StoredSession(HERE, "alice", "t3"))
    assert file.find(HERE, "alice") == StoredSession(HERE, "alice", "t3")
    assert file.find(THERE, "alice") == StoredSession(THERE, "alice", "t2")
    assert file.path.read_text() == f"# {HERE}\nalice:t3\n# {THERE}\nalice:t2\n"


def test_the_originals_form_is_read_and_its_first_line_used(file: CredentialFile) -> None:
    file.path.parent.mkdir()
    file.path.write_text("alice:t1\nbob:t2\n\nnonsense\n:\n")
    assert file.find(HERE, None) == StoredSession("", "alice", "t1")
    assert file.find(THERE, "bob") == StoredSession("", "bob", "t2")
    file.store(StoredSession(HERE, "alice", "t3"))
    assert file.path.read_text() == f"bob:t2\n# {HERE}\nalice:t3\n"


def test_a_forgotten_session_is_gone_and_the_others_stay(file: CredentialFile) -> None:
    file.store(StoredSession(HERE, "alice", "t1"))
    file.store(StoredSession(HERE, "bob", "t2"))
    file.forget(HERE, "bob")
    assert file.find(HERE, None) == StoredSession(HERE, "alice", "t1")


def test_only_its_owner_can_read_it(file: CredentialFile) -> None:
    file.path.parent.mkdir(mode=0o755)
    file.path.write_text("alice:t1\n")
    file.path.chmod(0o644)
    file.store(StoredSession(HERE, "bob", "t2"))
    assert file.path.stat().st_mode & 0o777 == 0o600
    names = sorted(path.name for path in file.path.parent.iterdir())
    assert names == [".credentials.lock", "credentials"]


def test_concurrent_writers_lose_nothing(file: CredentialFile) -> None:
    writers = [
        threading.Thread(target=file.store, args=(StoredSession(HERE, f"u{n}", f"t{n}"),))
        for n in range(20)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = [file.find(HERE, f"u{n}") for n in range(20)]
    assert found == [StoredSession(HERE, f"u{n}", f"t{n}") for n in range(20)]


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot be read: Is a directory.*--credential-path"):
        CredentialFile(tmp_path).find(HERE, None)
    (tmp_path / "flat").write_text("")
    with pytest.raises(Misconfigured, match="cannot be written"):
        CredentialFile(tmp_path / "flat" / "c").store(StoredSession(HERE, "a", "t"))


def test_a_token_never_shows() -> None:
    assert "t1" not in repr(StoredSession(HERE, "alice", "t1"))


def test_a_damaged_line_costs_only_its_own_session(
    file: CredentialFile, caplog: pytest.LogCaptureFixture
) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(
        f"# {HERE}\nalice:t1\nbob:t\x00\x00\nca rol:t3\n".encode() + b"dave:\xff\xfe\nerin:t5"
    )
    assert file.find(HERE, "alice") == StoredSession(HERE, "alice", "t1")
    assert file.find(HERE, "erin") == StoredSession(HERE, "erin", "t5")
    assert [file.find(HERE, name) for name in ("bob", "carol", "ca rol", "dave")] == [None] * 4
    assert "3 lines are damaged" in caplog.text
    caplog.clear()
    file.store(StoredSession(HERE, "bob", "t6"))
    assert file.path.read_text() == f"# {HERE}\nbob:t6\nalice:t1\nerin:t5\n"
    assert file.find(HERE, "bob") == StoredSession(HERE, "bob", "t6")


def test_what_a_killed_writer_left_is_removed_by_the_next_one(file: CredentialFile) -> None:
    file.store(StoredSession(HERE, "alice", "t1"))
    left = file.path.with_name(".credentials.0011aabb.new")
    left.write_text("alice:t0\n")
    other = file.path.with_name("credentials-of-others")
    other.write_text("x")
    file.store(StoredSession(HERE, "bob", "t2"))
    assert not left.exists()
    assert other.exists()


def test_a_symbolic_link_stays_one(file: CredentialFile, tmp_path: Path) -> None:
    elsewhere = tmp_path / "dotfiles" / "mito"
    file.path.parent.mkdir()
    file.path.symlink_to(elsewhere)
    file.store(StoredSession(HERE, "alice", "t1"))
    assert file.path.is_symlink()
    assert elsewhere.read_text() == f"# {HERE}\nalice:t1\n"
    assert elsewhere.stat().st_mode & 0o777 == 0o600


def test_the_oldest_sessions_make_room(
    file: CredentialFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "MAX_SESSIONS", 3)
    for number in range(5):
        file.store(StoredSession(HERE, f"u{number}", f"t{number}"))
    assert file.path.read_text() == f"# {HERE}\nu4:t4\nu3:t3\nu2:t2\n"


def test_a_writer_that_is_stopped_does_not_hold_up_others_for_ever(
    file: CredentialFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "LOCK_SECONDS", 0.05)
    file.path.parent.mkdir()
    with file.path.with_name(".credentials.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Misconfigured, match="has held its lock"):
            file.store(StoredSession(HERE, "alice", "t1"))
    file.store(StoredSession(HERE, "alice", "t1"))
    assert file.find(HERE, None) == StoredSession(HERE, "alice", "t1")


# Single-threaded, so that it may fork: 200 writers, fifty at once, every tenth killed at a random
# moment. Prints the users whose write has returned.
CROWD = """
import os, random, signal, sys, time
from pathlib import Path
from mitosis.client.credentials import CredentialFile, StoredSession

file = CredentialFile(Path(sys.argv[1]))
chance = random.Random(26)
def write(number):
    pid = os.fork()
    if pid == 0:
        file.store(StoredSession("nats://here:4222", f"u{number}", "t" * 400), first=False)
        os._exit(0)
    return pid

running, done = {}, []
def reap():
    pid, status = os.wait()
    number = running.pop(pid)
    if status == 0:
        done.append(number)

for number in range(200):
    pid = write(number)
    running[pid] = number
    if number % 10 == 0:
        time.sleep(chance.uniform(0, 0.005))
        os.kill(pid, signal.SIGKILL)
    while len(running) >= 50:
        reap()
while running:
    reap()
print(*done)
"""


@pytest.mark.parity("R-26")
def test_two_hundred_processes_write_and_some_are_killed(file: CredentialFile) -> None:
    """Nobody's session is lost who was told that it is kept, and no line is half."""
    file.store(StoredSession(THERE, "other", "t" * 400))
    done = subprocess.run(
        [sys.executable, "-c", CROWD, str(file.path)], capture_output=True, check=True, timeout=60
    )
    kept = [f"u{number}" for number in done.stdout.decode().split()]
    assert len(kept) >= 180
    lines = file.path.read_text().splitlines()
    assert all(line.startswith("# ") or line.endswith(":" + "t" * 400) for line in lines)
    users = {line.partition(":")[0] for line in lines if not line.startswith("#")}
    assert {*kept, "other"} <= users
    assert file.path.stat().st_mode & 0o777 == 0o600
    file.store(StoredSession(HERE, "last", "t"))
    assert sorted(path.name for path in file.path.parent.iterdir()) == [
        ".credentials.lock", "credentials",
    ]  # fmt: skip
