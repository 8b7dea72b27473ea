"""Histories with checkpoints, signed as a coordinator does, and what a verification finds."""

import base64
import io
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mitosis.contract import subjects
from mitosis.domain.platform import SignCheckpoint, StartTerm, TellKey
from mitosis.events.chain import START, checkpoint_text, extend
from mitosis.events.envelope import digest
from mitosis.services.auth.key_files import pem_of
from mitosis.services.auth.public_keys import PublicKey, parse
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.proof.export import line_of
from mitosis.services.proof.findings import Verified
from mitosis.services.proof.online import verify_export
from mitosis.services.proof.walk import Message, Walk
from mitosis.testing.history import History, Stored, campaign

PLATFORM = subjects.PLATFORM_TAIL


def new_keys() -> TokenKeys:
    """Return a new key pair."""
    private = Ed25519PrivateKey.generate()
    return TokenKeys(private, pem_of(private))


def public(keys: TokenKeys) -> PublicKey:
    """Return the public half, as an auditor has it."""
    found = parse(keys.public_pem)
    assert found is not None
    return found


class Signer:
    """Signs a history that grows."""

    def __init__(self, history: History, keys: TokenKeys) -> None:
        """`keys` signs until another is told."""
        self.history, self.keys = history, keys
        self._chain, self._covered = START, 0

    def tell(self, keys: TokenKeys | None = None) -> None:
        """Let history know the key, or another one from here on."""
        self.keys = keys or self.keys
        self.history.decide(PLATFORM, TellKey(self.keys.key_id, self.keys.public_pem))

    def sign(self) -> None:
        """Vouch for everything so far."""
        for _, subject, payload in self.history.commits[self._covered :]:
            self._chain = extend(self._chain, digest(subject, payload))
        count = self._covered = len(self.history.commits)
        signature = self.keys.sign(checkpoint_text(count, count, self._chain))
        told = base64.b64encode(signature).decode()
        self.history.decide(
            PLATFORM, SignCheckpoint(count, count, self._chain, self.keys.key_id, told)
        )


def signed_history(keys: TokenKeys, *, every: int = 25, tasks: int = 12) -> list[Stored]:
    """A campaign with a checkpoint after every so many commits and one at the end."""
    whole = campaign(7, tasks, live=4)
    history = History(1)
    signer = Signer(history, keys)
    history.decide(PLATFORM, StartTerm("first"))
    signer.tell()
    # The same commits again, at other positions: chains of aggregates do not know positions.
    for number, (_, subject, payload) in enumerate(whole.commits, 1):
        history.commits.append((len(history.commits) + 1, subject, payload))
        if number % every == 0:
            signer.sign()
    signer.sign()
    return history.commits


def verified(
    commits: Sequence[Stored],
    *keys: TokenKeys,
    kept: dict[int, str] | None = None,
    start: int = 1,
) -> Verified:
    """Walk over commits as the stream would give them."""
    walk = Walk(map(public, keys), kept, start=start)
    for position, subject, payload in commits:
        walk.take(Message(position, subject, payload, digest(subject, payload)))
    return walk.finish("stream")


def exported(commits: Sequence[Stored]) -> bytes:
    """Return the export of commits."""
    return b"".join(line_of(*commit) for commit in commits)


def verified_export(
    written: bytes, *keys: TokenKeys, kept: dict[int, str] | None = None, start: int = 1
) -> Verified:
    """Walk over an export."""
    return verify_export(io.BytesIO(written), Walk(map(public, keys), kept, start=start))
