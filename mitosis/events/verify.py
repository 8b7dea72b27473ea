"""Checking the chains: every commit names the digest of the one before it in its aggregate."""

from collections.abc import Iterable
from typing import NamedTuple

from mitosis.errors import CorruptData
from mitosis.events.envelope import decode_commit, digest
from mitosis.events.messages import StoredMessage


class Link(NamedTuple):
    """The end of an aggregate's chain: version after its last event, and its digest."""

    version: int
    digest: str


class ChainVerifier:
    """Walks a stream from its beginning and holds the end of every chain.

    Args:
        prefix: Subject before the tail of an aggregate.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix + "."
        self.chains: dict[str, Link] = {}
        self.position = 0
        self.commits = 0

    def check(self, messages: Iterable[StoredMessage]) -> None:
        """Check the next messages, in order.

        Raises:
            CorruptData: The first message that does not fit, with its position and the reason.
        """
        for message in messages:
            self._check(message)

    def _check(self, message: StoredMessage) -> None:
        position, subject, payload = message
        if position <= self.position:
            raise _broken(message, f"it comes after position {self.position}")
        if not subject.startswith(self._prefix):
            raise _broken(message, f"its subject is not under {self._prefix[:-1]}")
        commit = decode_commit(subject, payload, position)
        tail = subject[len(self._prefix) :]
        link = self.chains.get(tail, Link(0, ""))
        if commit.previous != link.digest:
            wanted = link.digest or "none (it is the first of its aggregate)"
            found = commit.previous or "none"
            raise _broken(message, f"its previous digest is {found}, but must be {wanted}")
        if link.digest and commit.version != link.version + 1:
            raise _broken(
                message, f"it has version {commit.version}, but must have {link.version + 1}"
            )
        self.chains[tail] = Link(commit.last_version, digest(subject, payload))
        self.position = position
        self.commits += 1


def _broken(message: StoredMessage, reason: str) -> CorruptData:
    return CorruptData(
        f"the commit at position {message.position} on {message.subject} breaks its chain: "
        f"{reason}",
        position=message.position,
        subject=message.subject,
    )
