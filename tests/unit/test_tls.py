"""Why a certificate is not believed, in words; and certificates that are renewed (F-55)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from mitosis.config.client import ClientConfig
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.trust import coordinator_trust, nats_trust, store_trust
from mitosis.errors import Misconfigured
from mitosis.testing.certificates import DAY, Authority, Streams, Terminator
from mitosis.tls import Place, ServerCertificate, Trust, why_refused

NOW = datetime.now(UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours", "the laboratory")


async def nowhere() -> Streams:
    raise ConnectionRefusedError("there is nothing behind")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def asked(
    stack: AsyncExitStack, certificate: tuple[Path, Path], trust: Trust, **place: str
) -> str | None:
    """What is said of a server with this certificate."""
    protocol = place.get("protocol", "tls")
    terminator = Terminator(nowhere, postgres=protocol == "postgres")
    terminator.show(certificate)
    port = await stack.enter_async_context(terminator.listening())
    where = Place(place.get("host", "127.0.0.1"), port, protocol)
    return await asyncio.to_thread(why_refused, where, trust)


@pytest.mark.parametrize("protocol", ["tls", "postgres"])
async def test_each_reason_is_said_in_words_with_the_way_out(
    stack: AsyncExitStack, authority: Authority, tmp_path: Path, protocol: str
) -> None:
    trust = Trust("s3_ca", authority.path)
    good = authority.issue("127.0.0.1")
    assert await asked(stack, good, trust, protocol=protocol) is None
    foreign = Authority(tmp_path / "theirs", "somebody else").issue("127.0.0.1")
    assert await asked(stack, foreign, trust, protocol=protocol) == (
        "the server's certificate is of an unknown authority (somebody else): name the file with "
        "its certificate by s3_ca"
    )
    old = authority.issue("127.0.0.1", begins=NOW - 40 * DAY, lasts=30 * DAY)
    said = await asked(stack, old, trust, protocol=protocol) or ""
    assert f"valid until {NOW - 10 * DAY:%Y-%m-%d %H:%M} UTC; renew it" in said
    early = authority.issue("127.0.0.1", begins=NOW + 2 * DAY)
    said = await asked(stack, early, trust, protocol=protocol) or ""
    assert f"valid from {NOW + 2 * DAY:%Y-%m-%d %H:%M} UTC only" in said
    other = authority.issue("nats.example", "10.0.0.7")
    said = await asked(stack, other, trust, protocol=protocol) or ""
    assert "is for nats.example, 10.0.0.7, not for 127.0.0.1" in said
    good = authority.issue("127.0.0.1")
    said = await asked(stack, good, trust, host="localhost", protocol=protocol) or ""
    assert "is for 127.0.0.1, not for localhost" in said


async def test_insecure_believes_anybody(stack: AsyncExitStack, tmp_path: Path) -> None:
    foreign = Authority(tmp_path / "theirs").issue("nowhere.example")
    assert await asked(stack, foreign, Trust("s3_ca", insecure=True)) is None


async def test_a_server_without_tls_is_told_from_a_bad_certificate(authority: Authority) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        place = Place("127.0.0.1", server.sockets[0].getsockname()[1])
        said = await asyncio.to_thread(why_refused, place, Trust("s3_ca", authority.path))
    assert "TLS cannot be agreed" in (said or "")


def test_a_file_that_is_no_authority_is_named_with_its_setting(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(Misconfigured, match=r"nats_ca: .*ca\.pem.*No such file"):
        Trust("nats_ca", path).context()
    path.write_text("not a certificate")
    with pytest.raises(Misconfigured, match=r"nats_ca: .*no certificate in PEM form"):
        Trust("nats_ca", path).context()


def test_a_new_certificate_is_used_and_a_bad_one_is_not(authority: Authority) -> None:
    certificate, key = authority.issue("127.0.0.1", lasts=10 * DAY)
    held = ServerCertificate(certificate, key)
    first = held.expires_at
    assert not held.refresh()
    authority.issue("127.0.0.1", lasts=20 * DAY)
    assert held.refresh()
    assert held.expires_at == first + 10 * DAY
    other = Authority(authority.path.parent / "other").issue("127.0.0.1")
    other[1].replace(key)  # the key of another certificate
    with pytest.raises(Misconfigured, match="or not the one of the certificate"):
        held.refresh()
    assert held.expires_at == first + 10 * DAY
    assert not held.refresh()  # said once


def broken_encrypted(certificate: Path, key: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    loaded = load_pem_private_key(key.read_bytes(), None)
    secret = BestAvailableEncryption(b"x")
    key.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))


BROKEN: dict[str, Callable[[Path, Path], object]] = {
    "tls_cert: .*No such file": lambda certificate, _: certificate.unlink(),
    "tls_cert: .*no certificate in PEM": lambda certificate, _: certificate.write_text("x"),
    "tls_key: .*No such file": lambda _, key: key.unlink(),
    "tls_key: .*no unencrypted key": lambda _, key: key.write_text("x"),
    "tls_key: .*unencrypted key in PEM": broken_encrypted,
}


@pytest.mark.parametrize("said", BROKEN)
def test_files_of_a_listener_that_cannot_be_used_are_named(authority: Authority, said: str) -> None:
    pair = authority.issue("127.0.0.1")
    BROKEN[said](*pair)
    with pytest.raises(Misconfigured, match=said):
        ServerCertificate(*pair)


def test_an_expired_certificate_does_not_start(authority: Authority) -> None:
    pair = authority.issue("127.0.0.1", begins=NOW - 3 * DAY, lasts=2 * DAY)
    with pytest.raises(Misconfigured, match=f"it expired on {NOW - DAY:%Y-%m-%d}"):
        ServerCertificate(*pair)


def test_the_authority_of_the_database_is_put_into_its_address(tmp_path: Path) -> None:
    ca = tmp_path / "my ca.pem"
    config = CoordinatorConfig(db_url="postgres://u:p@h:1/d", db_ca=ca)
    assert config.database.startswith("postgres://u:p@h:1/d?sslmode=verify-full&sslrootcert=")
    own = "postgres://h/d?sslmode=require"
    assert CoordinatorConfig(db_url=own, db_ca=ca).database == own
    assert CoordinatorConfig(db_url=own).database == own
    assert conninfo_to_dict(config.database)["sslrootcert"] == str(ca)


def test_the_coordinators_authority_vouches_for_what_has_none_of_its_own() -> None:
    ca, own = Path("/ca"), Path("/own")
    config = ClientConfig(coordinator_ca=ca)
    assert coordinator_trust(config).ca == store_trust(config).ca == ca
    assert nats_trust(config, ["tls://h:4222"]).ca == ca
    assert nats_trust(config, ["nats://h:4222"]).ca is None  # it may have no TLS at all
    config = ClientConfig(coordinator_ca=ca, nats_ca=own, s3_ca=own)
    assert store_trust(config).ca == nats_trust(config, ["nats://h:4222"]).ca == own
    assert nats_trust(ClientConfig(insecure=True), ["tls://h"]).insecure
