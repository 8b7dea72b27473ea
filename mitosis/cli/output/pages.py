"""How help looks: values are named as in the seed, and only the screen breaks lines."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel, PlainFormatter
    from rich.console import Console, ConsoleOptions

TYPES = frozenset({"STR", "INT", "FLOAT", "CHOICE"})  # what the name of an option says better


class Pages:
    """A formatter of help.

    Args:
        boxes: Draw boxes, for a terminal.
    """

    def __init__(self, *, boxes: bool) -> None:
        self._boxes = boxes

    @cached_property
    def _inner(self) -> "DefaultFormatter | PlainFormatter":
        from cyclopts.help import DefaultFormatter, PlainFormatter

        return DefaultFormatter() if self._boxes else PlainFormatter()

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Print one list of commands, arguments or options."""
        title = "Options" if panel.title == "Parameters" else panel.title
        entries = [_plain_words(entry) for entry in panel.entries]
        self._inner(console, options, panel.copy(title=title, entries=entries))

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: Any) -> None:
        """Print the line of usage."""
        self._inner.render_usage(console, options, usage)

    def render_description(self, console: "Console", options: "ConsoleOptions", text: Any) -> None:
        """Print what the command does."""
        self._inner.render_description(console, options, text)


def _plain_words(entry: "HelpEntry") -> "HelpEntry":
    from rich.text import Text

    words = getattr(entry.description, "primary_renderable", None)
    if isinstance(words, Text):  # as broken into lines in the source
        entry.description.primary_renderable = Text(" ".join(words.plain.split()))
    if entry.metavar in TYPES and entry.positive_names:
        named = entry.positive_names[0].lstrip("-").upper().replace("-", "_")
        return entry.copy(metavar=named)
    return entry
