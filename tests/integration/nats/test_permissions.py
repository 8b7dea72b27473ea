"""What each identity may do, tried on a real server; the server refuses, not our client."""

import pytest

from mitosis.contract import login
from mitosis.nats.asking import call
from mitosis.nats.connection import Guest
from tests.integration.nats.conftest import error_of, may_publish, may_subscribe

WORKER = "0b7e4f2e-1111-4222-8333-444455556666"


GUEST_NO = [
    "mito.>", "mito.events.>", "mito.live.>", "mito.live.task.lab.>", "mito.cmd.>", "mito.login.>",
    "_INBOX.>", "_INBOX.guest.>", "_INBOX.user.alice.>", ">", "$SYS.>", "$JS.>", "$SRV.>",
]  # fmt: skip


async def test_a_guest_may_publish_login_requests_only(platform):
    guest = await platform.connect(Guest())
    assert await may_publish(guest, "mito.login.hello")
    for subject in (
        "mito.cmd.alice.task.submit", "mito.query.alice.task.list", "mito.worker.x.report",
        "mito.events.user.alice", "$JS.API.INFO", "$SYS.REQ.USER.AUTH", "$SRV.PING", "other",
    ):  # fmt: skip
        assert not await may_publish(guest, subject), subject


async def test_a_guest_may_listen_on_its_own_inbox_only(platform):
    guest = await platform.connect(Guest())
    assert await may_subscribe(guest, guest.inbox + "more")
    for subject in GUEST_NO:
        assert not await may_subscribe(guest, subject), subject


async def test_a_guest_that_sends_more_than_eight_kibibytes_gets_an_error(platform):
    guest = await platform.connect(Guest())
    body = login.Hello("x" * 8 * 1024)
    request = call(guest, "mito.login.hello", body, login.Welcome, timeout_seconds=5)
    assert (await error_of(lambda: request)).code == "invalid.too_large"


async def test_a_user_may_command_and_ask_as_itself_only(platform):
    alice = await platform.enter("alice")
    assert await may_publish(alice, "mito.cmd.alice.task.submit")
    assert await may_publish(alice, "mito.query.alice.task.list")
    for subject in (
        "mito.cmd.bob.task.submit", "mito.query.bob.task.list", "mito.login.password",
        "mito.worker.x.report", "mito.work.lab.x", "mito.control.x", "mito.live.task.lab.x",
        "mito.events.task.lab.x", "mito.output.lab.x.y", "$JS.API.INFO",
        "$JS.API.STREAM.DELETE.MITO_EVENTS", "$JS.API.DIRECT.GET.MITO_EVENTS", "$SRV.PING",
        "$SYS.REQ.USER.AUTH", "_INBOX.service.x.1", "mito.svc.worker.presence",
    ):  # fmt: skip
        assert not await may_publish(alice, subject), subject


async def test_a_user_may_not_listen_to_others_or_to_stored_commits(platform):
    alice = await platform.enter("alice")
    assert await may_subscribe(alice, alice.inbox + ">")
    assert not await may_subscribe(alice, "_INBOX.user.alice.>")  # other sessions' answers
    for subject in (
        "_INBOX.user.bob.>", "_INBOX.>", "_INBOX.user.>", "_INBOX.service.>", "mito.events.>",
        "mito.events.task.lab.>", "mito.cmd.>", "mito.cmd.alice.>", "mito.work.>", ">",
        "mito.live.user.alice", "mito.live.user.>", "mito.live.>", "$JS.API.>", "$SYS.>",
    ):  # fmt: skip
        assert not await may_subscribe(alice, subject), subject


async def test_a_user_sees_live_only_the_groups_in_which_it_has_a_role(platform):
    alice, bob = await platform.enter("alice"), await platform.enter("bob")
    for kind in ("live.task", "live.attachment", "output"):
        assert await may_subscribe(alice, f"mito.{kind}.lab.>")
        assert not await may_subscribe(bob, f"mito.{kind}.lab.>")
        assert not await may_subscribe(alice, f"mito.{kind}.*.x")
        assert not await may_subscribe(alice, f"mito.{kind}.>")


async def test_an_administrator_sees_all_tasks_and_services_but_no_accounts(platform):
    root = await platform.enter("root")
    for kind in ("task", "group", "worker", "attachment"):
        assert await may_subscribe(root, f"mito.live.{kind}.>")
    assert await may_publish(root, "$SRV.PING")
    for subject in ("mito.live.user.>", "mito.live.>", "mito.events.>", "mito.output.lab.>"):
        assert not await may_subscribe(root, subject), subject
    assert not await may_publish(root, "$JS.API.INFO")
    assert not await may_publish(root, "mito.cmd.alice.task.submit")


@pytest.mark.parity("D-060")
async def test_a_worker_may_use_its_own_subjects_only(platform):
    worker = await platform.connect(platform.token_of_worker(WORKER), f"mito-worker-{WORKER}")
    for subject in (f"mito.worker.{WORKER}.report", f"mito.output.lab.task.{WORKER}"):
        assert await may_publish(worker, subject)
    for subject in (f"mito.work.*.{WORKER}", f"mito.control.{WORKER}"):
        assert await may_subscribe(worker, subject)
    for subject in (
        "mito.worker.other.report", "mito.output.lab.task.other", "mito.cmd.alice.task.submit",
        f"mito.work.lab.{WORKER}", "mito.events.task.lab.x", "$JS.API.INFO", "mito.login.hello",
        "mito.query.alice.task.get", "mito.query.alice.artifact.get", "mito.svc.worker.presence",
    ):  # fmt: skip
        assert not await may_publish(worker, subject), subject
    for subject in (
        "mito.work.*.other", "mito.work.>", "mito.control.*", "mito.live.task.lab.>",
        "_INBOX.worker.other.>", "mito.events.>",
    ):  # fmt: skip
        assert not await may_subscribe(worker, subject), subject


async def test_a_denied_request_is_logged_and_raises_nothing_out(platform, caplog):
    alice = await platform.enter("alice")
    alice.publish("mito.cmd.bob.task.submit", b"{}")
    await alice.flush()
    assert alice.is_connected
    assert any(
        record.levelname == "WARNING" and "mito.cmd.bob.task.submit" in record.getMessage()
        for record in caplog.records
    )


@pytest.mark.parametrize("name", ["short", "with.dot.and.more.text", "star*star*star*star*", ""])
async def test_a_guest_without_a_safe_random_name_is_refused(platform, name):
    from nats.aio.client import Client  # our wrapper cannot even ask for this
    from nats.errors import Error

    async def ignore(_: Exception) -> None:
        """The outcome is checked below."""

    with pytest.raises(Error, match="Authorization Violation"):
        await Client().connect(
            platform.url, name=name, allow_reconnect=False, error_cb=ignore, connect_timeout=5
        )
