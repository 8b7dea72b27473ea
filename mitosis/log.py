"""Where log lines go: standard error, and a file when that is wanted. For entry points only."""

import logging
import sys
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

from mitosis.errors import Misconfigured

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
KEPT_DAYS = 14


def configure_log(level: str) -> None:
    """Send log lines to standard error; called once by each process."""
    logging.basicConfig(level=level.upper(), stream=sys.stderr, format=FORMAT)
    # It warns of each try of a request; what becomes of the request is said by who asked.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def log_to_file(exact: Path | None, default: Path) -> None:
    """Write log lines to a file as well.

    Args:
        exact: A file that only grows; None: the default one.
        default: A file that is begun anew each day; two weeks are kept.

    Raises:
        Misconfigured: The file cannot be written.
    """
    path = exact or default
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler
        if exact is not None:
            handler = logging.FileHandler(exact)
        else:
            handler = TimedRotatingFileHandler(default, when="midnight", backupCount=KEPT_DAYS)
    except OSError as error:
        raise Misconfigured(
            f"cannot write the log to {path}: {error.strerror or error}; give another file with "
            "--log-path"
        ) from error
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.getLogger().addHandler(handler)
