"""Read models of a moment of the past, in a database of their own."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.errors import InvalidInput, Misconfigured, StoreUnavailable, WrongState
from mitosis.projections.beside import History as Origin
from mitosis.projections.memory import MemoryCommitSource
from mitosis.projections.replay import replay
from mitosis.projections.runner import Runner
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import START, History, campaign
from mitosis.testing.views import archived, expected_rows, folded_rows, project, stored_rows

Live = tuple[str, History]


def origin(history: History) -> Origin:
    return Origin(MemoryCommitSource(history.commits), decode, EVENTS_STREAM)


@pytest.fixture(scope="module")
def live(make_database: Callable[[], str]) -> Live:
    url, history = make_database(), campaign(11, 300)
    asyncio.run(project(url, history))
    return url, history


@pytest.fixture
def name(live: Live) -> Iterator[str]:
    """Name of a database that is not there; dropped if somebody has made it."""
    made = f"past {uuid.uuid4().hex}"
    yield made
    with psycopg.connect(live[0], autocommit=True) as session:
        session.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(made))
        )


async def test_a_replay_holds_what_was_there_and_leaves_the_live_ones_alone(
    live: Live, name: str
) -> None:
    url, history = live
    told: list[tuple[int, int]] = []
    done = await replay(url, origin(history), 500, name, lambda *far: told.append(far))
    past = make_conninfo(url, dbname=name)
    assert stored_rows(past) == folded_rows(decode(*raw) for raw in history.commits[:500])
    assert archived(past) == history.commits[:500]
    assert (done.position, name in done.database, told[-1]) == (500, True, (500, 500))
    assert stored_rows(url) == expected_rows(history)
    again = await replay(url, origin(history), 500, name)
    assert again == done


async def test_a_time_means_what_was_decided_until_then(
    live: Live, make_database: Callable[[], str]
) -> None:
    url, history = live
    time = START + timedelta(milliseconds=99, microseconds=500)
    done = await replay(url, origin(history), time, make_database())
    assert done.position == 100
    with pytest.raises(InvalidInput, match="nothing was stored"):
        await replay(url, origin(history), START - timedelta(days=1), "never")


async def test_a_database_with_something_else_is_refused_untouched(live: Live, name: str) -> None:
    url, history = live
    before = stored_rows(url)
    with pytest.raises(WrongState, match=f"holds {EVENTS_STREAM}, not"):
        await replay(url, origin(history), 10, url)
    assert stored_rows(url) == before
    await replay(url, origin(history), 10, name)
    with pytest.raises(WrongState, match="up to 10"):
        await replay(url, origin(history), 11, name)
    past = make_conninfo(url, dbname=name)
    with psycopg.connect(past) as session:
        session.execute("DROP SCHEMA views CASCADE")
    with pytest.raises(WrongState, match="an archive up to 10"):
        await replay(url, origin(history), 11, name)


async def test_a_projector_does_not_go_on_from_a_past(live: Live, name: str) -> None:
    url, history = live
    await replay(url, origin(history), 10, name)
    past = make_conninfo(url, dbname=name)
    source = MemoryCommitSource(history.commits)
    with pytest.raises(Misconfigured, match="up to 10"):
        await asyncio.wait_for(Runner(past, source, decode, stream=EVENTS_STREAM).run(), 30)
    assert len(archived(past)) == 10


class Breaking(MemoryCommitSource):
    """Goes away after some commits."""

    async def batches(self, start: int):  # type: ignore[no-untyped-def, override]
        async for batch in super().batches(start):
            yield batch
            raise StoreUnavailable("the stream is away")


async def test_a_replay_that_broke_off_goes_on_where_it_was(live: Live, name: str) -> None:
    url, history = live
    broken = Origin(Breaking(history.commits, batch=300), decode, EVENTS_STREAM)
    with pytest.raises(StoreUnavailable):
        await replay(url, broken, 800, name)
    past, told = make_conninfo(url, dbname=name), list[int]()
    assert len(archived(past)) == 300
    await replay(url, origin(history), 800, name, lambda at, _: told.append(at))
    assert told[0] > 300
    assert stored_rows(past) == folded_rows(decode(*raw) for raw in history.commits[:800])


@pytest.mark.parametrize("moment", [0, -1, 10**9])
async def test_a_position_that_is_not_there_is_refused_with_the_newest(
    live: Live, moment: int
) -> None:
    url, history = live
    with pytest.raises(InvalidInput, match=f"from 1 to {len(history.commits)}"):
        await replay(url, origin(history), moment, "never")


@pytest.mark.parametrize("wanted", ["", "x" * 64, "a\nb"])
async def test_what_cannot_name_a_database_is_refused(live: Live, wanted: str) -> None:
    with pytest.raises(InvalidInput, match="no name of a database"):
        await replay(live[0], origin(live[1]), 5, wanted)
