"""The one place where configuration, adapters and services meet: how each process is started."""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Any

from mitosis.config.coordinator import CoordinatorConfig


def configure_log(level: str) -> None:
    """Send log lines to standard error; called once by each process."""
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run a service on the fast event loop where there is one."""
    try:
        import uvloop
    except ImportError:  # not made for this system
        return asyncio.run(main)
    return uvloop.run(main)


def run_coordinator(config: CoordinatorConfig) -> int:
    """Serve as a coordinator until a signal; return the exit status."""
    from mitosis.services.coordinator.service import Coordinator

    configure_log(config.log_level)

    async def main() -> int:
        await Coordinator(config).run()
        return 0

    return run(main())
