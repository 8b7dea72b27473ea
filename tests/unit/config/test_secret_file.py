import io
from pathlib import Path

import pytest

from mitosis.config.client import ClientConfig
from mitosis.config.loader import load
from mitosis.config.secret_file import read_secret, read_secret_file, without_weaker_password
from mitosis.errors import Misconfigured


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        ("s3cret\n", "s3cret"),
        ("s3cret", "s3cret"),
        ("s3cret\r\nsecond line\n", "s3cret"),
        (" blanks are part of it \n", " blanks are part of it "),
        ("0123456789\n", "0123456789"),
        ("pä$$ 日本\n", "pä$$ 日本"),
    ],
)
def test_the_first_line_is_the_password(content: str, secret: str) -> None:
    assert read_secret(io.BytesIO(content.encode()), "x") == secret


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"\nsecret\n", "empty"), (b"x" * 2000, "1024 bytes"), (b"\xff\n", "UTF-8")],
)
def test_what_can_be_no_password_is_refused_and_not_shown(content: bytes, reason: str) -> None:
    with pytest.raises(Misconfigured, match=reason) as caught:
        read_secret(io.BytesIO(content), "x")
    assert "xxx" not in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"no-such.*No such file"):
        read_secret_file(tmp_path / "no-such")


@pytest.mark.parametrize(
    ("env", "flags", "password"),
    [
        ({"MITO_PASSWORD": "p"}, {"password_file": Path("f")}, None),
        ({"MITO_PASSWORD_FILE": "f"}, {"password": "p"}, "p"),
        ({"MITO_PASSWORD": "p", "MITO_PASSWORD_FILE": "f"}, {}, "p"),
        ({"MITO_PASSWORD": "p"}, {}, "p"),
        ({}, {"password_file": Path("f")}, None),
    ],
)
def test_the_stronger_source_counts(
    env: dict[str, str], flags: dict[str, object], password: str | None, tmp_path: Path
) -> None:
    env = {"HOME": str(tmp_path), **env}
    loaded = load(ClientConfig, env=env, flags=flags, cwd=tmp_path)
    assert without_weaker_password(loaded).password == password


def test_a_variable_beats_a_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[client]\npassword = "old"\n')
    env = {"HOME": str(tmp_path), "MITO_PASSWORD_FILE": "new"}
    config = without_weaker_password(load(ClientConfig, env=env, cwd=tmp_path))
    assert (config.password, config.password_file) == (None, tmp_path / "new")
