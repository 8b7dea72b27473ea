"""`mito events repair`: where settings, servers and the repair of history meet.

The event stream is made whole out of what is sound in it and in the archive. JetStream cannot
rename a stream: in a data folder its files are moved aside while the server is stopped; of servers
elsewhere the messages are copied, and the stream is deleted and made again by NATS's own API.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mitosis.bootstrap import run
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.errors import CorruptData, InvalidInput, WrongState
from mitosis.operations import copies, require_no_coordinator

if TYPE_CHECKING:
    from mitosis.services.auth.public_keys import PublicKey
    from mitosis.services.platform.folder import DataFolder
    from mitosis.services.repair.keeping import Kept
    from mitosis.services.repair.rebuild import Plan, Repaired
    from mitosis.services.repair.salvage import Sources
    from mitosis.services.repair.survey import Choices, Progress, Source, Survey


class Orders(NamedTuple):
    """What the operator has said.

    Attributes:
        yes: Repair; else only look.
        accept_loss: History may end before what is sound nowhere.
        trust: Whom to believe where nothing else tells which copy is right.
        keep: The folder for what there was before.
    """

    yes: bool = False
    accept_loss: bool = False
    trust: "Source | None" = None
    keep: Path | None = None


def repair_services(config: CoordinatorConfig, orders: Orders, progress: "Progress") -> "Repaired":
    """Repair the stream of separate services.

    Raises:
        MitosisError: As `repair_stream`.
    """
    return run(repair_stream(config, orders, progress))


async def repair_stream(
    config: CoordinatorConfig, orders: Orders, progress: "Progress"
) -> "Repaired":
    """Repair the stream of separate services.

    Raises:
        CorruptData: Something is sound nowhere, and no loss is accepted; or nothing tells which
            copy is right. Nothing was changed.
        InvalidInput: No folder was named, or it cannot be used.
        WrongState: A coordinator or a projector is at work.
        Unavailable: NATS or Postgres does not answer; run it again, it goes on where it was.
    """
    from mitosis.services.repair.keeping import Kept
    from mitosis.services.repair.rebuild import prepare, remove_stream

    async with _held(config) as sources:
        work = _Work(_keys(config.access_token_public_path), orders, progress)
        looked = await work.look(sources, orders.keep)
        if looked.told is not None:
            return looked.told
        if orders.keep is None:
            raise InvalidInput(
                "name a new folder by --keep: it gets what can be read of the stream before that "
                "is deleted"
            )
        kept = Kept.open(orders.keep)
        plan = await prepare(sources, looked.found, looked.choices, kept, copy_stream=True)
        if not plan.goes_on:
            await remove_stream(sources.nc)
        return await work.finish(sources, config, kept, plan)


def repair_data(data: Path, orders: Orders, progress: "Progress") -> "Repaired":
    """Repair the stream of a data folder of `mito up`, which does not run.

    Raises:
        FolderInUse: It runs. Others: as `repair_services`.
    """
    from mitosis.services.backup.data_folder import is_running, secrets_of, servers_of
    from mitosis.services.platform.folder import DataFolder
    from mitosis.services.repair.keeping import Kept, unfinished
    from mitosis.services.repair.rebuild import prepare

    if is_running(data):
        raise WrongState(f"the platform in {data} runs: stop it first")
    secrets_of(data)
    folder = DataFolder(data)
    places = folder.nats / "repaired"
    begun = unfinished(places)
    keep = orders.keep or begun or places / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"

    async def main() -> "Repaired":
        work = _Work(_keys(folder.secrets / "public.pem"), orders, progress)
        async with servers_of(data) as config, _held(config) as sources:
            looked = await work.look(sources, orders.keep or begun)
            if looked.told is not None:
                return looked.told
            kept = Kept.open(keep)
            plan = await prepare(sources, looked.found, looked.choices, kept, copy_stream=False)
            if plan.goes_on:
                return await work.finish(sources, config, kept, plan)
        _set_aside(folder, kept.path)
        async with servers_of(data) as config, _held(config) as sources:
            return await work.finish(sources, config, kept, plan)

    return asyncio.run(main())  # the servers are this loop's children


def _keys(path: Path) -> "Sequence[PublicKey]":
    from mitosis.services.auth.public_keys import read

    return read(path) if path.exists() else []


def _set_aside(folder: "DataFolder", keep: Path) -> None:
    """Move the files of the stream away, while no server runs on them."""
    from mitosis.contract.subjects import EVENTS_STREAM
    from mitosis.nats.server_config import PLATFORM_ACCOUNT

    folder.open()
    try:
        files = folder.nats / "jetstream" / PLATFORM_ACCOUNT / "streams" / EVENTS_STREAM
        if not files.exists():
            return
        target, number = keep / EVENTS_STREAM, 1
        while target.exists():  # of a repair that broke off
            number += 1
            target = keep / f"{EVENTS_STREAM}-{number}"
        files.rename(target)
        for changed in (keep, files.parent):
            descriptor = os.open(changed, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise InvalidInput(
            f"the files of the stream cannot be moved to {keep}: {error.strerror}: name a folder "
            "on the same disk by --keep"
        ) from error
    finally:
        folder.close()


@asynccontextmanager
async def _held(config: CoordinatorConfig) -> "AsyncIterator[Sources]":
    """Give both copies of history, with nobody else at work on them."""
    from mitosis.services.repair.salvage import Sources

    async with copies(config, "mito-repair") as (nc, archive, connection):
        await require_no_coordinator(config, connection)
        await archive.hold()
        yield Sources(nc, archive)


class _Looked(NamedTuple):
    """What was found; `told`: what the command says, if it does nothing."""

    found: "Survey"
    choices: "Choices"
    told: "Repaired | None"


class _Work:
    """The parts of a repair that both ways have in common."""

    def __init__(self, keys: "Sequence[PublicKey]", orders: Orders, progress: "Progress") -> None:
        self._keys, self._orders, self._progress = keys, orders, progress

    async def look(self, sources: "Sources", begun: Path | None) -> _Looked:
        """Look at both copies; `begun`: a folder in which a repair may have broken off."""
        from mitosis.services.repair.keeping import has_begun
        from mitosis.services.repair.rebuild import is_sound, result
        from mitosis.services.repair.survey import survey

        orders = self._orders
        found, choices = await survey(sources, self._keys, self._progress, orders.trust)
        sound = await is_sound(sources, found) and not has_begun(begun)
        if sound or not orders.yes:
            return _Looked(found, choices, result(found, sound=sound))
        if not found.is_lossless and not orders.accept_loss:
            raise CorruptData(
                f"history is whole up to position {found.position} only, of {found.known}: "
                f"{found.reasons[0]}. Nothing was changed. If a backup has it, restore that into "
                "empty stores; with --accept-loss history ends there, and all behind is given up",
                position=found.position,
                known=found.known,
                reasons=list(found.reasons),
            )
        return _Looked(found, choices, None)

    async def finish(
        self, sources: "Sources", config: CoordinatorConfig, kept: "Kept", plan: "Plan"
    ) -> "Repaired":
        """Fill the stream."""
        from mitosis.events.streams import StreamDefinition, ensure_stream
        from mitosis.runtime import RandomIds, SystemClock
        from mitosis.services.repair.rebuild import rebuild, result

        await ensure_stream(sources.nc, StreamDefinition(replicas=config.replicas))
        end = await rebuild(sources, plan, SystemClock(), RandomIds(), self._progress)
        kept.finish()
        return result(plan.told, sound=False, kept=str(kept.path), end=end)
