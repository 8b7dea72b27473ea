"""Does a broken promise turn its row red? `just parity --sabotage [NAMES]`.

Copies the tree, breaks it by one patch of tests/sabotage/patches.toml at a time, runs the tests of
the rows that must fail then, and expects each of these rows to fail in a test (not before it: a
platform that does not start proves nothing about the row). First the rows run unbroken, and must
pass.

    python -m mitosis.testing.sabotage             all patches
    python -m mitosis.testing.sabotage NAME...     some
    python -m mitosis.testing.sabotage --check     only whether each still applies and is tested

Run it at the root of a checkout.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from mitosis.testing.parity import PAGE, Row, rows_of

PATCHES = Path("tests/sabotage/patches.toml")
COPIED = ("mitosis", "bench", "tests", "docs", "examples", "deploy", "pyproject.toml", "justfile",
          "README.md", "CHANGELOG.md", "config.example.toml", ".env.example")  # fmt: skip
TEST_SECONDS = 40  # for a test of a broken program: it may wait for what never comes
RUN_SECONDS = 300.0  # for all tests of a broken program
WHOLE_SECONDS = 1_800.0


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One change of one file: `old` stands exactly once in `file`, `new` comes in its place."""

    file: str
    old: str
    new: str

    def broken(self, text: str) -> str:
        """Return the file with the change in it.

        Raises:
            ValueError: The edit does not apply, or the result is no program.
        """
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"its old text stands {found} times in {self.file}")
        patched = text.replace(self.old, self.new)
        if self.file.endswith(".py"):
            compile(patched, self.file, "exec")
        return patched


