"""`mito client -i`: one line after another, with the grammar of the shell.

Of several lines that came at once (a paste, a file on standard input), the first that fails ends
the rest.
"""

import contextlib
import os
import shlex
import signal
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from mitosis.cli.completion.shells import answer_words, read_line
from mitosis.cli.exit_codes import DONE, USAGE
from mitosis.cli.history import History
from mitosis.cli.lines import (
    MAX_TEXT,
    holds_secret,
    is_whole,
    may_be_kept,
    split_commands,
    words_of,
)
from mitosis.cli.output.screen import complain
from mitosis.cli.output.streams import flush
from mitosis.config.locations import cache_dir

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.key_binding import KeyBindings

PROMPT = "[mito::client]> "
MORE = "> "  # before the second line of what is quoted, as in a shell
LEAVE = frozenset({"quit", "exit"})
Run = Callable[[list[str]], int]


class Left(Exception):
    """The user wants to leave."""


def leave() -> None:
    """Quit the client's interactive mode; outside of it there is nothing to leave."""


def interact(run: Run, options: Sequence[str] = ()) -> int:
    """Read and run lines until CTRL-D, `exit` or `quit`. CTRL-C clears the line.

    Args:
        run: Runs the words of one line, reports its errors, and returns its exit status.
        options: Of the client, for what is completed from the platform.

    Returns:
        At a terminal 0: the lines have reported their own errors. Else the status of the last
        line that was run.
    """
    history = History(cache_dir() / "client-history", complain)
    if sys.stdin.isatty() and sys.stderr.isatty():
        return _converse(run, history, options)
    return _follow_script(run)


def _follow_script(run: Run) -> int:
    status = DONE
    for command in _commands_of_stdin():
        try:
            status = _run_command(command, run)
        except Left:
            break
        if status != DONE:
            break
    return status


def _commands_of_stdin() -> Iterator[str]:
    text = ""
    # Line by line: a command is run as soon as it has been read.
    while line := sys.stdin.buffer.readline(MAX_TEXT):
        text += line.decode(errors="surrogateescape")
        if is_whole(text) or len(text) > MAX_TEXT:
            yield from split_commands(text)
            text = ""
    yield from split_commands(text)


def _converse(run: Run, history: History, options: Sequence[str]) -> int:
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.output import create_output

    # Results alone go to standard output.
    with _ended_in_order(), create_app_session(output=create_output(sys.stderr)):
        session = _session(history, options)
        while True:
            try:
                # A dumb terminal gets its prompt before prompt_toolkit reads keys as keys: in
                # between a Ctrl-D would be lost.
                with session.input.raw_mode():
                    text = session.prompt()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return DONE
            try:
                _run_all(split_commands(text[:MAX_TEXT]), run, history)
            except Left:
                return DONE


def _run_all(commands: list[str], run: Run, history: History) -> None:
    for number, command in enumerate(commands, start=1):
        status = _run_command(command, run)
        if status != USAGE:
            _remember(command, history)
        if status != DONE:
            if left := len(commands) - number:
                complain(f"{left} more line{'' if left == 1 else 's'} not run")
            _forget_typed_ahead()
            return


def _run_command(command: str, run: Run) -> int:
    """Run one command.

    Raises:
        Left: The user wants to leave.
    """
    try:
        words = words_of(command)
    except ValueError as error:
        complain(f"the line cannot be read: {error}")
        return USAGE
    if not words:
        return DONE
    if words[0] in LEAVE and len(words) == 1:
        raise Left
    status = run(words)
    flush()
    return status


def _remember(command: str, history: History) -> None:
    if may_be_kept(words_of(command)):
        history.add(command.strip())


def _forget_typed_ahead() -> None:
    """Drop the rest of a paste that the terminal sent as if it were typed."""
    from prompt_toolkit.application import get_app_session
    from prompt_toolkit.input.typeahead import clear_typeahead

    clear_typeahead(get_app_session().input)
    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def _session(history: History, options: Sequence[str]) -> "PromptSession[str]":
    os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")  # the place of the cursor is not asked for
    from prompt_toolkit import PromptSession
    from prompt_toolkit.application import get_app
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.history import InMemoryHistory
    from prompt_toolkit.shortcuts import CompleteStyle

    class Recall(InMemoryHistory):
        """Lines for the arrow keys; none with a password."""

        def append_string(self, string: str) -> None:
            if not any(map(_is_secret, split_commands(string))):
                super().append_string(string)

    class Words(Completer):
        """The same candidates as in a shell."""

        def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
            words, word, raw, _quoted = read_line(document.text_before_cursor)
            for found in answer_words(["client", *options, *words], word).candidates:
                yield Completion(
                    f"{shlex.quote(found.text)} ",
                    -len(raw),
                    found.text,
                    display_meta=found.help,
                )

    goes_on = Condition(lambda: not is_whole(get_app().current_buffer.text))
    return PromptSession(
        [("ansicyan", PROMPT)],  # of an uncoloured prompt the last blank would not be drawn
        history=Recall(history.load()),
        enable_suspend=True,
        complete_while_typing=False,
        completer=Words(),
        complete_style=CompleteStyle.READLINE_LIKE,
        multiline=goes_on,
        key_bindings=_keys(goes_on),
        prompt_continuation=MORE,
    )


def _keys(goes_on: "Condition") -> "KeyBindings":
    """While a quote is open Enter begins a new line as it is, as in a shell."""
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter", filter=goes_on)
    def begin_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys


def _is_secret(command: str) -> bool:
    try:
        return holds_secret(words_of(command))
    except ValueError:
        return holds_secret(command.split())


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """While it lasts, SIGTERM and a hang-up leave by way of every `finally`."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
