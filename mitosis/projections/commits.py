"""Who did what, when, from where: a row of each commit, and one of each session."""

from mitosis.contract.subjects import place_of
from mitosis.domain.event import Event
from mitosis.domain.user import SessionOpened
from mitosis.projections.commit import Commit
from mitosis.projections.rows import CommitRow, SourceRow, Tables


def fold(tables: Tables, commit: Commit) -> None:
    """Note a commit. One without events (a fence) changed nothing and is not noted."""
    if not commit.events:
        return
    kind, group, name = place_of(commit.tail)
    tables.commits.put(
        CommitRow(
            commit.position, commit.at, commit.actor, commit.session, commit.command, kind,
            group or None, name, [event.TOPIC for event in commit.events],
        )
    )  # fmt: skip
    if kind == "user":
        for event in commit.events:
            _note_source(tables, commit, event)


def _note_source(tables: Tables, commit: Commit, event: Event) -> None:
    if isinstance(event, SessionOpened):
        tables.session_sources.put(
            SourceRow(event.session, commit.tail.partition(".")[2], event.source, commit.at)
        )
