"""What may stand at the cursor: pure, from the words before it, the tree, and known values.

A tree is made of nodes, dictionaries that come from a JSON file:
    help      one line
    commands  name -> node
    named     kind of the thing whose name stands before the verb (`manage task TASK cancel`)
    options   option -> kind; the empty kind takes no value
    lists     options that take several values
    arguments kinds of the arguments in their order; the last one repeats if `more` is true
A kind is a list of fixed words, `file`, `any`, or the name of a list of values.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

EVERYWHERE = ("--help", "--version", "--json")
ROLES = ("read", "write", "admin")

Node = Mapping[str, Any]
Kind = str | Sequence[str]
Values = Mapping[str, Sequence[tuple[str, str]]]


class Candidate(NamedTuple):
    """A text for the whole word at the cursor, and what it means."""

    text: str
    help: str = ""


class Answer(NamedTuple):
    """Candidates, or the advice to offer the names of files."""

    candidates: Sequence[Candidate] = ()
    files: bool = False


def complete(tree: Node, values: Values, before: Sequence[str], word: str) -> Answer:
    """Return what may stand in the place of `word`.

    Args:
        tree: The root, `mito`.
        values: What is known of the platform.
        before: The words between `mito` and the cursor, without quotes.
        word: The beginning of the word at the cursor, without quotes.
    """
    place = _walk(tree, before)
    if place.after_dashes:
        return Answer(files=True)
    if place.wanted is not None:
        return _of_kind(place.wanted, values, word, place.listed)
    if word.startswith("-"):
        option, equals, part = word.partition("=")
        kind = place.node.get("options", {}).get(option, "")
        if equals and kind:
            listed = option in place.node.get("lists", ())
            return _prefixed(f"{option}=", _of_kind(kind, values, part, listed))
        options = [*place.node.get("options", {}), *EVERYWHERE]
        return Answer(_starting(word, (Candidate(o) for o in options if o.startswith("--"))))
    return _words(place, values, word)


class _Place(NamedTuple):
    """Where the cursor stands."""

    node: Node
    has_name: bool = False  # of the thing that a group of `manage` is about
    position: int = 0  # arguments already given
    wanted: Kind | None = None  # the option before the cursor wants a value of this kind
    listed: bool = False
    open_list: Kind | None = None  # an option before that takes any number of values
    after_dashes: bool = False


def _walk(tree: Node, before: Sequence[str]) -> _Place:
    place, at = _Place(tree), 0
    while at < len(before):
        word, at = before[at], at + 1
        if word == "--":
            return place._replace(after_dashes=True)
        if word.startswith("-") and len(word) > 1:
            option, equals, _ = word.partition("=")
            kind = place.node.get("options", {}).get(option, "")
            if equals or not kind:
                continue
            listed = option in place.node.get("lists", ())
            if at == len(before):
                return place._replace(wanted=kind, listed=listed)
            at += 1
            place = place._replace(open_list=kind if listed else None)
        elif word in place.node.get("commands", {}):
            place = _Place(place.node["commands"][word])
        elif word == "help" and place.node.get("commands"):
            continue
        elif place.node.get("named") and not place.has_name:
            place = place._replace(has_name=True)
        else:
            place = place._replace(position=place.position + 1)
    return place


def _words(place: _Place, values: Values, word: str) -> Answer:
    node = place.node
    commands = [Candidate(name, sub.get("help", "")) for name, sub in _commands(node).items()]
    if node.get("named") and not place.has_name:
        return _of_kind(node["named"], values, word, listed=False)
    if commands:
        return Answer(_starting(word, [*commands, Candidate("help")]))
    arguments = node.get("arguments", ())
    if place.position < len(arguments) or (arguments and node.get("more")):
        kind = arguments[min(place.position, len(arguments) - 1)]
        return _of_kind(kind, values, word, listed=False)
    if place.open_list is not None:
        return _of_kind(place.open_list, values, word, listed=True)
    return Answer()


def _commands(node: Node) -> Mapping[str, Node]:
    commands: Mapping[str, Node] = node.get("commands", {})
    return commands


def _of_kind(kind: Kind, values: Values, word: str, listed: bool) -> Answer:
    if kind == "file":
        return Answer(files=True)
    if listed and "," in word:
        head, _, word = word.rpartition(",")
        return _prefixed(f"{head},", _of_kind(kind, values, word, listed=False))
    if kind == "grant" and ":" in word:
        group, _, role = word.partition(":")
        roles = _starting(role, (Candidate(name) for name in ROLES))
        return _prefixed(f"{group}:", Answer(roles))
    if not isinstance(kind, str):
        return Answer(_starting(word, (Candidate(name) for name in kind)))
    known = values.get("group" if kind == "grant" else kind, ())
    found = [Candidate(text, said) for text, said in known]
    if kind == "task":
        found.append(Candidate("last", "the newest task"))
    return Answer(_starting(word, found))


def _starting(word: str, candidates: Iterable[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.text.startswith(word)]


def _prefixed(prefix: str, answer: Answer) -> Answer:
    return answer._replace(
        candidates=[c._replace(text=f"{prefix}{c.text}") for c in answer.candidates]
    )
