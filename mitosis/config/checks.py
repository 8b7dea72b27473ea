"""Rules for single settings, used by more than one section."""

import re
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

from mitosis.config.log_filter import parse_log_filter
from mitosis.domain.durations import format_duration
from mitosis.domain.limits import check_tags
from mitosis.errors import InvalidInput

MAX_PORT = 65_535
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def check_bind(value: str) -> None:
    """Check `host:port`, with IPv6 addresses in brackets.

    Raises:
        InvalidInput: Not of that form.
    """
    host, port = split_bind(value)
    if not host or not 0 <= port <= MAX_PORT:
        raise InvalidInput("expected host:port, such as 127.0.0.1:5000")


def split_bind(value: str) -> tuple[str, int]:
    """Take `host:port` apart; port 0 means any free one.

    Raises:
        InvalidInput: The port is no number.
    """
    host, _, port = value.rpartition(":")
    if not port.isascii() or not port.isdigit():
        raise InvalidInput("expected host:port, such as 127.0.0.1:5000")
    return host.removeprefix("[").removesuffix("]"), int(port)


def check_bucket(value: str) -> None:
    """Check the name of a bucket by the rules of S3.

    Raises:
        InvalidInput: No store would take it.
    """
    if not _BUCKET.fullmatch(value) or ".." in value:
        raise InvalidInput(
            "expected the name of a bucket: 3 to 63 lower-case letters, digits, '.' or '-', with a "
            "letter or digit at both ends"
        )


def url_check(*schemes: str) -> Callable[[str | None], None]:
    """Return a check of an optional URL with one of these schemes and a host.

    The host may stand in the query (`?host=/folder`), as libpq has it for Unix sockets.
    """

    def check(value: str | None) -> None:
        if not value:
            return
        try:
            parts = urlsplit(value)
            usable = parts.scheme in schemes and bool(
                parts.hostname or parse_qs(parts.query).get("host")
            )
            _ = parts.port
        except ValueError:
            usable = False
        if not usable or any(character.isspace() for character in value):
            wanted = " or ".join(f"{scheme}://" for scheme in schemes)
            raise InvalidInput(f"expected a URL that starts with {wanted} and names a host")

    return check


def urls_check(*schemes: str) -> Callable[[str | None], None]:
    """Return a check of one or more such URLs, separated by commas."""
    one = url_check(*schemes)

    def check(value: str | None) -> None:
        for part in split_urls(value or ""):
            one(part)
            if "," in part.rpartition("@")[2]:  # a host without its scheme
                wanted = " or ".join(f"{scheme}://" for scheme in schemes)
                raise InvalidInput(f"expected that each address starts with {wanted}")

    return check


def check_address(value: str | None) -> None:
    """Check the address of a coordinator, or those of the NATS servers behind it.

    Raises:
        InvalidInput: It is neither one `http://` address nor a list of `nats://` ones.
    """
    if value and urlsplit(value).scheme in _NATS_SCHEMES:
        urls_check(*_NATS_SCHEMES)(value)
        return
    url_check("http", "https", *_NATS_SCHEMES)(value)
    if value and "@" in urlsplit(value).netloc:
        raise InvalidInput("an http address takes no user and no password: log in instead")


_NATS_SCHEMES = ("nats", "tls", "ws", "wss")


def split_urls(value: str) -> list[str]:
    """Return the URLs of a list with commas; a comma inside of one (in a password) is kept."""
    return [part.strip() for part in re.split(r",(?=\s*[a-z]+://)", value)]


def choice_check(*words: str) -> Callable[[str], None]:
    """Return a check of a word that must be one of these."""

    def check(value: str) -> None:
        if value not in words:
            raise InvalidInput(f"expected {' or '.join(words)}")

    return check


def range_check(low: int, high: int) -> Callable[[int], None]:
    """Return a check of a whole number, both bounds included."""

    def check(value: int) -> None:
        if not low <= value <= high:
            raise InvalidInput(f"expected a whole number from {low} to {high}")

    return check


def duration_check(low_seconds: float, high_seconds: float) -> Callable[[timedelta | None], None]:
    """Return a check of an optional duration, both bounds included."""

    def check(value: timedelta | None) -> None:
        if value is not None and not low_seconds <= value.total_seconds() <= high_seconds:
            low, high = format_duration(low_seconds), format_duration(high_seconds)
            raise InvalidInput(f"expected a duration from {low} to {high}")

    return check


def check_words(what: str) -> Callable[[tuple[str, ...]], None]:
    """Return a check of tags or labels."""

    def check(value: tuple[str, ...]) -> None:
        check_tags(value, what)

    return check


def check_log_level(value: str | None) -> None:
    """Check a level, or levels by part of the program; None is no setting.

    Raises:
        InvalidInput: No such level, or not of that form.
    """
    if value is not None:
        parse_log_filter(value)
