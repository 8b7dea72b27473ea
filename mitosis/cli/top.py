"""`top`: what the platform does just now, on the whole screen."""

import asyncio
import contextlib
import os
import shutil
import sys
import termios
import tty
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from mitosis.cli.exit_codes import DONE
from mitosis.cli.invocation import UsageError, current
from mitosis.cli.output.screen import UNBROKEN, show
from mitosis.cli.parameters import Flag, read_list, several
from mitosis.cli.running import with_client

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient
    from mitosis.client.overview import Overview

Groups = Annotated[tuple[str, ...], several("--groups", "--group", "-g", read=read_list)]
KEYS = "q: quit"
QUIT = b"qQ"


def top(*, groups: Groups = (), once: Flag = False) -> int:
    """Show queues, workers, rates and recent failures, and keep them up to date; q quits.

    Args:
        groups: The groups to show; default: all in which the user has a role.
        once: Print one frame as text, and end; --json prints it as data.
    """
    if once or current.get().json:
        _print_once(groups)
        return DONE
    if not _has_screen():
        raise UsageError("top needs a terminal: use --once for one frame as text, or --json")
    with _Screen() as screen:

        async def run(client: "MitoClient") -> None:
            with screen.pressed() as quitting:
                showing = asyncio.create_task(_show(client, groups, screen))
                waiting = asyncio.create_task(quitting.wait())
                try:
                    await asyncio.wait([showing, waiting], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
                    showing.cancel()
                    await asyncio.wait([showing])
                if not showing.cancelled():
                    showing.result()

        with_client(run, on_loop=True)
    return DONE


async def _show(client: "MitoClient", groups: tuple[str, ...], screen: "_Screen") -> None:
    async with contextlib.aclosing(client.watch_overview(groups)) as overviews:
        async for overview in overviews:
            screen.overview = overview


def _print_once(groups: tuple[str, ...]) -> None:
    async def run(client: "MitoClient") -> "Overview":
        return await client.get_overview(groups)

    overview = with_client(run, on_loop=True)
    show(overview, lambda: _text(overview))


def _text(overview: "Overview") -> list[str]:
    from rich.console import Console

    from mitosis.cli.output.overview import Frame

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNBROKEN
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as captured:
        console.print(Frame(overview, datetime.now(UTC), whole=True))
    return [line.rstrip() for line in captured.get().rstrip("\n").split("\n")]


def _has_screen() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


class _Screen:
    """The whole terminal, drawn four times a second; whatever ends it, it is as it was before."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        from mitosis.cli.output.overview import Frame
        from mitosis.cli.output.progress import MIXED

        self.overview: Overview | None = None
        self._live = Live(
            get_renderable=lambda: Frame(self.overview, datetime.now(UTC), keys=KEYS),
            console=Console(file=sys.stdout, highlight=False),
            screen=True,
            refresh_per_second=4,
            redirect_stdout=MIXED,
            redirect_stderr=MIXED,
        )
        self._modes = termios.tcgetattr(sys.stdin.fileno())

    def __enter__(self) -> "_Screen":
        tty.setcbreak(sys.stdin.fileno())  # keys come at once and are not shown; Ctrl-C is itself
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._modes)

    @contextlib.contextmanager
    def pressed(self) -> Iterator[asyncio.Event]:
        """Yield an event that is set when a key to quit is pressed, or the terminal is gone."""
        quitting, keyboard = asyncio.Event(), sys.stdin.fileno()
        loop = asyncio.get_running_loop()

        def read() -> None:
            try:
                keys = os.read(keyboard, 64)
            except OSError:
                keys = b""
            if not keys or any(key in QUIT for key in keys):
                loop.remove_reader(keyboard)
                quitting.set()

        loop.add_reader(keyboard, read)
        try:
            yield quitting
        finally:
            loop.remove_reader(keyboard)
