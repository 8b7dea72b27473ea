"""A platform as its user sees it: a process in the foreground that is interrupted or killed.

Run as a program, this file is that platform: `test_supervisor.py DATA READY_FILE CHILD_KIND`. Its
children stand where the coordinator and a worker will: processes that write a diary.
"""

import asyncio
import io
import json
import logging
import os
import signal
import stat
import sys
import time
import tomllib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import nats
import psycopg
import pytest
from minio import Minio

from mitosis.errors import MitosisError
from mitosis.services.platform import (
    Child,
    Platform,
    PlatformSettings,
    RunningPlatform,
    run_platform,
)
from mitosis.services.platform.embedded_s3 import REGION
from mitosis.services.platform.failures import FolderInUse, ServerFailed
from mitosis.services.platform.service_config import coordinator_config, write_config
from mitosis.testing.waiting import eventually, processes_with

ROOT = Path(__file__).parents[3]

RECORDER = """
import os, signal, sys
name, diary = sys.argv[1:]
def note(word):
    with open(diary, "a") as file:
        file.write(f"{word} {name} {os.getpid()}\\n")
def stop(*_):
    note("stop")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in name else stop)
note("start")
if "broken" in name:
    sys.exit("broken on purpose")
while True:
    signal.pause()
"""


def diary(data: Path) -> list[tuple[str, str, int]]:
    """What the children wrote: word, name, process."""
    path = data / "diary.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(word, name, int(pid)) for word, name, pid in (line.split() for line in lines)]


def started_now(data: Path) -> int:
    entries = diary(data)
    return sum(1 for _, _, pid in entries if Path(f"/proc/{pid}").exists())


async def both_started(running: RunningPlatform) -> bool:
    return started_now(running.folder.path) == 2


def options(data: Path, kind: str = "", ready_file: Path | None = None) -> PlatformSettings:
    def children(running: RunningPlatform) -> list[Child]:
        # As for the real coordinator; the tests read the addresses from it.
        values = coordinator_config(running.addresses, running.credentials)
        write_config(running.folder.config / "coordinator.toml", "coordinator", values)
        names = [f"{kind}coordinator", f"{kind}worker"]
        program = (sys.executable, "-c", RECORDER)
        path = str(data / "diary.txt")
        return [Child(name=name, command=(*program, name, path), stop_seconds=60) for name in names]

    return PlatformSettings(
        data=data,
        ready_check=both_started,
        ready_file=ready_file,
        preferred_nats_port=None,
        preferred_http_port=None,
        children=children,
    )


