"""The key pair in its two files, as people make and mangle them.

The library that reads keys takes nearly any kind without complaint, so the kind is tested here, and
a file that is something else is called by its name. Nothing of a key is ever in a message.
"""

import base64
import binascii
import re
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x448, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_der_public_key,
)

from mitosis.errors import Misconfigured
from mitosis.services.auth.tokens import TokenKeys

MAKE_PRIVATE = "openssl genpkey -algorithm ed25519 -out {private}"
MAKE_PUBLIC = "openssl pkey -in {private} -pubout -out {public}"
MAX_KEY_BYTES = 64 * 1024

PRIVATE_SETTING = "access_token_private_path"
PUBLIC_SETTING = "access_token_public_path"

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_KINDS: tuple[tuple[Any, str], ...] = (
    ((ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey), "an EC key"),
    ((rsa.RSAPrivateKey, rsa.RSAPublicKey), "an RSA key"),
    ((x25519.X25519PrivateKey, x25519.X25519PublicKey), "an X25519 key"),
    ((ed448.Ed448PrivateKey, ed448.Ed448PublicKey), "an Ed448 key"),
    ((x448.X448PrivateKey, x448.X448PublicKey), "an X448 key"),
)
_LABELS = {
    "ENCRYPTED PRIVATE KEY": "an encrypted key",
    "OPENSSH PRIVATE KEY": "a key of ssh-keygen",
    "EC PRIVATE KEY": "an EC key",
    "EC PARAMETERS": "an EC key",
    "RSA PRIVATE KEY": "an RSA key",
    "RSA PUBLIC KEY": "an RSA key",
    "DSA PRIVATE KEY": "a DSA key",
    "CERTIFICATE": "a certificate",
    "CERTIFICATE REQUEST": "a certificate request",
}
_HALVES = {"PRIVATE KEY": "the private key", "PUBLIC KEY": "a public key"}


def load_keys(private_path: Path, public_path: Path) -> TokenKeys:
    """Read the key pair of the platform.

    Raises:
        Misconfigured: A file is missing, unreadable or no Ed25519 key, or they are no pair. The
            message says what the file is, what is needed, and how to make it.
    """
    private = load_private_key(private_path)
    how = MAKE_PUBLIC.format(private=private_path, public=public_path)
    der = _bodies(PUBLIC_SETTING, public_path, "PUBLIC KEY", how)[0]
    public = _public_key(PUBLIC_SETTING, public_path, der, how)
    if private.public_key().public_bytes_raw() != public.public_bytes_raw():
        raise Misconfigured(
            f"{PUBLIC_SETTING}: {str(public_path)!r} is the public key of another pair than "
            f"{str(private_path)!r}; make the right one: {how}"
        )
    return TokenKeys(private, pem_of(private))


def load_public_keys(setting: str, path: Path) -> list[Ed25519PublicKey]:
    """Read all public keys of a file; `setting` names it in messages.

    Raises:
        Misconfigured: As of `load_keys`.
    """
    how = MAKE_PUBLIC.format(private="PRIVATE.pem", public=path)
    return [
        _public_key(setting, path, der, how) for der in _bodies(setting, path, "PUBLIC KEY", how)
    ]


def _public_key(setting: str, path: Path, der: bytes, how: str) -> Ed25519PublicKey:
    try:
        public = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(setting, path, "damaged", how) from None
    if not isinstance(public, Ed25519PublicKey):
        raise _unusable(setting, path, _kind(public), how)
    return public


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the private key alone.

    Raises:
        Misconfigured: As of `load_keys`.
    """
    how = MAKE_PRIVATE.format(private=_free_path(path))
    der = _bodies(PRIVATE_SETTING, path, "PRIVATE KEY", how)[0]
    try:
        private = load_der_private_key(der, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unusable(PRIVATE_SETTING, path, "damaged", how) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise _unusable(PRIVATE_SETTING, path, _kind(private), how)
    return private


def pem_of(private: Ed25519PrivateKey) -> bytes:
    """Return the key in the form of `openssl genpkey`."""
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _bodies(setting: str, path: Path, wanted: str, how: str) -> list[bytes]:
    """Return the bytes inside of the PEM blocks of the wanted kind: one or more.

    A byte order mark, other line ends, comments around it, or all on one line do no harm.
    """
    data = _read(setting, path, how)
    if not data.strip():
        raise _unusable(setting, path, "empty", how)
    try:
        text = data.decode("utf-8-sig").replace("\\n", "\n")
    except UnicodeDecodeError:
        raise _unusable(setting, path, _binary(data), how) from None
    blocks = _PEM.findall(text)
    if not blocks:
        raise _unusable(setting, path, "no key in PEM form (BEGIN and END lines are missing)", how)
    try:
        found = [
            base64.b64decode("".join(body.split()), validate=True)
            for label, body in blocks
            if label == wanted
        ]
    except binascii.Error:
        raise _unusable(setting, path, "damaged", how) from None
    if not found:
        raise _unusable(setting, path, _labelled(blocks[0][0]), how)
    return found


def _labelled(label: str) -> str:
    return _LABELS.get(label) or _HALVES.get(label) or f"labelled {label!r}, which no tool writes"


def _read(setting: str, path: Path, how: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_BYTES)
    except FileNotFoundError:
        raise Misconfigured(f"{setting}: there is no file {str(path)!r}; make it: {how}") from None
    except IsADirectoryError:
        raise _unusable(setting, path, "a folder", how) from None
    except OSError as error:
        raise Misconfigured(f"{setting}: {str(path)!r} cannot be read: {error.strerror}") from None


def _binary(data: bytes) -> str:
    for load in (lambda: load_der_private_key(data, None), lambda: load_der_public_key(data)):
        try:
            load()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        return "a key in DER form, not PEM"
    return "a binary file"


def _kind(key: Any) -> str:
    found = next((name for types, name in _KINDS if isinstance(key, types)), "another kind of key")
    curve = getattr(key, "curve", None)
    return f"{found} ({curve.name})" if curve is not None else found


def _unusable(setting: str, path: Path, what: str, how: str) -> Misconfigured:
    half = "private" if setting == PRIVATE_SETTING else "public"
    return Misconfigured(
        f"{setting}: {str(path)!r} is {what}; an unencrypted Ed25519 {half} key in PEM form is "
        f"needed; make it: {how}"
    )


def _free_path(path: Path) -> Path:
    """Return where a new key may be written: openssl replaces a file without asking.

    What lies at the path may be the key of something else.
    """
    try:
        taken = path.is_dir() or path.stat().st_size > 0
    except OSError:  # it is missing, or what else is wrong is said by who reads it
        return path
    return path.parent / f"{path.stem}-ed25519.pem" if taken else path
