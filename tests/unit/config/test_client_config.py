"""`ClientConfig` as programs make it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mitosis import ClientConfig
from mitosis.errors import InvalidInput


def test_texts_are_taken_for_paths_and_times() -> None:
    given: dict[str, Any] = {"credential_path": "a/b", "password_file": "c", "timeout": "1m 30s"}
    config = ClientConfig(**given)
    assert (config.credential_path, config.password_file) == (Path("a/b"), Path("c"))
    assert config.timeout == timedelta(seconds=90)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 5),
        ("timeout", "5"),
        ("timeout", None),
        ("credential_path", 5),
        ("coordinator_addr", None),
        ("user", 5),
        ("password", 12345),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name_and_without_its_secret(
    name: str, value: object
) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(InvalidInput) as refused:
        ClientConfig(**given)
    assert "12345" not in refused.value.message
    assert name in refused.value.message or repr(value) in refused.value.message
