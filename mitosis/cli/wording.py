"""What the parser refuses, in our words: what was wrong, and the way out."""

import inspect
from collections.abc import Iterable

from cyclopts import (
    Argument,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts.exceptions import MixedArgumentError, RepeatArgumentError, UnknownCommandError

from mitosis.cli.apps import make_app
from mitosis.cli.client import client_flags
from mitosis.cli.commands import spelled
from mitosis.domain.nearest import nearest

WANTED: dict[object, str] = {bool: "is on or off: write true or false"}


def said(error: CycloptsError) -> str:
    """Return what to tell a person about a line that could not be parsed."""
    match error:
        case UnusedCliTokensError():
            return _too_much(error)
        case UnknownOptionError():
            words = [name for argument in error.argument_collection for name in argument.names]
            return _unknown_option(error, error.token.keyword or error.token.value, words)
        case UnknownCommandError():
            return _unknown_option(error, (error.unused_tokens or [""])[0], ())
        case CoercionError():
            return _wrong_value(error)
        case MissingArgumentError(argument=Argument() as argument):
            return _missing(error, argument)
        case RepeatArgumentError():
            return f"{error.token.keyword} is given twice: give it once"
        case MixedArgumentError(argument=Argument() as argument):
            return f"{argument.name} is given twice, with its name and without: give it once"
    error.verbose = False
    return str(error)


def command_of(error: CycloptsError) -> str:
    """Return the command that was meant, as one types it."""
    # The options of the client are read by an app of their own.
    alone = error.app is not None and error.app.name == ("client",)
    first, *rest = error.command_chain or (["client"] if alone else [""])
    words = [first, *spelled(rest)] if first == "client" else [first, *rest]
    return " ".join(["mito", *words]).strip()


def _too_much(error: UnusedCliTokensError) -> str:
    extra = error.unused_tokens or []
    shown = " ".join(repr(word) for word in extra)
    takes = inspect.signature(error.target).parameters.values() if error.target else ()
    if all(parameter.kind is parameter.KEYWORD_ONLY for parameter in takes):
        return f"{command_of(error)} takes nothing but options: {shown} is too much"
    advice = "a text with blanks needs quotes"
    return f"{shown} is too much for {command_of(error)}: {advice}"


def _unknown_option(error: CycloptsError, given: str, known: Iterable[str]) -> str:
    command, option = command_of(error), given.partition("=")[0]
    if command.startswith("mito client ") and option in _client_options():
        line = command.replace("client", f"client {option} ...", 1)
        return f"{option} is an option of the client and stands before its command: {line}"
    if near := nearest(option, known):
        return f"{command} has no option {option}: did you mean {near}?"
    return f"{command} has no option {option}"


def _client_options() -> set[str]:
    app = make_app("client", "")
    app.default(client_flags)
    return {name for argument in app.assemble_argument_collection() for name in argument.names}


def _wrong_value(error: CoercionError) -> str:
    token, argument = error.token, error.argument
    name = token.keyword if token is not None else None
    if name is None and argument is not None:
        name = argument.name.lstrip("-").upper()
    if error.msg is not None:
        return f"{name}: {error.msg}" if token is not None and token.keyword else str(error.msg)
    wanted = WANTED.get(error.target_type, "cannot be read from this")
    return f"{name} {wanted}, not {token.value!r}" if token is not None else f"{name} {wanted}"


def _missing(error: CycloptsError, argument: Argument) -> str:
    given = getattr(error, "keyword", None) or next(
        (token.keyword for token in argument.tokens if token.keyword), None
    )
    if given:
        return f"{given} needs a value"
    mistyped = [word for word in error.unused_tokens or () if word.startswith("--")]
    for word in mistyped:
        if near := nearest(word, argument.names):
            return f"{command_of(error)} has no option {word}: did you mean {near}?"
    name = argument.name if argument.index is None else argument.name.lstrip("-").upper()
    return f"{command_of(error)} needs {name}"
