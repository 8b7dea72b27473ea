"""Running one action of the client, with its log-in."""

import contextlib
import contextvars
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mitosis.cli.invocation import current
from mitosis.cli.login import ask_again, given_password
from mitosis.cli.output.screen import complain
from mitosis.config.client import ClientConfig
from mitosis.errors import AuthenticationFailed, Unavailable

if TYPE_CHECKING:
    from mitosis.client.blocking import SyncMitoClient
    from mitosis.client.client import MitoClient

T = TypeVar("T")
Action = Callable[["MitoClient"], Awaitable[T]]


class Run(Protocol):
    """Runs an action to its end."""

    def __call__(self, action: Action[T], /) -> T:
        """Return what the action returns."""


def client_config() -> ClientConfig:
    """Return the settings of this command line.

    Raises:
        Misconfigured: A file, a variable or an option cannot work.
    """
    flags = current.get().client
    config = ClientConfig.load(
        flags.config,
        coordinator_addr=flags.coordinator,
        credential_path=flags.credential_path,
        user=flags.user,
        password=given_password(flags),
        password_file=flags.password_file,
        timeout=flags.timeout,
        coordinator_ca=flags.coordinator_ca,
        insecure=flags.insecure,
    )
    for warning in config.warnings():
        complain(warning)
    return config


def with_client(
    action: Action[T], *, config: ClientConfig | None = None, on_loop: bool = False
) -> T:
    """Connect, run the action, disconnect; in the interactive mode the connection stays.

    It connects as the user first, and asks for name and password if that is needed and somebody is
    there to be asked.

    Args:
        action: Gets the client. Run once more after a log-in, when its session is not accepted.
        config: Settings in the place of those of this command line.
        on_loop: As of `open_client`.

    Raises:
        MitosisError: Of the client.
    """
    config = config or client_config()
    with open_client(config, on_loop=on_loop) as run:
        try:
            run(_connect)
            return run(action)
        except AuthenticationFailed as error:
            # Here and not inside of the event loop: only the main thread may ask.
            user, password = ask_again(config, run(_known_user), error)
        run(lambda client: client.login(user, password))
        return run(action)


@contextlib.contextmanager
def kept_connection() -> Iterator[None]:
    """Let all actions with the same settings share one connection while this lasts.

    It is opened by the first action. It lives in a thread, so that it stays alive while nothing
    runs, and comes back by itself when the services have been away.
    """
    kept = _Kept()
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)
        kept.close()


class _Kept:
    """At most one open client, with the settings that it was opened with."""

    def __init__(self) -> None:
        self._config: ClientConfig | None = None
        self._client: SyncMitoClient | None = None

    def client(self, config: ClientConfig) -> "SyncMitoClient":
        """Return the open client if it has these settings, else a new one in its place."""
        if self._client is None or self._config != config:
            from mitosis.client.blocking import SyncMitoClient
            from mitosis.signals import signals_blocked

            self.close()
            with signals_blocked():  # a Ctrl-C at the prompt must not be taken by its thread
                self._config, self._client = config, SyncMitoClient(config)
        return self._client

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.close()
            self._client = None


_kept: contextvars.ContextVar[_Kept | None] = contextvars.ContextVar("kept", default=None)


@contextlib.contextmanager
def open_client(config: ClientConfig, *, on_loop: bool = False) -> Iterator[Run]:
    """Let actions be run with one client, kept or its own; nothing is connected yet.

    Args:
        config: Of the client.
        on_loop: On an event loop, for what listens, moves files, or does several things at once.
            Else it asks and waits in place, which starts twice as quickly (decisions/0041).
    """
    import logging

    logging.basicConfig(level=logging.WARNING, format="mito: %(message)s", stream=sys.stderr)
    kept = _kept.get()
    if kept is not None:
        client = kept.client(config)
        yield lambda action: client.run(prepared(action))
    elif on_loop:
        with _on_loop(config) as run:
            yield run
    else:
        with _in_place(config) as run:
            yield run


@contextlib.contextmanager
def _on_loop(config: ClientConfig) -> Iterator[Run]:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from mitosis.client.client import MitoClient
    from mitosis.signals import block_signals

    with asyncio.Runner() as runner:
        threads = ThreadPoolExecutor(thread_name_prefix="mito", initializer=block_signals)
        runner.get_loop().set_default_executor(threads)
        client = MitoClient(config)
        try:
            yield lambda action: runner.run(prepared(action)(client))
        finally:
            runner.run(client.close())


@contextlib.contextmanager
def _in_place(config: ClientConfig) -> Iterator[Run]:
    from mitosis.client.client import MitoClient
    from mitosis.client.network import InPlace
    from mitosis.nats.blocking import finish

    client = MitoClient(config, InPlace())
    try:
        yield lambda action: finish(prepared(action)(client))
    finally:
        finish(client.close())


def prepared(action: Action[T]) -> "Callable[[MitoClient], Coroutine[Any, Any, T]]":
    """Return the action, with warnings of the client told as those of the command."""

    async def run(client: "MitoClient") -> T:
        client.session.stale = complain
        client.session.waiting = _tell_waiting
        return await action(client)

    return run


async def _known_user(client: "MitoClient") -> str:
    return client.session.known_user()


async def _connect(client: "MitoClient") -> None:
    """Connect, on account of the first request: the command as a whole has one deadline."""
    began = time.monotonic()
    await client.connect()
    client.session.spent_seconds = time.monotonic() - began


def _tell_waiting(error: Unavailable, seconds: float) -> None:
    """Let nobody stare at a silent terminal; scripts hear the outcome alone."""
    if sys.stderr is not None and sys.stderr.isatty() and not current.get().json:
        complain(f"{error} (trying again for up to {seconds:.0f} s, see --timeout)")
