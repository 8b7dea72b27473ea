"""Public keys of checkpoints: those that an auditor gives, and those that history tells."""

import base64
import binascii
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mitosis.events.chain import key_id
from mitosis.services.auth.key_files import load_public_keys


class PublicKey:
    """One Ed25519 public key."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.id = key_id(key.public_bytes_raw())

    def has_signed(self, text: bytes, signature: str) -> bool:
        """Whether a signature in Base64 is this key's of the text."""
        try:
            self._key.verify(base64.b64decode(signature, validate=True), text)
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


def parse(pem: str) -> PublicKey | None:
    """Return the key in a PEM text, or None if it is none of Ed25519."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    return PublicKey(key) if isinstance(key, Ed25519PublicKey) else None


def read(path: Path) -> list[PublicKey]:
    """Read a file of one or more public keys in PEM form.

    Raises:
        Misconfigured: It is none.
    """
    return [PublicKey(key) for key in load_public_keys("--key", path)]
