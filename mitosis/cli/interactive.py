"""`mito client -i`: one line after another, with the grammar of the shell."""

import readline
import shlex
import sys
from collections.abc import Callable

from mitosis.cli.output.screen import complain, flush
from mitosis.config.locations import cache_dir

PROMPT = "[mito::client]> "
HISTORY_LINES = 1_000  # parity V-032
LEAVE = frozenset({"quit", "exit"})
# Lines that may hold a password are not remembered.
SECRET_COMMANDS = (("auth",), ("login",), ("create", "user"))
SECRET_OPTIONS = frozenset({"-p", "--password"})


def leave() -> None:
    """Quit the client's interactive mode; outside of it there is nothing to leave."""


def interact(run: Callable[[list[str]], int]) -> int:
    """Read and run lines until CTRL-D, `exit` or `quit`. CTRL-C clears the line.

    Args:
        run: Runs the words of one line.

    Returns:
        0: the lines have reported their own errors.
    """
    _load_history()
    try:
        while True:
            try:
                line = input(PROMPT if sys.stdin.isatty() else "")
            except KeyboardInterrupt:
                sys.stdout.write("\n")
                continue
            except EOFError:
                return 0
            if not _run_line(line, run):
                return 0
    finally:
        _save_history()


def _run_line(line: str, run: Callable[[list[str]], int]) -> bool:
    """Run one line; False: the user wants to leave."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        complain(f"the line cannot be read: {error}")
        return True
    if not words:
        return True
    if words[0] in LEAVE and len(words) == 1:
        return False
    if not holds_secret(words):
        readline.add_history(line)
    run(words)
    flush()
    return True


def holds_secret(words: list[str]) -> bool:
    """Whether a line may hold a password."""
    if any(tuple(words[: len(start)]) == start for start in SECRET_COMMANDS):
        return True
    return any(word.partition("=")[0] in SECRET_OPTIONS for word in words[:1])


def _load_history() -> None:
    readline.set_auto_history(False)
    readline.set_history_length(HISTORY_LINES)
    try:
        readline.read_history_file(cache_dir() / "client-history")
    except OSError:
        return  # none yet, or not readable: begin without


def _save_history() -> None:
    folder = cache_dir()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        readline.write_history_file(folder / "client-history")
        (folder / "client-history").chmod(0o600)
    except OSError as error:
        complain(f"the history cannot be kept in {folder}: {error.strerror}")
