"""Tokens of the platform, and the key files that they are made with."""

import subprocess

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mitosis.errors import AuthenticationFailed, Misconfigured
from mitosis.services.auth.tokens import Claims, TokenKeys, load_keys


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


def test_a_missing_key_file_is_named_with_the_command_that_makes_it(pair, tmp_path):
    missing = tmp_path / "private.pem"
    with pytest.raises(Misconfigured, match="openssl genpkey -algorithm ed25519") as caught:
        load_keys(missing, pair[1])
    assert str(missing) in caught.value.message


@pytest.mark.parametrize("content", ["", "not a key", "-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_is_no_key_is_named(pair, tmp_path, content):
    bad = tmp_path / "bad.pem"
    bad.write_text(content)
    for paths in ((bad, pair[1]), (pair[0], bad)):
        with pytest.raises(Misconfigured, match="not an unencrypted Ed25519"):
            load_keys(*paths)


def test_a_key_of_another_kind_is_refused(pair, tmp_path):
    other = tmp_path / "ec.pem"
    make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]
    subprocess.run([*make, str(other)], check=True)
    with pytest.raises(Misconfigured, match="Ed25519 private key"):
        load_keys(other, pair[1])
    with pytest.raises(Misconfigured, match="Ed25519"):
        load_keys(pair[1], pair[0])  # exchanged


def test_keys_that_are_no_pair_are_refused(pair, tmp_path):
    other = tmp_path / "private.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(other)], check=True)
    with pytest.raises(Misconfigured, match="not the public key of"):
        load_keys(other, pair[1])


def test_a_folder_in_place_of_a_key_is_named(pair, tmp_path):
    with pytest.raises(Misconfigured, match="cannot be read"):
        load_keys(tmp_path, pair[1])


def test_nothing_secret_is_shown(keys):
    assert "PRIVATE" not in repr(keys)
