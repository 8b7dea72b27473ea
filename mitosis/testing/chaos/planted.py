"""Is the suite worth anything? `just chaos --planted [NAMES]`.

Copies the package, breaks it in one way of tests/faults/planted.toml, runs the services from the
copy under the same operations and faults as ever, and expects a violation of one of the rules that
the fault breaks. The checker runs from the whole code.
"""

import itertools
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

import mitosis
from mitosis.testing.chaos.run import Settings, run
from mitosis.testing.sabotage import Edit

FILE = Path("tests/faults/planted.toml")
PACKAGE = Path(mitosis.__file__).parent
MOST_SECONDS = 300.0  # within which every planted fault has to be reported


class Planted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to break the platform.

    Attributes:
        name: How one asks for it.
        breaks: What the broken platform does.
        rules: Of the checker; a violation of one of them reports the fault.
        edit: What is changed, all at once.
    """

    name: str
    breaks: str
    rules: list[str]
    edit: list[Edit]


class Verdict(NamedTuple):
    """What became of one: the violations of its rules, of all, and how long it took."""

    planted: Planted
    reported: int
    violations: int
    seconds: float

    def __str__(self) -> str:
        found = f"reported {self.reported} times" if self.reported else "NOT REPORTED"
        others = self.violations - self.reported
        return f"{self.planted.name:28} {self.seconds:5.0f} s  {found}, {others} other violations"


def all_planted(root: Path) -> list[Planted]:
    """Return all of the file in a checkout."""
    table = tomllib.loads((root / FILE).read_text(encoding="utf-8"))
    return msgspec.convert(table["planted"], list[Planted])


def plant(planted: Planted, folder: Path) -> Path:
    """Copy the package into a folder and break the copy; return what to put on the path.

    Raises:
        ValueError: An edit does not apply.
    """
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=ignored)
    for file, text in broken(planted, folder).items():
        (folder / file).write_text(text, encoding="utf-8")
    return folder


def broken(planted: Planted, root: Path) -> dict[str, str]:
    """Return the files that a fault changes, with the fault in them.

    Raises:
        ValueError: An edit does not apply.
    """
    files: dict[str, str] = {}
    for edit in planted.edit:
        text = files.get(edit.file) or (root / edit.file).read_text(encoding="utf-8")
        files[edit.file] = edit.broken(text)
    return files


def report(planted: Planted, settings: Settings) -> Verdict:
    """Run the suite on a broken platform, with one seed after the other, until it reports."""
    begun = time.monotonic()
    rules: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mito-planted-") as folder:
        shape = replace(settings.shape, code=plant(planted, Path(folder)))
        for seed in itertools.count(settings.seed):
            before = time.monotonic()
            rules += [one.rule for one in run(replace(settings, seed=seed, shape=shape)).violations]
            reported = sum(rule in planted.rules for rule in rules)
            now = time.monotonic()
            if reported or now + (now - before) > begun + MOST_SECONDS:
                break
    return Verdict(planted, reported, len(rules), time.monotonic() - begun)


def main(names: Sequence[str], settings: Settings, say: Callable[[str], None]) -> int:
    """Return 0 when every asked fault is reported in time."""
    every = all_planted(Path.cwd())
    if unknown := set(names) - {planted.name for planted in every}:
        say(f"no planted fault is called {', '.join(sorted(unknown))}")
        return 2
    verdicts = []
    for planted in every:
        if not names or planted.name in names:
            verdicts.append(report(planted, settings))
            say(str(verdicts[-1]))
    missed = [one for one in verdicts if not one.reported or one.seconds > MOST_SECONDS]
    say(f"{len(verdicts) - len(missed)} of {len(verdicts)} planted faults are reported")
    return 1 if missed else 0
