"""Damaged streams are made whole from what is sound in them and in the archive."""

import contextlib
import gzip
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from mitosis.errors import AlreadyExists, CorruptData, InvalidInput, WrongState
from mitosis.events import messages
from mitosis.events.reader import EventReader
from mitosis.events.snapshots import SnapshotStore
from mitosis.projections.archive import Archive
from mitosis.services.coordinator.history import Mark, read_world
from mitosis.services.repair import salvage
from mitosis.testing.history import Stored
from mitosis.testing.signed import signed_history
from mitosis.testing.views import archived

from .conftest import Site, large_history


@pytest.fixture
async def site(bare: Site) -> Site:
    """A small history, in stream and archive."""
    bare.commits = signed_history(bare.keys)
    await bare.store(bare.commits)
    await bare.archive(bare.commits)
    return bare


def flip(site: Site, position: int) -> None:
    """Flip a bit of one message in JetStream's file."""
    wanted = site.commits[position - 1][2]
    (path,) = [p for p in site.files.glob("*.blk") if wanted in p.read_bytes()]
    content = bytearray(path.read_bytes())
    content[content.index(wanted) + len(wanted) // 2] ^= 4
    path.write_bytes(content)


def cut(site: Site, position: int) -> None:
    """Cut JetStream's file in the middle of a message."""
    wanted = site.commits[position - 1][2]
    (path,) = [p for p in site.files.glob("*.blk") if wanted in p.read_bytes()]
    content = path.read_bytes()
    path.write_bytes(content[: content.index(wanted) + len(wanted) // 2])


def contents(files: Iterable[Path]) -> bytes:
    return b"".join(gzip.decompress(path.read_bytes()) for path in sorted(files))


def changed(commits: list[Stored], position: int) -> list[Stored]:
    """The same, but for the time of one commit."""
    _, subject, payload = commits[position - 1]
    other = payload.replace(b'"time":"20', b'"time":"19', 1)
    assert other != payload
    return [*commits[: position - 1], (position, subject, other), *commits[position:]]


async def test_a_sound_stream_is_left_alone_also_without_its_index(site: Site) -> None:
    for index in site.files.glob("*.db"):
        index.unlink()
    found = await site.repair()
    assert (found.sound, found.done, found.known, found.kept) == (
        True,
        False,
        len(site.commits),
        "",
    )
    assert await site.stream() == site.commits
    assert not site.keep.exists()


@pytest.mark.parity("W-05")
@pytest.mark.parametrize("damage", [flip, cut])
async def test_a_flipped_bit_or_a_cut_file_is_filled_from_the_archive(
    site: Site, damage: Callable[[Site, int], None]
) -> None:
    last, at = len(site.commits), len(site.commits) - 20
    damage(site, at)
    looked = await site.repair(yes=False, keep=None)
    missing = 1 if damage is flip else last - at + 1
    assert (looked.sound, looked.done, looked.missing, looked.lost) == (False, False, missing, 0)
    with pytest.raises(InvalidInput, match="--keep"):
        await site.repair(keep=None)
    done = await site.repair()
    assert (done.done, done.missing, done.changed, done.position) == (True, missing, 0, last)
    event = await site.require_whole(last)
    assert (event.missing, event.changed, event.lost_from) == (missing, 0, 0)
    kept = contents((site.keep / "stream").glob("*.gz"))
    assert kept.count(b"\n%d mito" % (at - 1)) == 1
    assert kept.count(b"\n%d mito" % at) == 0
    again = await site.repair(keep=site.folder / "other")
    assert again.sound
    flip(site, 5)
    with pytest.raises(AlreadyExists, match="an earlier repair"):
        await site.repair()


async def test_a_coordinator_names_the_repair_when_the_end_is_cut_off_and_no_archive_tells(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said for ever that the next position cannot be read yet."""
    monkeypatch.setattr("mitosis.services.coordinator.history.END_SECONDS", 0.5)
    cut(site, len(site.commits) - 1)
    async with site.serving(), site.connected() as nc:
        snapshots = SnapshotStore(nc)
        await snapshots.ensure()
        with pytest.raises(CorruptData, match="mito events repair") as caught:
            await read_world(EventReader(nc), Mark(), snapshots)
    assert caught.value.details["position"] == len(site.commits) - 1


async def test_a_stream_without_messages_or_without_all_of_its_files_comes_back(site: Site) -> None:
    for number, gone in enumerate([site.files, site.files.parent]):
        shutil.rmtree(gone)
        done = await site.repair(keep=site.folder / f"kept-{number}")
        assert done.done
        stored = await site.stream()
        assert stored[: len(site.commits)] == site.commits
        site.commits = archived(site.database) if number else site.commits
        if not number:
            await site.require_whole(len(site.commits))


async def test_a_block_in_the_middle_comes_back(
    bare: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.commits = large_history(bare.keys)
    await bare.store(bare.commits)
    await bare.archive(bare.commits)
    blocks = sorted(bare.files.glob("*.blk"), key=lambda path: int(path.stem))
    assert len(blocks) > 2, blocks
    blocks[1].unlink()
    there = await bare.readable()
    with monkeypatch.context() as patched:  # as if no consumer got any further
        patched.setattr(salvage, "STALLED_SECONDS", 0)
        assert await bare.readable() == there
    done = await bare.repair()
    assert done.missing > 5, done
    await bare.require_whole(len(bare.commits))


@pytest.mark.parametrize("where", ["stream", "archive"])
async def test_of_two_different_commits_the_one_that_was_signed_is_right(
    bare: Site, where: str
) -> None:
    bare.commits = signed_history(bare.keys)
    # The last commit of a task has no other behind it: only a checkpoint tells.
    subjects = [subject for _, subject, _ in bare.commits]
    at = max(n for n, s in enumerate(subjects, 1) if ".task." in s and s not in subjects[n:])
    first = next(n for n, s in enumerate(subjects, 1) if ".task." in s and s in subjects[n:])
    forged = changed(changed(bare.commits, at), first)
    await bare.store(forged if where == "stream" else bare.commits)
    await bare.archive(forged if where == "archive" else bare.commits)
    done = await bare.repair()
    assert done.differ == (first, at)
    wrong = (2, 0) if where == "stream" else (0, 2)
    assert (done.changed, done.archive, done.missing) == (*wrong, 0)
    assert archived(bare.database) == bare.commits
    event = await bare.require_whole(len(bare.commits))
    assert (event.changed, event.archive) == wrong


async def test_what_nothing_decides_is_decided_by_the_operator(bare: Site) -> None:
    bare.commits = signed_history(bare.keys)
    last_signed = max(n for n, (_, _, p) in enumerate(bare.commits, 1) if b"checkpoint_signed" in p)
    site_commits = bare.commits[: last_signed - 1]
    signed = max(n for n, (_, _, p) in enumerate(site_commits, 1) if b"checkpoint_signed" in p)
    bare.commits = site_commits
    at = len(site_commits)
    assert at > signed
    await bare.store(changed(site_commits, at))
    await bare.archive(site_commits)
    with pytest.raises(CorruptData, match=f"differ at 1 positions \\({at}\\).*--trust"):
        await bare.repair()
    assert not bare.keep.exists()
    await bare.repair(trust="archive")
    await bare.require_whole(at)


async def test_rows_that_the_archive_lacks_or_has_damaged_are_put_right(site: Site) -> None:
    site.edit_archive("DELETE FROM archive.commits WHERE position IN (4, 5)")
    site.edit_archive("UPDATE archive.commits SET payload = %s WHERE position = 9", b"{}")
    flip(site, 12)
    done = await site.repair()
    assert (done.archive, done.missing, done.lost) == (3, 1, 0)
    assert archived(site.database) == site.commits
    await site.require_whole(len(site.commits))
    kept = contents([site.keep / "archive" / "9" / "000001.gz"])
    assert kept.endswith(b" 2\n{}\n")


async def test_what_is_nowhere_is_named_and_given_up_only_when_that_is_accepted(site: Site) -> None:
    last, at = len(site.commits), len(site.commits) // 2
    flip(site, at)
    site.edit_archive("DELETE FROM archive.commits WHERE position = %s", at)
    named = f"position {at} is neither in the stream nor in the archive. Nothing was changed"
    with pytest.raises(CorruptData, match=f"whole up to position {at - 1} only.*{named}"):
        await site.repair()
    assert len(archived(site.database)) == last - 1
    done = await site.repair(accept_loss=True)
    assert (done.position, done.known, done.lost, done.cut) == (
        at - 1,
        last,
        last - at + 1,
        last - at,
    )
    event = await site.require_whole(at - 1)
    assert (event.lost_from, event.lost_to, event.cut) == (at, last, last - at)
    kept = contents((site.keep / "archive").rglob("*.gz"))
    assert kept.count(b"\n%d mito" % last) == 1


async def test_a_repair_that_breaks_off_anywhere_goes_on_and_tells_all_of_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(site, 7)
    site.edit_archive("DELETE FROM archive.commits WHERE position = 3")
    last = len(site.commits)
    steps, ask = Steps(), messages.ask

    async def asked(nc: Any, subject: str, *arguments: Any, **options: Any) -> Any:
        answer = await ask(nc, subject, *arguments, **options)
        steps.take(".".join(subject.split(".")[2:4]))
        return answer

    done = None
    async with site.serving():
        while done is None:
            steps.begin()
            with monkeypatch.context() as patched:
                patched.setattr(messages, "ask", asked)
                with contextlib.suppress(Broken):
                    done = await site.repair(progress=lambda *_: steps.take("progress"))
            if done is None:
                assert len(await site.readable()) < last, "nobody may start to serve"
    assert {"STREAM.DELETE", "STREAM.CREATE", "CONSUMER.CREATE", "progress"} < steps.seen
    assert done.missing == 1
    event = await site.require_whole(last)
    assert (event.missing, event.archive) == (1, 1)


class Broken(Exception):
    """The repair ends here, as if it were killed."""


class Steps:
    """Breaks off behind the first step, then the second, and so on, by kind of step."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._counted: Counter[str] = Counter()
        self._broken: set[tuple[str, int]] = set()

    def begin(self) -> None:
        """Begin anew."""
        self._counted.clear()

    def take(self, step: str) -> None:
        """Break off behind this step, if that was not done yet."""
        self.seen.add(step)
        self._counted[step] += 1
        place = (step, self._counted[step])
        if place not in self._broken and place[1] <= 3:
            self._broken.add(place)
            raise Broken


async def test_nothing_is_done_while_a_projector_is_at_work(site: Site) -> None:
    flip(site, 7)
    projector = await Archive.open(site.database)
    await projector.hold()
    with pytest.raises(WrongState, match="a projector works with"):
        await site.repair()
    await projector.close()
    assert not site.keep.exists()
