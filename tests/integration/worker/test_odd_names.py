"""Names of bytes that are no UTF-8, in what a worker has to say of a task."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mitosis.testing.disks import can_mount

from .conftest import Working

Work = Callable[..., Working]


@pytest.mark.parity("R-17")
async def test_an_interpreter_whose_name_is_no_utf8_is_named_and_holds_up_no_report(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    """Text of such bytes cannot be sent, and so nothing of the worker would be heard any more."""
    script = tmp_path / "script"
    script.write_bytes(b"#!/no\xff/shell\n")
    script.chmod(0o755)
    await work(slots=1).ready()
    told = await coordinator.over(coordinator.assign(str(script)))
    assert told.committed
    assert told.exit.reason == f"{script}: interpreter '/no\\xff/shell' of its #! line not found"
    assert (await coordinator.over(coordinator.assign("true"))).committed


async def test_a_mount_whose_name_is_no_utf8_is_named_in_a_warning(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    if os.geteuid() != 0 or not can_mount(tmp_path):
        pytest.skip("this user may not mount")
    await work(slots=1).ready()
    script = 'name=$(printf "m\\377"); mkdir "$name"; mount -t tmpfs none "$name"'
    told = await coordinator.over(coordinator.assign("sh", "-c", script))
    assert told.committed
    (warning,) = told.warnings
    assert warning.endswith("were unmounted: work/m\\xff")
    assert (await coordinator.over(coordinator.assign("true"))).committed


async def test_a_path_of_the_worker_that_is_no_utf8_is_shown_where_a_program_was_not_found(
    coordinator: Any, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"] + ":/no\udcff")
    await work(slots=1).ready()
    told = await coordinator.over(coordinator.assign("no-such-program"))
    assert ":/no\\xff)" in told.exit.reason
    assert (await coordinator.over(coordinator.assign("true"))).committed
