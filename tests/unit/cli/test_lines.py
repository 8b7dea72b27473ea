"""Lines of the interactive mode."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mitosis.cli.lines import holds_secret, is_whole, may_be_kept, split_commands, words_of


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("a b", ["a b"]),
        ("a\nb\n\n  \nc", ["a", "b", "c"]),
        ("a\r\nb\rc", ["a", "b", "c"]),
        ("a 'x\ny' z\nb", ["a 'x\ny' z", "b"]),
        ('a "x\n\\"y" z\nb', ['a "x\n\\"y" z', "b"]),
        ("a \\\nb\nc", ["a \\\nb", "c"]),
        ("a '\\'\nb", ["a '\\'", "b"]),
        ("a it\\'s\nb", ["a it\\'s", "b"]),
        ("a 'x\nb", ["a 'x\nb"]),
        ("", []),
    ],
)
def test_a_line_end_outside_of_quotes_ends_a_command(text: str, commands: list[str]) -> None:
    assert split_commands(text) == commands


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("submit -- echo 'a  b' c\\ d \"e'f\"", ["submit", "--", "echo", "a  b", "c d", "e'f"]),
        ("a \\\nb", ["a", "b"]),
        ("a ''", ["a", ""]),
        ("a #b", ["a", "#b"]),  # a number in a group: lab#12
    ],
)
def test_words_are_quoted_as_in_a_shell(command: str, words: list[str]) -> None:
    assert words_of(command) == words


def test_an_open_quote_or_backslash_wants_more() -> None:
    assert [is_whole(text) for text in ("a", "a 'b", 'a "b\n', "a \\\n", "a 'b'\n")] == [
        True, False, False, False, True,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="quotation"):
        words_of("a 'b")


@given(st.text("'\"\\ab \n", max_size=12))
def test_a_text_is_whole_exactly_if_its_words_can_be_read(text: str) -> None:
    assume("\\\n" not in text)  # a continued line, which wants more though it can be read
    try:
        words_of(text)
    except ValueError:
        assert not is_whole(text)
    else:
        assert is_whole(text)


@pytest.mark.parametrize(
    ("line", "secret", "kept"),
    [
        ("auth u p", True, False),
        ("auth", False, True),
        ("create user -u a -p b", True, False),
        ("creat user -u a -p b", False, False),
        ("create usr -u a -p b", False, False),
        ("atuh u p", False, False),
        ("-p x get tasks", True, False),
        ("-px get tasks", True, False),
        ("--password=x get tasks", True, False),
        ("--pasword x get tasks", False, False),
        ("submit -p 3 -- x", False, True),
        ("submit -e DB_PASSWORD=x -- x", True, False),
        ("submit -e API_TOKEN=x -- x", True, False),
        ("get tasks", False, True),
        ("tasks query", False, True),
        ("manage task abc cancel", False, True),
        ("help get", False, True),
        ("S3cret", False, False),
        ("hunter2", False, False),  # typed in the wrong place
    ],
)
def test_lines_that_may_hold_a_password_are_known(line: str, secret: bool, kept: bool) -> None:
    assert (holds_secret(line.split()), may_be_kept(line.split())) == (secret, kept)