class Patch(Edit, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One sabotage.

    Attributes:
        name: How one asks for it.
        breaks: What the broken program does.
        rows: Those that must fail.
    """

    name: str
    breaks: str
    rows: list[str]


class Verdict(NamedTuple):
    """What became of one patch. `problem` empty: every row failed, as it should."""

    patch: Patch
    problem: str
    seconds: float


def patches(root: Path) -> list[Patch]:
    """Return all of the file."""
    table = tomllib.loads((root / PATCHES).read_text(encoding="utf-8"))
    return msgspec.convert(table["patch"], list[Patch])


def files_naming(rows: Iterable[str], root: Path) -> list[str]:
    """Return the test files that have a test of one of these rows."""
    named = re.compile("|".join(f'"{re.escape(row)}"' for row in rows))
    return sorted(
        path.relative_to(root).as_posix()
        for path in (root / "tests").rglob("test_*.py")
        if "sabotage" not in path.parts and named.search(path.read_text(encoding="utf-8"))
    )


def problems_of(patch: Patch, root: Path) -> list[str]:
    """Say what makes a patch useless before anything is run."""
    try:
        patch.broken((root / patch.file).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        return [f"does not apply: {error}"]
    known = rows_of((root / PAGE).read_text(encoding="utf-8"))
    missing = [row for row in patch.rows if not files_naming([row], root)]
    return [f"no row: {row}" for row in patch.rows if row[0] in "SV" and row not in known] + [
        f"no test names {row}" for row in missing
    ]


class Field:
    """The copy that is broken, one place at a time."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        for name in COPIED:
            source = root / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(source, folder / name, ignore=ignored)
            elif source.exists():
                shutil.copy2(source, folder / name)
        self._stamp = time.time()

    @contextmanager
    def broken_by(self, patch: Patch) -> Iterator[None]:
        """Have the sabotage in place."""
        path = self.folder / patch.file
        whole = path.read_text(encoding="utf-8")
        self._write(path, patch.broken(whole))
        try:
            yield
        finally:
            self._write(path, whole)

    def stand(self, rows: Iterable[str], *, whole: bool = False) -> dict[str, Row]:
        """Run the tests of some rows, and return how these stand.

        Raises:
            TimeoutError: They do not come to an end.
        """
        wanted = sorted(set(rows))
        report = self.folder / "rows.json"
        report.unlink(missing_ok=True)
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header",
            "--parity-rows", ",".join(wanted), "--parity-report", str(report),
            *([] if whole else ["--timeout", str(TEST_SECONDS), "-o", "timeout_func_only=true"]),
            *files_naming(wanted, self.folder),
        ]  # fmt: skip
        status, output = self._run(command, WHOLE_SECONDS if whole else RUN_SECONDS)
        if status not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            raise RuntimeError(f"the tests cannot be run:\n{output[-2000:]}")
        found = msgspec.json.decode(report.read_bytes(), type=list[Row])
        return {row.id: row for row in found if row.id in wanted}

    def _run(self, command: list[str], seconds: float) -> tuple[int, str]:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("MITO_", "PYTEST_")) and key != "PYTHONDONTWRITEBYTECODE"
        }
        process = subprocess.Popen(
            command, cwd=self.folder, env={**environment, "PYTHONPATH": str(self.folder)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            output = process.communicate(timeout=seconds)[0]
            return process.returncode, output
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the tests have not ended in {seconds:g} s") from None
        finally:
            # Interrupted first, so that fixtures can end what they have started.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.communicate(timeout=30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        # Compiled files are told apart by whole seconds and size: never the same second twice.
        self._stamp += 2
        os.utime(path, (self._stamp, self._stamp))


def verdict(field: Field, patch: Patch) -> Verdict:
    """Break the copy by one patch, and look."""
    begun = time.monotonic()
    problem = "; ".join(problems_of(patch, field.root))
    if not problem:
        try:
            with field.broken_by(patch):
                rows = field.stand(patch.rows)
            problem = "; ".join(filter(None, (_problem(rows.get(name)) for name in patch.rows)))
        except (TimeoutError, RuntimeError) as error:
            problem = str(error)
    return Verdict(patch, problem, time.monotonic() - begun)


def _problem(row: Row | None) -> str:
    if row is None or row.state == "missing":
        return "its tests have not run"
    if row.state == "pass":
        return f"{row.id} is still green"
    if "failed" not in row.tests.values():
        return f"{row.id} did not fail in its test, but before it: {', '.join(row.tests)}"
    return ""


def main(arguments: list[str]) -> int:
    """Return 0 when every asked patch turns its rows red."""
    if {"-h", "--help"} & set(arguments):
        _say((__doc__ or "").strip())
        return 0
    root = Path.cwd()
    every = patches(root)
    names = [name for name in arguments if name != "--check"]
    chosen = [patch for patch in every if not names or patch.name in names]
    if unknown := set(names) - {patch.name for patch in every}:
        _say(f"no patch is called {', '.join(sorted(unknown))}")
        return 2
    if "--check" in arguments:
        found = [
            f"{patch.name}: {problem}" for patch in chosen for problem in problems_of(patch, root)
        ]
        _say("\n".join(found) or f"{len(chosen)} patches apply")
        return 1 if found else 0
    with tempfile.TemporaryDirectory(prefix="mito-sabotage-") as folder:
        Path(folder).chmod(0o755)  # workers of other users are started from it
        return _sabotage(Field(root, Path(folder)), chosen)


def _sabotage(field: Field, chosen: list[Patch]) -> int:
    rows = {row for patch in chosen for row in patch.rows if not problems_of(patch, field.root)}
    _say(f"{len(rows)} rows as they are, then {len(chosen)} patches")
    whole = field.stand(rows, whole=True) if rows else {}
    green = {name for name, row in whole.items() if row.state == "pass"}
    red = 0
    for patch in chosen:
        before = [row for row in patch.rows if row in whole and row not in green]
        if before:
            found = Verdict(patch, f"not green without it: {', '.join(before)}", 0.0)
        else:
            found = verdict(field, patch)
        red += not found.problem
        state = found.problem or "red, as it must be"
        rows_named = ",".join(patch.rows)
        _say(f"{patch.name:32} {rows_named:16} {found.seconds:5.1f} s  {state}")
    _say(f"{red} of {len(chosen)} patches turn their rows red")
    return 0 if red == len(chosen) else 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _end(*_signal: object) -> None:
    sys.exit(143)  # by the way of an exception, so that the tests that run are ended as well


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
