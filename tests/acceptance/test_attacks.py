"""What somebody who means no good can send: each try is refused and leaves nothing behind."""

import asyncio
import json
import secrets

import nats
import pytest

from mitosis import SyncMitoClient

from .conftest import Done, Person, Platform

BAD_TEXT = b"\xff".decode(errors="surrogateescape")  # as Python reads such an argument


async def test_an_administrator_cannot_have_a_service_write_into_the_stream(
    platform: Platform, admin: SyncMitoClient
) -> None:
    before = len(admin.get_tasks().tasks)
    name, inbox = platform.notice["admin_user"], secrets.token_hex(8)
    link = await nats.connect(
        platform.notice["nats"], user=name, password=platform.admin_password,
        inbox_prefix=f"_INBOX.user.{name}.{inbox}".encode(),
    )  # fmt: skip
    stored = await link.subscribe("mito.live.task.>")
    for question in ("$SRV.PING", "$SRV.INFO", "$SRV.STATS", "$SRV.PING.mito-coordinator"):
        await link.publish(question, b"", "mito.events.task.nobody.nothing")
    answer = json.loads((await link.request("$SRV.PING", b"", 10)).data)
    assert answer["type"] == "io.nats.micro.v1.ping_response"
    with pytest.raises(nats.errors.TimeoutError):
        await stored.next_msg(0.5)
    await link.close()
    assert len(await asyncio.to_thread(lambda: admin.get_tasks().tasks)) == before


def test_an_argument_that_is_no_utf8_is_one_clear_line_and_a_password_is_not_repeated(
    person: Person,
) -> None:
    for command in (("get", "task", BAD_TEXT), ("get", "tasks", "-l", BAD_TEXT)):
        done: Done = person.shell(*command)
        assert (done.status, done.out) == (1, b"")
        assert "not valid UTF-8" in done.complaint
    done = person.shell("auth", person.name, f"hidden-{BAD_TEXT}")
    assert done.status == 1
    assert "hidden" not in done.complaint
