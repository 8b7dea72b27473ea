"""The stream is created once, as defined, and a differing one is named."""

import msgspec
import pytest

from mitosis.errors import Misconfigured, StoreUnavailable
from mitosis.events.messages import JetStreamError, request, stream_state
from mitosis.events.streams import StreamDefinition, check_version, ensure_stream
from mitosis.nats.store_client import StoreClient

from .conftest import fresh_definition


async def test_a_stream_is_created_once_with_every_promise(nc: StoreClient) -> None:
    definition = fresh_definition()

    await ensure_stream(nc, definition)
    await nc.jetstream().publish(f"{definition.prefix}.a", b"kept")
    await ensure_stream(nc, definition)

    answer = await request(nc, f"$JS.API.STREAM.INFO.{definition.name}")
    config = answer["config"]
    for promise in ("deny_delete", "deny_purge", "allow_atomic", "allow_direct"):
        assert config[promise] is True
    assert (config["storage"], config["discard"], config["compression"]) == ("file", "new", "none")
    assert (await stream_state(nc, definition.name)).messages == 1


async def test_what_is_stored_can_neither_be_deleted_nor_purged(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    await nc.jetstream().publish(f"{stream.prefix}.a", b"kept")

    for verb, body in (("STREAM.MSG.DELETE", {"seq": 1}), ("STREAM.PURGE", None)):
        with pytest.raises(JetStreamError):
            await request(nc, f"$JS.API.{verb}.{stream.name}", body)


async def test_only_what_is_stored_is_shown_live(nc: StoreClient, stream: StreamDefinition) -> None:
    live = await nc.subscribe(f"{stream.live}.>")
    js = nc.jetstream()
    with pytest.raises(Exception, match="wrong last sequence"):
        await js.publish(
            f"{stream.prefix}.a", b"refused", headers={"Nats-Expected-Last-Sequence": "7"}
        )
    await js.publish(f"{stream.prefix}.a", b"stored")

    message = await live.next_msg(5)

    assert (message.subject, message.data) == (f"{stream.live}.a", b"stored")


async def test_a_differing_stream_is_refused_with_the_difference(nc: StoreClient) -> None:
    definition = fresh_definition()
    config = definition.config() | {"deny_purge": False, "max_age": 3600 * 10**9}
    await request(nc, f"$JS.API.STREAM.CREATE.{definition.name}", config)

    with pytest.raises(Misconfigured) as caught:
        await ensure_stream(nc, definition)

    assert "deny_purge is false, wanted true" in str(caught.value)
    assert "max_age is 3600000000000, wanted 0" in str(caught.value)
    assert "compression" not in str(caught.value)


async def test_a_stream_that_was_compressed_is_not_from_now_on(nc: StoreClient) -> None:
    definition = fresh_definition()
    create = f"$JS.API.STREAM.CREATE.{definition.name}"
    await request(nc, create, definition.config() | {"compression": "s2"})
    await nc.jetstream().publish(f"{definition.prefix}.a", b"kept")

    await ensure_stream(nc, definition)

    answer = await request(nc, f"$JS.API.STREAM.INFO.{definition.name}")
    assert answer["config"]["compression"] == "none"
    assert (await stream_state(nc, definition.name)).messages == 1


async def test_another_prefix_is_a_difference(nc: StoreClient, stream: StreamDefinition) -> None:
    other = msgspec.structs.replace(stream, prefix="elsewhere", live="")

    with pytest.raises(Misconfigured, match="subjects is"):
        await ensure_stream(nc, other)


async def test_a_missing_stream_is_unavailable(nc: StoreClient) -> None:
    with pytest.raises(StoreUnavailable, match="stream not found"):
        await stream_state(nc, "NOT_THERE")


@pytest.mark.parametrize("version", ["2.11.9", "1.99.0", ""])
def test_an_old_server_is_refused(version: str) -> None:
    with pytest.raises(Misconfigured, match=r"needs 2\.12 or newer"):
        check_version(version)


@pytest.mark.parametrize("version", ["2.12.0", "2.15.1", "v3.0.0-RC1"])
def test_a_newer_server_is_accepted(version: str) -> None:
    check_version(version)
