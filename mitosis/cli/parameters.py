"""Types of options and arguments that several commands share, in the seed's spelling."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter, Token

from mitosis.cli.invocation import UsageError
from mitosis.config.client import NO_LIMIT, NO_WATCH, WatchArgs
from mitosis.config.values import Slots, from_text, split_list
from mitosis.domain.durations import format_duration, format_size, parse_duration, parse_size
from mitosis.domain.execution import parse_execution_state
from mitosis.domain.moments import parse_moment
from mitosis.domain.names import task_may_be_named
from mitosis.domain.nearest import one_of
from mitosis.domain.resources import check_stop_signal
from mitosis.domain.retry import RetryCause, Times, check_times, parse_cause
from mitosis.domain.roles import Role, parse_grants, parse_role
from mitosis.domain.task import ArtifactKind
from mitosis.errors import InvalidInput

_BETWEEN_PAIRS = re.compile(r"(?<!\\),")  # a comma that is not written as \,
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


def converter(read: Callable[[list[str]], T]) -> Callable[[Any, Sequence[Token]], T]:
    """Return a cyclopts converter which reads all texts of an option at once."""

    def convert(_: Any, tokens: Sequence[Token]) -> T:
        try:
            return read([token.value for token in tokens])
        except InvalidInput as error:
            raise UsageError(error.message) from None

    return convert


def read_list(texts: list[str]) -> tuple[str, ...]:
    """Read `a,b` and `a b` into one list."""
    return tuple(item for text in texts for item in split_list(text))


def read_pairs(texts: list[str]) -> tuple[str, ...]:
    r"""Read `K=V,K2=V2` into its checked parts; a comma inside a value is written `\,`.

    Raises:
        InvalidInput: A part without `=` or without a name, or a name given twice.
    """
    pairs = tuple(part.replace("\\,", ",") for text in texts for part in _BETWEEN_PAIRS.split(text))
    seen: set[str] = set()
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals:
            raise InvalidInput(
                f"{pair!r} is no NAME=VALUE (a comma separates variables; inside of a value "
                r"write it as \,)"
            )
        if not name or name != name.strip():
            raise InvalidInput(f"{pair!r} has no proper name of a variable before its =")
        if name in seen:
            raise InvalidInput(f"the variable {name} is given twice")
        seen.add(name)
    return pairs


def read_watch(texts: list[str]) -> WatchArgs:
    """Read `UUID,STATE`, or `none`.

    Raises:
        InvalidInput: Another form, or no such state.
    """
    text = texts[-1]
    if text == "none":
        return NO_WATCH
    task, comma, state = text.rpartition(",")
    if not comma:
        raise InvalidInput(
            f"{text[:80]!r} is no UUID,STATE: write it like "
            "123e4567-e89b-12d3-a456-426614174000,ExecSpawned"
        )
    if not task_may_be_named(task):
        raise InvalidInput(
            f"{task[:80]!r} before the comma is no UUID of a task, nor another name of one"
        )
    return WatchArgs(task, parse_execution_state(state))


def read_grants(texts: list[str]) -> tuple[str, ...]:
    """Read `g1,g2:write,g3:read` into its checked parts; without a role it is write.

    Raises:
        InvalidInput: An unknown role or a name given twice.
    """
    grants = read_list(texts)
    parse_grants(grants)
    return grants


def read_roles(texts: list[str]) -> tuple[Role, ...]:
    """Read `read,write` into roles.

    Raises:
        InvalidInput: No such role.
    """
    return tuple(parse_role(text) for text in read_list(texts))


def read_duration(texts: list[str]) -> timedelta:
    """Read the last duration given.

    Raises:
        InvalidInput: Not a duration.
    """
    return timedelta(seconds=parse_duration(texts[-1]))


def read_moment(texts: list[str]) -> datetime | int:
    """Read a point of the past: a time or a position; one without a zone is meant here.

    Raises:
        InvalidInput: Neither, or still to come.
    """
    return parse_moment(texts[-1], datetime.now().astimezone())


def read_size(texts: list[str]) -> int:
    """Read the last size given, in bytes.

    Raises:
        InvalidInput: Not a size.
    """
    return parse_size(texts[-1])


def read_slots(texts: list[str]) -> int:
    """Read a number of slots; `auto`: as many as there are cores.

    Raises:
        InvalidInput: Neither.
    """
    return int(from_text(Slots, texts[-1], Path()))


def or_none(read: Callable[[list[str]], T]) -> Callable[[list[str]], T | str]:
    """Return a reader that also takes `none`, for no limit."""
    return lambda texts: NO_LIMIT if texts[-1] == NO_LIMIT else read(texts)


def read_signal(texts: list[str]) -> str:
    """Read the name of a signal, with or without SIG.

    Raises:
        InvalidInput: None that a task can be stopped by.
    """
    return check_stop_signal(texts[-1])


def read_number(texts: list[str]) -> int:
    """Read the last whole number given; 1.5 is none, and is not rounded.

    Raises:
        InvalidInput: Not a whole number.
    """
    if not _WHOLE.fullmatch(texts[-1]):
        raise InvalidInput(f"{texts[-1][:40]!r} is no whole number")
    return int(texts[-1])


def read_retries(texts: list[str]) -> Times:
    """Read a number of retries, or `unlimited`.

    Raises:
        InvalidInput: Neither.
    """
    text = texts[-1]
    is_number = text.removeprefix("-").isdecimal() and len(text) < 10
    return check_times(int(text) if is_number else text)


def read_causes(texts: list[str]) -> tuple[RetryCause, ...]:
    """Read `exit,timeout,signal` or some of them.

    Raises:
        InvalidInput: Another word.
    """
    return tuple(parse_cause(text) for text in read_list(texts))


def read_outputs(texts: list[str]) -> ArtifactKind:
    """Read the name of a kind of output.

    Raises:
        InvalidInput: No such kind.
    """
    try:
        return ArtifactKind(texts[-1])
    except ValueError:
        known = one_of(texts[-1], [kind.value for kind in ArtifactKind])
        raise InvalidInput(f"{texts[-1]!r} is no type of output: {known}") from None


def choices(kind: type[E], what: str) -> Callable[[list[str]], tuple[E, ...]]:
    """Return a reader of comma separated members of an enumeration, by value.

    The reader raises InvalidInput for anything else, which it calls `no WHAT`.
    """
    members = {str(member.value): member for member in kind}

    def read(texts: list[str]) -> tuple[E, ...]:
        items = [item.lower() for item in read_list(texts)]
        for item in items:
            if item not in members:
                raise InvalidInput(f"{item!r} is no {what}: {one_of(item, members)}")
        return tuple(members[item] for item in items)

    return read


def show_duration(value: timedelta) -> str:
    """Write a default shortly."""
    return format_duration(value.total_seconds())


def show_size(value: int) -> str:
    """Write a default as it would be given."""
    return format_size(value).replace(".0 ", "")


def several(*names: str, read: Callable[[list[str]], Any] = read_list) -> Parameter:
    """Return the description of an option that takes zero or more values, as in the seed."""
    return Parameter(
        name=list(names),
        converter=converter(read),
        negative=(),
        consume_multiple=True,
        n_tokens=1,
        show_choices=False,  # the values as they are stand in the description
        metavar=f"{names[0].lstrip('-').upper()}...",
    )


def _limit(read: Callable[[list[str]], Any], metavar: str) -> Parameter:
    return Parameter(converter=converter(or_none(read)), n_tokens=1, metavar=metavar)


Group = Annotated[str, Parameter(name=["--group", "-g"], metavar="GROUP")]
Tags = Annotated[tuple[str, ...], several("--tags", "-t")]
Labels = Annotated[tuple[str, ...], several("--labels", "-l")]
Names = Annotated[tuple[str, ...], several("--inherit-env")]
Envs = Annotated[tuple[str, ...], several("--envs", "-e", read=read_pairs)]
Grants = Annotated[tuple[str, ...], several("--groups", "-g", read=read_grants)]
Duration = Annotated[
    timedelta,
    Parameter(
        converter=converter(read_duration),
        n_tokens=1,
        show_default=show_duration,
        metavar="DURATION",
    ),
]
OptionalDuration = Annotated[
    timedelta | None,
    Parameter(converter=converter(read_duration), n_tokens=1, metavar="DURATION"),
]
Moment = Annotated[
    datetime | int | None,
    Parameter(converter=converter(read_moment), n_tokens=1, metavar="TIME|POSITION"),
]
Size = Annotated[
    int,
    Parameter(converter=converter(read_size), n_tokens=1, show_default=show_size, metavar="SIZE"),
]
SizeLimit = Annotated[int | str | None, _limit(read_size, "SIZE")]
TimeLimit = Annotated[timedelta | str | None, _limit(read_duration, "DURATION")]
CountLimit = Annotated[int | str | None, _limit(read_number, "NUMBER")]
StopSignal = Annotated[
    str | None, Parameter(converter=converter(read_signal), n_tokens=1, metavar="SIGNAL")
]
Retries = Annotated[
    Times | None,
    Parameter(
        converter=converter(read_retries),
        n_tokens=1,
        metavar="NUMBER|unlimited",
        allow_leading_hyphen=True,
    ),
]
RetryOn = Annotated[tuple[RetryCause, ...] | None, several("--retry-on", read=read_causes)]
OptionalSize = Annotated[
    int | None, Parameter(converter=converter(read_size), n_tokens=1, metavar="SIZE")
]
SlotCount = Annotated[int, Parameter(converter=converter(read_slots), n_tokens=1, metavar="NUMBER")]
OptionalSlotCount = Annotated[
    int | None, Parameter(converter=converter(read_slots), n_tokens=1, metavar="NUMBER")
]
NUMBER = Parameter(converter=converter(read_number), n_tokens=1, metavar="NUMBER")
Number = Annotated[int, NUMBER]
OptionalNumber = Annotated[int | None, NUMBER]
Kind = Annotated[ArtifactKind, Parameter(converter=converter(read_outputs), n_tokens=1)]
Flag = Annotated[bool, Parameter(negative=())]
VerboseFlag = Annotated[bool, Parameter(name=["--verbose", "-v"], negative=())]
Output = Annotated[Path | None, Parameter(name=["--output", "-o"])]
ConfigPath = Annotated[Path | None, Parameter(name="--config")]
Coordinator = Annotated[str | None, Parameter(name=["--coordinator", "-c"], metavar="ADDRESS")]
User = Annotated[str | None, Parameter(name=["--user", "-u"], metavar="USER")]
PasswordFile = Annotated[Path | None, Parameter(allow_leading_hyphen=True)]
Password = Annotated[str | None, Parameter(name=["--password", "-p"], metavar="PASSWORD")]
