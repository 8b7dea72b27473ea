import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitosis.domain import limits
from mitosis.domain.attachment import check_key, check_sha256
from mitosis.domain.limits import check_command, check_number, check_tags, check_text, clip_text
from mitosis.errors import InvalidInput, TooLarge


def test_a_text_is_measured_in_bytes() -> None:
    assert check_text("é" * 5, "reason", 10) == "é" * 5
    with pytest.raises(TooLarge) as refusal:
        check_text("é" * 6, "reason", 10)
    assert refusal.value.details == {"field": "reason", "size": 12, "limit": 10}


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_that_nobody_can_store_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_text(text, "reason", 10)


@given(st.text(st.characters(codec=None)), st.integers(0, 30), st.booleans())
def test_a_clipped_text_can_always_be_stored(text: str, limit: int, keep_end: bool) -> None:
    clipped = clip_text(text, limit, keep_end=keep_end)
    assert check_text(clipped, "text", limit) == clipped
    if len(text.encode(errors="replace")) <= limit and "\0" not in text:
        assert clipped == text.encode(errors="replace").decode()


def test_a_clipped_text_keeps_the_end_that_was_asked_for() -> None:
    assert clip_text("abcdef", 3) == "abc"
    assert clip_text("abcdef", 3, keep_end=True) == "def"


def test_tags_come_out_sorted_and_once() -> None:
    assert check_tags(["b", "a", "b", "GPU 3"], "tags") == ("GPU 3", "a", "b")


@pytest.mark.parametrize("tag", ["", " a", "a ", "a,b", "a\nb", "\x1b[31m", "a\u2028b"])
def test_a_tag_that_could_not_be_written_in_a_list_is_refused(tag: str) -> None:
    with pytest.raises(InvalidInput, match="one of the tags"):
        check_tags([tag], "tags")


def test_tags_are_bounded_in_number_and_length() -> None:
    check_tags([str(n) for n in range(limits.MAX_TAGS)], "tags")
    check_tags(["x" * limits.MAX_TAG_BYTES], "tags")
    with pytest.raises(TooLarge):
        check_tags([str(n) for n in range(limits.MAX_TAGS + 1)], "tags")
    with pytest.raises(TooLarge):
        check_tags(["x" * (limits.MAX_TAG_BYTES + 1)], "tags")


def test_a_command_may_be_as_long_as_linux_can_start() -> None:
    check_command(["echo", "", "x" * limits.MAX_ARGUMENT_BYTES], {"A": "", "É": "="})


@pytest.mark.parametrize(
    ("argv", "env", "error"),
    [
        ([], {}, InvalidInput),
        ([""], {}, InvalidInput),
        (["a\0"], {}, InvalidInput),
        (["a"], {"": "x"}, InvalidInput),
        (["a"], {"A=B": "x"}, InvalidInput),
        (["a"], {"A": "\0"}, InvalidInput),
        (["x" * (limits.MAX_ARGUMENT_BYTES + 1)], {}, TooLarge),
        (["a"], {"A": "x" * limits.MAX_ARGUMENT_BYTES}, TooLarge),
        (["a"] * (limits.MAX_ARGUMENTS + 1), {}, TooLarge),
        (["x" * 100_000] * 8, {}, TooLarge),
    ],
)
def test_a_command_that_no_linux_can_start_is_refused(
    argv: list[str], env: dict[str, str], error: type[InvalidInput]
) -> None:
    with pytest.raises(error):
        check_command(argv, env)


@pytest.mark.parametrize("letter", ['"', "\\", "\n", "\x01"])
def test_a_command_is_measured_as_it_is_sent(letter: str) -> None:
    """Twice as large in a message, or six times, it fitted into no assignment any more."""
    fits = ["sh", "-c", *["x" * 100_000] * 7]
    check_command(fits, {})
    with pytest.raises(TooLarge, match=r"bytes in JSON.*put large inputs into a file"):
        check_command([one.replace("x", letter) for one in fits], {})
    with pytest.raises(TooLarge, match="bytes in JSON"):
        check_command(["sh"], {f"V{n}": letter * 100_000 for n in range(5)})


@pytest.mark.parametrize("value", [0, 4, float("nan"), float("inf"), -1, 2**70])
def test_a_number_outside_its_bounds_is_refused(value: float) -> None:
    with pytest.raises(InvalidInput, match=r"slots is .*: it must be from 1 to 3"):
        check_number(value, "slots", 1, 3)


def test_both_bounds_of_a_number_are_included() -> None:
    check_number(1, "slots", 1, 3)
    check_number(3, "slots", 1, 3)


@pytest.mark.parametrize("key", ["a", "a/b.c", "...", "ä/ö", "x" * 1_019])
def test_a_key_of_an_attachment_is_a_path_without_tricks(key: str) -> None:
    check_key("lab", key)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "./a", "a/../b", "..", "a\0", "x" * 1_020])
def test_a_key_that_could_leave_its_group_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        check_key("lab", key)


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_what_is_no_checksum_is_refused(text: str) -> None:
    check_sha256("0" * 64)
    with pytest.raises(InvalidInput):
        check_sha256(text)


def test_what_is_wrong_with_a_variable_is_said_on_one_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_command(("true",), {"a\0b\n": "x"})
    assert caught.value.message.isprintable()
