"""The server itself is asked whether what it acknowledges is on disk."""

from pathlib import Path

import pytest

from mitosis.nats.connection import Connection
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.durability import syncs_always
from mitosis.nats.server_config import StaticUser
from mitosis.services.platform import EmbeddedNats


@pytest.mark.parametrize("always", [True, False])
async def test_a_server_that_syncs_later_is_noticed(tmp_path: Path, always: bool) -> None:
    users = {
        "service_users": (StaticUser(name="service", password="a"),),
        "system_users": (StaticUser(name="system", password="b"),),
    }
    async with EmbeddedNats(tmp_path, sync_always=always, **users) as server:
        login = ServiceLogin("system", "b")
        async with await Connection.open([server.url], login, name="test") as system:
            assert await syncs_always(system) is always
