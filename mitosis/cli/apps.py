"""How our cyclopts apps are made: help and version at every level, commands loaded when used."""

import sys

from cyclopts import App

from mitosis._version import __version__

VERSION_FLAGS = ("-V", "--version")
HELP_FLAGS = ("-h", "--help")
JSON_NOTE = "Every command takes --json: one JSON value on standard output, also for an error."


def make_app(name: str, description: str) -> App:
    """Return an app (a group of commands) that knows -h and -V."""
    app = App(
        name=name,
        help=description,
        version=f"mito {__version__}",
        version_flags=VERSION_FLAGS,
        help_flags=HELP_FLAGS,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,  # said in our own words, also in JSON
        help_formatter="default" if sys.stdout.isatty() else "plain",  # no boxes in files
    )

    @app.command(name="help", version_flags=VERSION_FLAGS)
    def show_help(*command: str) -> None:
        """Print this message or the help of the given subcommand(s)."""
        app.help_print(list(command))

    return app


def add(app: App, name: str, home: str, description: str, usage: str | None = None) -> None:
    """Add a command that is imported only when it is chosen.

    Args:
        app: The group.
        name: What the user types.
        home: `module:function` inside `mitosis.cli`, or `module:app`.
        description: One line for the list of commands.
        usage: How it is used, where that cannot be told from its parameters.
    """
    app.command(
        f"mitosis.cli.{home}",
        name=name,
        help=description,
        version_flags=VERSION_FLAGS,
        usage=usage,
    )
