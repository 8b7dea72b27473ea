"""Settings files as people save them: their text, and where in it something stands."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from mitosis.errors import InvalidSettings

MAX_FILE_BYTES = 1024 * 1024

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_HEADER = re.compile(r"\s*\[\s*([^\[\]#]+?)\s*\]")


class Place(NamedTuple):
    """A place in a file; both count from 1."""

    line: int
    column: int


class ConfigFile(NamedTuple):
    """A file that was read. `given`: the user named it, so it must be about Mitosis."""

    path: Path
    text: str
    given: bool = True

    def tables(self) -> dict[str, Any]:
        """Return what the file says.

        Raises:
            InvalidSettings: It is no TOML; says where, and what to write.
        """
        import tomllib

        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            from mitosis.config.syntax import hint

            place, said = self._place_of(str(error))
            line = self.text.splitlines()[place.line - 1] if self.text.strip() else ""
            raise self.refused(place, f"this is no TOML: {hint(line, said)}") from None

    def refused(self, place: Place, message: str, **details: Any) -> InvalidSettings:
        """Return the error for something in this file."""
        return InvalidSettings(
            f"{self.at(place)}: {message}",
            source=str(self.path), line=place.line, column=place.column, **details,
        )  # fmt: skip

    def at(self, place: Place) -> str:
        """Return `file:line:column`."""
        return f"{self.path}:{place.line}:{place.column}"

    def place(self, section: str, key: str) -> Place:
        """Return where a key stands; its section when the key is written unusually."""
        table, section_line = "", 1
        wanted = re.compile(
            rf"\s*(?:{re.escape(section)}\s*\.\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.]"
        )
        for number, line in enumerate(self.text.splitlines(), start=1):
            header = _HEADER.match(line)
            if header:
                table = header[1].strip("\"'")
                if table == (section or key):
                    section_line = number
            elif wanted.match(line) and table in {"", section}:
                return Place(number, len(line) - len(line.lstrip()) + 1)
        return Place(section_line, 1)

    def _place_of(self, message: str) -> tuple[Place, str]:
        found = _PLACE.search(message)
        said = _PLACE.sub("", message)
        if found and found[1]:
            return Place(int(found[1]), int(found[2])), said
        lines = [line for line in self.text.splitlines() if line.strip()] or [""]
        last = max(
            (n for n, line in enumerate(self.text.splitlines(), 1) if line.strip()), default=1
        )
        return Place(last, len(lines[-1]) + 1), said


def read_file(path: Path) -> str:
    """Return the text of a settings file; a byte order mark of UTF-8 does no harm.

    Raises:
        InvalidSettings: It cannot be read, or is not saved as UTF-8 with usual line ends.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidSettings(
            f"the config file {path} cannot be read: {reason}", source=str(path)
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidSettings(
            f"{path} is larger than {MAX_FILE_BYTES} bytes: no such file is", source=str(path)
        )
    return _decoded(path, data)


def _decoded(path: Path, data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:
        raise _not_utf8(path, data[:0], "the file is UTF-16, not UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = data[: error.start]
        byte = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        raise _not_utf8(path, start, f"{byte}; the file may be Latin-1") from None
    at = re.search(r"\r(?!\n)", text)
    if at:
        place = Place(
            text.count("\n", 0, at.start()) + 1, at.start() - text.rfind("\n", 0, at.start())
        )
        raise ConfigFile(path, text).refused(
            place, "a line ends with a lone CR: save the file with LF (or CR LF) as line ends"
        )
    return text


def _not_utf8(path: Path, before: bytes, what: str) -> InvalidSettings:
    line = before.count(b"\n") + 1
    column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
    return ConfigFile(path, "").refused(
        Place(line, column), f"{what}: save it as UTF-8 in your editor"
    )
