"""Parts of large objects: as S3 takes them, together exactly the object."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitosis.artifacts.multipart import (
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    PART_BYTES,
    part_count,
    part_length,
    part_size,
    text_of,
)
from mitosis.errors import InvalidInput


@given(st.integers(0, PART_BYTES))
def test_small_objects_go_by_one_put(size: int) -> None:
    assert (part_count(size), part_size(size)) == (0, 0)


@given(st.integers(PART_BYTES + 1, MAX_OBJECT_BYTES))
def test_parts_are_as_s3_takes_them_and_together_the_object(size: int) -> None:
    count, each = part_count(size), part_size(size)
    assert 2 <= count <= MAX_PARTS
    assert PART_BYTES <= each <= MAX_PART_BYTES
    assert part_length(size, 1) == each
    assert 0 < part_length(size, count) <= each
    assert (count - 1) * each + part_length(size, count) == size
    for number in (0, count + 1, -1):
        with pytest.raises(InvalidInput):
            part_length(size, number)


def test_texts_of_answers_are_unescaped_and_may_be_missing() -> None:
    assert text_of(b"<a><ETag>&#34;x&amp;&#34;</ETag></a>", "ETag") == '"x&"'
    assert text_of(b"<a><ETag></ETag>", "ETag") == text_of(b"junk \xff", "ETag") == ""
