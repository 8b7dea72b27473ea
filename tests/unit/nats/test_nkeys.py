import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mitosis.nats.nkeys import (
    KeyKind,
    account_public_key,
    decode,
    derive_issuer,
    encode,
    issuer_account,
    user_public_key,
)

FIXED_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_key_survives_the_round_trip(kind: KeyKind) -> None:
    raw = bytes(range(100, 132))
    assert decode(encode(kind, raw)) == (kind, raw)


def test_the_first_letter_names_the_kind() -> None:
    raw = bytes(range(32))
    assert account_public_key(raw).startswith("A")
    assert user_public_key(raw).startswith("U")
    assert encode(KeyKind.SERVER, raw).startswith("N")


def test_a_changed_character_is_noticed() -> None:
    text = account_public_key(bytes(range(32)))
    changed = text[:20] + ("B" if text[20] != "B" else "C") + text[21:]
    with pytest.raises(ValueError, match="checksum"):
        decode(changed)


@pytest.mark.parametrize("text", ["", "A" * 55, "a" * 56, "!" * 56])
def test_what_is_not_an_nkey_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nkey"):
        decode(text)


def test_a_public_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="31"):
        account_public_key(bytes(31))


def test_the_issuer_of_a_private_key_never_changes() -> None:
    """A change here would lock every existing platform out of its NATS server."""
    assert (
        issuer_account(FIXED_PRIVATE) == "ACFP67MMI3PB7RPOXZ7FYOFHKLXIW2G7BPLHTYJKNIL73VXCSN32IFCC"
    )


def test_the_issuer_is_not_the_private_key_itself() -> None:
    derived = derive_issuer(FIXED_PRIVATE).private_bytes_raw()
    assert derived != bytes(range(32))


def test_keys_of_other_kinds_are_refused_without_their_text() -> None:
    wrong = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(ValueError, match="Ed25519") as caught:
        derive_issuer(wrong)
    assert wrong.decode().splitlines()[1] not in str(caught.value)


def test_rubbish_is_not_a_private_key() -> None:
    with pytest.raises(ValueError, match="PEM"):
        derive_issuer(b"hello")
