"""From words as people type them to words as the apps take them.

The options of the client stand before its command, `--json` stands anywhere, names stand before
verbs below `manage`, and `help` stands before what it is about.
"""

from typing import TYPE_CHECKING

from mitosis.cli.commands import CLIENT, GROUPS, NAMED
from mitosis.cli.usage import UsageError
from mitosis.domain.nearest import one_of

if TYPE_CHECKING:
    from cyclopts import App

# Options before the command that take no value; every other one takes one.
BARE = frozenset({"-h", "--help", "-V", "--version", "-i", "--interactive", "--insecure"})
# What asks about a command instead of running it.
ABOUT = frozenset({"help", "-h", "--help", "-V", "--version"})


def take_json(tokens: list[str]) -> tuple[list[str], bool]:
    """Take `--json` out of what is before `--`; it is valid with every command."""
    end = tokens.index("--") if "--" in tokens else len(tokens)
    kept = [token for token in tokens[:end] if token != "--json"]  # noqa: S105  an option
    return kept + tokens[end:], len(kept) < end


def split_options(tokens: list[str]) -> tuple[list[str], list[str]]:
    """Part the client's own options from the command, whose options may have the same letters."""
    at = 0
    while at < len(tokens) and tokens[at].startswith("-") and tokens[at] != "--":
        token = tokens[at]
        attached = "=" in token or (not token.startswith("--") and len(token) > 2)
        at += 1 if token in BARE or attached else 2
    return tokens[:at], tokens[at:]


def verb_first(tokens: list[str]) -> list[str]:
    """Turn the seed's `manage task UUID cancel` into `manage task cancel UUID`.

    A name that is also a verb stays a name when a verb follows it. Who asks for help need give no
    name: `manage task UUID --help` is about `manage task`.
    """
    group = " ".join(tokens[:2])
    verbs = {c.words[-1] for c in CLIENT if c.path.rpartition(" ")[0] == group}
    match tokens[2:]:
        case [name, verb, *rest] if group in NAMED and not name.startswith("-"):
            if verb in ABOUT and name not in {*verbs, *ABOUT}:
                return [*tokens[:2], verb, *rest]
            if verb in verbs or name not in {*verbs, *ABOUT}:
                return [*tokens[:2], verb, name, *rest]
        case [name] if group in NAMED and name not in {*verbs, *ABOUT}:
            return tokens[:2]  # a name without a verb: the help of the group says what there is
    return tokens


def help_last(tokens: list[str]) -> list[str]:
    """Turn `help get task` and `get help task` into `get task --help`."""
    if tokens[:1] == ["client"]:
        options, command = split_options(tokens[1:])
        return ["client", *options, *help_last(command)]
    for at, token in enumerate(tokens):
        if token == "help":  # noqa: S105  a word
            about = tokens[at + 1 :]
            return [*tokens[:at], *verb_first(about), "--help"]
        if not GROUPS.get(" ".join(tokens[: at + 1])):
            break
    return tokens


def check_known(app: "App", tokens: list[str]) -> bool:
    """Return whether there is something to run; False: the tokens name a group of commands only.

    Raises:
        UsageError: A word is no command of its group.
    """
    chain, apps, unused = app.parse_commands(tokens)
    if apps[-1].default_command is not None:
        return True
    if unused and not unused[0].startswith("-"):
        here = " ".join(["mito", *chain])
        known = [name for name in apps[-1] if not name.startswith("-")]
        raise UsageError(f"{unused[0]!r} is no command of {here}: {one_of(unused[0], known)}")
    return bool(unused)
