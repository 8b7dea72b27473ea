"""Which log lines are written: a level, or levels by part of the program.

The form is the one of the original's `RUST_LOG`: `info`, `warn,mitosis.nats=debug`.
"""

from collections.abc import Mapping

from mitosis.errors import InvalidInput

LOG_LEVELS = ("debug", "info", "warning", "error", "critical", "off")
_ALIASES = {"trace": "debug", "warn": "warning"}
_OURS = {"mito": "mitosis", "netmito": "mitosis"}
MAX_FILTER_CHARS = 1_000

LogFilter = Mapping[str, str]
"""Level by name of a logger; the empty name is all others."""


def parse_log_filter(text: str) -> LogFilter:
    """Read a level or a list of `PART=LEVEL`.

    Raises:
        InvalidInput: Not of that form.
    """
    found: dict[str, str] = {"": "info"}
    for item in text[: MAX_FILTER_CHARS + 1].split(","):
        part, mark, level = item.strip().rpartition("=")
        level = _ALIASES.get(level.lower(), level.lower())
        if level not in LOG_LEVELS or bool(mark) != bool(part) or len(text) > MAX_FILTER_CHARS:
            raise InvalidInput(
                f"expected one of {', '.join(LOG_LEVELS)}, or parts with levels such as "
                "info,mitosis.nats=debug"
            )
        top, _, rest = part.replace("::", ".").partition(".")
        found[_OURS.get(top, top) + (f".{rest}" if rest else "")] = level
    return found


def is_log_filter(text: str) -> bool:
    """Whether the text is a level or a list of parts with levels."""
    try:
        parse_log_filter(text)
    except InvalidInput:
        return False
    return True
