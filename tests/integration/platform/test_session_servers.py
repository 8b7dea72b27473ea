import nats
import psycopg
import pytest
from minio import Minio
from minio.error import S3Error
from nats.errors import Error as NatsError

from mitosis.nats.nkeys import account_public_key
from mitosis.nats.server_config import CalloutConfig
from mitosis.services.platform.embedded_s3 import REGION, anonymous_status
from mitosis.testing.servers import (
    SERVICE_USER,
    SYSTEM_USER,
    NatsServer,
    PostgresServer,
    S3Server,
    open_nats,
)


async def ignore(_: Exception) -> None:
    """The refusal is what the test looks at."""


async def test_the_service_user_may_use_jetstream(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.user_url)
    stream = client.jetstream()
    await stream.add_stream(name="SESSION", subjects=["session.>"])
    ack = await stream.publish("session.a", b"1")
    assert ack.seq == 1
    await stream.delete_stream("SESSION")
    await client.close()


async def test_the_system_user_sees_the_connections(nats_server: NatsServer) -> None:
    client = await nats.connect(
        nats_server.url, user=SYSTEM_USER.name, password=SYSTEM_USER.password
    )
    answer = await client.request("$SYS.REQ.ACCOUNT.MITO.CONNZ", b"{}", timeout=5)
    assert b"connections" in answer.data
    await client.close()


async def test_a_stranger_is_refused(nats_server: NatsServer) -> None:
    with pytest.raises(NatsError, match="Authorization Violation"):
        await nats.connect(
            nats_server.url,
            user="stranger",
            password="x",
            allow_reconnect=False,
            error_cb=ignore,
        )


async def test_with_a_callout_services_get_in_before_anybody_answers_for_others() -> None:
    """The coordinator connects first and then answers for the rest."""
    issuer = account_public_key(bytes(range(32)))
    callout = CalloutConfig(issuer=issuer, timeout_seconds=1)
    async with open_nats(callout=callout) as server:
        client = await nats.connect(server.user_url)
        asked = await client.subscribe("$SYS.REQ.USER.AUTH")
        with pytest.raises(NatsError, match="Authorization Violation"):
            await nats.connect(server.url, allow_reconnect=False, error_cb=ignore)
        question = await asked.next_msg(timeout=5)
        assert question.data.count(b".") == 2  # a signed token of the server
        await client.close()


@pytest.mark.parametrize("number", [1, 2])
def test_every_test_has_an_empty_database(database: str, number: int) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE only_here (label text)")
        connection.execute("INSERT INTO only_here VALUES ('日本')")
        row = connection.execute("SELECT label FROM only_here").fetchone()
        assert row == ("日本",)


def test_a_database_is_gone_after_its_test(postgres_server: PostgresServer) -> None:
    with postgres_server.database() as url:
        pass
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_objects_are_stored_for_who_has_the_keys(s3_server: S3Server) -> None:
    def client(secret: str) -> Minio:
        keys = s3_server.keys
        host = s3_server.url.removeprefix("http://")
        return Minio(
            host, access_key=keys.access_key, secret_key=secret, secure=False, region=REGION
        )

    client(s3_server.keys.secret_key).make_bucket("session")
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        client("wrong" * 8).list_buckets()


def test_a_request_without_keys_is_refused(s3_server: S3Server) -> None:
    host, _, port = s3_server.url.removeprefix("http://").partition(":")
    assert anonymous_status(host, int(port)) == 403


def test_passwords_are_not_in_the_printed_form() -> None:
    assert SERVICE_USER.password not in repr(SERVICE_USER)
