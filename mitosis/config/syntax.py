"""What a person probably meant by a line that is no TOML."""

import re

_CURLY = re.compile("[\u2018-\u201f\u00ab\u00bb\u2032\u2033]")
_COLON = re.compile(r"\s*[\w.\"'-]+\s*:")
_WORDS = {"True": "true", "False": "false", "TRUE": "true", "FALSE": "false",
          "yes": "true", "no": "false", "on": "true", "off": "false"}  # fmt: skip
_ASSIGNED = re.compile(r"\s*([\w.\"'-]+)\s*=\s*(.*?)\s*(?:#.*)?$")
_QUOTED_PAIR = re.compile(r"""(["'])[^"']*\1\s+["']""")


def hint(line: str, said: str) -> str:
    """Return what is wrong with a line and how to write it.

    Args:
        line: The line to which the parser points.
        said: What the parser says of it, without the place.
    """
    if said.startswith("Cannot declare"):
        return "this section stands here for the second time: put all its keys under the first one"
    if said.startswith("Cannot overwrite"):
        return "a key is given twice: keep one of the two lines"
    if _CURLY.search(line):
        return "curly quotes: use straight ones, \" or '"
    if "=" not in line and line.lstrip().startswith("["):
        return "a section is written [name]"
    if _COLON.match(line) and said.startswith("Expected '='"):
        return "a key is followed by =, not by a colon: write key = value"
    return _of_value(line, said)


def _of_value(line: str, said: str) -> str:
    assigned = _ASSIGNED.match(line)
    value = assigned[2] if assigned else ""
    key = assigned[1] if assigned else "key"
    if value in _WORDS:
        return f"truth values are true and false in small letters: write {key} = {_WORDS[value]}"
    if "array" in said or value.startswith("["):
        if _QUOTED_PAIR.search(value):
            return 'the items of a list are parted by commas: write ["a", "b"]'
        return 'a list is written ["a", "b"]'
    if value.startswith('"') and "\\" in value:
        return "\\ begins an escape inside of \"...\": put the text in single quotes, 'C:\\folder'"
    if value.startswith(('"', "'")):
        return "the closing quote is missing, or something stands behind the text"
    if value and not value.startswith("{"):
        return f'text needs quotes: write {key} = "{value}"'
    return f"{said}: write key = value, with quotes around text"
