"""History is proved on the files of a real stream, after what a thief or a bad disk does to them.

One platform runs a few tasks and is stopped. Each test does something to the files of its event
stream, or puts those of another stream there, and lets the platform's own NATS server serve them.
"""

import asyncio
import contextlib
import json
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import nats
import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import CreateUserArgs, SubmitTaskArgs
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load
from mitosis.events.envelope import digest
from mitosis.events.messages import request
from mitosis.events.reader import EventReader
from mitosis.events.streams import EVENTS
from mitosis.services.backup.data_folder import servers_of
from mitosis.services.platform.binaries import nats_server
from mitosis.services.platform.ports import free_ports
from mitosis.testing.history import Stored
from mitosis.testing.waiting import eventually

from .conftest import Done, Platform

STREAM = Path("jetstream/MITO/streams/MITO_EVENTS")
TASKS = 12


class Past(NamedTuple):
    """A stopped platform, and what an auditor has of it."""

    platform: Platform
    settings: CoordinatorConfig
    stored: list[Stored]
    export: Path
    keys: Path
    kept: str
    sound: Path  # a copy of NATS's files

    @property
    def config(self) -> Path:
        return self.platform.data / "config" / "coordinator.toml"

    @property
    def files(self) -> Path:
        """The files of the messages."""
        return self.platform.data / "nats" / STREAM / "msgs"

    def index(self, *words: bytes) -> int:
        """Where the last stored message with these words is."""
        return max(i for i, (_, _, p) in enumerate(self.stored) if all(w in p for w in words))

    def verify(self, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
        done = self.platform.home.run(
            "events", "verify", "--config", self.config, "--no-archive", *arguments, "--json"
        )
        return done.status, json.loads(done.out)


@contextlib.contextmanager
def serving(config: Path, folder: Path) -> Iterator[None]:
    """Run a NATS server until left."""
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen([nats_server(), "-c", config], stdout=log, stderr=log)
    try:
        yield
    finally:
        server.terminate()
        server.wait(20)


async def connected(settings: CoordinatorConfig, url: str) -> nats.NATS:
    """Connect as a service, when the server is there."""
    host, _, port = url.removeprefix("nats://").rpartition(":")

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    await eventually(listens, seconds=30)
    return await nats.connect(url, user=settings.nats_user, password=settings.nats_password)


@pytest.fixture(scope="module")
def past() -> Iterator[Past]:
    folder = Path(tempfile.mkdtemp(prefix="mito-proof-"))
    platform = Platform(folder / "site", workers=1, slots=4)
    try:
        asyncio.run(platform.start())
        with SyncMitoClient(platform.config()) as client:
            client.create_user(CreateUserArgs(username="alice", password="of-alice-it-is"))
            sent = [
                client.submit_task(SubmitTaskArgs(command=("echo", f"{n}"))) for n in range(TASKS)
            ]
            client.wait_for_tasks(sent)
        platform.close()
        yield _audited(platform, folder)
    finally:
        platform.close()
        shutil.rmtree(folder, ignore_errors=True)


def _audited(platform: Platform, folder: Path) -> Past:
    settings = load(CoordinatorConfig, config=platform.data / "config" / "coordinator.toml").config
    export, keys, sound = folder / "history.jsonl", folder / "keys.pem", folder / "sound"
    made = Past(platform, settings, [], export, keys, "", sound)
    run = platform.home.run

    async def read() -> list[Stored]:
        client = await connected(settings, settings.nats_url)
        found = [
            tuple(m) async for batch in EventReader(client).batches(follow=False) for m in batch
        ]
        await client.close()
        return found  # type: ignore[return-value]

    with serving(platform.data / "nats" / "nats.conf", folder):
        made.stored.extend(asyncio.run(read()))
        done = run("events", "export", "--config", made.config, "-o", export)
        assert done.status == 0, done.err
        keys.write_text(run("events", "public-keys", "--config", made.config).out.decode())
        status, told = made.verify()
    assert (status, told["found"], told["unproved"], told["proved_from"]) == (0, 0, 0, 1), told
    assert told["position"] == len(made.stored)
    shutil.copytree(platform.data / "nats" / "jetstream", sound)
    return made._replace(kept=told["end"])


@pytest.fixture
def damaged(past: Past, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Does something to the files of the stream, and serves them while something is asked."""

    def ask(change: Callable[[Path], None], question: Callable[[], Any]) -> Any:
        change(past.files)
        with serving(past.platform.data / "nats" / "nats.conf", tmp_path):
            asyncio.run(_wait(past.settings))
            return question()

    yield ask
    shutil.rmtree(past.platform.data / "nats" / "jetstream")
    shutil.copytree(past.sound, past.platform.data / "nats" / "jetstream")


@pytest.fixture
def attacked(past: Past, damaged: Callable[..., Any]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """What `verify` says of the stream after something was done to its files."""
    return lambda change, *arguments: damaged(change, lambda: past.verify(*arguments))


async def _wait(settings: CoordinatorConfig) -> None:
    await (await connected(settings, settings.nats_url)).close()


def replaced_by(
    past: Past, folder: Path, stored: Sequence[Stored], *removed: int
) -> Callable[[Path], None]:
    """Put in place the files of a stream that another server wrote with these messages."""

    def change(files: Path) -> None:
        (port,) = free_ports(1)
        own = (past.platform.data / "nats" / "nats.conf").read_text()
        config = folder / "nats.conf"
        config.write_text(
            own.replace(str(past.platform.data / "nats"), str(folder)).replace(
                past.settings.nats_url.rpartition(":")[2], str(port)
            )
        )
        with serving(config, folder):
            asyncio.run(_write(past, f"nats://127.0.0.1:{port}", stored, removed))
        shutil.rmtree(files)
        shutil.copytree(folder / STREAM / "msgs", files)

    return change


async def _write(past: Past, url: str, stored: Sequence[Stored], removed: Sequence[int]) -> None:
    client = await connected(past.settings, url)
    config = EVENTS.config() | {"deny_delete": False}
    await request(client, f"$JS.API.STREAM.CREATE.{EVENTS.name}", config, timeout=10)
    stream = client.jetstream()
    for _, subject, payload in stored:
        await stream.publish(subject, payload)
    for position in removed:
        await stream.delete_msg(EVENTS.name, position)
    await client.close()


def places(told: dict[str, Any], kind: str) -> list[tuple[int, int]]:
    return [(one["first"], one["last"]) for one in told["findings"] if one["kind"] == kind]


def within(told: dict[str, Any], kind: str, position: int) -> bool:
    return any(first <= position <= last for first, last in places(told, kind))


def changed(past: Past, index: int) -> list[Stored]:
    """The same, but for the time of one commit."""
    position, subject, payload = past.stored[index]
    other = payload.replace(b'"time":"20', b'"time":"19', 1)
    assert other != payload
    return [*past.stored[:index], (position, subject, other), *past.stored[index + 1 :]]


def flipped(past: Past, at: int) -> Callable[[Path], None]:
    """Flip a bit of a stored message in the file that it is in."""
    wanted = past.stored[at][2]

    def flip(files: Path) -> None:
        (block,) = files.glob("*.blk")
        content = bytearray(block.read_bytes())
        content[content.index(wanted) + len(wanted) // 2] ^= 4
        block.write_bytes(content)

    return flip


def test_a_flipped_bit_in_the_file_is_found_at_its_position(past: Past, attacked) -> None:
    at = past.index(b"task.assigned")
    status, told = attacked(flipped(past, at))
    assert status == 1
    assert places(told, "number") == [(at + 1, at + 1)]


def test_what_is_left_of_a_damaged_stream_is_exported_and_what_is_not_there_is_named(
    past: Past, damaged, tmp_path: Path
) -> None:
    at = past.index(b"task.assigned")
    run, config = past.platform.home.run, ("--config", past.config)
    whole, part = tmp_path / "history.jsonl", ("--from", str(at - 1), "--to", str(at + 1))

    def ask() -> list[Done]:
        export = ("events", "export", *config)
        return [
            run(*export, "-o", whole), run(*export, *part), run(*export, *part, "--json"),
            run(*export, "--from", str(at + 1), "--to", str(at + 1)),
        ]  # fmt: skip

    done, some, as_json, nothing = damaged(flipped(past, at), ask)
    assert (done.status, done.out) == (1, b"")
    assert f"has lost 1 of these positions: {at + 1};" in done.err.splitlines()[-1]
    lines = past.export.read_bytes().splitlines(keepends=True)
    assert whole.read_bytes() == b"".join([*lines[:at], *lines[at + 1 :]])
    assert (some.status, some.out) == (1, b"".join(lines[at - 2 : at]))
    *_, last = as_json.text.splitlines()
    assert json.loads(last)["error"]["details"] == {"missing": 1, "gaps": [[at + 1, at + 1]]}
    assert (nothing.status, nothing.out) == (3, b"")
    checked = run("events", "verify", "--export", whole, "--key", past.keys, "--json")
    assert places(json.loads(checked.out), "number") == [(at + 1, at + 1)]


def test_a_file_that_was_cut_is_found_by_what_the_stream_counts(past: Past, attacked) -> None:
    at = past.index(b"task.assigned")

    def cut(files: Path) -> None:
        (block,) = files.glob("*.blk")
        content = block.read_bytes()
        block.write_bytes(content[: content.index(past.stored[at][2])])

    status, told = attacked(cut)
    assert (status, told["position"]) == (1, len(past.stored))
    assert places(told, "number") == [(at + 1, len(past.stored))]


@pytest.mark.parity("W-04")
def test_a_changed_message_is_found_in_its_interval(past: Past, attacked, tmp_path: Path) -> None:
    at = past.index(b"task.assigned")
    status, told = attacked(replaced_by(past, tmp_path, changed(past, at)))
    assert status == 1
    assert within(told, "checkpoint", at + 1), told["findings"]
    assert within(told, "chain", at + 1), "its task went on"
    assert told["proved"] < at + 1


@pytest.mark.parity("W-04")
def test_a_removed_message_is_found_by_its_number(past: Past, attacked, tmp_path: Path) -> None:
    at = past.index(b"task.assigned")
    status, told = attacked(replaced_by(past, tmp_path, past.stored, at + 1))
    assert (status, places(told, "number")) == (1, [(at + 1, at + 1)])


@pytest.mark.parity("W-04")
def test_a_message_put_in_is_found(past: Past, attacked, tmp_path: Path) -> None:
    at = past.index(b"task.assigned")
    more = [*past.stored[: at + 1], *past.stored[at:]]
    status, told = attacked(replaced_by(past, tmp_path, more))
    assert status == 1
    assert within(told, "checkpoint", at + 2), told["findings"]
    assert within(told, "chain", at + 2), told["findings"]


@pytest.mark.parity("W-04")
def test_swapped_messages_are_found(past: Past, attacked, tmp_path: Path) -> None:
    at = past.index(b"user.created", b'"name":"alice"')
    assert past.stored[at][1] != past.stored[at + 1][1]
    swapped = [*past.stored[:at], past.stored[at + 1], past.stored[at], *past.stored[at + 2 :]]
    status, told = attacked(replaced_by(past, tmp_path, swapped))
    assert status == 1
    assert within(told, "checkpoint", at + 1), told["findings"]


def test_a_tail_cut_behind_a_checkpoint_is_found_by_one_that_was_kept(
    past: Past, attacked, tmp_path: Path
) -> None:
    signed = past.index(b"checkpoint_signed") - 3
    cut = replaced_by(past, tmp_path, past.stored[:signed])
    status, told = attacked(cut, "--checkpoint", past.kept)
    assert (status, [one["kind"] for one in told["findings"]]) == (1, ["kept"])
    assert places(told, "kept") == [(signed + 1, len(past.stored))]


def test_the_archive_names_a_changed_message_and_a_cut_tail(
    past: Past, attacked, tmp_path: Path
) -> None:
    at = past.index(b"task.assigned")
    change = replaced_by(past, tmp_path, changed(past, at)[:-4])
    change(past.files)

    async def verified() -> Done:
        async with servers_of(past.platform.data):
            return await asyncio.to_thread(
                past.platform.home.run, "events", "verify", "--config", past.config, "--json"
            )

    done = asyncio.run(verified())
    told = json.loads(done.out)
    assert done.status == 1
    # What a platform stores last, when its workers leave, may come behind its last projection.
    first = len(past.stored) - 3
    assert told["archived"] >= first
    assert places(told, "archive") == [(at + 1, at + 1), (first, told["archived"])]


@pytest.mark.parity("W-04")
def test_an_export_is_proved_with_nothing_but_a_key(past: Past) -> None:
    run = past.platform.home.run
    assert stat.S_IMODE(past.export.stat().st_mode) == 0o600
    written = past.export.read_bytes()
    assert b"argon2id" not in written
    done = run("events", "verify", "--export", past.export, "--key", past.keys)
    assert done.status == 0, done.text
    assert f"the positions 1 to {len(past.stored) - 1} are what" in done.text
    assert "Not shown: that nothing was cut off at the end" in done.text
    assert f"--checkpoint {past.kept}" in done.text
    assert "2 commits say of which parts were left out" in done.text


@pytest.mark.parametrize("what", ["changed", "removed", "inserted", "swapped", "truncated"])
def test_an_export_that_was_changed_is_refused(past: Past, tmp_path: Path, what: str) -> None:
    lines = past.export.read_bytes().splitlines(keepends=True)
    at = past.index(b"task.assigned")
    forged = {
        "changed": [
            *lines[:at],
            lines[at].replace(b'"attempt":1', b'"attempt":2'),
            *lines[at + 1 :],
        ],
        "removed": [*lines[:at], *lines[at + 1 :]],
        "inserted": [*lines[:at], lines[at], *lines[at:]],
        "swapped": [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
        "truncated": lines[:-4],
    }[what]
    assert forged != lines
    (file := tmp_path / "history.jsonl").write_bytes(b"".join(forged))
    done = past.platform.home.run(
        "events", "verify", "--export", file, "--key", past.keys, "--checkpoint", past.kept
    )
    assert done.status == 1
    assert " findings: " in done.text or "1 finding: " in done.text, done.text


def test_what_is_still_to_come_is_not_exported(past: Past, tmp_path: Path) -> None:
    file, later = tmp_path / "history.jsonl", str(len(past.stored) + 7)
    with serving(past.platform.data / "nats" / "nats.conf", tmp_path):
        asyncio.run(_wait(past.settings))
        for wrong in (("--from", later), ("--to", later)):
            done = past.platform.home.run(
                "events", "export", "--config", past.config, *wrong, "-o", file
            )
            assert (done.status, file.exists()) == (3, False), done
            assert f"the newest one is {len(past.stored)}" in done.complaint


def test_what_is_exported_is_what_is_stored(past: Past) -> None:
    lines = [msgspec.json.decode(line) for line in past.export.read_bytes().splitlines()]
    assert [line["position"] for line in lines] == [position for position, _, _ in past.stored]
    for line, (_, subject, payload) in zip(lines, past.stored, strict=True):
        assert line["subject"] == subject
        if "withheld" in line:
            assert line["digest"] == digest(subject, payload)
        else:
            assert line["commit"] == msgspec.json.decode(payload)
