"""What operators run beside the services, with the services' own credentials and settings.

Like bootstrap.py, it is where settings, adapters and the work itself meet; every function imports
what it needs when it is called.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mitosis.bootstrap import nats_trust, objects_of, run
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load
from mitosis.config.section import without_password
from mitosis.errors import InvalidInput, Misconfigured, WrongState

if TYPE_CHECKING:
    from datetime import datetime

    from mitosis.nats.connection import Connection
    from mitosis.nats.store_client import StoreClient
    from mitosis.projections.archive import Archive
    from mitosis.projections.beside import History, Progress, Rebuilt
    from mitosis.projections.comparison import Compared
    from mitosis.projections.replay import Replayed
    from mitosis.services.backup.folder import Backup
    from mitosis.services.backup.restoring import BroughtBack
    from mitosis.services.backup.taking import Platform, Taken
    from mitosis.services.proof.findings import Verified
    from mitosis.services.proof.online import Exported, KeyList

T = TypeVar("T")


def rebuild_projections(config: CoordinatorConfig, progress: "Progress") -> "Rebuilt":
    """Build the read models anew from the stream; they serve all the time.

    Raises:
        CorruptData: Stream and archive differ, or the stream cannot be read.
        Unavailable: NATS or Postgres does not answer; nothing was changed.
        WrongState: Another rebuild or verification is under way.
    """
    from mitosis.projections.beside import rebuild

    return run(_with_history(config, lambda history: rebuild(config.database, history, progress)))


def verify_projections(config: CoordinatorConfig, progress: "Progress") -> "Compared":
    """Compare every row of the read models with what the stream makes; nothing is changed.

    Raises:
        As `rebuild_projections`.
    """
    from mitosis.projections.comparison import verify

    return run(_with_history(config, lambda history: verify(config.database, history, progress)))


def replay_events(
    config: CoordinatorConfig, moment: "datetime | int", into: str, progress: "Progress"
) -> "Replayed":
    """Build the read models of a moment in another database; nothing else is changed.

    Raises:
        As `projections.replay.replay`.
    """
    from mitosis.projections.replay import replay

    return run(
        _with_history(
            config, lambda history: replay(config.database, history, moment, into, progress)
        )
    )


async def _with_history(config: CoordinatorConfig, work: "Callable[[History], Awaitable[T]]") -> T:
    from mitosis.contract.subjects import EVENTS_STREAM
    from mitosis.projections.beside import History
    from mitosis.services.projector.decoding import decode
    from mitosis.services.projector.source import StreamSource

    async with connected(config, "mito-projections") as connection:
        source = StreamSource(connection, budget_seconds=30.0)
        return await work(History(source, decode, EVENTS_STREAM))


def verify_stream(
    config: CoordinatorConfig,
    keys: Sequence[Path],
    kept: Mapping[int, str],
    progress: "Progress",
    *,
    archive: bool = True,
) -> "Verified":
    """Check the whole stream, and that it is what the archive has.

    Args:
        config: Settings of the services.
        keys: Files with public keys; none: that of the settings, if it is there.
        kept: Running digests by position, as somebody kept them.
        progress: Told positions reached and wanted.
        archive: Whether to compare with the archive.

    Raises:
        Unavailable: NATS or Postgres does not answer.
        Misconfigured: A key that is none.
    """
    from mitosis.events.reader import EventReader
    from mitosis.projections.archive import Archive
    from mitosis.services.auth.public_keys import read
    from mitosis.services.proof.online import verify_stream
    from mitosis.services.proof.walk import Walk

    own = config.access_token_public_path
    given = [key for path in keys or ([own] if own.exists() else []) for key in read(path)]

    async def main() -> "Verified":
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(connected(config, "mito-events"))
            second = await Archive.look_at(config.database) if archive else None
            if second is not None:
                stack.push_async_callback(second.close)
            walk = Walk(given, kept)
            return await verify_stream(EventReader(connection.raw), second, walk, progress)

    return run(main())


def verify_export(
    path: Path, keys: Sequence[Path], kept: Mapping[int, str], *, first: int = 1
) -> "Verified":
    """Check an export, with nothing else; `first`: the position with which it must begin.

    Raises:
        CorruptData: It is no export.
        InvalidInput: It cannot be read.
        Misconfigured: A key that is none.
    """
    from mitosis.services.auth.public_keys import read
    from mitosis.services.proof.online import verify_export
    from mitosis.services.proof.walk import Walk

    walk = Walk([key for each in keys for key in read(each)], kept, start=first)
    try:
        with path.open("rb") as file:
            return verify_export(file, walk)
    except OSError as error:
        raise InvalidInput(f"{str(path)!r} cannot be read: {error.strerror or error}") from error


def export_events(
    config: CoordinatorConfig, first: int, last: int, write: "Callable[[bytes], object]"
) -> "Exported":
    """Write commits of the stream as lines, and say which are missing; `last` 0: to the end.

    Raises:
        NotFound: There is none. Unavailable: NATS does not answer.
    """
    from mitosis.events.reader import EventReader
    from mitosis.services.proof.online import export_stream

    async def main() -> "Exported":
        async with connected(config, "mito-events") as connection:
            return await export_stream(EventReader(connection.raw), first, last, write)

    return run(main())


def public_keys(config: CoordinatorConfig) -> "KeyList":
    """Return the keys that history tells, oldest first.

    Raises:
        Unavailable: NATS does not answer.
    """
    from mitosis.events.reader import EventReader
    from mitosis.services.proof.online import told_keys

    async def main() -> "KeyList":
        async with connected(config, "mito-events") as connection:
            return await told_keys(EventReader(connection.raw))

    return run(main())


@asynccontextmanager
async def connected(config: CoordinatorConfig, name: str) -> "AsyncIterator[Connection]":
    """Give a connection of a service to NATS."""
    from mitosis.nats.connection import Connection
    from mitosis.nats.credentials import ServiceLogin

    login = ServiceLogin(config.nats_user, config.nats_password)
    async with await Connection.open(
        config.nats_servers, login, name=name, trust=nats_trust(config)
    ) as connection:
        yield connection


def back_up(folder: Path, config: CoordinatorConfig) -> "Taken":
    """Back up a platform of separate services, which may run.

    Raises:
        MitosisError: As `services.backup.taking.take`; a key or a setting that cannot be read.
    """
    from mitosis.services.backup.taking import take

    secrets = _secrets(config)

    async def main() -> "Taken":
        async with _platform(config) as (platform, _):
            return await take(platform, folder, secrets)

    return run(main())


def back_up_data(folder: Path, data: Path) -> "Taken":
    """Back up a platform of `mito up`; if it does not run, its servers are run for that.

    Raises:
        MitosisError: As `services.backup.taking.take`; no such data folder.
    """
    from mitosis.services.backup.data_folder import is_running, secrets_of, servers_of
    from mitosis.services.backup.taking import take

    running = is_running(data)
    secrets = secrets_of(data)
    file = data.expanduser() / "config" / "coordinator.toml"

    async def main() -> "Taken":
        async with AsyncExitStack() as stack:
            if running:
                config = load(CoordinatorConfig, config=file).config
            else:
                config = await stack.enter_async_context(servers_of(data))
            platform, _ = await stack.enter_async_context(_platform(config))
            return await take(platform, folder, secrets)

    return asyncio.run(main())  # the servers are this loop's children


def restore_services(folder: Path, config: CoordinatorConfig) -> "BroughtBack":
    """Bring back what of a platform of separate services is lost.

    Raises:
        MitosisError: As `services.backup.restoring.restore`; the key is another one; a coordinator
            is at work.
    """
    from mitosis.services.backup.folder import Backup

    backup = Backup.open(folder)
    _require_key(config, backup)
    return run(_bring_back(config, backup))


def restore_data(folder: Path, data: Path) -> "BroughtBack":
    """Bring back a platform of `mito up`, into a new data folder or into the one it has.

    A new folder appears under its name when all is in it.

    Raises:
        MitosisError: As `services.backup.restoring.restore`; the folder is of another platform, or
            a platform runs in it.
    """
    from mitosis.services.backup.data_folder import place_of, put_secrets, servers_of
    from mitosis.services.backup.folder import Backup

    backup = Backup.open(folder)
    place = place_of(data)
    put_secrets(place, backup.secrets())

    async def main() -> "BroughtBack":
        async with servers_of(place) as config:
            return await _bring_back(config, backup)

    done = asyncio.run(main())  # the servers are this loop's children
    if place != data.expanduser().absolute():
        place.rename(data.expanduser().absolute())
    return done


async def _bring_back(config: CoordinatorConfig, backup: "Backup") -> "BroughtBack":
    from mitosis.events.streams import StreamDefinition, ensure_stream
    from mitosis.runtime import RandomIds
    from mitosis.services.backup.restoring import restore

    async with _platform(config) as (platform, connection):
        await require_no_coordinator(config, connection)
        await ensure_stream(platform.nc, StreamDefinition(replicas=config.replicas))
        await platform.objects.check()
        return await restore(platform, backup, RandomIds())


async def require_no_coordinator(config: CoordinatorConfig, connection: "Connection") -> None:
    """Refuse to go on while a coordinator is at work.

    Raises:
        WrongState: One is.
        Unavailable: NATS does not answer.
    """
    from mitosis.services.coordinator.leadership import active_term

    if await active_term(connection) is not None:
        raise WrongState(
            f"a coordinator is at work at {without_password(config.nats_url)}: stop all "
            "coordinators and projectors first"
        )


@asynccontextmanager
async def _platform(
    config: CoordinatorConfig,
) -> "AsyncIterator[tuple[Platform, Connection]]":
    from mitosis.events.reader import EventReader
    from mitosis.runtime import SystemClock
    from mitosis.services.backup.taking import Platform

    async with copies(config, "mito-backup") as (nc, archive, connection):
        objects = objects_of(config, patient=True)
        try:
            yield Platform(nc, EventReader(nc), archive, objects, SystemClock()), connection
        finally:
            await objects.close()


@asynccontextmanager
async def copies(
    config: CoordinatorConfig, name: str
) -> "AsyncIterator[tuple[StoreClient, Archive, Connection]]":
    """Give what reaches both copies of history: the store, the archive, and the services."""
    from mitosis.nats.credentials import ServiceLogin
    from mitosis.nats.dialling import tls_context
    from mitosis.nats.store_client import open_store_client
    from mitosis.projections.archive import Archive

    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connected(config, name))
        trust = nats_trust(config)
        nc = await open_store_client(
            config.nats_servers, ServiceLogin(config.nats_user, config.nats_password),
            name=f"{name}-store", tls=tls_context(trust, config.nats_servers), trust=trust,
        )  # fmt: skip
        stack.push_async_callback(nc.close)
        archive = await Archive.open(config.database)
        stack.push_async_callback(archive.close)
        yield nc, archive, connection


def _secrets(config: CoordinatorConfig) -> dict[str, bytes]:
    """The key pair, and all settings that are not the default, in one file."""
    from mitosis.config.effective import file_of
    from mitosis.services.auth.key_files import load_keys, load_private_key, pem_of

    private = config.access_token_private_path
    load_keys(private, config.access_token_public_path)
    return {
        "private.pem": pem_of(load_private_key(private)),
        "public.pem": config.access_token_public_path.read_bytes(),
        "config.toml": file_of(config).encode(),
    }


def _require_key(config: CoordinatorConfig, backup: "Backup") -> None:
    from mitosis.services.auth.key_files import load_private_key, pem_of

    path = config.access_token_private_path
    found = backup.secrets().get("private.pem")
    if pem_of(load_private_key(path)) != found:
        raise Misconfigured(
            f"the key in {path} is not that of the platform in the backup: sessions and the NATS "
            f"server hang on it. Copy {backup.path / 'secrets' / 'private.pem'} there, and write "
            "the configuration of NATS with it (`mito nats-config`)"
        )
