"""What a program writes is masked alike, in whatever pieces it comes, and no value gets through."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from mitosis.services.worker.masking import MaskedStream, Masking

VALUES = st.lists(st.text("abAB\n", min_size=1, max_size=12), min_size=1, max_size=3)
WRITTEN = st.lists(st.text("abAB \n", max_size=12), max_size=8)


def shown(masking: Masking, data: bytes, cuts: list[int]) -> bytes:
    """What a stream shows that comes in pieces; each stands where it was written."""
    stream, found = MaskedStream(masking), b""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        for offset, piece in stream.feed(start, data[start:end]):
            assert offset == len(found)
            assert piece
            found += piece
    for offset, piece in stream.end():
        assert offset == len(found)
        found += piece
    return found


@given(values=VALUES, written=WRITTEN, pick=st.data(), cuts=st.lists(st.integers(0, 200)))
def test_pieces_are_masked_as_the_whole_is(
    values: list[str], written: list[str], pick: st.DataObject, cuts: list[int]
) -> None:
    masking = Masking(values)
    mixed = [pick.draw(st.sampled_from([text, *values])) for text in written]
    data = "".join(mixed).encode()
    whole = shown(masking, data, [])
    assert shown(masking, data, cuts) == whole
    assert len(whole) == len(data)
    for value in values:
        if len(value) >= 4:
            assert value.encode() not in whole
    assert all(a in (b, ord("*")) for a, b in zip(whole, data, strict=True))


@example(value="AAAAA", before=5, cut=False)  # it begins with its own end
@given(value=st.text("abAB", min_size=5, max_size=12), before=st.integers(1, 11), cut=st.booleans())
def test_who_begins_to_read_inside_of_a_value_sees_no_part_of_four_bytes(
    value: str, before: int, cut: bool
) -> None:
    data = value.encode()
    start = before % len(data)
    stream = MaskedStream(Masking([value]))
    if cut:
        stream.feed(0, b" ")
    found = b"".join(piece for _, piece in [*stream.feed(100 + start, data[start:]), *stream.end()])
    rest = data[start:]
    assert len(rest) < 4 or found == b"*" * len(rest)
