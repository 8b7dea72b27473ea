"""Exactly once, whatever is killed when: real projector processes, real NATS, real Postgres."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from mitosis.events.messages import stream_state
from mitosis.nats.connection import Connection
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.testing.history import History, campaign
from mitosis.testing.views import archived, expected_rows, stored_rows

PROGRAM = Path(__file__).parent / "projector_process.py"
ROOT = Path(__file__).parents[3]


@contextmanager
def projector(nats_url: str, db_url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, PROGRAM, nats_url, db_url],
            stdout=output, stderr=output, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def publish(connection: Connection, history: History, start: int = 0) -> None:
    """Store a history at once; the stream is new, so positions are those of the history."""
    for number, (_, subject, payload) in enumerate(history.commits[start:]):
        connection.publish(subject, payload)
        if number % 500 == 499:
            await connection.raw.flush()
    await connection.raw.flush()
    for _ in range(2_000):
        stored = (await stream_state(connection.raw, "MITO_EVENTS")).last_seq
        if stored == len(history.commits):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{stored} of {len(history.commits)} commits were stored")


class Watch:
    """Looks at the position from outside, over one connection of its own."""

    def __init__(self, db_url: str) -> None:
        self.connection = psycopg.connect(db_url, autocommit=True)

    def position(self) -> int:
        row = self.connection.execute("SELECT max(position) FROM views.position").fetchone()
        return (row and row[0]) or 0

    async def reached(self, wanted: int) -> None:
        """Wait until a projector has come so far; it is at work while this looks."""
        last = await eventually(lambda: max(self.position() - wanted, -1), 0)
        assert last >= 0

    def end_writing_session(self) -> None:
        """End the session that holds the lock, as the server does with a dead peer."""
        self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )


async def eventually(look: Callable[[], int], wanted: int) -> int:
    """Look again and again until there is at least `wanted`, for 40 s; return what was seen."""
    seen = look()
    for _ in range(2_000):
        if seen >= wanted:
            break
        await asyncio.sleep(0.02)
        seen = look()
    return seen


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_projectors_killed_in_mid_stream_lose_and_repeat_nothing(
    connection: Connection,
    own_nats: EmbeddedNats,
    database: str,
    tmp_path: Path,
    scaled: Callable[[int, int], int],
) -> None:
    history = campaign(11, scaled(4_000, 24_000))
    end = len(history.commits)
    assert end > 20_000
    await publish(connection, history)
    watch, log, kills = Watch(database), tmp_path / "log", scaled(5, 13)
    for number in range(1, kills + 1):
        with projector(own_nats.url, database, log) as process:
            await watch.reached(end * number // (kills + 2))
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert watch.position() < end, "killed too late to prove anything"
    with projector(own_nats.url, database, log):
        await watch.reached(end)
    assert stored_rows(database) == expected_rows(history)
    assert archived(database) == history.commits


async def test_two_projectors_at_once_write_each_commit_once(
    connection: Connection, own_nats: EmbeddedNats, database: str, tmp_path: Path
) -> None:
    history = campaign(12, 1_000)
    end = len(history.commits)
    watch, log = Watch(database), tmp_path / "log"
    with (
        projector(own_nats.url, database, log) as first,
        projector(own_nats.url, database, log) as second,
    ):
        await publish(connection, history)
        await watch.reached(end // 3)
        first.send_signal(signal.SIGSTOP)  # frozen, perhaps with the lock and an open batch
        watch.end_writing_session()
        await watch.reached(end)
        first.send_signal(signal.SIGCONT)
        history.add_user("dave")  # the one that was frozen may be the one to write it
        await publish(connection, history, end)
        await watch.reached(len(history.commits))
        assert (first.poll(), second.poll()) == (None, None), log.read_text()
    assert stored_rows(database) == expected_rows(history)
    assert archived(database) == history.commits
