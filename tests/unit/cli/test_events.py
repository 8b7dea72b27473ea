"""`mito events` as an auditor types it, without any service."""

import json
from pathlib import Path

import pytest

from mitosis.services.auth.tokens import TokenKeys
from mitosis.testing.signed import exported, new_keys, signed_history

from .conftest import Here


@pytest.fixture
def keys() -> TokenKeys:
    return new_keys()


@pytest.fixture
def files(tmp_path: Path, keys: TokenKeys) -> Path:
    commits = signed_history(keys)
    (tmp_path / "keys.pem").write_text(f"# {keys.key_id}\n{new_keys().public_pem}{keys.public_pem}")
    (tmp_path / "all.jsonl").write_bytes(exported(commits))
    (tmp_path / "some.jsonl").write_bytes(exported(commits[20:]))
    (tmp_path / "last.jsonl").write_bytes(exported(commits[80:]))
    lines = exported(commits).splitlines(keepends=True)
    (tmp_path / "bad.jsonl").write_bytes(b"".join([*lines[:40], *lines[41:]]))
    (tmp_path / "no.jsonl").write_text("nothing\n")
    return tmp_path


def test_an_export_is_proved_by_a_key_from_a_file_of_several(here: Here, files: Path) -> None:
    done = here("events", "verify", "--export", "all.jsonl", "--key", "keys.pem")
    assert done.returncode == 0, done
    assert done.stdout.startswith("Nothing is wrong: 85 commits")
    assert "the positions 1 to 84 are what the holder of the key has stored" in done.stdout
    assert "Not shown by any of this: that the coordinator" in done.stdout


def test_without_a_key_it_says_that_nothing_is_proved(here: Here, files: Path) -> None:
    done = here("events", "verify", "--export", "all.jsonl")
    assert done.returncode == 0
    assert "Proved: nothing. 4 checkpoints hold, but none of a key that you gave" in done.stdout


def test_findings_have_places_and_status_1(here: Here, files: Path) -> None:
    done = here("events", "verify", "--export", "bad.jsonl", "--key", "keys.pem")
    assert done.returncode == 1
    assert "  position 41: position 41 is missing" in done.stdout
    told = json.loads(here("events", "verify", "--export", "bad.jsonl", "--json").stdout)
    assert told["findings"][0] == {
        "first": 41, "last": 41, "kind": "number", "what": "position 41 is missing",
    }  # fmt: skip


def test_the_checkpoint_that_is_printed_is_taken_back(here: Here, files: Path) -> None:
    done = here("events", "verify", "--export", "all.jsonl")
    end = done.stdout.split("--checkpoint ")[-1].strip()
    assert here("events", "verify", "--export", "all.jsonl", "--checkpoint", end).returncode == 0
    bad = here("events", "verify", "--export", "bad.jsonl", "--checkpoint", end)
    assert (bad.returncode, "is not what it was when the checkpoint 85:" in bad.stdout) == (1, True)


def test_a_part_is_checked_from_where_it_is_said_to_begin(here: Here, files: Path) -> None:
    part = ("events", "verify", "--export", "some.jsonl", "--key", "keys.pem")
    cut = here(*part)
    assert cut.returncode == 1
    assert "what stands before the first one is not what it signed" in cut.stdout
    assert "none of a key that you gave" not in cut.stdout, "it was given"
    last = ("events", "verify", "--export", "last.jsonl", "--key", "keys.pem", "--from", "81")
    assert "from the one checkpoint of" in here(*last).stdout
    done = here(*part, "--from", "21")
    assert (done.returncode, "to 84 are what the holder" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("verify", "--export", "no.jsonl"), "no export of events: line 1 cannot be read"),
        (("verify", "--export", "missing.jsonl"), "'missing.jsonl' cannot be read: No such file"),
        (("verify", "--export", "all.jsonl", "--key", "no.jsonl"), "--key: 'no.jsonl' is no key"),
        (
            ("verify", "--export", "all.jsonl", "--key", "no.pem"),
            "there is no file 'no.pem'",
        ),
        (("verify", "--export", "all.jsonl", "--checkpoint", "12"), "'12' is not POSITION:DIGEST"),
        (("verify", "--export", "all.jsonl", "--from", "0"), "--from 0: positions go from 1 on"),
        (("verify", "--from", "3"), "--from is for an export"),
        (("export", "--from", "9", "--to", "3"), "--to 3 is before --from 9"),
        (("export", "--output", "all.jsonl"), "'all.jsonl' exists: name a new file"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    here: Here, files: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = here("events", *arguments)
    assert done.returncode in {1, 5}, done
    assert says in done.stderr
    assert "Traceback" not in done.stderr
