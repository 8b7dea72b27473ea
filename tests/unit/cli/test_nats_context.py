"""The context file for other NATS clients."""

import json
import stat
from pathlib import Path

import pytest

from mitosis.cli.output.nats_context import write_context
from mitosis.client.nats_access import NatsAccess
from mitosis.errors import Misconfigured

ACCESS = NatsAccess(("nats://a:4222", "nats://b:4222"), "t0ken", "_INBOX.user.alice.s", None)


def test_the_folder_of_a_tool_that_was_never_used_is_made_for_its_owner_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "nats" / "context" / "mito.json"
    write_context(path, ACCESS)
    written = json.loads(path.read_text())
    assert (written["url"], written["token"], written["inbox_prefix"], written["ca"]) == (
        "nats://a:4222,nats://b:4222", "t0ken", "_INBOX.user.alice.s", "",
    )  # fmt: skip
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent)] == [0o600, 0o700]


def test_a_place_that_can_hold_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="cannot be written"):
        write_context(tmp_path / "file" / "mito.json", ACCESS)
