"""What is sealed can be opened by the same platform for the same task, and by nothing else."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mitosis.errors import CorruptData
from mitosis.services.auth.key_files import pem_of
from mitosis.services.auth.sealing import Sealer
from mitosis.services.auth.tokens import TokenKeys

VALUES = {"TOKEN": "plaintext-é-1", "OTHER": "plaintext-2\nline"}


def sealer() -> Sealer:
    private = Ed25519PrivateKey.generate()
    return Sealer(TokenKeys(private, pem_of(private)))


def test_what_is_sealed_is_opened_with_its_key_and_nothing_shows_through() -> None:
    one = sealer()
    sealed, key = one.seal(VALUES, "lab/task/1")
    assert one.open(sealed, key, "lab/task/1") == VALUES
    assert b"plaintext" not in base64.b64decode(sealed)
    assert one.seal(VALUES, "lab/task/1")[0] != sealed


def test_neither_another_place_nor_key_nor_platform_opens_it() -> None:
    one = sealer()
    sealed, key = one.seal(VALUES, "lab/task/1")
    other_sealed, other_key = one.seal(VALUES, "lab/task/1")
    flipped = base64.b64encode(bytes([base64.b64decode(sealed)[0] ^ 1])).decode() + sealed[4:]
    for opener, what, with_key, place in (
        (one, sealed, key, "lab/task/2"),
        (one, sealed, other_key, "lab/task/1"),
        (one, other_sealed, key, "lab/task/1"),
        (sealer(), sealed, key, "lab/task/1"),
        (one, flipped, key, "lab/task/1"),
        (one, sealed, b"", "lab/task/1"),
        (one, "no base64!", key, "lab/task/1"),
    ):
        with pytest.raises(CorruptData) as refused:
            opener.open(what, with_key, place)
        assert refused.value.__cause__ is None
        assert "plaintext" not in str(refused.value)


def test_the_length_of_a_sealing_hides_that_of_a_value() -> None:
    one = sealer()
    short, long = (one.seal({"K": "x" * count}, "p")[0] for count in (1, 200))
    assert len(short) == len(long)
