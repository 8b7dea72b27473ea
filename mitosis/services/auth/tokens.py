"""Signed tokens of sessions and workers: Ed25519 JWTs with the platform's key pair."""

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mitosis.errors import AuthenticationFailed
from mitosis.events.chain import key_id

ISSUER = "mitosis"
MAX_TOKEN_CHARS = 4_096
_REQUIRED = ["iss", "sub", "sid", "typ", "iat", "exp"]


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
    """The platform's key pair: issues tokens and checks them, signs checkpoints."""

    def __init__(self, private: Ed25519PrivateKey, private_pem: bytes) -> None:
        self._private = private
        self._public = private.public_key()
        self.private_pem = private_pem
        self.public_pem = self._public.public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        ).decode()
        self.key_id = key_id(self._public.public_bytes_raw())

    def __repr__(self) -> str:
        return "TokenKeys(...)"

    def derive(self, info: bytes) -> bytes:
        """Return 32 bytes that only who has the private key can know, for one purpose: `info`."""
        kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=info)
        return kdf.derive(self._private.private_bytes_raw())

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

    def sign(self, text: bytes) -> bytes:
        """Return the Ed25519 signature of a text that begins with what it is about."""
        return self._private.sign(text)

    def verify(self, token: str, now: float) -> Claims:
        """Return what a token of ours says.

        The expiry of a worker's token is not looked at: it is good as long as the worker is
        registered, and what ends that is its lease, not a wall clock.

        Raises:
            AuthenticationFailed: Tampered, foreign, malformed, or of a session that is over.
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
        if found.typ not in {"user", "worker"}:
            raise AuthenticationFailed("the token is of an unknown type: log in again")
        if found.typ == "user" and found.exp <= now:
            raise AuthenticationFailed("the session is over: log in again")
        return found
