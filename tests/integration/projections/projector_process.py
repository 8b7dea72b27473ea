"""A real projector as a process of its own: `projector_process.py NATS_URL DB_URL`."""

import asyncio
import sys

from mitosis.nats.connection import Connection, ServiceLogin
from mitosis.services.projector.handlers import Links
from mitosis.services.projector.service import ProjectorService
from mitosis.testing.servers import SERVICE_USER


async def main(nats_url: str, db_url: str) -> None:
    connection = await Connection.open(
        [nats_url], ServiceLogin(SERVICE_USER.name, SERVICE_USER.password), name="mito-projector"
    )
    links = Links(*2 * [lambda name, _: f"https://s3.invalid/{name}"])
    service = ProjectorService(connection, db_url, links)
    await service.start()
    await service.wait()


asyncio.run(main(*sys.argv[1:]))