class Foreground:
    """The program in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.ready_file = folder / "ready.json"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, kind: str = "", user: int | None = None) -> asyncio.subprocess.Process:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, str(self.data), str(self.ready_file), kind,
            stderr=asyncio.subprocess.PIPE, env=environment, user=user, group=user,
            extra_groups=None if user is None else [],
        )  # fmt: skip
        return self.process

    async def ready(self) -> dict[str, str]:
        process = self.process
        assert process is not None
        await eventually(
            lambda: self.ready_file.exists() or process.returncode is not None, seconds=60
        )
        if not self.ready_file.exists():
            pytest.fail(await self.end())
        notice: dict[str, str] = json.loads(self.ready_file.read_text())
        return notice

    async def end(self) -> str:
        """Waits for the end and returns what it wrote on stderr."""
        assert self.process is not None
        _, output = await asyncio.wait_for(self.process.communicate(), 40)
        return output.decode()


@pytest.fixture
async def foreground(tmp_path: Path) -> AsyncIterator[Foreground]:
    platform = Foreground(tmp_path)
    yield platform
    process = platform.process
    if process is not None and process.returncode is None:
        process.terminate()
        await eventually(lambda: not platform.ready_file.exists())
        process.terminate()  # the second is the fast one
        await platform.end()
    await eventually(lambda: not processes_with(str(platform.data)), seconds=10)


class Stores:
    """The three stores of a running platform, reached as the coordinator would."""

    def __init__(self, data: Path) -> None:
        text = (data / "config" / "coordinator.toml").read_text()
        self.config = tomllib.loads(text)["coordinator"]

    async def write(self) -> None:
        client = await self._nats()
        await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
        await client.jetstream().publish("kept", b"an event")
        await client.close()
        with psycopg.connect(self.config["db_url"]) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 'a row' AS label")
        s3 = self._s3()
        s3.make_bucket("kept")
        s3.put_object("kept", "key", io.BytesIO(b"an object"), 9)

    async def read(self) -> tuple[bytes | None, str, bytes]:
        client = await self._nats()
        message = await client.jetstream().get_last_msg("KEPT", "kept")
        await client.close()
        with psycopg.connect(self.config["db_url"]) as connection:
            row = connection.execute("SELECT label FROM kept").fetchone()
        assert row is not None
        response = self._s3().get_object("kept", "key")
        content = response.read()
        response.close()
        response.release_conn()
        return message.data, row[0], content

    async def _nats(self) -> nats.NATS:
        config = self.config
        return await nats.connect(
            config["nats_url"], user=config["nats_user"], password=config["nats_password"]
        )

    def _s3(self) -> Minio:
        return Minio(
            self.config["s3_url"].removeprefix("http://"),
            access_key=self.config["s3_access_key"],
            secret_key=self.config["s3_secret_key"],
            secure=False,
            region=REGION,
        )


async def test_an_interrupt_stops_workers_then_the_coordinator_then_the_servers(
    foreground: Foreground,
) -> None:
    process = await foreground.start()
    notice = await foreground.ready()
    assert set(notice) == {"nats", "http", "admin_user", "admin_password_file", "data"}
    assert stat.S_IMODE(foreground.ready_file.stat().st_mode) == 0o600
    assert Path(notice["admin_password_file"]).read_text().strip()

    process.send_signal(signal.SIGINT)
    await foreground.end()
    assert process.returncode == 0
    stops = [name for word, name, _ in diary(foreground.data) if word == "stop"]
    assert stops == ["worker", "coordinator"]
    assert processes_with(str(foreground.data)) == []
    assert not foreground.ready_file.exists()


async def test_a_kill_leaves_no_orphan_and_the_next_start_has_all_data(
    foreground: Foreground,
) -> None:
    process = await foreground.start()
    first = await foreground.ready()
    assert_private(foreground.data)
    await Stores(foreground.data).write()
    assert len(processes_with(str(foreground.data))) > 5

    process.kill()
    await process.wait()
    await eventually(lambda: not processes_with(str(foreground.data)), seconds=10)

    async with Platform(options(foreground.data)) as platform:
        assert await Stores(foreground.data).read() == (b"an event", "a row", b"an object")
        assert platform.running is not None
        assert platform.running.addresses.nats == first["nats"]
        assert platform.running.addresses.http == first["http"]
        platform.hurry()


def assert_private(data: Path) -> None:
    """What the folder holds is for its owner only."""
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    secret = [*data.glob("secrets/*"), *data.glob("config/*")]
    assert len(secret) >= 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}


async def test_a_second_interrupt_does_not_wait(foreground: Foreground) -> None:
    process = await foreground.start("stubborn-")
    await foreground.ready()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    await eventually(lambda: not foreground.ready_file.exists())  # the stop has begun
    process.send_signal(signal.SIGINT)
    await foreground.end()
    assert process.returncode == 0
    assert time.monotonic() - began < 30  # stubborn children may take 60 s each


async def test_an_interrupt_while_starting_stops_what_was_started(foreground: Foreground) -> None:
    process = await foreground.start()
    config = foreground.data / "nats" / "nats.conf"
    await eventually(config.exists)
    process.send_signal(signal.SIGTERM)
    await foreground.end()
    assert process.returncode == 130
    assert processes_with(str(foreground.data)) == []


async def test_a_child_that_never_starts_is_named_and_nothing_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def never(_: RunningPlatform) -> bool:
        return False

    broken = msgspec.structs.replace(options(data, "broken-"), ready_check=never)
    with pytest.raises(ServerFailed, match=r"broken-\w+ ended 5 times.*broken on purpose"):
        await Platform(broken).start()
    assert processes_with(str(data)) == []


async def test_what_dies_is_started_again_and_a_second_platform_is_refused(tmp_path: Path) -> None:
    """One platform for several questions, since each start takes seconds."""
    data, other = tmp_path / "one", tmp_path / "two"
    async with Platform(options(data)) as platform, Platform(options(other)) as neighbour:
        assert platform.running is not None
        assert neighbour.running is not None
        assert platform.running.addresses.nats != neighbour.running.addresses.nats

        with pytest.raises(FolderInUse, match=str(os.getpid())):
            await Platform(options(data)).start()

        await Stores(data).write()
        _, _, worker = diary(data)[-1]
        os.kill(worker, signal.SIGKILL)
        await eventually(lambda: len(diary(data)) == 3)
        for program in ("nats-server", "postgres", "weed"):
            victims = [pid for pid in processes_with(str(data)) if is_program(pid, program)]
            os.kill(min(victims), signal.SIGKILL)
            await eventually(partial(replaced, data, program, min(victims)))
        await eventually(partial(all_serve, platform))
        assert await Stores(data).read() == (b"an event", "a row", b"an object")
        platform.hurry()
        neighbour.hurry()
    assert processes_with(str(tmp_path)) == []


def is_program(pid: int, program: str) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name == program
    except OSError:
        return False


def replaced(data: Path, program: str, old: int) -> bool:
    found = [pid for pid in processes_with(str(data)) if is_program(pid, program)]
    return bool(found) and old not in found


def all_serve(platform: Platform) -> bool:
    return platform.is_complete


def main(data: str, ready_file: str, kind: str) -> int:
    logging.basicConfig(level=logging.INFO)
    try:
        return run_platform(options(Path(data), kind, Path(ready_file)))
    except MitosisError as error:
        sys.stderr.write(f"mito: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
