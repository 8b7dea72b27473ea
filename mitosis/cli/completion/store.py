"""The files that completion answers from: the tree of commands, and values of the platform.

Reading them must be quick and can never fail: a file that is not there, or of no use, is no
knowledge. They are for their owner's eyes only, and small.
"""

import json
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mitosis._version import __version__
from mitosis.config.locations import cache_dir, default_credential_path

FRESH_SECONDS = 10.0  # younger values are not asked for again
USEFUL_SECONDS = 3_600.0  # older values are not offered
RETRY_SECONDS = 5.0  # after a failure
MAX_FILE_BYTES = 1024 * 1024
MAX_FILES = 50
# Options of the client whose value must never leave this process.
SECRET = ("-p", "--password")

Known = dict[str, list[tuple[str, str]]]


def folder() -> Path:
    """Where the files are."""
    return cache_dir() / "completion"


def stamp() -> str:
    """Of the commands as they are installed: another one makes the tree anew."""
    with os.scandir(Path(__file__).parents[1]) as entries:
        newest = max(entry.stat().st_mtime_ns for entry in entries if entry.name.endswith(".py"))
    return f"{__version__} {newest}"


def load_tree() -> tuple[dict[str, Any] | None, bool]:
    """Return the tree, if there is one, and whether it is of the commands as they are now."""
    stored = _read(folder() / "tree.json")
    tree = stored.get("tree")
    return (tree, stored.get("stamp") == stamp()) if isinstance(tree, dict) else (None, False)


def store_tree(tree: Mapping[str, Any]) -> None:
    """Keep the tree."""
    _write(folder() / "tree.json", {"stamp": stamp(), "tree": tree})


def without_secrets(options: Sequence[str]) -> list[str]:
    """Return the client's options without its password."""
    kept, skip = [], False
    for option in options:
        if skip:
            skip = False
        elif option.partition("=")[0] == SECRET[1] or option.startswith(SECRET[0]):
            skip = option in SECRET
        else:
            kept.append(option)
    return kept


class Place(NamedTuple):
    """Where values are kept, and whose they are: what is kept there may be of somebody else."""

    path: Path
    owner: str


def values_place(options: Sequence[str], environment: Mapping[str, str]) -> Place:
    """Return where the values for one platform and user are kept.

    Args:
        options: Of the client, without secrets.
        environment: Of the process.
    """
    settings = {
        name: value
        for name, value in environment.items()
        if name.startswith("MITO_") and "PASSWORD" not in name
    }
    here = str(Path.cwd()) if Path("config.toml").exists() else ""
    credentials = default_credential_path(environment)
    if "--credential-path" in options[:-1]:
        credentials = Path(options[list(options).index("--credential-path") + 1])
    try:
        changed = credentials.stat().st_mtime_ns  # by a log-in, perhaps of somebody else
    except OSError:
        changed = 0
    facts = json.dumps([list(options), settings, here, str(credentials), changed], sort_keys=True)
    return Place(folder() / f"values-{zlib.crc32(facts.encode()):08x}.json", facts)


def load_values(place: Place) -> tuple[Known, bool]:
    """Return what is known, and whether somebody should ask again."""
    stored, now = _owned(place), time.time()
    age = now - float(stored.get("at", 0))
    failed = now - float(stored.get("failed_at", 0))
    values = stored.get("values", {}) if 0 <= age < USEFUL_SECONDS else {}
    known = {
        kind: [(str(text), str(said)) for text, said in pairs] for kind, pairs in values.items()
    }
    return known, age > FRESH_SECONDS and failed > RETRY_SECONDS


def store_values(place: Place, values: Known) -> None:
    """Keep values as of now, and drop files that nobody has used for long."""
    _write(place.path, {"owner": place.owner, "at": time.time(), "values": values})
    files = sorted(folder().glob("values-*.json"), key=lambda file: file.stat().st_mtime)
    for old in files[:-MAX_FILES]:
        old.unlink(missing_ok=True)


def store_failure(place: Place) -> None:
    """Remember that nobody answered; older values stay."""
    _write(place.path, {**_owned(place), "owner": place.owner, "failed_at": time.time()})


def _owned(place: Place) -> dict[str, Any]:
    stored = _read(place.path)
    return stored if stored.get("owner") == place.owner else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            stored = json.loads(stream.read(MAX_FILE_BYTES))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(content, stream)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
