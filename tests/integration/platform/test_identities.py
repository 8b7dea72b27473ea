"""Who runs the servers: root, a normal user, and Postgres, which refuses root."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.platform.failures import FolderRefused, ServerFailed
from mitosis.services.platform.identity import Identity, candidates
from mitosis.testing.waiting import processes_with

NOBODY = 65534
ROOT = Path(__file__).parents[3]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

PROGRAM = """
import asyncio, sys, tempfile
from pathlib import Path
from mitosis.services.platform import Platform, PlatformSettings

async def ready(running):
    return True

async def main():
    options = PlatformSettings(data=Path(sys.argv[1]), ready_check=ready, preferred_nats_port=None,
                              preferred_http_port=None, children=lambda running: [])
    async with Platform(options) as platform:
        print(platform.is_complete)
        platform.hurry()

asyncio.run(main())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach and write; the folders of pytest are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def _interpreter(environment: dict[str, str]) -> str:
    """An interpreter that nobody can run, with the packages of this one."""
    for program in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(PermissionError, subprocess.CalledProcessError):
            subprocess.run(
                [program, "-c", "import msgspec, minio, cryptography"],
                user=NOBODY, group=NOBODY, extra_groups=[], env=environment, cwd="/",
                capture_output=True, check=True,
            )  # fmt: skip
            return program
    pytest.skip("no interpreter of this environment is readable by the user nobody")


@needs_root
async def test_a_normal_user_can_run_the_whole_platform(open_folder: Path) -> None:
    shutil.copytree(ROOT / "mitosis", open_folder / "code" / "mitosis")
    paths = [str(open_folder / "code"), sysconfig.get_path("purelib")]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "PYTHONPATH": os.pathsep.join(paths),
        "LC_ALL": "xx_YY.UTF-8",  # a locale that does not exist must not matter
    }
    data = open_folder / "data with blank and é"
    process = await asyncio.create_subprocess_exec(
        _interpreter(environment), "-c", PROGRAM, str(data), cwd="/", env=environment,
        user=NOBODY, group=NOBODY, extra_groups=[],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, output) == (0, b"True\n"), errors.decode()
    assert (data / "postgres" / "cluster").stat().st_uid == NOBODY
    assert processes_with(str(open_folder)) == []


async def _serves(server: EmbeddedPostgres) -> str:
    async with server:
        connection = await psycopg.AsyncConnection.connect(server.url)
        async with connection:
            cursor = await connection.execute("SHOW server_encoding")
            row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


@needs_root
async def test_root_runs_postgres_in_a_user_namespace_and_keeps_its_files(tmp_path: Path) -> None:
    first = candidates()[:1]
    assert first[0].launcher_word.startswith("userns:")
    server = EmbeddedPostgres(tmp_path / "pg", identities=first, durable=False)
    assert await _serves(server) == "UTF8"
    assert (tmp_path / "pg" / "cluster").stat().st_uid == 0


@needs_root
async def test_root_without_user_namespaces_runs_postgres_as_nobody(open_folder: Path) -> None:
    tries = [
        Identity(f"userns:{2**32 - 1}:{2**32 - 1}"),  # refused by the kernel, as where forbidden
        *(identity for identity in candidates() if identity.owner is not None),
    ]
    server = EmbeddedPostgres(open_folder / "pg", identities=tries, durable=False)
    for _ in range(2):  # made at first, found at the second start
        assert await _serves(server) == "UTF8"
    assert (open_folder / "pg" / "cluster").stat().st_uid == NOBODY


@needs_root
async def test_our_own_data_folder_is_opened_for_passing_only(open_folder: Path) -> None:
    data = open_folder / "data"
    data.mkdir(mode=0o700)
    tries = [identity for identity in candidates() if identity.owner is not None]
    server = EmbeddedPostgres(data / "pg", identities=tries, passage=data, durable=False)
    assert await _serves(server) == "UTF8"
    assert data.stat().st_mode & 0o777 == 0o711


@needs_root
async def test_a_closed_parent_folder_is_named_and_not_opened(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    tries = [identity for identity in candidates() if identity.owner is not None]
    with pytest.raises(ServerFailed, match=r"closed is closed to that user.*run as a normal user"):
        await EmbeddedPostgres(closed / "pg", identities=tries).start()
    assert closed.stat().st_mode & 0o777 == 0o700


async def test_a_cluster_of_another_major_version_is_refused_and_kept(tmp_path: Path) -> None:
    """The archive, the second copy of history, lies in it."""
    cluster = tmp_path / "pg" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("17\n")
    with pytest.raises(FolderRefused, match=r"made by Postgres 17, but Postgres 18"):
        await EmbeddedPostgres(tmp_path / "pg").start()
    assert (cluster / "PG_VERSION").read_text() == "17\n"


async def test_the_pid_file_of_a_killed_server_does_not_stop_the_next(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", durable=False)
    assert await _serves(server) == "UTF8"
    # A living process of somebody else that happens to have the old number.
    pid_file = tmp_path / "pg" / "cluster" / "postmaster.pid"
    pid_file.write_text(f"{os.getppid()}\n/elsewhere\n")
    assert await _serves(server) == "UTF8"
