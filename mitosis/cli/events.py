"""`mito events`: the audit side, with the service credentials, or with nothing but an export."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast

from cyclopts import Parameter

from mitosis.cli.exit_codes import DONE, FAILED
from mitosis.cli.output.progress import moving
from mitosis.cli.output.screen import note, printable, show
from mitosis.cli.parameters import NUMBER, ConfigPath, Output
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load
from mitosis.errors import REPAIR, AlreadyExists, CorruptData, InvalidInput

if TYPE_CHECKING:
    from mitosis.services.proof.findings import Finding, Verified

Database = Annotated[str | None, Parameter(name="--db")]
Nats = Annotated[str | None, Parameter(name="--nats")]
Export = Annotated[Path | None, Parameter(name="--export")]
Keys = Annotated[list[Path] | None, Parameter(name="--key", negative=())]
Kept = Annotated[list[str] | None, Parameter(name="--checkpoint", negative=())]
Archived = Annotated[bool, Parameter(name="--archive", negative="--no-archive")]
From = Annotated[int | None, NUMBER, Parameter(name="--from")]
To = Annotated[int | None, NUMBER, Parameter(name="--to")]

_CHECKPOINT = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")
_MOST = 2**62


def verify(
    *,
    export: Export = None,
    key: Keys = None,
    checkpoint: Kept = None,
    archive: Archived = True,
    first: From = None,
    config: ConfigPath = None,
    db_url: Database = None,
    nats_url: Nats = None,
) -> int:
    """Check that history is what was stored: numbers, chains, signatures, archive; 1: it is not.

    Walks over the whole stream with the service credentials, or over an export with no service at
    all. Whatever is wrong is listed, with its position, or with the interval between two
    checkpoints in which it is.

    Args:
        export: Check this file of `mito events export` instead of the stream.
        key: A file with public keys that may have signed checkpoints; repeatable. Default: the key
            in the settings; of an export none.
        checkpoint: A POSITION:DIGEST that an earlier check has printed: whether everything up to it
            is still the same; repeatable.
        archive: Compare with the archive in Postgres too.
        first: The position with which the export must begin, if not with 1.
        config: The config file of the coordinator.
        db_url: The database URL.
        nats_url: The NATS URL.
    """
    kept = dict(map(_read_checkpoint, checkpoint or ()))
    if export is not None:
        from mitosis.operations import verify_export

        found = verify_export(export, key or (), kept, first=_position(first, "--from", 1))
    else:
        if first is not None:
            raise InvalidInput("--from is for an export: the stream is checked from its beginning")
        from mitosis.operations import verify_stream

        settings = _settings(config, db_url, nats_url)
        with moving("history") as progress:
            found = verify_stream(
                settings, key or (), kept, progress or (lambda *_: None), archive=archive
            )
    show(found, lambda: _lines(found))
    return FAILED if found.found else DONE


def export(
    *,
    first: From = None,
    last: To = None,
    output: Output = None,
    config: ConfigPath = None,
    nats_url: Nats = None,
) -> None:
    """Write history as JSON lines, one a commit, which can be verified without any service.

    Hashes of passwords are left out; their lines say so, and have the digest of what is stored.
    Positions that a damaged stream does not have any more are passed over and named, with status 1.

    Args:
        first: The first position.
        last: The last position; default: the newest.
        output: A new file, for its owner only; default: standard output.
        config: The config file of the coordinator.
        nats_url: The NATS URL.
    """
    from mitosis.operations import export_events

    settings = _settings(config, None, nats_url)
    begin, end = _position(first, "--from", 1), _position(last, "--to", 0)
    if end and end < begin:
        raise InvalidInput(f"--to {end} is before --from {begin}")
    with _target(output) as write:
        done = export_events(settings, begin, end, write)
    left_out = f"; parts of {done.withheld} are left out" if done.withheld else ""
    note(f"{done.commits} commits, positions {done.first} to {done.last}{left_out}")
    if done.missing:
        gaps = ", ".join(f"{a} to {b}" if a < b else f"{a}" for a, b in done.gaps)
        raise CorruptData(
            f"the stream has lost {done.missing} of these positions: {gaps}; everything else was "
            f"written. {REPAIR}",
            missing=done.missing, gaps=done.gaps,
        )  # fmt: skip


def public_keys(*, config: ConfigPath = None, nats_url: Nats = None) -> None:
    """Print the public keys of all checkpoints, as history tells them, for `verify --key`.

    Compare their ids with what the operator tells in another way: history alone does not prove
    whose they are.

    Args:
        config: The config file of the coordinator.
        nats_url: The NATS URL.
    """
    from mitosis import operations

    found = operations.public_keys(_settings(config, None, nats_url))
    show(
        found,
        lambda: [
            line
            for one in found.keys
            for line in (
                f"# key {one.key}, told at position {one.position}",
                one.public_key.strip(),
            )
        ],
    )


def _settings(config: ConfigPath, db_url: str | None, nats_url: str | None) -> CoordinatorConfig:
    given = {"db_url": db_url, "nats_url": nats_url}
    flags = {key: value for key, value in given.items() if value is not None}
    return load(CoordinatorConfig, config=config, flags=flags).config


def _position(value: int | None, name: str, default: int) -> int:
    if value is None:
        return default
    if not 1 <= value <= _MOST:
        raise InvalidInput(f"{name} {value}: positions go from 1 on")
    return value


def _read_checkpoint(text: str) -> tuple[int, str]:
    match = _CHECKPOINT.fullmatch(text)
    if match is None:
        raise InvalidInput(
            f"--checkpoint {text[:100]!r} is not POSITION:DIGEST, as `mito events verify` prints it"
        )
    return int(match[1]), match[2]


@contextlib.contextmanager
def _target(output: Path | None) -> Iterator[Callable[[bytes], Any]]:
    if output is None:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        file = cast(BinaryIO, os.fdopen(os.open(output, flags, 0o600), "wb"))
    except FileExistsError:
        raise AlreadyExists(f"{str(output)!r} exists: name a new file") from None
    except OSError as error:
        raise InvalidInput(f"{str(output)!r} cannot be written: {error.strerror}") from error
    try:
        with file:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        output.unlink(missing_ok=True)
        raise


def _lines(found: "Verified") -> Iterable[str]:
    what = (
        f"{found.commits} commits with {found.events} events of {found.aggregates} things, "
        f"positions {found.first} to {found.position}"
    )
    if not found.found:
        yield f"Nothing is wrong: {what}"
    else:
        yield f"{found.found} finding{'s' if found.found > 1 else ''}: {what}"
        yield from (f"  {_place(one)}: {printable(one.what)}" for one in found.findings)
        if found.found > len(found.findings):
            yield f"  and {found.found - len(found.findings)} more"
        if found.source == "stream" and {one.kind for one in found.findings} - {"key", "kept"}:
            yield "What of it can be brought back from the archive: `mito events repair`"
    yield from _proof(found)
    if found.archived is not None:
        yield f"Compared with the archive up to position {found.archived}"
    if found.withheld:
        yield (
            f"Not checked: what {found.withheld} commits say of which parts were left out "
            "(hashes of passwords); their places are"
        )
    if found.end and not found.found:
        yield f"To be kept, and compared later: --checkpoint {found.end}"


def _place(finding: "Finding") -> str:
    if finding.first == finding.last:
        return f"position {finding.first}"
    return f"positions {finding.first} to {finding.last}"


def _proof(found: "Verified") -> Iterable[str]:
    """Say what is proved, and what is not."""
    names = ", ".join(one.key for one in found.keys if one.given)
    if found.proved:
        yield (
            f"Proved by checkpoints of {names}: the positions {found.proved_from} to "
            f"{found.proved} are what the holder of the key has stored"
        )
    elif names and not found.found:
        yield f"Proved: nothing. It could be from the one checkpoint of {names} on: none follows"
    elif names:
        yield (
            f"Proved: nothing. Checkpoints of {names} hold, but what stands before the first one "
            "is not what it signed"
        )
    elif found.checkpoints:
        yield (
            f"Proved: nothing. {found.checkpoints} checkpoints hold, but none of a key that you "
            "gave (--key): whoever wrote another history could have signed it with a key of his own"
        )
    else:
        yield "Proved: nothing. There is no checkpoint that holds"
    if found.unproved:
        yield f"Not proved: the last {found.unproved} commits, which no such checkpoint covers"
    if found.archived is None:
        yield (
            "Not shown: that nothing was cut off at the end; the archive shows it, or a checkpoint "
            "that was kept (--checkpoint)"
        )
    yield (
        "Not shown by any of this: that the coordinator, its clock and the holder of the key told "
        "the truth"
    )
