"""The two streams: results on standard output, everything else on standard error."""

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TextIO

from mitosis.cli.invocation import current
from mitosis.cli.output.values import to_json

if TYPE_CHECKING:
    from rich.console import Console

UNBROKEN = 10_000  # columns


def show(value: Any, lines: Callable[[], Iterable[str]]) -> None:
    """Print a result: the value as JSON if that is wanted, else the lines for a person."""
    if current.get().json:
        write(to_json(value))
        return
    for line in lines():
        write(line)


def write(line: str) -> None:
    """Print one line of a result."""
    # A lone surrogate (a file name that is no UTF-8) must not break the output.
    sys.stdout.buffer.write(line.encode(errors="backslashreplace") + b"\n")


def note(text: str) -> None:
    """Say something beside the result, and after what of it has been printed already."""
    if sys.stdout.isatty():
        sys.stdout.flush()
    sys.stderr.write(f"{printable(text)}\n")


def complain(text: str) -> None:
    """Say in one line what is wrong."""
    note(f"mito: {text}")


def on_terminal() -> bool:
    """Whether the result goes to a person at a terminal."""
    return sys.stdout.isatty() and not current.get().json


def can_ask() -> bool:
    """Whether there is a person who can be asked something."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def printable(text: str) -> str:
    """Return the text with control characters escaped, so that it cannot drive the terminal."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def page(stream: TextIO | None = None) -> "Console":
    """Return where help is printed: as wide as the terminal, and without line breaks elsewhere."""
    from rich.console import Console

    class Page(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704  the error that is being handled; rich would exit with 1

    out = stream or sys.stdout
    return Page(file=out, width=None if out.isatty() else UNBROKEN, highlight=False)
