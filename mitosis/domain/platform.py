"""The platform itself: terms of coordinators and the marks that make history provable.

A term is opened by the coordinator that becomes the one writer. The number only grows.
"""

from datetime import datetime
from typing import ClassVar

from mitosis.domain.event import Command, Event


class TermStarted(Event, frozen=True):
    """A coordinator became the one writer. Whoever wrote before is fenced from here on."""

    TOPIC: ClassVar[str] = "platform.term_started@1"
    term: int
    coordinator: str
    version: str = ""


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


class Platform(Command, frozen=True):
    """What decisions about the platform need."""

    term: int = 0


def evolve(state: Platform | None, event: Event) -> Platform:
    """Apply a fact."""
    match event:
        case TermStarted(term):
            return Platform(term)
        case _:
            return state or Platform()


class StartTerm(Command, frozen=True):
    """Become the one writer, under the next number."""

    coordinator: str
    version: str = ""


def decide(state: Platform | None, command: Command) -> list[Event]:
    """Return what the command makes true."""
    match command:
        case StartTerm(coordinator, version):
            return [TermStarted((state or Platform()).term + 1, coordinator, version)]
        case _:
            raise AssertionError(f"no rule for {type(command).__name__}")
