"""Whatever is damaged in one copy of history is taken from the other, and nothing is guessed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mitosis.errors import CorruptData
from mitosis.events import chain
from mitosis.events.envelope import digest
from mitosis.services.repair.salvage import Copies, Sources
from mitosis.services.repair.survey import Choices, Survey, survey
from mitosis.testing.history import Stored
from mitosis.testing.signed import new_keys, public, signed_history

KEYS = new_keys()
HISTORY = signed_history(KEYS, every=15, tasks=6)
SIGNED = max(n for n, (_, _, p) in enumerate(HISTORY, 1) if b"checkpoint_signed" in p)
LAST = len(HISTORY)

Version = tuple[str, bytes]
POSITIONS = st.sets(st.integers(1, LAST), max_size=6)


class Damaged(Sources):
    """Two copies in memory."""

    def __init__(self, stream: dict[int, Version], archive: dict[int, tuple[Version, str]]) -> None:
        self.stream, self.rows = stream, archive

    async def ends(self) -> tuple[int, int]:
        return max(self.stream, default=0), max(self.rows, default=0)

    async def windows(self, last: int) -> AsyncIterator[list[Copies]]:
        for first in range(1, last + 1, 50):
            yield [
                Copies(p, self.stream.get(p), *self.rows.get(p, (None, "")))
                for p in range(first, min(first + 50, last + 1))
            ]


def forged(version: Version) -> Version:
    """Another commit with the same links."""
    subject, payload = version
    return subject, payload.replace(b'"time":"20', b'"time":"19', 1)


def surveyed(sources: Sources, trust: Any = None) -> tuple[Survey, list[Version | None]]:
    async def look() -> tuple[Survey, list[Version | None]]:
        found, choices = await survey(sources, [public(KEYS)], lambda *_: None, trust)
        return found, await chosen(sources, choices, found.position)

    return asyncio.run(look())


async def chosen(sources: Sources, choices: Choices, last: int) -> list[Version | None]:
    return [each.commit async for window in choices.along(sources, last) for each in window]


def running(commits: list[Stored]) -> str:
    found = chain.START
    for _, subject, payload in commits:
        found = chain.extend(found, digest(subject, payload))
    return found


@settings(max_examples=60, deadline=None)
@given(
    POSITIONS, POSITIONS, POSITIONS, POSITIONS, POSITIONS, st.sets(st.integers(1, LAST), max_size=2)
)
@example(set(), set(), set(), set(), set(), {SIGNED - 5})
@example(set(), set(), set(), set(), {SIGNED - 4}, set())
@example({SIGNED - 3}, set(), set(), set(), {SIGNED - 3}, set())
def test_what_is_sound_in_one_copy_is_found_and_what_is_in_none_is_named(
    no_stream: set[int],
    no_archive: set[int],
    bad_stream: set[int],
    bad_archive: set[int],
    spoiled: set[int],
    nowhere: set[int],
) -> None:
    versions = {position: (subject, payload) for position, subject, payload in HISTORY}
    no_stream, no_archive = no_stream | nowhere, no_archive | nowhere
    bad_archive -= bad_stream  # both wrong in one place: nobody could tell
    stream = {p: forged(v) if p in bad_stream else v for p, v in versions.items()}
    rows = {}
    for p, version in versions.items():
        kept = forged(version) if p in bad_archive else version
        rows[p] = ((kept[0], b"{}") if p in spoiled else kept, digest(*kept))
    stream = {p: v for p, v in stream.items() if p not in no_stream}
    rows = {p: row for p, row in rows.items() if p not in no_archive}
    known = max([*stream, *rows], default=0)
    refused: list[int] = []
    try:
        found, commits = surveyed(Damaged(stream, rows))
    except CorruptData as error:
        refused = error.details["positions"]
    # Only where two that look right stand side by side.
    assert set(refused) <= (bad_stream | bad_archive) - no_stream - no_archive - spoiled
    if refused:
        return
    assert found.known == known
    expected = [versions[p] for p in range(1, found.position + 1)]
    proved = min(found.position, found.proved)
    assert commits[:proved] == expected[:proved], "a checkpoint vouches for it"
    wrong = [p for p in range(proved + 1, found.position + 1) if commits[p - 1] != versions[p]]
    for p in wrong:  # only a copy without another beside it, or whose next one was taken away too
        assert p in bad_stream | bad_archive
        both = p in stream and p in rows and p not in spoiled
        assert not both
    if commits == expected:
        assert found.digest == running(HISTORY[: found.position])
    if not bad_stream | bad_archive:
        lost = [
            p for p in range(1, known + 1) if p not in stream and (p in spoiled or p not in rows)
        ]
        assert found.position == (min(lost) - 1 if lost else known)
        readable = [p for p in range(found.position + 1, known + 1) if p not in lost]
        assert found.cut == len(readable)


@given(st.integers(1, SIGNED - 1))
def test_one_forged_commit_in_the_archive_is_known_by_what_was_signed(at: int) -> None:
    versions = {position: (subject, payload) for position, subject, payload in HISTORY}
    rows = {p: (v, digest(*v)) for p, v in versions.items()}
    wrong = forged(versions[at])
    found, commits = surveyed(Damaged(versions, rows | {at: (wrong, digest(*wrong))}))
    assert (found.is_lossless, found.archive, found.differ) == (True, 1, (at,))
    assert commits == list(versions.values())


@given(st.integers(1, LAST))
def test_the_operator_decides_what_nothing_else_does(cut: int) -> None:
    history = HISTORY[:cut]
    versions = {position: (subject, payload) for position, subject, payload in history}
    rows = {p: (v, digest(*v)) for p, v in versions.items()}
    stream = {**versions, cut: forged(versions[cut])}
    found, commits = surveyed(Damaged(stream, rows), "archive")
    assert (found.changed, found.prefix, found.position) == (1, cut - 1, cut)
    assert commits == list(versions.values())
    assert found.digest == running(history)
