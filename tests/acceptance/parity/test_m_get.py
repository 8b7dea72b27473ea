"""The row on `get` as a whole."""

import re

import pytest

from ..conftest import Home

GETS = {
    "task", "tasks", "attachment-meta", "attachments", "worker", "workers", "group", "groups",
    "artifact", "attachment", "help",
}  # fmt: skip


@pytest.mark.parity("S-178")
def test_get_lists_what_can_be_got(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Home(tmp_path_factory.mktemp("get") / "root")
    commands = [("client", "get", "--help"), ("client", "help", "get"), ("client", "get")]
    by_option, by_help, alone = home.run_all(commands)
    assert (by_option.status, by_help.status) == (0, 0)
    assert by_option.text == by_help.text
    assert set(re.findall(r"^  ([a-z-]+): \S", by_option.text, re.MULTILINE)) >= GETS
    assert (alone.status, alone.out) == (2, b"")  # nothing was said to get
