"""`mito backup`, `mito restore`: the whole platform into a folder, and back."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mitosis.cli.exit_codes import DONE, FAILED
from mitosis.cli.invocation import UsageError
from mitosis.cli.output.screen import note, show
from mitosis.cli.parameters import ConfigPath
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load

if TYPE_CHECKING:
    from mitosis.services.backup.folder import Missing
    from mitosis.services.backup.restoring import BroughtBack


def backup(folder: Path, /, *, config: ConfigPath = None, data: Path | None = None) -> int:
    """Back up the whole platform, which may run: events, files, keys and settings.

    Status 1: the backup is there, but the store lacks files that events name. After an error run
    it again with the same folder: what was fetched is used.

    Args:
        folder: A new folder for the backup. It will hold keys and passwords, for you only.
        config: The config file of the coordinator.
        data: Instead of that: the data folder of `mito up`, which may run or not.
    """
    from mitosis.operations import back_up, back_up_data

    _one_of(config, data)
    if data is not None:
        done = back_up_data(folder, data)
    else:
        done = back_up(folder, load(CoordinatorConfig, config=config).config)
    show(
        done,
        lambda: [
            f"{done.path}: everything up to position {done.position}, {done.objects} files with "
            f"{done.object_bytes} B",
            *_missing(done.missing, done.named, "are not in the store as their events say"),
        ],
    )
    return FAILED if done.missing else DONE


def restore(folder: Path, /, *, config: ConfigPath = None, data: Path | None = None) -> int:
    """Bring back from a backup what of a platform is lost. Nothing that is there is undone.

    Stop the coordinators and projectors first. Events that are newer than the backup are brought
    back too where stream or archive still have them. Status 1: files are lost for good. After an
    error run it again: it goes on where it was.

    Args:
        folder: A folder that `mito backup` has made.
        config: The config file of the coordinator.
        data: Instead of that: the data folder of `mito up`, new or of the same platform.
    """
    from mitosis.operations import restore_data, restore_services

    _one_of(config, data)
    if data is not None:
        done = restore_data(folder, data)
    else:
        done = restore_services(folder, load(CoordinatorConfig, config=config).config)
    show(done, lambda: _lines(done))
    if done.unknown:
        note(
            f"{done.unknown} files in the store belong to no event, such as uploads that are newer "
            "than the history. The coordinator removes them an hour after they were stored: copy "
            "what you need before you start it"
        )
    return FAILED if done.missing else DONE


def _lines(done: "BroughtBack") -> Iterable[str]:
    yield (
        f"The history is there up to position {done.position}: {done.commits} commits were added "
        f"to the stream, {done.archived} to the archive, {done.objects} files to the store"
    )
    yield from _missing(done.missing, done.named, "are neither in the store nor in the backup")
    yield from (f"  {name} belongs to no event" for name in done.unknown_named)


def _missing(count: int, named: "Iterable[Missing]", what: str) -> Iterable[str]:
    if count:
        yield f"{count} files {what}:"
        yield from (f"  {one.bucket}/{one.name}: {one.reason}" for one in named)


def _one_of(config: Path | None, data: Path | None) -> None:
    if config is not None and data is not None:
        raise UsageError("--config and --data exclude each other")
