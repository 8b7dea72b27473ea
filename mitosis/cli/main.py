"""The command line: from arguments to an exit status.

Nothing that a user can cause ends in a traceback: usage, rejections, services that are away,
interruption, a reader that has gone.
"""

import gc
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from mitosis.cli import client
from mitosis.cli.apps import epilogue, grow, make_app
from mitosis.cli.commands import CLIENT, PLATFORM, named_by
from mitosis.cli.exit_codes import DONE, FAILED, INTERRUPTED, USAGE, exit_status
from mitosis.cli.grammar import ABOUT, check_known, help_last, split_options, take_json, verb_first
from mitosis.cli.invocation import ClientFlags, Invocation, current
from mitosis.cli.output.screen import complain, note, page, show, write
from mitosis.cli.output.streams import delivered
from mitosis.cli.output.values import error_json, of_error
from mitosis.cli.usage import UsageError
from mitosis.cli.wording import said
from mitosis.errors import MitosisError

COMPLETION_NOTE = (
    "Completion: mito --install-completion [bash|zsh|fish]; --show-completion prints it."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: Arguments without the name of the program; None: those of the process.

    Returns:
        The exit status (design, Command line).
    """
    tokens, as_json = take_json(list(sys.argv[1:] if argv is None else argv))
    current.set(Invocation(json=as_json))
    return delivered(lambda: guarded(tokens))


def root_app(only: list[str] | None = None) -> App:
    """Return `mito` with its commands, none of them imported yet.

    Args:
        only: A line. If it names a command, no other one is there: each costs time.
    """
    app = make_app("mito", "Run campaigns of commands over many machines")
    app.help_epilogue = f"{epilogue('mito up')}\n\n{COMPLETION_NOTE}"
    words = only or []
    if words[:1] == ["client"]:
        app.command(client.client_app(named_by(CLIENT, words[1:])))
    elif wanted := named_by(PLATFORM, words):
        grow(app, PLATFORM, "mito", wanted)
    else:
        app.command(client.client_app())
        grow(app, PLATFORM, "mito")
    return app


def guarded(tokens: list[str]) -> int:
    """Run, and turn every error that a user can cause into a line and an exit status."""
    try:
        return dispatch(tokens)
    except CycloptsError as error:
        return _usage(said(error))
    except UsageError as error:
        return _usage(str(error))
    except MitosisError as error:
        if current.get().json:
            write(of_error(error))
        else:
            complain(error.message)
        return exit_status(error)
    except KeyboardInterrupt:
        if current.get().json:
            write(error_json("interrupted", "interrupted", {}))
        else:
            complain("interrupted")
        return INTERRUPTED


def dispatch(tokens: list[str]) -> int:
    """Parse and run; return the exit status of the command."""
    if tokens[:1] in (["--install-completion"], ["--show-completion"]):
        return _completion(tokens)
    tokens = help_last(tokens)
    about = ABOUT.intersection(tokens[: tokens.index("--")] if "--" in tokens else tokens)
    if tokens[:1] == ["client"]:
        options, command = split_options(tokens[1:])
        if not command or ABOUT.intersection(options):
            return _client_alone(options)
        current.set(Invocation(json=current.get().json, client=client.read_flags(options)))
        tokens = ["client", *verb_first(command)]
    app = root_app(tokens)
    if about:
        app.console = page()
    if not check_known(app, tokens):
        return _missing_command(app, tokens)
    _collect_garbage()
    status = app(tokens, result_action="return_value", exit_on_error=False, print_error=False)
    return status if isinstance(status, int) else DONE


def _collect_garbage() -> None:
    """Begin to look for garbage, if that was put off, but not among what was imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _client_alone(options: list[str]) -> int:
    app = root_app(["client"])
    if ABOUT.intersection(options):
        app.console = page()
    app["client"].default(client.client_flags)  # shows the options in the help
    flags = app(
        ["client", *options], result_action="return_value", exit_on_error=False, print_error=False
    )
    if not isinstance(flags, ClientFlags):  # help or version was wanted
        return DONE
    if not flags.interactive:
        return _missing_command(app, ["client"])
    _collect_garbage()
    from mitosis.cli.interactive import interact
    from mitosis.cli.running import kept_connection

    kept = [option for option in options if option not in {"-i", "--interactive"}]
    as_json = current.get().json

    def run(tokens: list[str]) -> int:
        line, line_json = take_json(tokens)
        current.set(Invocation(json=as_json or line_json))
        try:
            return guarded(["client", *kept, *line])
        except BrokenPipeError:
            raise
        except OSError as error:  # of one line, which ends no session
            complain(f"{error.filename or 'this machine'}: {error.strerror or error}")
            return FAILED

    with kept_connection():
        return interact(run, kept)


def _completion(tokens: list[str]) -> int:
    from mitosis.cli.completion.install import install, shell_named
    from mitosis.cli.completion.shells import SCRIPTS

    option, *names = tokens
    if len(names) > 1:
        raise UsageError(f"{option} takes the name of one shell, not {len(names)}")
    shell = shell_named(names[0] if names else None)
    if option == "--show-completion":
        show({"shell": shell, "script": SCRIPTS[shell]}, SCRIPTS[shell].splitlines)
        return DONE
    done = install(shell)
    show(done, lambda: [f"Completion for {shell} is in {done.script}, loaded by {done.loaded_by}"])
    note("It works in shells that are started from now on.")
    return DONE


def _missing_command(app: App, tokens: list[str]) -> int:
    if current.get().json:
        return _usage("a command is missing")
    app.help_print(tokens, console=page(sys.stderr))
    return USAGE


def _usage(message: str) -> int:
    text = " ".join(message.split())
    if current.get().json:
        write(error_json("usage", text, {}))
    else:
        complain(f"{text} (see --help)")
    return USAGE
