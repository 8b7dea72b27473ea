"""NATS nkeys: the text form of Ed25519 public keys, and the issuer key of the auth callout.

An nkey is base32 without padding over one prefix byte, the 32 bytes of the public key and a CRC-16
(XMODEM, little endian). Only public keys take this form here; private keys stay `cryptography`
objects.
"""

import base64
import binascii
import enum

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_private_key

ISSUER_INFO = b"mitosis/nats-callout-issuer/v1"
"""HKDF context of the issuer key. A change would change `issuer` in every server configuration."""

_KEY_BYTES = 32
_ENCODED_LENGTH = 56


class KeyKind(enum.IntEnum):
    """The prefix byte of an nkey; it decides the first letter of the text."""

    ACCOUNT = 0  # A...
    SERVER = 13 << 3  # N...
    USER = 20 << 3  # U...


def encode(kind: KeyKind, public_key: bytes) -> str:
    """Returns the text form of a raw 32-byte Ed25519 public key.

    Raises:
        ValueError: the key does not have 32 bytes.
    """
    if len(public_key) != _KEY_BYTES:
        raise ValueError(f"an Ed25519 public key has {_KEY_BYTES} bytes, not {len(public_key)}")
    body = bytes([kind]) + public_key
    checksum = binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(body + checksum).decode("ascii").rstrip("=")


def decode(text: str) -> tuple[KeyKind, bytes]:
    """Returns the kind and the raw public key of an nkey.

    Raises:
        ValueError: the text is not an nkey of a known kind or its checksum is wrong.
    """
    if len(text) != _ENCODED_LENGTH:
        raise ValueError(f"a public nkey has {_ENCODED_LENGTH} characters, not {len(text)}")
    try:
        raw = base64.b32decode(text)
    except binascii.Error as error:
        raise ValueError("not an nkey: not base32 in upper case") from error
    body, checksum = raw[:-2], raw[-2:]
    if binascii.crc_hqx(body, 0).to_bytes(2, "little") != checksum:
        raise ValueError("not an nkey: its checksum is wrong")
    return KeyKind(body[0]), body[1:]


def account_public_key(public_key: bytes) -> str:
    """Returns the `A...` text of a raw public key: the form of `auth_callout.issuer`."""
    return encode(KeyKind.ACCOUNT, public_key)


def user_public_key(public_key: bytes) -> str:
    """Returns the `U...` text of a raw public key."""
    return encode(KeyKind.USER, public_key)


def derive_issuer(private_pem: bytes) -> Ed25519PrivateKey:
    """Derives the callout's issuer key from the platform's Ed25519 private key.

    HKDF-SHA256 over the raw private key, so that one file (`private.pem`) is the only secret to
    keep and every coordinator that has it signs as the same issuer.

    Raises:
        ValueError: not an unencrypted Ed25519 private key in PEM; the message never holds the key.
    """
    try:
        key = load_pem_private_key(private_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("not an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 private key; make one: openssl genpkey -algorithm ed25519")
    seed = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=ISSUER_INFO)
    return Ed25519PrivateKey.from_private_bytes(seed.derive(key.private_bytes_raw()))


def issuer_account(private_pem: bytes) -> str:
    """Returns the account nkey (`A...`) that the server configuration names as callout issuer.

    Raises:
        ValueError: as `derive_issuer`.
    """
    return account_public_key(derive_issuer(private_pem).public_key().public_bytes_raw())
