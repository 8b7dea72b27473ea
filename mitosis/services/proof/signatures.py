"""Checkpoints: what was signed against what is there, and by whom."""

from collections.abc import Iterable

from mitosis.domain.platform import CheckpointSigned, KeyRotated
from mitosis.events.chain import checkpoint_text
from mitosis.services.auth.public_keys import PublicKey, parse
from mitosis.services.proof.findings import Findings, KeySeen


class Signatures:
    """Follows the checkpoints of one walk.

    Attributes:
        proved: The last position up to which checkpoints of given keys vouch for everything.
        proved_from: The first position that they vouch for.
        valid: How many checkpoints hold, of whatever key.
        anchored: Whether the running digest is that of all that was read, from the first commit.
    """

    def __init__(self, findings: Findings, given: Iterable[PublicKey], start: int) -> None:
        """`start`: the first position of what is read."""
        self._findings = findings
        self._given = {key.id: key for key in given}
        self._told: dict[str, PublicKey] = {}
        self._key = ""  # the one that history tells last
        self._seen: dict[str, KeySeen] = {}
        self._shift = 0  # between where checkpoints stand and where they say to stand
        self._start, self._partial = start, start > 1
        self._whole = True  # nothing was found yet that was not what a checkpoint signed
        self.anchored = start == 1
        self._anchor = start - 1  # the last checkpoint: what is before it is what was signed
        self._foreign = (0, 0, "")  # first and last that only a key vouches for that was not given
        self.proved = self.proved_from = self.valid = 0
        self._proved_at = start - 1

    def told(self, position: int, event: KeyRotated) -> None:
        """Take note of a key that history tells."""
        key = parse(event.public_key)
        if key is None or key.id != event.key:
            self._findings.add(
                "key", f"the key that is told at position {position} is not {event.key}", position
            )
            return
        if event.former != self._key and not (self._partial and not self._key):
            self._findings.add(
                "key",
                f"the key told at position {position} follows {event.former or 'none'}, but the "
                f"one told before was {self._key or 'none'}",
                position,
            )
        self._told[key.id] = key
        self._key = key.id

    def check(self, position: int, event: CheckpointSigned, chain: str) -> str:
        """Check a checkpoint at a position; return the running digest before it to go on from."""
        key = self._given.get(event.key) or self._told.get(event.key)
        if key is None:
            self._note_foreign(event)
            if not self._partial:
                self._findings.add(
                    "key",
                    f"the key {event.key} of the checkpoint at position {position} was never told",
                    position,
                )
            return chain
        if not key.has_signed(
            checkpoint_text(event.position, event.count, event.digest), event.signature
        ):
            self._findings.add(
                "signature",
                f"the checkpoint at position {position} is not signed by its key {event.key}: it "
                "was changed, or put in",
                position,
            )
            return chain
        self._check_place(position, event)
        unknown = self._partial and not self.valid  # what stands before the first one read
        if unknown:
            self.anchored = True
        elif event.digest != chain:
            self._differs(position)
        if event.key not in self._given:
            self._note_foreign(event)
        elif self._whole:
            self._vouch(position, unknown=unknown)
        self.valid += 1
        self._anchor = position
        seen = self._seen.setdefault(event.key, KeySeen(event.key, event.key in self._given, 0))
        seen.checkpoints += 1
        return event.digest

    def finish(self) -> None:
        """Say what nobody vouches for whose key was given."""
        first, last, key = self._foreign
        if self._given and last:
            self._findings.add(
                "key",
                f"only the key {key} vouches for the positions {first} to {last}, which is not one "
                "that you gave: get it from the operator and give it too (--key)",
                first,
                last,
            )

    def unproved(self, position: int) -> int:
        """Return how many commits up to a position are behind the last proof."""
        return max(0, position - self._proved_at)

    def keys(self) -> list[KeySeen]:
        """Return the keys of the checkpoints that hold."""
        return list(self._seen.values())

    def _vouch(self, position: int, *, unknown: bool) -> None:
        self._proved_at = position
        self._foreign = (0, 0, "")
        if unknown:
            self.proved_from = position
        else:
            self.proved = position - 1
            self.proved_from = self.proved_from or self._start

    def _check_place(self, position: int, event: CheckpointSigned) -> None:
        shift = position - 1 - event.position
        if shift != self._shift or event.count != event.position:
            self._findings.add(
                "checkpoint",
                f"the checkpoint at position {position} was signed behind position "
                f"{event.position} and {event.count} commits: some before it were removed, put in "
                "or moved",
                max(self._anchor, self._start),
                position,
            )
        self._shift = shift

    def _differs(self, position: int) -> None:
        self._whole = self.anchored = False
        first = max(self._anchor, self._start)
        self._findings.add(
            "checkpoint",
            f"what stands at the positions {first} to {position - 1} is not what the "
            f"checkpoint at position {position} signed: something was changed, removed, put in or "
            "moved there",
            first,
            position - 1,
        )

    def _note_foreign(self, event: CheckpointSigned) -> None:
        first = self._foreign[0] or self.proved + 1
        self._foreign = (first, max(event.position, first), event.key)
