"""A network of its own in which NATS, Postgres and S3 listen where the defaults look for them.

Run as `unshare --user --map-root-user --net python -m ...default_addresses COMMAND...`: in there
every port is free, whatever runs on the machine. Runs the command once all three serve.
"""

import asyncio
import fcntl
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psycopg

from mitosis.config.coordinator import CoordinatorConfig
from mitosis.nats.nkeys import issuer_account
from mitosis.nats.server_config import CalloutConfig, StaticUser
from mitosis.services.auth.key_files import load_private_key, pem_of
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.platform.embedded_s3 import EmbeddedS3, S3Keys

DEFAULT = CoordinatorConfig()


def raise_loopback() -> None:
    """Let 127.0.0.1 exist: a new network has no interface that is up."""
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, get_flags, request))[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))


Opened = Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def forward(port: int, connect: Callable[[], Opened]) -> asyncio.Server:
    """Listen at a default port for a server that listens elsewhere."""

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


async def main(command: list[str]) -> int:
    raise_loopback()
    with tempfile.TemporaryDirectory(prefix="mito-test-") as scratch:
        folder = Path(scratch)
        key = load_private_key(Path("private.pem"))
        nats = EmbeddedNats(
            folder / "nats",
            service_users=(StaticUser(name=DEFAULT.nats_user, password=DEFAULT.nats_password),),
            system_users=(
                StaticUser(name=DEFAULT.nats_system_user, password=DEFAULT.nats_system_password),
            ),
            callout=CalloutConfig(issuer=issuer_account(pem_of(key))),
            wanted_port=4222,
        )
        postgres = EmbeddedPostgres(folder / "postgres", durable=False)
        keys = S3Keys(access_key=DEFAULT.s3_access_key, secret_key=DEFAULT.s3_secret_key)
        s3 = EmbeddedS3(folder / "s3", keys=keys)
        servers = (nats, postgres, s3)
        for server in servers:
            server.folder.mkdir(parents=True, exist_ok=True)
        await asyncio.gather(*(server.start() for server in servers))
        try:
            with psycopg.connect(postgres.url, autocommit=True) as connection:
                connection.execute("CREATE ROLE mitosis SUPERUSER LOGIN PASSWORD 'mitosis'")
            path = postgres.url.rpartition("host=")[2] + "/.s.PGSQL.5432"
            port = int(s3.url.rpartition(":")[2])
            async with (
                await forward(5432, lambda: asyncio.open_unix_connection(path)),
                await forward(9000, lambda: asyncio.open_connection("127.0.0.1", port)),
            ):
                process = await asyncio.create_subprocess_exec(*command)
                return await process.wait()
        finally:
            await asyncio.gather(*(server.stop(fast=True) for server in servers))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
