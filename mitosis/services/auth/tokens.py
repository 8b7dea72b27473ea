"""Signed tokens of sessions and workers: Ed25519 JWTs with the platform's key pair."""

from pathlib import Path

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from mitosis.errors import AuthenticationFailed, Misconfigured

ISSUER = "mitosis"
MAX_TOKEN_CHARS = 4_096
_REQUIRED = ["iss", "sub", "sid", "typ", "iat", "exp"]
_MAKE = "make a pair: openssl genpkey -algorithm ed25519 -out private.pem && " + (
    "openssl pkey -in private.pem -pubout -out public.pem"
)


class Claims(msgspec.Struct, frozen=True):
    """What a token says.

    Attributes:
        typ: `user` or `worker`.
        sub: Name of the user, or UUID of the worker.
        sid: The session; empty for a worker.
        iat, exp: Unix times of issue and expiry.
    """

    typ: str
    sub: str
    sid: str
    iat: int
    exp: int


class TokenKeys:
    """The platform's key pair: issues tokens and checks them."""

    def __init__(self, private: Ed25519PrivateKey, private_pem: bytes) -> None:
        self._private = private
        self._public = private.public_key()
        self.private_pem = private_pem

    def __repr__(self) -> str:
        return "TokenKeys(...)"

    def issue(self, typ: str, sub: str, *, sid: str = "", issued_at: float, exp: float) -> str:
        """Return a signed token; times are Unix times, kept as whole seconds."""
        claims = {
            "iss": ISSUER,
            "typ": typ,
            "sub": sub,
            "sid": sid,
            "iat": int(issued_at),
            "exp": int(exp),
        }
        return jwt.encode(claims, self._private, algorithm="EdDSA")

    def verify(self, token: str, now: float) -> Claims:
        """Return what a token of ours says.

        Raises:
            AuthenticationFailed: Tampered, foreign, malformed or expired.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise AuthenticationFailed("the token is too long to be one of ours")
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=["EdDSA"],
                issuer=ISSUER,
                # Expiry is checked below, by the clock that the caller gives.
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False},
            )
            found = msgspec.convert(claims, Claims)
        except (jwt.PyJWTError, msgspec.ValidationError) as error:
            raise AuthenticationFailed("the token is not one of ours: log in again") from error
        if found.exp <= now:
            raise AuthenticationFailed("the session is over: log in again")
        if found.typ not in {"user", "worker"}:
            raise AuthenticationFailed("the token is of an unknown type: log in again")
        return found


def load_keys(private_path: Path, public_path: Path) -> TokenKeys:
    """Read the key pair of the platform.

    Raises:
        Misconfigured: A file is missing, unreadable or no Ed25519 key, or they are no pair.
    """
    pem = _read("access_token_private_path", private_path)
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable("access_token_private_path", private_path, "private") from error
    try:
        public = load_pem_public_key(_read("access_token_public_path", public_path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable("access_token_public_path", public_path, "public") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _unusable("access_token_private_path", private_path, "private")
    if not isinstance(public, Ed25519PublicKey):
        raise _unusable("access_token_public_path", public_path, "public")
    if private.public_key().public_bytes_raw() != public.public_bytes_raw():
        raise Misconfigured(
            f"{str(public_path)!r} is not the public key of {str(private_path)!r}: "
            f"openssl pkey -in {private_path} -pubout -out {public_path}"
        )
    return TokenKeys(private, pem)


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Misconfigured(f"{setting}: there is no file {str(path)!r}; {_MAKE}") from None
    except OSError as error:
        raise Misconfigured(f"{setting}: {str(path)!r} cannot be read: {error.strerror}") from error


def _unusable(setting: str, path: Path, half: str) -> Misconfigured:
    return Misconfigured(
        f"{setting}: {str(path)!r} is not an unencrypted Ed25519 {half} key in PEM; {_MAKE}"
    )
