"""An export says what is stored, without what is secret, and can be checked alone."""

import json

import pytest

from mitosis.errors import CorruptData
from mitosis.events.envelope import digest
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.proof.export import line_of
from mitosis.testing.history import Stored
from mitosis.testing.signed import exported, new_keys, signed_history, verified, verified_export


@pytest.fixture(scope="module")
def keys() -> TokenKeys:
    return new_keys()


@pytest.fixture(scope="module")
def commits(keys: TokenKeys) -> list[Stored]:
    return signed_history(keys)


def test_an_export_is_verified_as_the_stream_is(commits, keys) -> None:
    of_stream, of_export = verified(commits, keys), verified_export(exported(commits), keys)
    assert (of_export.found, of_export.source) == (0, "export")
    assert (of_export.end, of_export.proved) == (of_stream.end, of_stream.proved)
    assert of_export.withheld == 4, "the accounts"


def test_the_bytes_of_a_commit_are_those_that_are_stored(commits) -> None:
    position, subject, payload = commits[40]
    line = line_of(position, subject, payload)
    assert line == b'{"position":%d,"subject":"%s","commit":%s}\n' % (
        position, subject.encode(), payload,
    )  # fmt: skip


def test_hashes_of_passwords_are_left_out_and_the_digest_stands_for_them(commits) -> None:
    written = exported(commits)
    assert b"argon2id" not in written
    line = next(json.loads(one) for one in written.splitlines() if b"user.created" in one)
    _, subject, payload = commits[line["position"] - 1]
    assert b"argon2id" in payload
    assert line["digest"] == digest(subject, payload)
    assert line["withheld"] == ["user.created@1.password_hash"]
    assert "password_hash" not in line["commit"]["events"][0][1]


@pytest.mark.parametrize("payload", [b"no JSON", b'{"a":1,\n"b":2}', b"", b"\xff"])
def test_what_is_no_json_is_kept_as_it_is(payload) -> None:
    line = json.loads(line_of(1, "mito.events.group.lab", payload))
    assert "commit" not in line
    found = verified_export(line_of(1, "mito.events.group.lab", payload))
    assert found.end == verified([(1, "mito.events.group.lab", payload)]).end
    assert [one.kind for one in found.findings] == ["unreadable"]


def test_what_cannot_be_read_and_may_be_secret_is_left_out_whole() -> None:
    damaged = b'{"events":[["user.created@1",{"password_hash":"$argon2id$x"'
    written = line_of(1, "mito.events.user.root", damaged)
    assert b"argon2id" not in written
    assert json.loads(written)["withheld"] == ["commit"]
    assert verified_export(written).end == verified([(1, "mito.events.user.root", damaged)]).end


@pytest.mark.parametrize(
    "forged",
    [
        {"digest": "0" * 64, "withheld": ["group.created@1.creator"]},
        {"digest": "0" * 64},
        {"withheld": []},
        {"more": 1},
    ],
)
def test_nothing_else_can_be_called_withheld(commits, keys, forged) -> None:
    lines = exported(commits).splitlines(keepends=True)
    at = next(i for i, one in enumerate(lines) if b"mito.events.group." in one)
    lines[at] = json.dumps(json.loads(lines[at]) | forged, separators=(",", ":")).encode() + b"\n"
    found = verified_export(b"".join(lines), keys)
    assert {"unreadable", "checkpoint"} & {one.kind for one in found.findings}


def test_a_part_of_history_is_proved_from_its_first_checkpoint_on(commits, keys) -> None:
    part = exported(commits[20:])
    found = verified_export(part, keys, start=21)
    assert (found.found, found.first, found.proved) == (0, 21, len(commits) - 1)
    assert 21 < found.proved_from < 60
    assert verified_export(part, keys).found > 0, "whole, it must begin with position 1"
    assert verified_export(exported(commits[22:]), keys, start=21).found > 0


@pytest.mark.parametrize("written", [b"", b"hello\n", b"\x00" * 100, b"[settings]\n" * 200])
def test_a_file_that_is_no_export_is_refused(written) -> None:
    with pytest.raises(CorruptData, match="no export of events"):
        verified_export(written)
