"""Sealing secret variables: AES-256-GCM, with a key for each sealing, which is wrapped by another.

Pure but for the random keys and nonces. No value and no key is ever in a message.
"""

import base64
import binascii
import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mitosis.errors import CorruptData
from mitosis.services.auth.tokens import TokenKeys

WRAPPING_INFO = b"mitosis secret keys 1"
"""HKDF context of the wrapping key. A change would make all stored keys useless."""

_NONCE_BYTES = 12
_PADDED_BYTES = 256  # the length of a sealing tells no more than this of that of the values
_decode = msgspec.json.Decoder(dict[str, str]).decode


class Sealer:
    """Seals values under a new key, and opens them while there is the key."""

    def __init__(self, keys: TokenKeys) -> None:
        """`keys`: of the platform; the wrapping key is derived from them."""
        self._wrapping = AESGCM(keys.derive(WRAPPING_INFO))

    def seal(self, values: dict[str, str], place: str) -> tuple[str, bytes]:
        """Seal the values of a place.

        Args:
            values: By name.
            place: What they belong to; they can be opened for nothing else.

        Returns:
            The sealed values, in base64, and their wrapped key.
        """
        key = AESGCM.generate_key(256)
        data = msgspec.json.encode(values)
        data += b" " * (-len(data) % _PADDED_BYTES)  # white space, which JSON does not mind
        sealed = base64.b64encode(_encrypt(AESGCM(key), data, place)).decode()
        return sealed, _encrypt(self._wrapping, key, place)

    def open(self, sealed: str, wrapped: bytes, place: str) -> dict[str, str]:
        """Return the values.

        Raises:
            CorruptData: Sealed for another place, by another platform key, or damaged.
        """
        try:
            key = _decrypt(self._wrapping, wrapped, place)
            return _decode(_decrypt(AESGCM(key), base64.b64decode(sealed, validate=True), place))
        except (InvalidTag, ValueError, binascii.Error, msgspec.MsgspecError):
            # Without the cause: its frames hold keys.
            raise CorruptData(
                "the secret variables cannot be opened: the private key of the platform is another "
                "one than when they were given, or what is stored of them is damaged"
            ) from None


def _encrypt(cipher: AESGCM, data: bytes, place: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, data, place.encode())


def _decrypt(cipher: AESGCM, data: bytes, place: str) -> bytes:
    return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], place.encode())
