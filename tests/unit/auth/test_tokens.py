"""Tokens of the platform, made with a pair as the documentation says."""

import subprocess

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mitosis.errors import AuthenticationFailed
from mitosis.services.auth.key_files import load_keys
from mitosis.services.auth.tokens import Claims, TokenKeys


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A pair made as the documentation says."""
    folder = tmp_path_factory.mktemp("keys")
    make = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", "private.pem"]
    subprocess.run(make, cwd=folder, check=True)
    publish = ["openssl", "pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"]
    subprocess.run(publish, cwd=folder, check=True)
    return folder / "private.pem", folder / "public.pem"


@pytest.fixture
def keys(pair) -> TokenKeys:
    return load_keys(*pair)


def test_a_token_says_what_was_put_into_it(keys):
    token = keys.issue("user", "alice", sid="s1", issued_at=100.7, exp=200.2)
    assert keys.verify(token, 150.0) == Claims("user", "alice", "s1", 100, 200)


def test_a_token_is_over_at_its_expiry(keys):
    token = keys.issue("user", "alice", sid="s1", issued_at=100, exp=200)
    keys.verify(token, 199.9)
    with pytest.raises(AuthenticationFailed, match="over"):
        keys.verify(token, 200.0)


def test_the_token_of_a_worker_has_no_end_but_that_of_its_registration(keys):
    """A coordinator whose clock has jumped must not shut out workers that run tasks."""
    token = keys.issue("worker", "w", issued_at=100, exp=200)
    assert keys.verify(token, 9e9).sub == "w"


def _claims(**changes):
    claims = {"iss": "mitosis", "typ": "user", "sub": "a", "sid": "s", "iat": 1, "exp": 9e9}
    return {name: value for name, value in (claims | changes).items() if value is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"}, {"typ": "service"}, {"sub": 5}, {"sid": None}, {"exp": None},
        {"typ": None}, {"sub": None}, {"iss": None}, {"exp": "soon"}, {"aud": "elsewhere"},
    ],
)  # fmt: skip
def test_claims_that_are_not_ours_are_refused_although_well_signed(keys, changes):
    token = jwt.encode(_claims(**changes), keys._private, algorithm="EdDSA")
    with pytest.raises(AuthenticationFailed):
        keys.verify(token, 1.0)


def test_a_token_of_another_key_is_refused(keys):
    token = jwt.encode(_claims(), Ed25519PrivateKey.generate(), algorithm="EdDSA")
    with pytest.raises(AuthenticationFailed, match="log in again"):
        keys.verify(token, 1.0)


def test_the_public_key_is_no_secret_of_another_algorithm(keys, pair):
    """The classic confusion: HS256 with the public key as its secret."""
    import base64
    import hashlib
    import hmac
    import json

    def pack(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = (
        pack(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
        + b"."
        + pack(json.dumps(_claims()).encode())
    )
    signature = hmac.new(pair[1].read_bytes(), signed, hashlib.sha256).digest()
    for token in (signed + b"." + pack(signature), signed + b"."):
        with pytest.raises(AuthenticationFailed):
            keys.verify(token.decode(), 1.0)


@pytest.mark.parametrize("token", ["", "a.b.c", "..", "\x00", "é" * 50, "x" * 100_000])
def test_text_that_is_no_token_is_refused(keys, token):
    with pytest.raises(AuthenticationFailed):
        keys.verify(token, 1.0)


def test_nothing_secret_is_shown(keys):
    assert "PRIVATE" not in repr(keys)
