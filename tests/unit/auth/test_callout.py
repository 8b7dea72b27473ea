"""The callout's protocol on its own: what a request must be, and what an answer is."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from mitosis.nats.callout import BadRequest, Grant, Signer, decode_request
from mitosis.nats.nkeys import KeyKind, decode, encode

NOW = 1_700_000_000.0
SERVER = Ed25519PrivateKey.generate()


def pack(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def unpack(text: str) -> dict:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def nkey(key: Ed25519PrivateKey, kind: KeyKind) -> str:
    return encode(kind, key.public_key().public_bytes_raw())


def request(key=SERVER, kind=KeyKind.SERVER, signer=None, server=None, **changes) -> bytes:
    name = nkey(key, kind)
    claims = {
        "aud": "nats-authorization-request",
        "iss": name,
        "iat": int(NOW),
        "nats": {
            "server_id": {"id": server or name, "name": "s"},
            "user_nkey": "U" + "A" * 55,
            "client_info": {"host": "10.0.0.9", "id": 5, "kind": "Client", "type": "nats"},
            "connect_opts": {"auth_token": "tok", "name": "cli", "pass": "pw", "user": "u"},
        },
    } | changes
    signed = pack(b'{"typ":"JWT","alg":"ed25519-nkey"}') + b"." + pack(json.dumps(claims).encode())
    return signed + b"." + pack((signer or key).sign(signed))


def test_a_signed_request_is_read():
    found = decode_request(request())
    assert (found.host, found.client, found.kind) == ("10.0.0.9", 5, "Client")
    assert (found.token, found.name, found.user, found.password) == ("tok", "cli", "u", "pw")
    assert found.server == nkey(SERVER, KeyKind.SERVER)
    assert found.asked_at == int(NOW)
    assert not found.other
    assert "tok" not in repr(found)
    assert "pw" not in repr(found)


@pytest.mark.parametrize(
    "data",
    [
        request(signer=Ed25519PrivateKey.generate()),
        request(server=nkey(Ed25519PrivateKey.generate(), KeyKind.SERVER)),
        request(kind=KeyKind.USER),
        request(aud="something-else"),
        request(nats={}),
        request(iss="nonsense"),
        request()[:-4],
    ],
)
def test_a_request_that_no_server_signed_is_ignored(data):
    with pytest.raises(BadRequest):
        decode_request(data)


@given(
    st.binary(max_size=200)
    | st.builds(lambda a, b: request()[:a] + b, st.integers(0, 400), st.binary(max_size=50))
)
def test_no_bytes_make_the_reader_fail_otherwise(data):
    with pytest.raises(BadRequest):
        decode_request(data)


def opened(token: str, signer: Signer) -> dict:
    signed, _, signature = token.rpartition(".")
    kind, public = decode(signer.issuer)
    assert kind is KeyKind.ACCOUNT
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    Ed25519PublicKey.from_public_bytes(public).verify(raw, signed.encode())
    return unpack(signed.partition(".")[2])


def test_an_answer_that_lets_in_is_bound_to_server_and_attempt():
    signer = Signer(Ed25519PrivateKey.generate(), "MITO")
    asked = decode_request(request())
    grant = Grant("user:alice", ("a.>",), ("b.>",), int(NOW) + 60)
    response = opened(signer.grant(asked, grant).decode(), signer)
    assert (response["sub"], response["aud"]) == (asked.user_nkey, asked.server)
    assert response["nats"]["type"] == "authorization_response"
    user = opened(response["nats"]["jwt"], signer)
    assert (user["sub"], user["aud"], user["name"]) == (asked.user_nkey, "MITO", "user:alice")
    assert (user["iat"], user["exp"]) == (int(NOW), int(NOW) + 60)
    assert (response["iat"], response["exp"]) == (int(NOW), int(NOW) + 60)  # the server's clock
    assert user["nats"]["pub"] == {"allow": ["a.>"]}
    assert user["nats"]["sub"] == {"allow": ["b.>"]}


def test_an_answer_that_shuts_out_has_no_reason_in_it():
    signer = Signer(Ed25519PrivateKey.generate(), "MITO")
    response = opened(signer.refusal(decode_request(request())).decode(), signer)
    assert "jwt" not in response["nats"]
    assert response["nats"]["error"] == "refused"
