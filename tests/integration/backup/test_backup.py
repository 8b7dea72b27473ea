"""Backups of stream, archive and objects: whole, checked, and brought back without undoing."""

import gzip
import hashlib
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mitosis.contract import subjects
from mitosis.domain import attachment, platform
from mitosis.errors import AlreadyExists, CorruptData, MitosisError, NotFound, WrongState
from mitosis.events.catalogue import decode_event
from mitosis.events.envelope import decode_commit, digest
from mitosis.events.takeover import WINDOW
from mitosis.projections.migrations import try_projection_lock
from mitosis.projections.postgres import connect
from mitosis.runtime import RandomIds
from mitosis.services.backup import restoring
from mitosis.services.backup.folder import MANIFEST, Backup
from mitosis.services.backup.restoring import restore
from mitosis.services.backup.taking import take
from mitosis.testing.history import History
from mitosis.testing.views import archived

from .conftest import MakeSite, Site

SECRETS = {"private.pem": b"a key", "config.toml": b"[coordinator]\n"}


def archive_all(site: Site, history: History) -> Any:
    commits = history.commits
    return site.parts.archive.add(commits, [digest(s, p) for _, s, p in commits])


async def test_a_backup_in_an_empty_place_gives_the_same_history_and_the_same_files(
    site: Site, history: History, make_site: MakeSite, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    taken = await take(site.parts, folder, SECRETS)
    # Equal bytes are there once; what was replaced is not there.
    assert (taken.position, taken.objects, taken.object_bytes, taken.missing) == (
        len(history.commits), 3, 28, 0,
    )  # fmt: skip
    assert len(list((folder / "objects").glob("*/*"))) == 2
    modes = {stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert modes == {0o700, 0o600}

    other = await make_site()
    backup = Backup.open(folder)
    assert backup.secrets() == SECRETS
    done = await restore(other.parts, backup, RandomIds())
    count = len(history.commits)
    assert (done.commits, done.archived, done.objects) == (count, count, 3)
    assert (done.missing, done.unknown) == (0, 0)
    commits = await other.stream()
    assert commits[:count] == history.commits
    assert archived(other.database) == history.commits
    assert await other.objects() == await site.objects() - {first_version(history)}

    # The rest tells of it, and shuts out whoever wrote before.
    assert (len(commits), done.position) == (count + 1 + WINDOW,) * 2
    told = decode_commit(commits[count][1], commits[count][2])
    (event,) = [decode_event(topic, body) for topic, body in told.events]
    assert isinstance(event, platform.Restored)
    assert (event.position, event.commits, event.backup_position) == (count, count, count)
    assert event.backup_made_at == backup.manifest.made_at


def first_version(history: History) -> str:
    (event,) = [
        event
        for _, subject, payload in history.commits
        for event in [decode_event(t, b) for t, b in decode_commit(subject, payload).events]
        if isinstance(event, attachment.AttachmentStored) and event.size_bytes == 13
    ]
    return event.object_name


async def test_a_restored_place_can_be_backed_up_and_restored_again_and_a_second_time_adds_nothing(
    site: Site, history: History, make_site: MakeSite, tmp_path: Path
) -> None:
    await take(site.parts, tmp_path / "first", SECRETS)
    other, third = await make_site(), await make_site()
    await restore(other.parts, Backup.open(tmp_path / "first"), RandomIds())
    again = await restore(other.parts, Backup.open(tmp_path / "first"), RandomIds())
    assert (again.commits, again.archived, again.objects) == (0, WINDOW + 1, 0)
    await take(other.parts, tmp_path / "second", SECRETS)
    done = await restore(third.parts, Backup.open(tmp_path / "second"), RandomIds())
    assert done.commits == len(history.commits) + WINDOW + 1
    assert (await third.stream())[: done.commits] == await other.stream()


async def test_what_the_archive_has_beyond_the_backup_is_brought_back_too(
    site: Site, history: History, make_site: MakeSite, tmp_path: Path
) -> None:
    await take(site.parts, tmp_path / "backup", SECRETS)
    other = await make_site()
    later = await other.store(history, "later", b"newer than the backup")
    history.decide(subjects.attachment_tail("lab", "two"), attachment.DeleteAttachment())
    await archive_all(other, history)
    await other.put("lab/unknown", b"of a commit that is lost")
    done = await restore(other.parts, Backup.open(tmp_path / "backup"), RandomIds())
    assert (await other.stream())[: len(history.commits)] == history.commits
    assert done.commits == len(history.commits)
    assert done.archived == 0
    assert (done.unknown, done.unknown_named) == (1, ("attachments/lab/unknown",))
    assert done.objects == 2, "a file that was deleted since must not come back"
    assert later in await other.objects()


async def test_a_stream_that_goes_beyond_the_backup_is_left_as_it_is_and_lost_files_come_back(
    site: Site, history: History, tmp_path: Path
) -> None:
    await take(site.parts, tmp_path / "backup", SECRETS)
    names = await site.objects()
    before = len(history.commits)
    lost = await site.store(history, "lost", b"only in a store that is gone")
    await site.append(history.commits[before:])
    await site.parts.objects.attachments.delete([*names, lost])
    done = await restore(site.parts, Backup.open(tmp_path / "backup"), RandomIds())
    assert (done.commits, done.objects, done.missing) == (0, 3, 1)
    assert [one.name for one in done.named] == [lost]
    assert await site.stream() == history.commits


async def test_another_history_is_refused_and_nothing_is_changed(
    site: Site, history: History, make_site: MakeSite, tmp_path: Path
) -> None:
    await take(site.parts, tmp_path / "backup", SECRETS)
    foreign = History()
    foreign.decide(subjects.PLATFORM_TAIL, platform.StartTerm("elsewhere"), "system:coordinator")
    for spoil in ("stream", "archive"):
        other = await make_site()
        if spoil == "stream":
            await other.append(foreign.commits)
        else:
            await archive_all(other, foreign)
        with pytest.raises(CorruptData, match=r"position 1 .* not copies of one history"):
            await restore(other.parts, Backup.open(tmp_path / "backup"), RandomIds())
        assert await other.objects() == set()
        assert len(await other.stream()) + len(archived(other.database)) == 1


async def test_a_restore_that_breaks_off_leaves_a_stream_with_which_nobody_starts_and_goes_on(
    site: Site, history: History, make_site: MakeSite, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await take(site.parts, tmp_path / "backup", SECRETS)
    other = await make_site()

    class Broken(Exception):
        pass

    class BrokenWriter(restoring.PipelinedWriter):
        def submit_batch(self, appends: Any) -> Any:
            if len(appends) > WINDOW:
                raise Broken
            return super().submit_batch(appends[:3])

    with monkeypatch.context() as patch:
        patch.setattr(restoring, "PipelinedWriter", BrokenWriter)
        with pytest.raises(Broken):
            await restore(other.parts, Backup.open(tmp_path / "backup"), RandomIds())
    assert await other.stream() == history.commits[:3]
    assert archived(other.database) == history.commits  # longer than the stream: no start
    done = await restore(other.parts, Backup.open(tmp_path / "backup"), RandomIds())
    assert done.commits == len(history.commits) - 3
    assert (await other.stream())[: len(history.commits)] == history.commits


async def test_a_projector_at_work_is_told_to_be_stopped(
    site: Site, history: History, tmp_path: Path
) -> None:
    await take(site.parts, tmp_path / "backup", SECRETS)
    async with await connect(site.database, "a projector") as session:
        assert await try_projection_lock(session)
        with pytest.raises(WrongState, match="stop the coordinators and projectors first"):
            await restore(site.parts, Backup.open(tmp_path / "backup"), RandomIds())


async def test_lost_and_damaged_files_are_named_in_the_backup_and_again_in_the_restore(
    site: Site, history: History, make_site: MakeSite, tmp_path: Path
) -> None:
    gone = await site.store(history, "gone", b"will be lost")
    spoiled = await site.store(history, "spoiled", b"will be spoiled")
    await site.append(history.commits[-2:])
    await site.parts.objects.attachments.delete([gone])
    await site.put(spoiled, b"is now spoiled!")
    taken = await take(site.parts, tmp_path / "backup", SECRETS)
    wanted = {(gone, "absent"), (spoiled, "damaged")}
    assert {(one.name, one.reason) for one in taken.named} == wanted
    other = await make_site()
    done = await restore(other.parts, Backup.open(tmp_path / "backup"), RandomIds())
    assert gone in {one.name for one in done.named}
    assert done.objects == 4  # the spoiled one as it was


async def test_a_stream_shorter_than_its_archive_or_another_one_is_not_backed_up(
    site: Site, history: History, make_site: MakeSite, tmp_path: Path
) -> None:
    other = await make_site()
    await archive_all(other, history)
    await other.append(history.commits[:-1])
    with pytest.raises(CorruptData, match="has lost commits"):
        await take(other.parts, tmp_path / "short", SECRETS)
    third = await make_site()
    await third.append(history.commits)
    await third.parts.archive.add(history.commits[:5], ["0" * 64] * 5)
    with pytest.raises(CorruptData, match="position 1 is another commit"):
        await take(third.parts, tmp_path / "other", SECRETS)
    assert not (tmp_path / "short").exists()
    assert not (tmp_path / "other").exists()


async def test_a_second_try_uses_what_the_first_has_fetched_and_an_existing_folder_is_refused(
    site: Site, history: History, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    await take(site.parts, folder, SECRETS)
    with pytest.raises(AlreadyExists, match="a folder of its own"):
        await take(site.parts, folder, SECRETS)
    folder.rename(tmp_path / "backup.partial")
    (tmp_path / "backup.partial" / MANIFEST).unlink()
    with pytest.raises(NotFound, match="never finished"):
        Backup.open(tmp_path / "backup.partial")
    await site.parts.objects.attachments.delete(await site.objects())
    # The store has lost all files, which no fetch would survive.
    taken = await take(site.parts, folder, SECRETS)
    assert (taken.objects, taken.missing) == (3, 0)


def _change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _rewrite(folder: Path, name: str, content: bytes) -> None:
    """Change a file and make the manifest agree: as somebody would who means harm."""
    (folder / name).write_bytes(content)

    def agree(manifest: dict[str, Any]) -> None:
        for file in manifest["files"]:
            if file["path"] == name:
                file["size_bytes"] = len(content)
                file["sha256"] = hashlib.sha256(content).hexdigest()

    _change_manifest(folder, agree)


def _object(folder: Path) -> Path:
    return max((folder / "objects").glob("*/*"), key=lambda path: path.stat().st_size)


def _frames(folder: Path) -> bytes:
    return gzip.decompress((folder / "commits/000001.gz").read_bytes())


def _link_object(folder: Path) -> None:
    path = _object(folder)
    moved = folder.parent / "outside"
    path.rename(moved)
    path.symlink_to(moved)


def _path(to: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        _change_manifest(folder, lambda m: m["files"].append({**m["files"][0], "path": to}))

    return change


def _index_line(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = gzip.decompress((folder / "objects.jsonl.gz").read_bytes())
        empty = hashlib.sha256().hexdigest()
        more = json.dumps({"bucket": "attachments", "name": name, "size_bytes": 0, "sha256": empty})
        _rewrite(folder, "objects.jsonl.gz", gzip.compress(lines + more.encode() + b"\n"))

    return change


HARM: dict[str, Callable[[Path], object]] = {
    "a shorter file of commits": lambda f: _truncate(f / "commits/000001.gz"),
    "a changed byte": lambda f: _flip(f / "commits/000001.gz"),
    "a commit that does not continue its aggregate": lambda f: _rewrite(
        f,
        "commits/000001.gz",
        gzip.compress(_frames(f).replace(b'"size_bytes":13', b'"size_bytes":14', 1)),
    ),
    "a commit left out at the end": lambda f: _rewrite(
        f, "commits/000001.gz", gzip.compress(b"\n".join(_frames(f).split(b"\n")[:-3]) + b"\n")
    ),
    "a huge commit": lambda f: _rewrite(
        f, "commits/000001.gz", gzip.compress(b"1 mito.events.platform 999999999\n{}")
    ),
    "no compression": lambda f: _rewrite(f, "commits/000001.gz", b"1 a 2\n{}\n"),
    "a file that is gone": lambda f: (f / "commits/000001.gz").unlink(),
    "an object that is gone": lambda f: _object(f).unlink(),
    "other bytes of an object": lambda f: _object(f).write_bytes(b"x" * _object(f).stat().st_size),
    "an object that is a link": _link_object,
    "a path that leads out": _path("../outside"),
    "an absolute path": _path("/etc/passwd"),
    "an object that nobody names": _index_line("lab/mallory"),
    "an object whose name leads out": _index_line("lab/../../other"),
    "a manifest that is none": lambda f: (f / MANIFEST).write_bytes(b"\x00" * 100),
    "a manifest with more": lambda f: _change_manifest(f, lambda m: m.update(extra=1)),
    "a newer format": lambda f: _change_manifest(f, lambda m: m.update(format=2)),
    "fewer commits than it says": lambda f: _change_manifest(f, lambda m: m.update(position=10**6)),
    "another last commit": lambda f: _change_manifest(f, lambda m: m.update(digest="0" * 64)),
    "commits left out of the list": lambda f: _change_manifest(
        f, lambda m: m.update(files=[one for one in m["files"] if "commits" not in one["path"]])
    ),
}


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


async def test_damaged_and_hostile_backups_are_refused_before_anything_is_changed(
    site: Site, history: History, make_site: MakeSite, tmp_path: Path
) -> None:
    await take(site.parts, tmp_path / "good", SECRETS)
    other = await make_site()
    for number, (what, harm) in enumerate(HARM.items()):
        folder = tmp_path / f"bad-{number}"
        shutil.copytree(tmp_path / "good", folder)
        harm(folder)
        with pytest.raises(MitosisError) as caught:
            await restore(other.parts, Backup.open(folder), RandomIds())
        assert isinstance(caught.value, CorruptData), (what, caught.value)
        assert len(str(caught.value)) < 1000, what
    assert await other.stream() == []
    assert archived(other.database) == []
    assert await other.objects() == set()


async def test_the_read_models_are_left_to_the_next_projector(
    site: Site, history: History, make_site: MakeSite, tmp_path: Path
) -> None:
    await take(site.parts, tmp_path / "backup", SECRETS)
    other = await make_site()
    with psycopg.connect(other.database) as session:
        session.execute("INSERT INTO views.position VALUES ('views', 999, 'x', 'MITO_EVENTS')")
    await restore(other.parts, Backup.open(tmp_path / "backup"), RandomIds())
    with psycopg.connect(other.database) as session:
        assert session.execute("SELECT to_regclass('views.position')").fetchone() == (None,)
