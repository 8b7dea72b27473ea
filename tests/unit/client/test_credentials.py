import threading
from pathlib import Path

import pytest

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
