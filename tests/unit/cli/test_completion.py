"""Completion: candidates, quoting, and the files they come from."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mitosis.cli.completion import store
from mitosis.cli.completion.engine import Answer, complete
from mitosis.cli.completion.install import install
from mitosis.cli.completion.shells import for_bash, read_line
from mitosis.cli.completion.tree import make_tree
from mitosis.cli.main import root_app

ROOT = Path(__file__).parents[3]
TREE = make_tree(root_app())
VALUES = {
    "task": [("e07a2bf2-166d-40b5-8bb6-a78104c072f9", "#1 ready echo")],
    "worker": [("b168dbe6-5c44-4529-a3b4-51940d6bb3c5", "")],
    "group": [("lab", "Admin"), ("lan", "Read")],
    "label": [("a b", ""), ("x:$(y)", "")],
}
TASK = VALUES["task"][0][0]


def at(line: str) -> Answer:
    words, word, _, _ = read_line(line)
    return complete(TREE, VALUES, words[1:], word)


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("mito coord", ["coordinator"]),
        ("mito client sub", ["submit"]),
        ("mito client -c http://x -u me sub", ["submit"]),
        ("mito client help get task", ["task", "tasks"]),
        ("mito client get task ", [TASK, "last"]),
        ("mito client get task e0", [TASK]),
        ("mito client get task e1", []),
        ("mito client tasks get l", ["last"]),
        ("mito client get tasks -s r", ["ready", "running"]),
        ("mito client get tasks -s ready,run", ["ready,running"]),
        ("mito client get tasks -s ready run", ["running"]),
        ("mito client get tasks --state=fi", ["--state=finished"]),
        ("mito client get tasks --stat", ["--state"]),
        ("mito client get tasks --lim", ["--limit"]),
        ("mito client get tasks --limit 5 -g la", ["lab", "lan"]),
        ("mito client get tasks -l ", ["a b", "x:$(y)"]),
        ("mito client get artifact abc std", ["std-log"]),
        ("mito client get group la", ["lab", "lan"]),
        ("mito client manage task ", [TASK, "last"]),
        ("mito client manage task abc can", ["cancel"]),
        ("mito client manage worker ", [VALUES["worker"][0][0]]),
        ("mito client get tasks --js", ["--json"]),
        ("mito worker -g lab:w", ["lab:write"]),
        ("mito worker -g lab,la", ["lab,lab", "lab,lan"]),
    ],
)
def test_what_may_stand_at_the_cursor_is_offered(line: str, texts: list[str]) -> None:
    found = at(line)
    assert [c.text for c in found.candidates] == texts
    assert not found.files


@pytest.mark.parametrize("line", ["mito client submit -- ", "mito coordinator --config "])
def test_names_of_files_are_left_to_the_shell(line: str) -> None:
    assert at(line) == Answer(files=True)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("mito client get ", (["mito", "client", "get"], "", "", False)),
        ("mito get ta", (["mito", "get"], "ta", "ta", False)),
        ("mito -l 'a b", (["mito", "-l"], "a b", "'a b", True)),
        ("mito -l a\\ b", (["mito", "-l"], "a b", "a\\ b", False)),
        ("mito 'a b' c", (["mito", "a b"], "c", "c", False)),
        ('mito "$(x) ', (["mito"], "$(x) ", '"$(x) ', True)),
    ],
)
def test_a_line_is_read_up_to_the_cursor(
    line: str, parts: tuple[Sequence[str], str, str, bool]
) -> None:
    assert read_line(line) == parts


@pytest.mark.parametrize(
    ("text", "raw", "replaced", "quoted", "inserted"),
    [
        ("ready", "re", "re", False, "ready"),
        ("--state=ready", "--state=re", "re", False, "ready"),
        ("lab:write", "lab:w", "w", False, "write"),
        ("a b", "", "", False, "a\\ b"),
        ("$(touch x)`y`;", "", "", False, "\\$\\(touch\\ x\\)\\`y\\`\\;"),
        ("日本", "", "", False, "日本"),
        ("ready", "'re", "re", True, "ready"),
        ("a b", "'a", "a", True, None),
    ],
)
def test_bash_gets_candidates_quoted(
    text: str, raw: str, replaced: str, quoted: bool, inserted: str | None
) -> None:
    assert for_bash(text, raw, replaced, quoted) == inserted


def test_what_is_kept_is_private_and_of_one_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    credentials = tmp_path / "credentials"
    credentials.write_text("a:x\n")
    options = ["--credential-path", str(credentials)]
    place = store.values_place(options, {})
    assert store.load_values(place) == ({}, True)
    store.store_values(place, {"group": [("lab", "")]})
    assert store.load_values(place) == ({"group": [("lab", "")]}, False)
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600
    assert store.load_values(place._replace(owner="else")) == ({}, True)
    os.utime(credentials, (1, 1))  # somebody has logged in
    assert store.load_values(store.values_place(options, {})) == ({}, True)
    place.path.write_text("{nonsense")
    assert store.load_values(place) == ({}, True)
    store.store_failure(place)
    assert store.load_values(place) == ({}, False)


def test_a_password_is_left_out_of_what_is_handed_on() -> None:
    options = ["-c", "x", "-p", "S3cret", "-pS3cret", "--password", "S3cret", "--password=S3cret"]
    assert store.without_secrets([*options, "-u", "me"]) == ["-c", "x", "-u", "me"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_installing_twice_is_installing_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / f".{shell}rc").write_text("alias x=y\n")
    first = install(shell)
    before = Path(first.loaded_by).read_text()
    assert install(shell) == first
    assert Path(first.loaded_by).read_text() == before
    assert (tmp_path / f".{shell}rc").read_text().startswith("alias x=y\n")
    assert store.load_tree()[1]


def test_a_tab_imports_only_what_it_needs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mitosis", "--complete", "bash"],
        env={"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "_MITO_LINE": "mito cl"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "words\nclient\n"
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")
    }
    heavy = {"cyclopts", "rich", "msgspec", "nats", "asyncio", "subprocess", "hashlib", "uuid"}
    assert imported & heavy == set()


def test_the_tree_is_plain_data() -> None:
    assert json.loads(json.dumps(TREE)) == TREE
