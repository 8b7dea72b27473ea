"""Any single change of an export is found."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mitosis.errors import CorruptData
from mitosis.testing.signed import exported, new_keys, signed_history, verified_export

KEYS = new_keys()
WRITTEN = exported(signed_history(KEYS, every=10, tasks=4))
LINES = WRITTEN.splitlines(keepends=True)
# Whatever a line of an account says beside what is chained is not covered: it is told as withheld.
COVERED = [number for number, line in enumerate(LINES) if b'"withheld"' not in line]
END = verified_export(WRITTEN, KEYS).end.split(":")
KEPT = {int(END[0]): END[1]}


def is_found(written: bytes) -> bool:
    try:
        return verified_export(written, KEYS, kept=KEPT).found > 0
    except CorruptData:
        return True


def test_nothing_is_found_in_what_was_not_changed() -> None:
    assert not is_found(WRITTEN)
    assert len(COVERED) > 20


@settings(deadline=None, max_examples=200)
@given(line=st.sampled_from(COVERED), data=st.data())
def test_a_flipped_bit_is_found(line: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(LINES[line]) - 1))
    changed = bytearray(LINES[line])
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    assert is_found(b"".join([*LINES[:line], bytes(changed), *LINES[line + 1 :]]))


@settings(deadline=None, max_examples=60)
@given(line=st.integers(0, len(LINES) - 1))
def test_a_removed_line_is_found(line: int) -> None:
    assert is_found(b"".join([*LINES[:line], *LINES[line + 1 :]]))


@settings(deadline=None, max_examples=60)
@given(line=st.integers(0, len(LINES) - 1), place=st.integers(0, len(LINES)))
def test_a_line_put_in_is_found(line: int, place: int) -> None:
    assert is_found(b"".join([*LINES[:place], LINES[line], *LINES[place:]]))


@settings(deadline=None, max_examples=60)
@given(pair=st.lists(st.integers(0, len(LINES) - 1), min_size=2, max_size=2, unique=True))
def test_swapped_lines_are_found(pair: list[int]) -> None:
    lines = list(LINES)
    one, two = pair
    lines[one], lines[two] = lines[two], lines[one]
    assert is_found(b"".join(lines))


@settings(deadline=None, max_examples=60)
@given(length=st.integers(0, len(WRITTEN) - 1))
def test_a_truncated_export_is_found(length: int) -> None:
    assert is_found(WRITTEN[:length])
