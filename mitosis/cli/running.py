"""Running one action of the client, with its log-in."""

import getpass
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from mitosis.cli.invocation import current
from mitosis.cli.output.screen import can_ask, complain
from mitosis.config.client import ClientConfig
from mitosis.config.loader import load
from mitosis.errors import AuthenticationFailed, InvalidInput

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient

T = TypeVar("T")


def client_config() -> ClientConfig:
    """Return the settings of this command line.

    Raises:
        Misconfigured: A file, a variable or an option cannot work.
    """
    flags = current.get().client
    given = {
        "coordinator_addr": flags.coordinator,
        "credential_path": flags.credential_path,
        "user": flags.user,
        "password": flags.password,
        "timeout": flags.timeout,
    }
    return load(ClientConfig, config=flags.config, flags=given).config


def with_client(action: Callable[["MitoClient"], Awaitable[T]], *, log_in: bool = True) -> T:
    """Connect, run the action, disconnect.

    Args:
        action: Gets the client.
        log_in: Connect as the user first, and ask for name and password if that is needed and
            somebody is there to be asked.

    Raises:
        MitosisError: Of the client.
    """
    config = client_config()
    import asyncio
    import logging

    from mitosis.client.client import MitoClient

    logging.basicConfig(level=logging.WARNING, format="mito: %(message)s", stream=sys.stderr)

    async def run() -> T:
        client = MitoClient(config)
        client.session.stale = complain
        try:
            if log_in:
                await _connect(client)
            return await action(client)
        finally:
            await client.close()

    return asyncio.run(run())


async def _connect(client: "MitoClient") -> None:
    try:
        await client.connect()
    except AuthenticationFailed as error:
        if not can_ask() or current.get().json:
            raise
        complain(error.message)
        user = client.config.user or _ask_user()
        await client.login(user, ask_password(user))


def _ask_user() -> str:
    sys.stderr.write("Username: ")
    sys.stderr.flush()
    user = sys.stdin.readline().strip()
    if not user:
        raise InvalidInput("no user name was given")
    return user


def ask_password(user: str) -> str:
    """Ask the person at the terminal.

    Raises:
        InvalidInput: Nothing was typed, or nobody is there.
    """
    if not can_ask():
        raise InvalidInput(
            f"no password of {user} is given and nobody can be asked: set MITO_PASSWORD"
        )
    try:
        password = getpass.getpass(f"Password of {user}: ", sys.stderr)
    except EOFError:
        password = ""
    if not password:
        raise InvalidInput("no password was given")
    return password
