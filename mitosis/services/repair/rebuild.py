"""From the survey to a whole stream, in steps that may break off anywhere and are run again.

    keep what is there  ->  archive whole  ->  damaged stream away  ->  new stream, but for its last
    commit  ->  read back and compared  ->  last commit and StreamRepaired, in one atomic batch

Until that batch the stream is shorter than its archive, with which nobody starts to serve.
"""

from typing import Any, NamedTuple

import msgspec

from mitosis._version import __version__
from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.domain.platform import StreamRepaired
from mitosis.errors import CorruptData, InvalidInput
from mitosis.events import chain as chains
from mitosis.events.envelope import decode_commit, digest
from mitosis.events.messages import STREAM_NOT_FOUND, JetStreamError, request
from mitosis.events.reader import EventReader
from mitosis.events.verify import Link
from mitosis.events.writer import Append, PipelinedWriter
from mitosis.nats.store_client import StoreClient
from mitosis.projections.archive import Archive
from mitosis.projections.commit import RawCommit
from mitosis.runtime import Clock, Ids
from mitosis.services.backup.ending import PLATFORM, ending
from mitosis.services.repair.keeping import Kept
from mitosis.services.repair.salvage import Sources, salvaged, stream_end
from mitosis.services.repair.survey import Choices, Progress, Survey

DELETE_SECONDS = 30.0


class Repaired(msgspec.Struct, frozen=True):
    """What a repair has found and done.

    Attributes:
        sound: Nothing is wrong; nothing was done.
        done: The stream was repaired.
        known: The last position that was known to have been there.
        position: History is whole up to here.
        missing: How many of these positions the stream lacked.
        changed: How many of them were another commit in the stream.
        archive: How many commits of the archive were missing or changed.
        lost: How many positions behind are lost, for no sound copy of the first of them is left.
        cut: How many of these can be read still, but prove nothing.
        reasons: Why they are lost.
        differ: Where stream and archive differed: the first positions.
        kept: The folder with what there was before; empty: nothing was changed.
        end: The last position of the stream after the repair, with the event that tells of it.
    """

    sound: bool
    done: bool
    known: int
    position: int
    missing: int
    changed: int
    archive: int
    lost: int
    cut: int
    reasons: tuple[str, ...]
    differ: tuple[int, ...]
    kept: str = ""
    end: int = 0


class Plan(NamedTuple):
    """What is to be made.

    Attributes:
        position, digest: The end of history, and the running digest there.
        told: What is to be told of it: the first survey, also after a repair that broke off.
        goes_on: The stream is right as far as it goes, and needs only what is missing behind.
    """

    position: int
    digest: str
    told: Survey
    goes_on: bool


def result(found: Survey, *, sound: bool, kept: str = "", end: int = 0) -> Repaired:
    """Return what a survey says; `end`: of the stream after a repair."""
    return Repaired(
        sound, bool(end), found.known, found.position, found.missing, found.changed,
        found.archive, found.known - found.position, found.cut, found.reasons, found.differ,
        kept, end,
    )  # fmt: skip


async def is_sound(sources: Sources, found: Survey) -> bool:
    """Whether the stream has all that is known, and the archive is right as far as it goes."""
    counted, _ = await sources.ends()
    return counted == found.prefix == found.known and not found.archive


async def prepare(
    sources: Sources, found: Survey, choices: Choices, kept: Kept, *, copy_stream: bool
) -> Plan:
    """Keep what there is, and make the archive whole.

    Args:
        sources: Stream and archive.
        found: The survey of now.
        choices: Those with which it was made.
        kept: Gets what is changed or cut.
        copy_stream: Whether the messages of a stream that goes away are to be copied.

    Raises:
        InvalidInput: The folder cannot be written.
        Unavailable: NATS or Postgres does not answer.
    """
    counted, _ = await sources.ends()
    goes_on = 0 < counted == found.prefix <= found.position
    try:
        if kept.note is None and copy_stream and not goes_on:
            await kept.add_stream(salvaged(sources.nc, counted))
        told = kept.begin(found)
        await _complete(sources, found, choices, kept)
    except OSError as error:
        raise InvalidInput(f"{kept.path} cannot be written: {error.strerror or error}") from error
    return Plan(found.position, found.digest, told, goes_on)


async def _complete(sources: Sources, found: Survey, choices: Choices, kept: Kept) -> None:
    archive = sources.archive
    async for window in choices.along(sources, found.position):
        lacking: list[RawCommit] = []
        wrong: list[RawCommit] = []
        former: list[RawCommit] = []
        for copies, commit in window:
            if commit is None:
                raise CorruptData(f"position {copies.position} was there a moment ago: try again")
            if copies.archived is None:
                lacking.append((copies.position, *commit))
            elif copies.archived != commit or not copies.is_archived_well:
                wrong.append((copies.position, *commit))
                former.append((copies.position, *copies.archived))
        if wrong:
            kept.add_archive(former)
            await archive.amend(wrong, _digests(wrong))
        if lacking:
            await archive.add(lacking, _digests(lacking))
    last, at = await archive.last_position(), found.position
    if last <= at:
        return
    while rows := await archive.read(at + 1, last):
        kept.add_archive(rows)
        at = rows[-1][0]
    await archive.cut(found.position)


