"""A password that lies in a file of its own: the form of mounted secrets."""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from msgspec.structs import replace

from mitosis.config.section import Section
from mitosis.errors import Misconfigured

if TYPE_CHECKING:
    from mitosis.config.loader import Loaded

MAX_SECRET_BYTES = 1_024  # what a password may have

S = TypeVar("S", bound=Section)


def without_weaker_password(loaded: "Loaded[S]") -> S:
    """Return the settings without the password if its file comes from a stronger source.

    So `--password-file` is not overruled by MITO_PASSWORD. From the same source, `password` wins.
    """
    strength = {key: _strength(loaded.sources[key]) for key in ("password", "password_file")}
    if strength["password_file"] > strength["password"]:
        return replace(loaded.config, password=None)
    return loaded.config


def _strength(source: str) -> int:
    order = ("default", "file", "variable", "option")
    kind = source if source in order else "variable" if source.startswith("MITO_") else "file"
    return order.index(kind)


def read_secret_file(path: Path) -> str:
    """Return the first line of a file.

    Raises:
        Misconfigured: It cannot be read, is empty, too long or not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            return read_secret(stream, str(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise Misconfigured(f"the password file {path} cannot be read: {reason}") from error


def read_secret(stream: BinaryIO, name: str) -> str:
    """Return the first line of what is read; nothing of it is shown in an error.

    Args:
        stream: Where it is read from.
        name: How an error calls it.

    Raises:
        Misconfigured: It is empty, too long or not UTF-8.
    """
    line = stream.readline(MAX_SECRET_BYTES + 2)
    secret = line.removesuffix(b"\n").removesuffix(b"\r")
    if not secret:
        raise Misconfigured(f"the password file {name} is empty: its first line must be one")
    if len(secret) > MAX_SECRET_BYTES:
        raise Misconfigured(
            f"the first line of the password file {name} has more than {MAX_SECRET_BYTES} bytes: "
            "it is no password"
        )
    try:
        return secret.decode()
    except UnicodeDecodeError:
        raise Misconfigured(f"the password in {name} is not UTF-8") from None
