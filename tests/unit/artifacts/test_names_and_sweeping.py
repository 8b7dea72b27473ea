from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from mitosis.artifacts import names, sweeper
from mitosis.artifacts.s3 import StoredObject
from mitosis.artifacts.sweeper import MARGIN, sweep
from mitosis.domain.task import ArtifactKind
from mitosis.errors import CorruptData

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LIFE = timedelta(hours=1)


def test_an_output_is_named_by_task_attempt_and_upload() -> None:
    name = names.artifact_object("0190-aa", 2, "u1", ArtifactKind.STD_LOG)
    assert name == "0190-aa/2/u1/std-log.tar.gz"
    assert names.filename_of(name) == "std-log.tar.gz"


def test_an_attachment_is_named_by_group_and_upload_and_not_by_its_key() -> None:
    assert names.attachment_object("lab", "u1") == "lab/u1"


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "a b", "é", "x" * 128, "a\n"])
def test_a_part_that_is_no_clean_segment_is_refused(part: str) -> None:
    with pytest.raises(CorruptData):
        names.artifact_object(part, 1, "u", ArtifactKind.RESULT)


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("t/1/u/result.tar.gz", True),
        ("t/2/u/result.tar.gz", False),
        ("t/11/u/result.tar.gz", False),
        ("s/1/u/result.tar.gz", False),
        ("t/1/result.tar.gz", False),
        ("t/1/u/../result.tar.gz", False),
        ("t/1/u/other", False),
    ],
)
def test_a_worker_may_name_objects_of_its_own_attempt_only(name: str, belongs: bool) -> None:
    assert names.belongs_to_attempt(name, "t", 1) is belongs


def stored(name: str, age: timedelta) -> StoredObject:
    return StoredObject(name, 1, NOW - age)


async def test_only_what_nothing_names_and_no_url_can_still_complete_is_swept() -> None:
    old = LIFE + MARGIN + timedelta(seconds=1)
    bucket = RecordingBucket(
        [stored("orphan", old), stored("young", LIFE + MARGIN), stored("named", old)]
    )
    asked: list[Sequence[str]] = []

    async def kept(candidates: Sequence[str]) -> set[str]:
        asked.append(list(candidates))
        return {"named"}

    assert await sweep(bucket, kept, lambda: NOW, LIFE) == 1
    assert asked == [["named", "orphan"]]
    assert sorted(bucket.objects) == ["named", "young"]


class RecordingBucket:
    def __init__(self, objects: list[StoredObject]) -> None:
        self.objects = {item.name: item for item in objects}
        self.listings: list[str] = []

    async def list_prefix(self, prefix: str = "", *, start_after: str = "") -> list[StoredObject]:
        self.listings.append(start_after)
        names = sorted(
            name for name in self.objects if name > start_after and name.startswith(prefix)
        )
        return [self.objects[name] for name in names[: sweeper.MAX_LISTED]]

    async def delete(self, object_names: Iterable[str]) -> None:
        for name in object_names:
            del self.objects[name]


async def test_sweeping_goes_through_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "MAX_LISTED", 3)
    bucket = RecordingBucket([stored(f"o{n}", timedelta(days=1)) for n in range(7)])

    async def kept(_: Sequence[str]) -> set[str]:
        return {"o2", "o4"}

    swept = await sweep(bucket, kept, lambda: NOW, LIFE)
    assert swept == 5
    assert sorted(bucket.objects) == ["o2", "o4"]
    assert bucket.listings == ["", "o2", "o5"]
