"""A network of its own in which the services of docker-compose.yml run as it says, without it.

Run as `unshare --user --map-root-user --net python -m ...default_addresses ROOT COMMAND...`: in
there every port is free, whatever runs on the machine. NATS and S3 are started with the command
and the environment of the file, by programs from wheels; Postgres gets its user and database. The
variables come from .env.example. Then the command is run once.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import yaml

from mitosis.services.platform.binaries import nats_server, weed
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.platform.weed_sockets import remove_sockets
from mitosis.testing.certificates import Streams

Service = dict[str, Any]

# Of the parts of the S3 server, each with a second one for its other protocol.
DEFAULT_S3_PORTS = [port + more for port in (9000, 9333, 9340, 8888, 23646) for more in (0, 10_000)]


def raise_loopback() -> None:
    """Let 127.0.0.1 exist: a new network has no interface that is up."""
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, get_flags, request))[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def variables_of(path: Path) -> dict[str, str]:
    """The variables of an env file."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)  # type: ignore[arg-type]


def services(root: Path, variables: dict[str, str]) -> dict[str, Service]:
    """The services of the compose file with its variables filled in, as compose does it."""

    def value(match: re.Match[str]) -> str:
        name, operator, text = match[1], match[2], match[3]
        if variables.get(name):
            return variables[name]
        assert operator != ":?", f"{name}: {text}"
        return text or ""

    text = (root / "docker-compose.yml").read_text()
    filled = re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, text)
    found: dict[str, Service] = yaml.safe_load(filled)["services"]
    return found


def published(service: Service) -> tuple[int, int]:
    """The port on this machine, and the one of the service."""
    (line,) = service["ports"]
    address, outer, inner = line.split(":")
    assert address == "127.0.0.1"
    return int(outer), int(inner)


@contextlib.asynccontextmanager
async def running(
    program: Path, arguments: list[str], environment: dict[str, str]
) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        program, *arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def forward(port: int, connect: Callable[[], Awaitable[Streams]]) -> asyncio.Server:
    """Listen at the port of Postgres for the one that listens on a socket file only."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await connect()
        both = (copy(reader, there_writer), copy(there_reader, writer))
        await asyncio.gather(*both, return_exceptions=True)

    return await asyncio.start_server(serve, "127.0.0.1", port)


async def until_open(port: int) -> None:
    """Wait for a listener."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def main(root: Path, command: list[str]) -> int:
    raise_loopback()
    issuer = subprocess.run(  # noqa: ASYNC221  nothing else is to be done yet
        [sys.executable, "-m", "mitosis", "nats-config", "--issuer", "--json"],
        check=True, capture_output=True,
    )  # fmt: skip
    variables = variables_of(root / ".env.example")
    variables["NATS_ISSUER"] = json.loads(issuer.stdout)["issuer"]
    found = services(root, variables)
    with tempfile.TemporaryDirectory(prefix="mito-test-") as scratch:
        folder = Path(scratch)
        async with contextlib.AsyncExitStack() as stack:
            nats, s3, postgres = found["nats"], found["s3"], found["postgres"]
            (folder / "nats").mkdir()
            settings = root / nats["volumes"][0].split(":")[0]
            assert nats["command"] == ["-c", nats["volumes"][0].split(":")[1]]
            environment = {**nats["environment"], "NATS_STORE_DIR": str(folder / "nats")}
            await stack.enter_async_context(
                running(nats_server(), ["-c", str(settings)], environment)
            )
            (folder / "s3").mkdir()
            arguments = [one.replace("-dir=/data", f"-dir={folder}/s3") for one in s3["command"]]
            stack.callback(remove_sockets, DEFAULT_S3_PORTS)
            await stack.enter_async_context(
                running(weed(), arguments, {**s3["environment"], "HOME": scratch})
            )
            (folder / "postgres").mkdir()
            server = EmbeddedPostgres(folder / "postgres", durable=False)
            await server.start()
            stack.push_async_callback(server.stop, fast=True)
            make_database(server, postgres["environment"])
            path = server.url.rpartition("host=")[2] + "/.s.PGSQL.5432"
            await stack.enter_async_context(
                await forward(published(postgres)[0], lambda: asyncio.open_unix_connection(path))
            )
            for service in (nats, s3):
                outer, inner = published(service)
                assert outer == inner  # so it can be started without anybody who maps them
                await until_open(outer)
            process = await asyncio.create_subprocess_exec(*command)
            return await process.wait()


def make_database(server: EmbeddedPostgres, environment: dict[str, str]) -> None:
    """What the image does at its first start."""
    user, database = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{user}" SUPERUSER LOGIN'.encode())
        known = connection.execute("SELECT datname FROM pg_database").fetchall()
        if (database,) not in known:
            connection.execute(f'CREATE DATABASE "{database}" OWNER "{user}"'.encode())


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(asyncio.run(main(Path(sys.argv[1]), sys.argv[2:])))
