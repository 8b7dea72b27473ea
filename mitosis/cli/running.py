"""Running one action of the client, with its log-in."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from mitosis.cli.invocation import current
from mitosis.cli.login import connect_asking, given_password
from mitosis.cli.output.screen import complain
from mitosis.config.client import ClientConfig

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient

T = TypeVar("T")


def client_config() -> ClientConfig:
    """Return the settings of this command line.

    Raises:
        Misconfigured: A file, a variable or an option cannot work.
    """
    flags = current.get().client
    return ClientConfig.load(
        flags.config,
        coordinator_addr=flags.coordinator,
        credential_path=flags.credential_path,
        user=flags.user,
        password=given_password(flags),
        password_file=flags.password_file,
        timeout=flags.timeout,
    )


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
                await connect_asking(client)
            return await action(client)
        finally:
            await client.close()

    return asyncio.run(run())
