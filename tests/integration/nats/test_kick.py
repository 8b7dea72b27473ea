"""Changes of rights take effect on connections that stand; losses of workers are noticed."""

import asyncio

from mitosis.domain import user as users
from mitosis.domain.roles import Role
from mitosis.errors import AuthenticationFailed
from mitosis.testing.waiting import eventually
from tests.integration.nats.conftest import may_subscribe

WORKER = "0b7e4f2e-1111-4222-8333-444455556666"


async def test_a_kicked_user_comes_back_with_new_rights(platform):
    back = asyncio.Event()
    alice = await platform.enter("alice", on_reconnect=back.set)
    bob = await platform.enter("bob")
    number = bob.raw.client_id
    assert not await may_subscribe(alice, "mito.live.task.new.>")
    platform.accounts.roles["alice"]["new"] = Role.READ
    assert await platform.authentication.connections.kick_user("alice") == 1
    async with asyncio.timeout(5):
        await back.wait()
    assert await may_subscribe(alice, "mito.live.task.new.>")
    await bob.flush()
    assert bob.raw.client_id == number  # was left alone


async def test_several_users_are_let_in_anew_at_once_and_nobody_else(platform):
    number = {}
    people = {name: await platform.enter(name) for name in ("alice", "bob", "root")}
    worker = await platform.connect(platform.token_of_worker(WORKER), f"mito-worker-{WORKER}")
    everybody = {**people, "worker": worker}

    def note() -> None:
        number.update({name: one.raw.client_id for name, one in everybody.items()})

    async def returned(*names: str) -> None:
        for name in names:
            await eventually(
                lambda name=name: (
                    everybody[name].is_connected and everybody[name].raw.client_id != number[name]
                )
            )

    note()
    connections = platform.authentication.connections
    assert await connections.kick_users(frozenset({"alice", "root"})) == 2
    await returned("alice", "root")
    assert [people["bob"].raw.client_id, worker.raw.client_id] == [number["bob"], number["worker"]]
    note()
    assert await connections.kick_users(None) == 3
    await returned("alice", "bob", "root")
    assert worker.raw.client_id == number["worker"]


async def test_a_kicked_user_whose_session_is_revoked_stays_out(platform):
    alice = await platform.enter("alice")
    platform.accounts.tell("alice", users.RevokeSession("s1"))
    await platform.authentication.connections.kick_user("alice")
    async with asyncio.timeout(5):
        await alice.wait_closed()
    assert isinstance(alice.failure, AuthenticationFailed)


async def test_one_that_came_back_is_not_kicked_by_the_second_look(platform):
    returns = []
    alice = await platform.enter("alice", on_reconnect=lambda: returns.append(1))
    assert await platform.authentication.connections.kick_user("alice") == 1
    await _settle(alice)
    assert len(returns) == 1


async def _settle(connection) -> None:
    await eventually(lambda: connection.is_connected)
    await connection.flush()


async def test_the_loss_of_a_workers_last_connection_is_told_once(platform):
    token = platform.token_of_worker(WORKER)
    one = await platform.connect(token, f"mito-worker-{WORKER}")
    two = await platform.connect(token, f"mito-worker-{WORKER}")
    await eventually(lambda: platform.authentication.connections.worker_is_connected(WORKER))
    await one.close()
    assert platform.lost_workers == []
    await two.close()
    await eventually(lambda: platform.lost_workers)
    assert platform.lost_workers == [WORKER]
    assert not platform.authentication.connections.worker_is_connected(WORKER)


async def test_a_user_that_takes_the_name_of_a_worker_does_not_make_it_lost(platform):
    worker = await platform.connect(platform.token_of_worker(WORKER), f"mito-worker-{WORKER}")
    liar = await platform.connect(await platform.token_of("bob"), f"mito-worker-{WORKER}")
    await liar.close()
    await worker.close()
    await eventually(lambda: platform.lost_workers)
    assert platform.lost_workers == [WORKER]  # once, by its own close


async def test_a_worker_that_was_there_before_the_start_is_known(platform):
    worker = await platform.connect(platform.token_of_worker(WORKER), f"mito-worker-{WORKER}")
    connections = platform.authentication.connections
    await connections.stop()
    connections._workers.clear()
    await connections.start()
    assert connections.worker_is_connected(WORKER)
    assert await connections.kick_worker(WORKER) == 1
    await _settle(worker)
