"""The rendered configuration against the real nats-server."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import nats
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mitosis.nats.nkeys import account_public_key
from mitosis.nats.server_config import (
    DEFAULT_MAX_PAYLOAD_BYTES,
    CalloutConfig,
    ClusterConfig,
    NatsServerConfig,
    StaticUser,
    TlsFiles,
    render,
    write_private,
)
from mitosis.services.platform.binaries import nats_server
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.services.platform.embedded_s3 import EmbeddedS3, S3Keys
from mitosis.services.platform.failures import ServerFailed

SYSTEM = StaticUser(name="mito_system", password="system")


@pytest.fixture
def certificate(tmp_path: Path) -> TlsFiles:
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, SHA256())
    )
    certificate, private = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    return TlsFiles(
        cert_file=str(certificate),
        key_file=str(private),
        ca_file=str(certificate),
        verify_clients=True,
    )


def test_the_server_accepts_every_part_of_the_configuration(
    tmp_path: Path, certificate: TlsFiles
) -> None:
    config = NatsServerConfig(
        store_dir=str(tmp_path),
        service_users=(StaticUser(name="mito_coordinator", password="service"),),
        system_users=(SYSTEM,),
        callout=CalloutConfig(issuer=account_public_key(bytes(range(32))), timeout_seconds=2.5),
        monitoring=("127.0.0.1", -1),
        ports_file_dir=str(tmp_path),
        tls=certificate,
        cluster=ClusterConfig(
            name="mito",
            host="127.0.0.1",
            port=6222,
            routes=("nats-route://127.0.0.1:6222", "nats-route://127.0.0.1:6223"),
            user=StaticUser(name="route", password="route"),
            tls=certificate,
        ),
    )
    path = tmp_path / "nats.conf"
    write_private(path, render(config))
    command = [nats_server(), "-t", "-c", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "password", ['a"b } evil: "', "back\\slash\\n\\x41", "$HOME ${HOME}", "# // '", "日本 é 🧬"]
)
async def test_a_password_with_any_sign_lets_its_user_in(tmp_path: Path, password: str) -> None:
    user = StaticUser(name="mito coordinator", password=password)
    server = EmbeddedNats(tmp_path, service_users=(user,), system_users=(SYSTEM,))
    async with server:
        client = await nats.connect(server.url, user=user.name, password=password)
        assert client.max_payload == DEFAULT_MAX_PAYLOAD_BYTES
        await client.close()


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    def spoilt(config: NatsServerConfig) -> NatsServerConfig:
        return msgspec.structs.replace(config, store_dir="/proc/no/such/store")

    server = EmbeddedNats(
        tmp_path, service_users=(SYSTEM,), system_users=(StaticUser(name="b", password="b"),),
        configure=spoilt,
    )  # fmt: skip
    with pytest.raises(ServerFailed, match=r"nats ended with status 1.*mkdir /proc/no"):
        await server.start()


async def test_s3_without_keys_is_never_started(tmp_path: Path) -> None:
    """It would serve anyone, also a folder that had keys before."""
    server = EmbeddedS3(tmp_path, keys=S3Keys(access_key="", secret_key="x"))
    with pytest.raises(ServerFailed, match="both keys"):
        await server.start()
    assert not (tmp_path / "data").exists()
