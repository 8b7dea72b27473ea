"""Which copy of each commit is the right one, and what is lost.

Where stream and archive differ the choice is made, in this order, by: the digest that the archive
noted when it got the commit; the next commit of the aggregate, which names the digest of the right
one; and a walk over all of history (services/proof) with either copy, of which only one can agree
with the signed checkpoints. What none of these decides is decided by the operator, or by nobody.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal, NamedTuple

import msgspec

from mitosis.errors import CorruptData
from mitosis.events import chain as chains
from mitosis.events.envelope import decode_commit, digest
from mitosis.services.auth.public_keys import PublicKey
from mitosis.services.proof.walk import Message, Walk
from mitosis.services.repair.salvage import Copies, Sources

Source = Literal["stream", "archive"]
Progress = Callable[[int, int], None]

MOST_DIFFERENT = 10_000
"""More differences are no damage: these are not two copies of one history."""
NAMED = 20
_HARMLESS = "key"  # a checkpoint of a key that was not given says nothing about what is stored


class Chosen(NamedTuple):
    """A position with its right commit; None: it is nowhere."""

    copies: Copies
    commit: tuple[str, bytes] | None


class Survey(msgspec.Struct, frozen=True):
    """What a look at both copies has shown.

    Attributes:
        known: The last position that is known to have been there.
        position: History is whole up to here, from both copies together.
        digest: The running digest up to there.
        missing: How many of these positions the stream lacks.
        changed: How many of them are another commit in the stream.
        prefix: Up to here the stream has the right ones.
        archive: How many of them the archive lacks in between, or does not have as they were.
        proved: Checkpoints of the given keys vouch for everything up to here.
        cut: How many of the positions behind can be read still.
        reasons: Why nothing behind can be used: the first ones.
        differ: Where stream and archive differ: the first positions.
    """

    known: int
    position: int
    digest: str
    missing: int
    changed: int
    prefix: int
    archive: int
    proved: int
    cut: int
    reasons: tuple[str, ...] = ()
    differ: tuple[int, ...] = ()

    @property
    def is_lossless(self) -> bool:
        """Whether everything that is known to have been there can be brought back."""
        return self.position == self.known


class Choices:
    """How to choose between two copies: what was decided, and whom to trust else."""

    def __init__(self, trust: Source, decided: dict[int, Source] | None = None) -> None:
        self._trust, self.decided = trust, decided or {}

    def choose(self, copies: Copies) -> tuple[str, bytes] | None:
        """Return the right commit of a position."""
        sound = copies.sound
        if len(sound) < 2:
            return sound[0] if sound else None
        source = self.decided.get(copies.position, self._trust)
        return sound[0] if source == "stream" else sound[1]

    async def along(self, sources: Sources, last: int) -> AsyncIterator[list[Chosen]]:
        """Yield the positions from 1 to `last` with the commit of each."""
        async for window in sources.windows(last):
            yield [Chosen(copies, self.choose(copies)) for copies in window]


async def survey(
    sources: Sources,
    keys: Iterable[PublicKey],
    progress: Progress,
    trust: Source | None = None,
) -> tuple[Survey, Choices]:
    """Look at both copies and decide; nothing is changed.

    Args:
        sources: Stream and archive.
        keys: Those that sign checkpoints.
        progress: Told positions reached and wanted.
        trust: Whom the operator believes where nothing else decides.

    Raises:
        CorruptData: They are not copies of one history, or nothing tells which one is right.
        Unavailable: NATS or Postgres does not answer.
    """
    keys = list(keys)
    known = max(await sources.ends())
    evidence = _Evidence()
    look = _Look(sources, keys, known, progress)
    choices = Choices(trust or "archive")
    found = await look.along(choices, evidence)
    if evidence.differ:
        choices = Choices(trust or "archive", evidence.decided)
        found = await look.along(choices)
        undecided = [p for p in evidence.differ if p not in evidence.decided]
        if undecided and trust is None:
            other = Choices("stream", evidence.decided)
            instead = await look.along(other)
            if found.is_lossless == instead.is_lossless:
                raise _undecided(undecided)
            if instead.is_lossless:
                found, choices = instead, other
            if open_still := [p for p in undecided if p > found.proved]:
                raise _undecided(open_still)
    whole = found
    while not whole.is_lossless:  # the same again, to where it is whole
        whole = await _Look(sources, keys, whole.position, progress).along(choices)
    return msgspec.structs.replace(
        whole,
        known=known,
        cut=found.cut + found.position - whole.position,
        reasons=found.reasons,
        differ=tuple(evidence.differ[:NAMED]),
    ), choices


class _Evidence:
    """Positions at which the copies differ, and what later commits say of them."""

    def __init__(self) -> None:
        self.differ: list[int] = []
        self.decided: dict[int, Source] = {}
        self._open: dict[str, Copies] = {}  # by subject: its last commit, if there are two of it

    def take(self, copies: Copies) -> None:
        """Take the next position."""
        sound = copies.sound
        for subject, payload in sound:
            if subject in self._open:
                self._confirm(self._open[subject], subject, payload)
        for subject, _ in sound:
            self._open.pop(subject, None)
        if len(sound) < 2:
            return
        self.differ.append(copies.position)
        if len(self.differ) > MOST_DIFFERENT:
            raise CorruptData(
                f"stream and archive differ at more than {MOST_DIFFERENT} positions, first at "
                f"{self.differ[0]}: they are not copies of one history. Correct nats_url or db_url"
            )
        self._open |= {subject: copies for subject, _ in sound}

    def _confirm(self, before: Copies, subject: str, payload: bytes) -> None:
        try:
            previous = decode_commit(subject, payload).previous
        except CorruptData:
            return
        of_stream, of_archive = (digest(*each) for each in before.sound)
        if previous in (of_stream, of_archive):
            self.decided[before.position] = "stream" if previous == of_stream else "archive"


class _Look:
    """One walk over history with given choices."""

    def __init__(
        self, sources: Sources, keys: list[PublicKey], last: int, progress: Progress
    ) -> None:
        self._sources, self._keys, self._last = sources, keys, last
        self._progress = progress

    async def along(self, choices: Choices, evidence: _Evidence | None = None) -> Survey:
        """Walk up to the first position that is nowhere, and count what each place lacks."""
        walk, count = Walk(self._keys), _Count()
        async for window in choices.along(self._sources, self._last):
            for copies, commit in window:
                if evidence is not None:
                    evidence.take(copies)
                count.take(copies, commit)
                if commit is not None and not count.lost:
                    each = digest(*commit)
                    count.chain = chains.extend(count.chain, each)
                    walk.take(Message(copies.position, *commit, each))
            self._progress(window[-1].copies.position, self._last)
        return self._result(walk, count)

    def _result(self, walk: Walk, count: "_Count") -> Survey:
        proved = walk.finish("stream").proved
        found = [one for one in walk.findings.kept if one.kind != _HARMLESS]
        position = min([one.first - 1 for one in found] + [(count.lost or self._last + 1) - 1])
        reasons = [one.what for one in found]
        if count.lost:
            more = f", nor are {count.nowhere - 1} behind it" if count.nowhere > 1 else ""
            reasons.append(
                f"position {count.lost} is neither in the stream nor in the archive{more}"
            )
        return Survey(
            self._last, position, count.chain, count.missing, count.changed,
            self._last if count.prefix is None else count.prefix, count.archive,
            proved, self._last - position - count.nowhere, tuple(reasons[:NAMED]),
        )  # fmt: skip


class _Count:
    """What stream and archive lack."""

    def __init__(self) -> None:
        self.chain = chains.START
        self.missing = self.changed = self.archive = self._behind = 0
        self.lost = self.nowhere = 0  # the first position that is nowhere, and how many are
        self.prefix: int | None = None

    def take(self, copies: Copies, commit: tuple[str, bytes] | None) -> None:
        """Take the next position."""
        if commit is None:
            self.lost = self.lost or copies.position
            self.nowhere += 1
        if commit is None or copies.streamed != commit:
            if self.prefix is None:
                self.prefix = copies.position - 1
            self.missing += copies.streamed is None
            self.changed += copies.streamed is not None
        if copies.archived is None:
            self._behind += 1  # at the end it is not archived yet, else it is missing
        else:
            self.archive += self._behind
            self.archive += copies.archived != commit or not copies.is_archived_well
            self._behind = 0


def _undecided(positions: list[int]) -> CorruptData:
    named = ", ".join(map(str, positions[:NAMED]))
    return CorruptData(
        f"stream and archive differ at {len(positions)} positions ({named}), and no digest, later "
        "commit or checkpoint tells which one is right. Compare them (`mito events export --from "
        "POSITION`, table archive.commits), check that nats_url and db_url belong together, and "
        "say whom to believe: --trust stream or --trust archive",
        positions=positions[:NAMED],
    )
