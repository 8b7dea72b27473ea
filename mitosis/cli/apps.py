"""Cyclopts apps from the tables of commands: each level knows -h and -V and shows an example.

Functions are imported when they are chosen.
"""

import sys
from enum import Enum
from typing import Any

from cyclopts import App, Group, Parameter

from mitosis._version import __version__
from mitosis.cli.commands import GROUPS, NAMED, SEED_GROUPS, Command, listed, spelled
from mitosis.cli.output.pages import Pages

VERSION_FLAGS = ("-V", "--version")
HELP_FLAGS = ("-h", "--help")
EVERYWHERE = "Everywhere: -h/--help, -V/--version, --json, and help before any command."
ORDER = {path: number for number, path in enumerate(SEED_GROUPS)}
FIRST_OTHER, STEP, LAST = 100, 10, 100_000  # sort keys of what is not in ORDER
COMMANDS = Group("Commands", sort_key=1)
ADDITIONS = Group("Also, by noun", sort_key=2)


def make_app(
    name: str, description: str, *, group: Group = COMMANDS, order: int = FIRST_OTHER
) -> App:
    """Return an app (a group of commands) that knows -h and -V."""
    app = App(
        name=name,
        help=description,
        group=group,
        group_commands=COMMANDS,
        sort_key=order,
        version=f"mito {__version__}",
        version_flags=VERSION_FLAGS,
        help_flags=HELP_FLAGS,
        help_format="plaintext",
        default_parameter=Parameter(show_default=default_text),
        suppress_keyboard_interrupt=False,  # said in our own words, also in JSON
        help_formatter=Pages(boxes=sys.stdout.isatty()),  # no boxes in files
    )

    @app.command(name="help", version_flags=VERSION_FLAGS, sort_key=LAST)
    def show_help(*command: str) -> None:
        """Print this message or the help of the given subcommand(s)."""
        app.help_print(list(command))

    return app


def grow(root: App, commands: tuple[Command, ...], program: str, only: str = "") -> None:
    """Add commands, and the groups that they are in.

    Args:
        root: Gets them.
        commands: Of one table.
        program: How the root is called: `mito` or `mito client`.
        only: The path of the one command that is wanted; empty: all.
    """
    groups = {"": root}
    for number, (path, (command, example)) in enumerate(listed(commands).items()):
        if only not in {"", path}:
            continue
        words = path.split()
        line, order = f"{program} {example}", FIRST_OTHER + STEP * number
        parent = _group(groups, words[:-1], line, program, order)
        parent.command(
            f"mitosis.cli.{command.home}",
            name=words[-1],
            help=command.summary,
            group=_panel(path, program),
            sort_key=ORDER.get(path, order),
            version_flags=VERSION_FLAGS,
            usage=_usage(words, command, program),
            help_epilogue=epilogue(line),
        )


def default_text(value: Any) -> str | None:
    """Return a default as one would type it; none for what is empty or off."""
    match value:
        case bool() | None | "" | ():
            return None
        case Enum():
            return str(value.value)
        case tuple():
            return ",".join(str(default_text(item)) for item in value)
        case _:
            return str(value)


def epilogue(example: str) -> str:
    """What stands below the help of each level."""
    return f"Example: {example}\n\n{EVERYWHERE}"


def _group(groups: dict[str, App], words: list[str], example: str, program: str, order: int) -> App:
    path = " ".join(words)
    if path not in groups:
        parent = _group(groups, words[:-1], example, program, order)
        app = make_app(
            words[-1], GROUPS[path], group=_panel(path, program), order=ORDER.get(path, order)
        )
        app.help_epilogue = epilogue(example)
        if path in NAMED:
            app.usage = f"Usage: {program} {path} {NAMED[path]} COMMAND"
        parent.command(app)
        groups[path] = app
    return groups[path]


def _panel(path: str, program: str) -> Group:
    """The seed's commands come first; the renamed tree is an addition."""
    first, *rest = path.split()
    return COMMANDS if rest or program == "mito" or first in SEED_GROUPS else ADDITIONS


def _usage(words: list[str], command: Command, program: str) -> str | None:
    if not command.usage:
        return None
    path, here = " ".join(words), spelled(words)
    if path != command.path:  # in the other grammar the name stands behind the verb
        here = [*here, NAMED.get(command.path.rpartition(" ")[0], "")]
    return f"Usage: {program} {' '.join(filter(None, here))} {command.usage}"
