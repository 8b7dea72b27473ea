"""Settings files as people write and save them (R-32): place and hint, never a parser's riddle."""

from pathlib import Path

import pytest

from mitosis.config.files import ConfigFile, read_file
from mitosis.config.loader import load
from mitosis.config.worker import WorkerConfig
from mitosis.errors import InvalidSettings

pytestmark = pytest.mark.parity("R-32")

HEAD = "[worker]\n"
WRITTEN = [
    ("lifetime = 7d\n", 2, 'text needs quotes: write lifetime = "7d"'),
    ("user = bob\n", 2, 'text needs quotes: write user = "bob"'),
    ("user = \u201cbob\u201d\n", 2, "curly quotes: use straight ones"),
    ('work_dir = "C:\\Users\\x"\n', 2, "single quotes"),
    ('user: "b"\n', 2, "a key is followed by =, not by a colon"),
    ("[worker]\n", 2, "for the second time"),
    ('slots = 1\n[client]\nuser = "b"\n[worker]\n', 5, "for the second time"),
    ('user = "a"\nuser = "b"\n', 3, "given twice"),
    ('tags = ["a" "b"]\n', 2, 'parted by commas: write ["a", "b"]'),
    ('tags = ["a", "b"\n', 2, 'a list is written ["a", "b"]'),
    ("file_log = True\n", 2, "in small letters: write file_log = true"),
    ("file_log = yes\n", 2, "write file_log = true"),
    ('user = "bob\nslots = 1\n', 2, "the closing quote is missing"),
    ("user = 'bob\n", 2, "the closing quote is missing"),
    ("[client\n", 2, "a section is written [name]"),
    ("slots = \n", 2, "write key = value"),
]


def refused(path: Path) -> InvalidSettings:
    with pytest.raises(InvalidSettings) as caught:
        load(WorkerConfig, config=path, env={"HOME": str(path.parent)})
    return caught.value


@pytest.mark.parametrize(("text", "line", "hint"), WRITTEN, ids=[t for t, _, _ in WRITTEN])
def test_a_line_that_is_no_toml_gets_its_place_and_a_hint(
    tmp_path: Path, text: str, line: int, hint: str
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    error = refused(path)
    assert hint in error.message
    assert error.message.startswith(f"{path}:{line}:{error.details['column']}: ")
    assert error.details["line"] == line
    assert error.details["column"] >= 1
    assert "\n" not in error.message


SAVED = [
    ("utf-16", "\n".encode("utf-16"), 1, 1, "UTF-16"),
    ("utf-16 without a mark", "user = 1".encode("utf-16-le"), 1, 1, "UTF-16"),
    ("latin-1", b'[worker]\nuser = "J\xfcrgen"\n', 2, 10, "0xfc is not UTF-8; the file may be Lat"),
    ("CR only", b'[worker]\ruser = "b"\r', 1, 9, "lone CR"),
]


@pytest.mark.parametrize(("data", "line", "column", "hint"), [s[1:] for s in SAVED],
                         ids=[s[0] for s in SAVED])  # fmt: skip
def test_a_file_that_was_saved_otherwise_is_named(
    tmp_path: Path, data: bytes, line: int, column: int, hint: str
) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(data)
    error = refused(path)
    assert error.message.startswith(f"{path}:{line}:{column}: ")
    assert hint in error.message


def test_a_byte_order_mark_and_cr_lf_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b'\xef\xbb\xbf[worker]\r\nuser = "b"\r\n')
    assert read_file(path) == '[worker]\r\nuser = "b"\r\n'
    assert load(WorkerConfig, config=path, env={"HOME": str(tmp_path)}).config.user == "b"


@pytest.mark.parametrize(
    ("line", "way_out"),
    [
        (
            'groups = "a,b:read"',
            'groups = \'a,b:read\': expected a list of strings: write ["a", "b:read"]',
        ),
        ('tags = "gpu"', 'write ["gpu"]'),
        ("tags = 3", 'write ["a", "b"]'),
        ("tags = [1]", 'write ["a", "b"]'),
    ],
)
def test_a_list_is_written_as_a_list(tmp_path: Path, line: str, way_out: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"[worker]\n{line}\n")
    with pytest.raises(InvalidSettings) as refused:
        load(WorkerConfig, config=path, env={"HOME": str(tmp_path)})
    assert refused.value.message.startswith(f"{path}:2:1: ")
    assert way_out in refused.value.message


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n"])
def test_an_empty_file_means_the_defaults(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    assert load(WorkerConfig, config=path, env={"HOME": str(tmp_path)}).config == WorkerConfig()


def test_a_place_is_found_however_the_key_is_written() -> None:
    for text in ('[worker]\n  "slots" = 1\n', "\n  worker.slots = 1\n", "[ worker ]\n  slots=1\n"):
        assert ConfigFile(Path("c"), text).place("worker", "slots") == (2, 3)
