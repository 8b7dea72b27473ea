"""One walk over history, from its first commit to its last, which collects what is wrong.

After a finding it goes on with what is there: one change is one finding and what it entails.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mitosis.contract import subjects
from mitosis.domain.event import Event
from mitosis.domain.platform import CheckpointSigned, KeyRotated
from mitosis.errors import CorruptData
from mitosis.events import chain as chains
from mitosis.events.catalogue import decode_event
from mitosis.events.envelope import Commit, decode_commit
from mitosis.services.auth.public_keys import PublicKey
from mitosis.services.proof.chains import Chains
from mitosis.services.proof.findings import Findings, Verified
from mitosis.services.proof.signatures import Signatures

_PREFIX = subjects.EVENTS + "."


class Message(NamedTuple):
    """A stored message.

    Attributes:
        position, subject, payload: As stored; without the parts that were withheld.
        digest: Of the message as stored, or as the export tells it.
        withheld: Something was left out.
    """

    position: int
    subject: str
    payload: bytes
    digest: str
    withheld: bool = False


class Walk:
    """Checks numbers, chains, the fold, checkpoints and checkpoints that somebody kept."""

    def __init__(
        self,
        keys: Iterable[PublicKey] = (),
        kept: Mapping[int, str] | None = None,
        *,
        start: int = 1,
    ) -> None:
        """Begin.

        Args:
            keys: Those that the caller trusts.
            kept: Running digests by position, as somebody kept them.
            start: The first position that must be there; what is before it is not known.
        """
        self.findings = Findings()
        self._chains = Chains(self.findings, partial=start > 1)
        self._signatures = Signatures(self.findings, keys, start)
        self._kept = dict(kept or {})
        self._start = start
        self._chain = chains.START
        self._first = self._events = self._withheld = self._commits = 0
        self.position = start - 1

    def take(self, message: Message) -> None:
        """Check the next message."""
        position = message.position
        self._check_number(position)
        before = self._chain
        self._chain = chains.extend(before, message.digest)
        self._commits += 1
        self._withheld += message.withheld
        self._check_content(message, before)
        kept = self._kept.pop(position, None)
        if kept is not None and not (self._signatures.anchored and kept == self._chain):
            self.findings.add(
                "kept",
                f"up to position {position} history is not what it was when the checkpoint "
                f"{position}:{kept} was kept",
                self._start,
                position,
            )

    def lost(self, first: int, last: int, why: str) -> None:
        """Note positions that cannot be read, and pass over them."""
        self.findings.add("number", why, first, last)
        self.position = last

    def finish(self, source: str, archived: int | None = None) -> Verified:
        """Return what was found; `archived`: how far the archive was compared."""
        for position in sorted(self._kept):
            self.findings.add(
                "kept",
                f"history ends at position {self.position}; it went to {position} at least when "
                f"the checkpoint {position}:{self._kept[position]} was kept",
                self.position + 1,
                position,
            )
        signatures = self._signatures
        signatures.finish()
        proved = signatures.proved
        return Verified(
            source, self._first, self.position, self._commits, self._events,
            self._chains.aggregates, signatures.valid, proved and signatures.proved_from, proved,
            signatures.unproved(self.position), archived, self._withheld, signatures.keys(),
            f"{self.position}:{self._chain}" if signatures.anchored else "",
            self.findings.count, self.findings.kept,
        )  # fmt: skip

    def _check_number(self, position: int) -> None:
        wanted = self.position + 1
        self._first = self._first or position
        if position > wanted:
            missing = f"position {wanted} is" if position == wanted + 1 else (
                f"the positions {wanted} to {position - 1} are"
            )  # fmt: skip
            self.findings.add("number", f"{missing} missing", wanted, position - 1)
        elif position < wanted:
            self.findings.add(
                "number",
                f"position {position} comes after position {self.position}: repeated or moved",
                position,
            )
        self.position = max(position, self.position)

    def _check_content(self, message: Message, before: str) -> None:
        position, subject = message.position, message.subject
        if not subject.startswith(_PREFIX):
            self.findings.add(
                "unreadable", f"position {position} has the subject {subject[:200]!r}", position
            )
            return
        tail = subject[len(_PREFIX) :]
        try:
            commit, events = _read(message)
        except CorruptData as error:
            why = error.__cause__ or error.message
            self.findings.add(
                "unreadable", f"the commit at position {position} cannot be read: {why}", position
            )
            self._chains.unreadable(tail)
            return
        self._events += len(events)
        self._chains.take(tail, position, commit, events, message.digest)
        if tail == subjects.PLATFORM_TAIL:
            for event in events:
                if isinstance(event, KeyRotated):
                    self._signatures.told(position, event)
                elif isinstance(event, CheckpointSigned):
                    before = self._signatures.check(position, event, before)
            # Behind a checkpoint that was signed over something else, go on from what was signed.
            self._chain = chains.extend(before, message.digest)


def _read(message: Message) -> tuple[Commit, list[Event]]:
    commit = decode_commit(message.subject, message.payload, message.position)
    return commit, [decode_event(topic, body) for topic, body in commit.events]
