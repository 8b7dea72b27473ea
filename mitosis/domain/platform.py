"""The platform itself: terms of coordinators and the marks that make history provable.

A term is opened by the coordinator that becomes the one writer. The number only grows.
"""

from datetime import datetime
from typing import ClassVar

import msgspec

from mitosis.domain.event import Command, Event


class TermStarted(Event, frozen=True):
    """A coordinator became the one writer. Whoever wrote before is fenced from here on."""

    TOPIC: ClassVar[str] = "platform.term_started@1"
    term: int
    coordinator: str
    version: str = ""


class CheckpointSigned(Event, frozen=True):
    """The platform's key vouches for all that is stored before this commit.

    `position`: the last commit that is covered, the one before this one; `count`: how many are
    covered; `digest`: the running digest over them; `key`: id of the key that signed; `signature`:
    Ed25519 in Base64. docs/events.md says how both are made.
    """

    TOPIC: ClassVar[str] = "platform.checkpoint_signed@1"
    position: int
    count: int
    digest: str
    key: str
    signature: str


class KeyRotated(Event, frozen=True):
    """Checkpoints are signed with this key from here on: the first one, or another than `former`.

    `public_key`: in PEM form. Only what an auditor has got in another way proves whose it is.
    """

    TOPIC: ClassVar[str] = "platform.key_rotated@1"
    key: str
    public_key: str
    former: str = ""


class Restored(Event, frozen=True):
    """Commits of the stream that were lost were brought back, while no coordinator was at work.

    `position`: the last one that was brought back; `commits`: how many were, from the backup of
    `backup_made_at` (which has them up to `backup_position`) or from the archive.
    """

    TOPIC: ClassVar[str] = "platform.restored@1"
    position: int
    commits: int
    backup_position: int
    backup_made_at: datetime
    version: str = ""


class StreamRepaired(Event, frozen=True):
    """The stream was damaged and was made whole, while no coordinator was at work.

    `position`: the last commit that was brought to it, and `digest`: the running digest up to
    there; `missing`: how many positions the damaged stream lacked; `changed`: how many of its
    commits were not the ones that had been stored; `archive`: how many commits of the archive were
    put right. If something was found nowhere and the loss was accepted, history was cut:
    `lost_from` is the first position that is lost, `lost_to` the last that is known to have been
    there, and `cut` how many of these could be read still.
    """

    TOPIC: ClassVar[str] = "platform.stream_repaired@1"
    position: int
    digest: str
    missing: int
    changed: int
    archive: int = 0
    lost_from: int = 0
    lost_to: int = 0
    cut: int = 0
    version: str = ""


class Platform(Command, frozen=True):
    """What decisions about the platform need.

    `proved`: the last position that a checkpoint covers; `key`: id of the key that signs.
    """

    term: int = 0
    key: str = ""
    proved: int = 0


def evolve(state: Platform | None, event: Event) -> Platform:
    """Apply a fact."""
    old = state or Platform()
    match event:
        case TermStarted(term):
            return msgspec.structs.replace(old, term=term)
        case KeyRotated(key):
            return msgspec.structs.replace(old, key=key)
        case CheckpointSigned(position):
            return msgspec.structs.replace(old, proved=position)
        case _:
            return old


class StartTerm(Command, frozen=True):
    """Become the one writer, under the next number."""

    coordinator: str
    version: str = ""


class TellKey(Command, frozen=True):
    """Let history know the key that signs, if it is not the one that it knows."""

    key: str
    public_key: str


class SignCheckpoint(Command, frozen=True):
    """Vouch for everything up to a position."""

    position: int
    count: int
    digest: str
    key: str
    signature: str


def decide(state: Platform | None, command: Command) -> list[Event]:
    """Return what the command makes true."""
    match command:
        case StartTerm(coordinator, version):
            return [TermStarted((state or Platform()).term + 1, coordinator, version)]
        case TellKey(key, public_key):
            former = (state or Platform()).key
            return [] if key == former else [KeyRotated(key, public_key, former)]
        case SignCheckpoint(position, count, digest, key, signature):
            return [CheckpointSigned(position, count, digest, key, signature)]
        case _:
            raise AssertionError(f"no rule for {type(command).__name__}")
