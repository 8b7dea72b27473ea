"""The form of a section of settings: frozen, all with defaults, silent about its secrets."""

from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from mitosis.config.checks import split_urls

MASK = "***"
PREFIX = "MITO_"
LOG_VARIABLES: dict[str, tuple[str, ...]] = {
    "log_level": ("RUST_LOG",),
    "file_log_level": ("MITO_FILE_LOG",),
}


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every section.

    Attributes:
        SECTION: Name of the table in the file.
        SECRETS: Fields whose value is never shown.
        URLS: Fields whose value may hold a password between `:` and `@`.
        CHECKS: Per field, a function that raises InvalidInput for a value that cannot work.
        OTHER_VARIABLES: Per field, variables of the original that have no name of ours.
    """

    SECTION: ClassVar[str] = ""
    SECRETS: ClassVar[frozenset[str]] = frozenset()
    URLS: ClassVar[frozenset[str]] = frozenset()
    CHECKS: ClassVar[dict[str, Callable[[Any], None]]] = {}
    OTHER_VARIABLES: ClassVar[dict[str, tuple[str, ...]]] = LOG_VARIABLES

    @classmethod
    def variables(cls, field: str) -> tuple[str, ...]:
        """Return the environment variables of a field, strongest first."""
        own = (f"{PREFIX}{cls.SECTION.upper()}_{field.upper()}", PREFIX + field.upper())
        return own + cls.OTHER_VARIABLES.get(field, ())

    def warnings(self) -> list[str]:
        """Return a sentence for each setting that does not do what its owner may expect."""
        return []

    @classmethod
    def shown(cls, field: str, value: object) -> str:
        """Return the value of a field as it may be printed."""
        if value is not None and value != "" and field in cls.SECRETS:
            return MASK
        if isinstance(value, str) and field in cls.URLS:
            return repr(without_password(value))
        return repr(value)

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name}={self.shown(name, getattr(self, name))}" for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({fields})"


def without_password(url: str) -> str:
    """Return the URL with its password masked; several are separated by commas."""
    if len(urls := split_urls(url)) > 1:
        return ",".join(map(without_password, urls))
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return MASK
    if password is None:
        return url
    account = parts.netloc.rpartition("@")[0].partition(":")[0]
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{account}:{MASK}@{host}").geturl()