def _digests(commits: list[RawCommit]) -> list[str]:
    return [digest(subject, payload) for _, subject, payload in commits]


async def remove_stream(nc: StoreClient) -> None:
    """Delete the damaged stream, whose messages were kept.

    Raises:
        StoreUnavailable: The server does not do it.
    """
    try:
        await request(nc, f"$JS.API.STREAM.DELETE.{EVENTS_STREAM}", timeout=DELETE_SECONDS)
    except JetStreamError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise


async def rebuild(sources: Sources, plan: Plan, clock: Clock, ids: Ids, progress: Progress) -> int:
    """Fill the stream, which is there and right as far as it goes; return its last position.

    Raises:
        CorruptData: What was written reads otherwise, or the archive has changed meanwhile.
        Unavailable: NATS or Postgres does not answer; run it again, it goes on where it was.
    """
    nc, archive = sources.nc, sources.archive
    start = await stream_end(nc)
    if start > plan.position:
        raise CorruptData(
            f"the stream goes on to {start} behind {plan.position}: somebody else has written to "
            "it. Stop all coordinators and run it again",
            position=start,
        )
    writer: Any = await PipelinedWriter.open(nc, EVENTS_STREAM, start)
    try:
        filling = _Filling(archive, writer, plan.position, start)
        await filling.run(progress)
        if filling.chain != plan.digest:
            raise CorruptData("the archive has changed meanwhile: run it again")
        await _read_back(nc, filling.filled, filling.filled_chain)
        await archive.forget_views()
        return await filling.end(_event(plan), clock, ids)
    finally:
        await writer.close()


class _Filling:
    """Brings commits from the archive into the stream, all but the last one."""

    def __init__(
        self, archive: Archive, writer: PipelinedWriter, position: int, start: int
    ) -> None:
        self._archive, self._writer = archive, writer
        self._position, self._start = position, start
        self._last_of: dict[str, int] = {}
        self._link = Link(0, "")
        self._held: list[Append] = []
        self.chain = self.filled_chain = chains.START
        self.filled = min(start, position)

    async def run(self, progress: Progress) -> None:
        """Store all but the last one."""
        at = 0
        while at < self._position:
            rows = await self._archive.read(at + 1, min(at + 250, self._position))
            if not rows or rows[0][0] != at + 1:
                raise CorruptData(f"the archive lacks position {at + 1}: run it again")
            appends = [one for row in rows if (one := self._take(row)) is not None]
            if appends:
                await self._writer.submit_batch(appends)[1]
            at = rows[-1][0]
            progress(at, self._position)

    def _take(self, row: RawCommit) -> Append | None:
        position, subject, payload = row
        each = digest(subject, payload)
        self.chain = chains.extend(self.chain, each)
        if subject == PLATFORM:
            self._link = Link(decode_commit(subject, payload, position).last_version, each)
        append = Append(subject, payload, self._last_of.get(subject, 0))
        self._last_of[subject] = position
        if position <= self._start or position < self._position:
            self.filled, self.filled_chain = position, self.chain
            return append if position > self._start else None
        self._held = [append]
        return None

    async def end(self, event: StreamRepaired, clock: Clock, ids: Ids) -> int:
        """Store the last one with the event; return the position of the end."""
        payloads = ending(self._link, event, "system:repair", clock.now(), ids)
        expected = self._last_of.get(PLATFORM, 0)
        appends = [*self._held, *(Append(PLATFORM, payload, expected) for payload in payloads)]
        return await self._writer.submit_batch(appends)[1]


async def _read_back(nc: StoreClient, last: int, chain: str) -> None:
    """Compare what the server gives with what was brought to it."""
    found, at = chains.START, 0
    if last:
        async for batch in EventReader(nc).batches(follow=False):
            for _, subject, payload in batch:
                found = chains.extend(found, digest(subject, payload))
            at = batch[-1].position
    if (at, found) != (last, chain):
        raise CorruptData(
            f"the new stream reads otherwise than it was written, up to position {at} instead of "
            f"{last}: look at the disk of NATS, then run it again",
            position=at,
        )


def _event(plan: Plan) -> StreamRepaired:
    told = plan.told
    lost = told.known > plan.position
    return StreamRepaired(
        position=plan.position, digest=plan.digest, missing=told.missing, changed=told.changed,
        archive=told.archive, lost_from=plan.position + 1 if lost else 0,
        lost_to=told.known if lost else 0, cut=told.cut, version=__version__,
    )  # fmt: skip
