"""The secrets of one platform, made once and kept in files that only their owner can read."""

import secrets
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mitosis.nats.credentials import random_token
from mitosis.nats.server_config import StaticUser, write_private
from mitosis.services.platform.embedded_s3 import S3Keys
from mitosis.services.platform.failures import FolderRefused

ADMIN_USER = "mitosis_admin"
SERVICE_USER = "mito_coordinator"
SYSTEM_USER = "mito_system"


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    """`services.json`: what the services show each other."""

    nats_password: str
    nats_system_password: str
    s3_access_key: str
    s3_secret_key: str


class Credentials:
    """What the services and the first administrator log in with.

    Args:
        folder: An existing private folder; what is missing in it is made.

    Raises:
        FolderRefused: a file is there but damaged. It is never replaced: data may depend on it.
    """

    def __init__(self, folder: Path) -> None:
        self.private_key_path = folder / "private.pem"
        self.public_key_path = folder / "public.pem"
        self.admin_password_path = folder / "admin_password"
        self.shutdown_secret_path = folder / "shutdown_secret"  # the coordinator's to write
        stored = _stored(folder / "services.json")
        self.service = StaticUser(name=SERVICE_USER, password=stored.nats_password)
        self.system = StaticUser(name=SYSTEM_USER, password=stored.nats_system_password)
        self.s3 = S3Keys(access_key=stored.s3_access_key, secret_key=stored.s3_secret_key)
        if not self.admin_password_path.exists():
            # Letters and digits: one that begins with a dash would be read as an option.
            write_private(self.admin_password_path, random_token(24) + "\n")
        self._make_key_pair()

    @property
    def admin_password(self) -> str:
        """The first administrator's password as it was made; it may have been changed since."""
        return self.admin_password_path.read_text(encoding="utf-8").strip()

    @property
    def private_pem(self) -> bytes:
        """The key that signs sessions and from which the callout's issuer is derived."""
        return self.private_key_path.read_bytes()

    def _make_key_pair(self) -> None:
        if not self.private_key_path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
            write_private(self.private_key_path, pem.decode("ascii"))
        try:
            private = load_pem_private_key(self.private_pem, password=None)
        except (ValueError, TypeError) as error:
            raise FolderRefused(f"{self.private_key_path} is not a private key in PEM") from error
        if not self.public_key_path.exists():
            public = private.public_key().public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            )
            write_private(self.public_key_path, public.decode("ascii"))


def _stored(path: Path) -> _Stored:
    if not path.exists():
        made = _Stored(
            nats_password=secrets.token_hex(24),
            nats_system_password=secrets.token_hex(24),
            s3_access_key=secrets.token_hex(10),
            s3_secret_key=secrets.token_hex(24),
        )
        write_private(path, msgspec.json.encode(made).decode("ascii") + "\n")
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Stored)
    except msgspec.DecodeError:
        raise FolderRefused(f"{path} is damaged: restore it from a copy") from None
