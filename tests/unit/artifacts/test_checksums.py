"""The checksum of what is received: the same in place and aside."""

import hashlib

import pytest

from mitosis.artifacts.pieces import DigestAside, DigestInPlace, digest_of_received

MIB = 1 << 20
CHUNKS = [bytes([number]) * MIB for number in range(20)]


@pytest.mark.parametrize("size_bytes", [0, MIB, 8 * MIB, 1 << 40])
def test_the_checksum_is_that_of_all_bytes_in_their_order(size_bytes: int) -> None:
    with digest_of_received(size_bytes) as digest:
        for chunk in CHUNKS:
            digest.update(chunk)
        assert digest.hexdigest() == hashlib.sha256(b"".join(CHUNKS)).hexdigest()


@pytest.mark.parametrize("kind", [DigestAside, DigestInPlace])
def test_what_came_before_a_restart_does_not_count(kind: type[DigestAside]) -> None:
    with kind() as digest:
        digest.update(b"half")
        digest.restart()
        digest.update(b"whole")
        assert digest.hexdigest() == hashlib.sha256(b"whole").hexdigest()


def test_only_large_files_get_a_thread() -> None:
    with digest_of_received(MIB) as small, digest_of_received(100 * MIB) as large:
        assert (type(small), type(large)) == (DigestInPlace, DigestAside)
