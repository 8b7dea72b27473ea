"""Clocks and identities of the machine."""

import string

from mitosis.runtime import RandomIds


def test_no_commit_id_comes_twice_and_each_has_32_hexadecimal_digits() -> None:
    ids = RandomIds()
    drawn = [ids.commit_id() for _ in range(1_000)]
    assert len(set(drawn)) == len(drawn)
    assert all(len(one) == 32 and set(one) <= set(string.hexdigits.lower()) for one in drawn)
