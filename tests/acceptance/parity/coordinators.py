"""Coordinators with settings of every kind, each started once for the tests that ask it."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import psycopg

from mitosis import ClientConfig, SyncMitoClient
from mitosis.services.platform.ports import free_ports
from mitosis.testing.servers import PostgresServer, S3Server
from mitosis.testing.waiting import eventually

from ..conftest import Done, Running, Site

DEFAULT_ADMIN = "mitosis_admin"


class Lab(Site):
    """A site whose key pair openssl has made, in a folder of its own.

    Attributes:
        user, password: Of the administrator.
        running: The coordinator.
    """

    def __init__(self, folder: Path, database: str, s3: S3Server) -> None:
        self.keys = folder / "home" / "keys"
        super().__init__(folder, database, s3)
        self.user, self.password = DEFAULT_ADMIN, DEFAULT_ADMIN
        self.database = database
        self.running: Running | None = None
        for key in ("admin_user", "admin_password"):
            self.values.pop(key)

    def _make_keys(self) -> None:
        self.keys.mkdir(parents=True)
        for command in (
            "openssl genpkey -algorithm ed25519 -out private.pem",
            "openssl pkey -in private.pem -pubout -out public.pem",
        ):
            subprocess.run(command.split(), cwd=self.keys, check=True, capture_output=True)

    def write(self, name: str, **values: Any) -> Path:
        """Write a settings file with these values alone."""
        path = self.folder / name
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
        path.write_text("[coordinator]\n" + "".join(lines))
        return path

    def serve(self, *arguments: str | Path, **more: str) -> Running:
        """Start a coordinator and wait until it is ready."""
        running = self.running = self.start("coordinator", *arguments, **more)

        def ready() -> bool:
            assert not running.ended(), running.err
            return self.get("/ready")[0] == 200

        in_loop(ready, seconds=90.0)
        return running

    def get(self, path: str, base: str = "", method: str = "GET") -> tuple[int, bytes]:
        """Ask the HTTP endpoint; 0: nobody answers."""
        request = urllib.request.Request((base or self.http) + path, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0, b""

    def metric(self, name: str) -> float:
        """A sample of `/metrics`, by its name with labels; 0 when there is none."""
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def login(self, user: str = "", password: str = "") -> dict[str, Any]:
        """Log in by the SDK; return what the token says, checked with the public key file."""
        path = self.folder / "login-credentials"
        path.unlink(missing_ok=True)
        config = ClientConfig(coordinator_addr=self.http, credential_path=path)
        with contextlib.closing(SyncMitoClient(config)) as client:
            client.login(user or self.user, password or self.password)
        (line,) = [one for one in path.read_text().splitlines() if not one.startswith("#")]
        public = (self.keys / "public.pem").read_bytes()
        claims: dict[str, Any] = jwt.decode(
            line.rpartition(":")[2], public, algorithms=["EdDSA"], issuer="mitosis",
            options={"verify_exp": False},
        )  # fmt: skip
        return claims

    def client(self, *arguments: str | Path, **more: Any) -> Done:
        """`mito client` here."""
        return self.run("client", "-c", self.http, *arguments, **more)

    def sql(self, query: str) -> Any:
        """The first value that Postgres answers."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            row = connection.execute(query).fetchone()  # type: ignore[arg-type]
        return row[0] if row else None

    def logs(self, kind: str = "coordinator") -> dict[str, str]:
        """The log files of the coordinator at `bind` in the cache folder, name to text."""
        folder = self.folder / ".cache" / "mitosis" / kind
        found = sorted(folder.glob(f"{self.values['bind']}.log*"))
        return {path.name: path.read_text() for path in found}


@contextlib.contextmanager
def lab(postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[Lab]:
    """A lab with a running NATS."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    with postgres_server.database() as database:
        made = Lab(folder, database, s3_server)
        try:
            made.config = made.write(
                "nats-settings.toml",
                **made.values,
                access_token_private_path="keys/private.pem",
            )
            made.start_nats(made.nats_config())
            yield made
        finally:
            made.close()
            shutil.rmtree(folder, ignore_errors=True)


def serve_by_file(site: Lab) -> Running:
    """All settings from the file; the administrator is the default one."""
    site.config = site.write(
        "coordinator.toml",
        **site.values,
        access_token_private_path="keys/private.pem",
        access_token_public_path="keys/public.pem",
        access_token_expires_in="5s",
        heartbeat_timeout="3s",
        redis_url="redis://:hush-hush@localhost",
        redis_worker_password="hush-hush",
        redis_client_password="hush-hush",
        file_log=True,
    )
    variables = {"RUST_LOG": "warn", "MITO_FILE_LOG_LEVEL": "info"}
    return site.serve("--config", site.config, **variables)


def serve_by_options(site: Lab) -> Running:
    """All settings from options, against a file and variables in which every one is wrong."""
    (closed,) = free_ports(1)
    site.user, site.password = "boss", "of-the-option"
    site.config = site.write(
        "wrong.toml",
        bind=f"127.0.0.1:{closed}",
        db_url=f"postgres://u:p@127.0.0.1:{closed}/d",
        s3_url=f"http://127.0.0.1:{closed}",
        s3_access_key="wrong",
        s3_secret_key="wrong",
        nats_url=f"nats://127.0.0.1:{closed}",
        nats_password="wrong",
        nats_system_password="wrong",
        admin_user="of-the-file",
        admin_password="of-the-file",
        access_token_private_path="none.pem",
        access_token_public_path="none.pem",
        access_token_expires_in="1s",
        heartbeat_timeout="1h",
        file_log=False,
    )
    values = site.values
    return site.serve(
        "--config", site.config, "--bind", values["bind"], "--db", values["db_url"],
        "--s3", values["s3_url"], "--s3-access-key", values["s3_access_key"],
        "--s3-secret-key", values["s3_secret_key"], "--nats", values["nats_url"],
        "--nats-password", site.secret, "--nats-system-password", site.secret,
        "--redis", "redis://:hush-hush@localhost", "--redis-worker-password", "hush-hush",
        "--redis-client-password", "hush-hush", "--admin-user", site.user,
        "--admin-password", site.password, "--access-token-private-path", "keys/private.pem",
        "--access-token-public-path", "keys/public.pem", "--access-token-expires-in", "1h",
        "--heartbeat-timeout", "2s", "--file-log",
        MITO_BIND=f"127.0.0.1:{closed}", MITO_COORDINATOR_BIND=f"127.0.0.1:{closed}",
        MITO_ADMIN_PASSWORD="of-the-variable",
    )  # fmt: skip


def in_loop(question: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a true answer, outside of any loop."""
    return asyncio.Runner(loop_factory=asyncio.new_event_loop).run(
        eventually(question, seconds=seconds)
    )


def until(moment: float) -> None:
    """Wait for a time of the clock."""
    in_loop(lambda: time.time() > moment)
