"""An engine for each test, and the processes that carry a test's mark."""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mitosis.processes.engine import Engine
from mitosis.processes.run import Run
from mitosis.processes.runs import RunResult, RunSpec

PATH = f"{Path(sys.executable).resolve().parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def marked(mark: str) -> list[int]:
    """Live processes (no zombies) with the mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def names(folder: Path | str) -> list[str]:
    """Sorted names in a folder."""
    return sorted(entry.name for entry in Path(folder).iterdir())


def tool(*argv: str) -> str:
    """Output of a command that must succeed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def wait_until(question: Callable[[], object], limit_seconds: float = 20.0) -> None:
    """Poll until the answer is true; show the last answer when it never is."""
    limit = time.monotonic() + limit_seconds
    while not (answer := question()):
        assert time.monotonic() < limit, f"still {answer!r} after {limit_seconds} s"
        time.sleep(0.002)


async def until(question: Callable[[], object], limit_seconds: float = 20.0) -> None:
    """As `wait_until`, letting the loop run."""
    limit = time.monotonic() + limit_seconds
    while not (answer := question()):
        assert time.monotonic() < limit, f"still {answer!r} after {limit_seconds} s"
        await asyncio.sleep(0.002)


class Bench:
    """An engine with short ways to run things in it."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self.engine = engine
        self.root = root
        self.mark = f"mark-{uuid.uuid4()}"

    def start(self, *argv: str, env: dict[str, str] | None = None, **fields: object) -> Run:
        full = {"PATH": PATH, "MARK": self.mark, **(env or {})}
        return self.engine.start_task(RunSpec(argv=list(argv), env=full, **fields))  # type: ignore[arg-type]

    def shell(self, script: str, **fields: object) -> Run:
        return self.start("sh", "-c", script, **fields)  # type: ignore[arg-type]

    def python(self, script: str, **fields: object) -> Run:
        return self.start("python3", "-S", "-E", "-c", script, **fields)  # type: ignore[arg-type]

    async def finish(self, run: Run) -> RunResult:
        """The result, with nothing of the run alive, and the slot free again."""
        async with asyncio.timeout(30):
            result = await run.result()
        assert marked(self.mark) == []
        run.release()
        await until(lambda: self.engine.free_slots)
        return result


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder that everybody can use; pytest's own may not be passed."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    engine = Engine(1, tmp_path / "root")
    await engine.start()
    found = Bench(engine, tmp_path)
    yield found
    await engine.close(0.0)
    assert marked(found.mark) == []
    assert names(tmp_path / "root") == [], "folders are removed at the end"
