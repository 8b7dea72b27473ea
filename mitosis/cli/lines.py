"""Lines of the interactive mode: what is one command, what its words are, and what may be kept.

Quoting is that of a POSIX shell. A line end inside of quotes belongs to the word; one outside of
them ends the command, so that several pasted lines are several commands.
"""

import re
import shlex

from mitosis.cli.commands import CLIENT, Command
from mitosis.cli.grammar import split_options, verb_first

MAX_TEXT = 1024 * 1024  # characters of one line, or of one paste
PASSWORD_OPTIONS = ("-p", "--password")
_CLOSED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_OPEN = re.compile(r"""['"\\]""")
SECRET_WORDS = ("passw", "secret", "token")


def split_commands(text: str) -> list[str]:
    """Part a text at the line ends outside of quotes; empty lines are left out."""
    commands, begin, quote, escaped = [], 0, "", False
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "\n":
            commands.append(text[begin:at])
            begin = at + 1
    return [command for command in (*commands, text[begin:]) if command.strip()]


def is_whole(text: str) -> bool:
    """Whether no quote is open at the end of the text, and no line is continued."""
    left = _CLOSED.sub("", text)  # asked at every key: much faster than to read the words
    return not _OPEN.search(left) and not text.endswith("\\\n")


def words_of(command: str) -> list[str]:
    """Return the words of one command.

    Raises:
        ValueError: A quote is not closed, or nothing follows a backslash.
    """
    # A backslash at the end of a line joins the lines, as in a shell.
    return shlex.split(command.replace("\\\n", ""))


def holds_secret(words: list[str]) -> bool:
    """Whether a line may hold a password, by its command, an option of ours, or by how it reads."""
    options, command = split_options(words)
    if any(option.startswith(PASSWORD_OPTIONS) for option in options):
        return True
    found = command_of(command)
    if found is not None and found.secret:
        return len(command) > len(found.path.split())
    return any(word in text.casefold() for text in words for word in SECRET_WORDS)


def may_be_kept(words: list[str]) -> bool:
    """Whether a line may be written to the history.

    Only a line that begins with a command of ours, and that holds no password: in a mistyped one
    nobody can tell what is a password.
    """
    known = command_of(words) is not None or words[:1] == ["help"]
    return known and not holds_secret(words)


def command_of(words: list[str]) -> Command | None:
    """Return the command that a line names, in either grammar."""
    ordered = verb_first(words)
    paths = {path: command for command in CLIENT for path in (command.path, *command.also)}
    for count in range(len(ordered), 0, -1):
        if found := paths.get(" ".join(ordered[:count])):
            return found
    return None
