"""The data folder of `mito up`, to be backed up or restored: its servers and its secrets."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from mitosis.config.coordinator import CoordinatorConfig
from mitosis.errors import InvalidInput, Misconfigured
from mitosis.nats.server_config import write_private
from mitosis.services.platform.failures import FolderInUse
from mitosis.services.platform.folder import MARK, DataFolder
from mitosis.services.platform.options import PlatformSettings, RunningPlatform
from mitosis.services.platform.supervisor import Platform

SECRETS = ("private.pem", "public.pem", "services.json", "admin_password")


def is_running(path: Path) -> bool:
    """Whether a supervisor works in the folder now.

    Raises:
        FolderRefused: It is no data folder that this version may use.
        InvalidInput: There is none.
    """
    folder = DataFolder(path)
    if not (folder.path / MARK).exists():
        raise InvalidInput(f"{folder.path} is no data folder of `mito up`")
    try:
        folder.open()
    except FolderInUse:
        return True
    folder.close()
    return False


def place_of(path: Path) -> Path:
    """Where to restore: in the data folder itself, or beside it when it is still to be made.

    Raises:
        InvalidInput: There is something else.
    """
    path = path.expanduser().absolute()
    if (path / MARK).exists():
        return path
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
    if path.exists() or path.is_symlink():
        raise InvalidInput(f"{path} is neither empty nor a data folder of `mito up`: name another")
    return path.with_name(f"{path.name}.restoring")


def secrets_of(path: Path) -> dict[str, bytes]:
    """Names and contents of the files with keys and passwords.

    Raises:
        InvalidInput: One cannot be read.
    """
    folder = DataFolder(path).secrets
    try:
        return {name: (folder / name).read_bytes() for name in SECRETS}
    except OSError as error:
        raise InvalidInput(f"{error.filename} cannot be read: {error.strerror}") from error


def put_secrets(path: Path, secrets: Mapping[str, bytes]) -> None:
    """Give a data folder, new or of the same platform, its keys and passwords.

    Raises:
        InvalidInput: The backup is not one of a data folder.
        Misconfigured: The folder has other keys: it is another platform.
        FolderInUse: A platform runs in it.
        FolderRefused: It is neither empty nor a data folder that this version may use.
    """
    lacking = [name for name in SECRETS if name not in secrets]
    if lacking:
        raise InvalidInput(
            f"the backup lacks secrets/{lacking[0]}: it is one of separate services; restore it "
            "with --config"
        )
    folder = DataFolder(path)
    folder.open()
    try:
        for name in SECRETS:
            file = folder.secrets / name
            if not file.exists():
                write_private(file, secrets[name].decode())
            elif name != "admin_password" and file.read_bytes() != secrets[name]:
                raise Misconfigured(
                    f"{file} is not that of the backup: the folder holds another platform; "
                    "restore into a new folder"
                )
    finally:
        folder.close()


@asynccontextmanager
async def servers_of(path: Path) -> AsyncIterator[CoordinatorConfig]:
    """Run the servers of a data folder without coordinator and workers; gives their addresses.

    Raises:
        MissingExtra, FolderInUse, FolderRefused, ServerFailed: As `mito up`.
    """

    async def at_once(_: RunningPlatform) -> bool:
        return True

    settings = PlatformSettings(data=path, ready_check=at_once, children=lambda _: ())
    async with Platform(settings) as platform:
        running = platform.running
        if running is None:
            raise AssertionError("an entered platform runs")
        addresses, credentials = running.addresses, running.credentials
        yield CoordinatorConfig(
            db_url=addresses.database,
            s3_url=addresses.s3,
            s3_access_key=credentials.s3.access_key,
            s3_secret_key=credentials.s3.secret_key,
            nats_url=addresses.nats,
            nats_user=credentials.service.name,
            nats_password=credentials.service.password,
        )
