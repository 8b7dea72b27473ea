r"""Asking at the terminal without ever leaving it changed.

Whatever ends the question (Ctrl-C, Ctrl-\, Ctrl-D, Ctrl-Z, SIGTERM, a hang-up), the echo is on
again afterwards and the cursor stands on a line of its own. Only for the main thread.
"""

import contextlib
import os
import resource
import signal
import sys
import termios
from collections.abc import Iterator
from types import FrameType

from mitosis.errors import InvalidInput

MAX_ANSWER_BYTES = 4_096
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def ask_line(prompt: str) -> str:
    """Ask for one line that is shown while it is typed; empty when it is left by Ctrl-D.

    Raises:
        InvalidInput: What was typed is no text.
    """
    _write(prompt)
    try:
        return _answer()
    except KeyboardInterrupt:
        _write("\n")
        raise


def ask_secret(prompt: str) -> str:
    """Ask for one line that is not shown; empty when it is left by Ctrl-D.

    Raises:
        InvalidInput: What was typed is no text.
    """
    with _hidden(prompt):
        _write(prompt)
        return _answer()


def _answer() -> str:
    line = sys.stdin.buffer.readline(MAX_ANSWER_BYTES)
    if not line.endswith(b"\n"):
        return ""  # left by Ctrl-D, or longer than an answer may be
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidInput("the answer is no text in UTF-8") from None


@contextlib.contextmanager
def _hidden(prompt: str) -> Iterator[None]:
    descriptor = sys.stdin.fileno()
    shown = termios.tcgetattr(descriptor)
    hidden = [*shown]
    hidden[3] &= ~termios.ECHO

    def show() -> None:
        with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, shown)
            _write("\n")

    def end(number: int, _: FrameType | None) -> None:
        show()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold what was typed
        _by_default(number)

    def pause(number: int, _: FrameType | None) -> None:
        show()
        _by_default(number)  # stops here until SIGCONT
        signal.signal(number, pause)
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, hidden)
        _write(prompt)

    handlers = {**dict.fromkeys(ENDING, end), signal.SIGTSTP: pause}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, hidden)
        yield
    finally:
        show()
        for number, handler in before.items():
            signal.signal(number, handler)


def _by_default(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _write(text: str) -> None:
    # Not by the buffered stream: a signal may come while that is at work, and it is not reentrant.
    os.write(sys.stderr.fileno(), text.encode())
