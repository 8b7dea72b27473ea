"""What a verification finds and says."""

import msgspec

SHOWN = 100


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it was stored.

    Attributes:
        first, last: Where: one position, or the first and the last of an interval in which it is.
        kind: `unreadable`, `number`, `chain`, `fold`, `checkpoint`, `signature`, `key`, `archive`,
            `kept` (a checkpoint that was given) or `withheld`.
        what: A sentence.
    """

    first: int
    last: int
    kind: str
    what: str


class KeySeen(msgspec.Struct):
    """A key that has signed checkpoints.

    Attributes:
        key: Its id.
        given: Whether it is one of those that were given.
        checkpoints: How many it has signed, rightly.
    """

    key: str
    given: bool
    checkpoints: int


class Verified(msgspec.Struct):
    """What a walk over history has shown.

    Attributes:
        source: `stream` or `export`.
        first, position: The first and the last position that were seen; 0: none.
        commits, events, aggregates: How many.
        checkpoints: How many hold, whoever signed them.
        proved_from, proved: The positions that checkpoints of given keys vouch for; 0: none.
        unproved: How many commits are behind that.
        archived: The last position that was compared with the archive; null: none was asked.
        withheld: Of how many commits parts were left out, whose digests cannot be checked.
        keys: The keys of the checkpoints.
        end: The running digest at the end as `POSITION:DIGEST`, to be kept and given as
            `--checkpoint`; empty when it is not that of all history.
        found: How many findings there are.
        findings: The first of them.
    """

    source: str
    first: int
    position: int
    commits: int
    events: int
    aggregates: int
    checkpoints: int
    proved_from: int
    proved: int
    unproved: int
    archived: int | None
    withheld: int
    keys: list[KeySeen]
    end: str
    found: int
    findings: list[Finding]


class Findings:
    """Keeps the first ones and counts all."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.count = 0

    def add(self, kind: str, what: str, first: int, last: int = 0) -> None:
        """Note one; `last`: the end of the interval, if it is not one position."""
        self.count += 1
        if len(self.kept) < SHOWN:
            self.kept.append(Finding(first, last or first, kind, what))
