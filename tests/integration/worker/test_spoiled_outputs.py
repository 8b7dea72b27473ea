"""What programs make of their folders, and a small folder for temporary files."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mitosis.artifacts.transfer import download
from mitosis.artifacts.unpack import unpack
from mitosis.domain.task import ArtifactKind
from mitosis.testing.disks import can_mount, scratch_disk

from .conftest import Working

Work = Callable[..., Working]

DEEP = (
    "import os\nos.chdir(os.environ['MITO_RESULT_DIR'])\n"
    "for _ in range({}):\n os.mkdir('d')\n os.chdir('d')\n"
)


@pytest.mark.parity("D-016")
@pytest.mark.parametrize("script", ["ln -s /etc result", "echo 1 > result", "mkfifo result"])
async def test_what_replaces_the_folder_of_results_is_left_out_and_named(
    storing_coordinator: Any, storing_work: Work, script: str
) -> None:
    coordinator = storing_coordinator
    await storing_work(slots=1).ready()
    spoil = f"echo log > $MITO_EXEC_DIR/x; cd ..; rmdir result; {script}"
    told = await coordinator.over(coordinator.assign("sh", "-c", spoil))
    assert (told.fault, told.committed) == ("", True)
    assert [artifact.kind for artifact in told.artifacts] == [ArtifactKind.EXEC_LOG]
    (warning,) = told.warnings
    assert warning.startswith("result: left out (")
    told = await coordinator.over(coordinator.assign("sh", "-c", "echo 1 > $MITO_RESULT_DIR/x"))
    assert [artifact.kind for artifact in told.artifacts] == [ArtifactKind.RESULT]


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_folders_without_end_are_cut_and_named_and_the_slot_is_fit_afterwards(
    storing_coordinator: Any, storing_work: Work, scaled: Callable[[int, int], int]
) -> None:
    coordinator = storing_coordinator
    await storing_work(slots=1).ready()
    script = DEEP.format(scaled(3_000, 100_000))
    told = await coordinator.over(coordinator.assign("python3", "-S", "-c", script))
    assert told.committed
    assert told.warnings[0].endswith("left out (deeper than 100 folders)")
    told = await coordinator.over(coordinator.assign("sh", "-c", "ls -A . ../result"))
    assert told.committed
    assert told.exit.stdout_tail == ".:\n\n../result:\n"


@pytest.mark.parity("R-13")
async def test_outputs_need_no_room_in_the_folder_for_temporary_files(
    storing_coordinator: Any,
    storing_work: Work,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this user may not mount a small disk")
    coordinator = storing_coordinator
    with scratch_disk(tmp_path / "tmp", size_bytes=1 << 20) as small:
        monkeypatch.setenv("TMPDIR", str(small.path))
        monkeypatch.setattr(tempfile, "tempdir", str(small.path))
        await storing_work().ready()
        script = "head -c 30000000 /dev/urandom > $MITO_RESULT_DIR/x; echo out"
        told = await coordinator.over(coordinator.assign("sh", "-c", script, terminal=True))
        assert (told.fault, told.warnings) == ("", [])
        kinds = [artifact.kind for artifact in told.artifacts]
        assert kinds == [ArtifactKind.RESULT, ArtifactKind.STD_LOG]
        result = told.artifacts[0]
        url = coordinator.store.artifacts.presign_get(result.object_name)
        archive = tmp_path / "result.tar.gz"
        await asyncio.to_thread(
            download, url, archive, sha256=result.sha256, size_bytes=result.size_bytes
        )
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "result" / "x").stat().st_size == 30_000_000
