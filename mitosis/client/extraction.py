"""Archives unpacked where the user wants them: whole, or not at all."""

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from mitosis.artifacts.transfer import Stopper, Transfers
from mitosis.artifacts.unpack import Unpacked, unpack
from mitosis.client.downloads import Downloaded, Link, download
from mitosis.client.threads import Progress, in_thread
from mitosis.domain.durations import format_size
from mitosis.errors import InvalidInput, TooLarge


def target_folder(output: Path | str | None) -> Path:
    """Return the folder to unpack to, which is made if only it is missing.

    Raises:
        InvalidInput: What is there is no folder, or it cannot be made.
    """
    folder = Path(output) if output is not None else Path()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        why = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
        raise InvalidInput(f"cannot unpack to {folder}: {why}", field="output") from error
    return folder


async def download_and_extract(
    transfers: Transfers,
    find: Callable[[], Awaitable[Link]],
    folder: Path,
    top: str,
    *,
    max_bytes: int,
    progress: Progress | None = None,
) -> Downloaded:
    """Fetch an archive and unpack it. An error, or an interruption, leaves nothing of it.

    Args:
        transfers: How hard it is tried.
        find: Asks for a link.
        folder: Gets what the archive holds; nothing that exists in it is touched.
        top: The usual name in the archive: when it exists already, nothing is fetched.
        max_bytes: What may be unpacked at most.
        progress: Told bytes so far and bytes of all.

    Raises:
        TooLarge: It unpacks to more than is allowed.
        CorruptData: No archive, damaged, with a name that leads out of it, or not what was stored.
        InvalidInput: Something of it exists already, or cannot be written.
        ObjectsUnavailable: The store does not give it.
        MitosisError: Whatever `find` raises.
    """
    _refuse_existing(folder, [top])
    try:
        room = Path(tempfile.mkdtemp(prefix=".mito-extract-", dir=folder))
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        archive, content = room / "archive", room / "content"
        done = await download(transfers, find, archive, progress)

        def work(stop: Stopper) -> Unpacked:
            unpacked = unpack(archive, content, max_bytes=max_bytes, stop=stop)
            _move(content, folder)
            return unpacked

        unpacked = await in_thread(work)
    except TooLarge as error:
        raise TooLarge(
            f"{error}; unpacking is limited to {format_size(max_bytes)}: allow more, or keep the "
            "archive as it is",
            limit=max_bytes,
        ) from error
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(room)
    return Downloaded(done.size_bytes, done.sha256, str(folder), extracted=unpacked)


def _move(content: Path, folder: Path) -> None:
    found = list(content.iterdir())
    _refuse_existing(folder, [path.name for path in found])
    for path in found:
        path.rename(folder / path.name)


def _refuse_existing(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        if path.exists() or path.is_symlink():
            raise InvalidInput(
                f"{path} exists already: move it away, or name another folder", field="output"
            )


def _cannot_write(folder: Path, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"cannot unpack to {folder}: {error.strerror or error}; nothing of the archive is left "
        "there",
        field="output",
    )
