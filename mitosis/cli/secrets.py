"""Secret variables on the command line, and `erase-secrets`.

A value is best not typed as an argument, which everybody on the machine can read: it comes from the
environment, a file, standard input, or the person at the terminal.
"""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, BinaryIO

from mitosis.cli.invocation import UsageError
from mitosis.cli.output.screen import can_ask, show
from mitosis.cli.parameters import several
from mitosis.cli.running import with_client
from mitosis.domain.secret import MAX_SECRETS_BYTES, check_secret_names
from mitosis.errors import InvalidInput

STDIN = "-"
_FORM = re.compile(r"([^=@]*)([=@]?)(.*)", re.DOTALL)


def read_wishes(texts: list[str]) -> tuple[str, ...]:
    """Check the names of secret variables; nothing is read and no value is shown in an error.

    Raises:
        InvalidInput: A name that cannot be, or one given twice.
    """
    check_secret_names([_name(text) for text in texts])
    return tuple(texts)


SecretEnvs = Annotated[tuple[str, ...] | None, several("--secret-env", read=read_wishes)]


def secret_values(wishes: tuple[str, ...]) -> dict[str, str]:
    """Return the values of secret variables, wherever they come from.

    Raises:
        UsageError: There is none, and nobody can be asked; or a file cannot be read.
    """
    if sum(_parts(text)[1:] == ("@", STDIN) for text in wishes) > 1:
        raise UsageError("only one secret variable can be read from standard input")
    return {_name(text): _value(text) for text in wishes}


def erase_secrets(task: str, /, *, reason: str = "") -> None:
    """Destroy the secret variables of a task, for good; what runs already keeps them.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        reason: Why, for its record.
    """
    done = with_client(lambda client: client.erase_secrets(task, reason))
    what = "are erased: no attempt can start any more" if done.changed else "were erased already"
    show(done, lambda: [f"The secrets of task {done.task} {what}"])


def _parts(text: str) -> tuple[str, str, str]:
    """Return name, `=` or `@` or nothing, and what follows."""
    match = _FORM.match(text)
    if match is None:
        raise AssertionError("the form takes every text")
    name, sign, rest = match.groups()
    return name, sign, rest


def _name(text: str) -> str:
    return _parts(text)[0]


def _value(text: str) -> str:
    match _parts(text):
        case _, "=", value:
            return value
        case name, "@", place:
            return _of_file(name, place)
        case name, *_:
            found = os.environ.get(name)
            return found if found is not None else _asked(name)


def _of_file(name: str, place: str) -> str:
    try:
        if place == STDIN:
            return _text(name, sys.stdin.buffer)
        with Path(place).expanduser().open("rb") as stream:
            return _text(name, stream)
    except OSError as error:
        raise UsageError(
            f"the file of the secret variable {name}, {place!r}, cannot be read: {error.strerror}"
        ) from None


def _text(name: str, stream: BinaryIO) -> str:
    """Return all that is read, without the line end that editors put there."""
    data = stream.read(MAX_SECRETS_BYTES + 3)
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError(f"the secret variable {name} is no text in UTF-8") from None


def _asked(name: str) -> str:
    from mitosis.cli.terminal import ask_secret

    if not can_ask():
        raise UsageError(
            f"the secret variable {name} is not in the environment and nobody can be asked: set "
            f"it, or give {name}@FILE"
        )
    try:
        return ask_secret(f"Value of {name}: ")
    except InvalidInput as error:
        raise UsageError(error.message) from None
