"""Where log lines go: standard error, and a file when that is wanted. For entry points only."""

import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

from mitosis.errors import Misconfigured
from mitosis.runtime import CLOCK_OFFSET_VARIABLE, wall_offset_seconds

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
KEPT_DAYS = 14
OFF = logging.CRITICAL + 10
FILE_ONLY = {"file_only": True}
"""`extra` of a line that a terminal gets in another form, or need not have."""

Levels = Mapping[str, str]
"""Level by name of a logger, `off` for none; the empty name is all others."""


class LevelFilter(logging.Filter):
    """Lets through what is at or above the level of the nearest part of the program."""

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        self._levels = {name: _number(level) for name, level in levels.items()}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        name = record.name
        while name and name not in self._levels:
            name = name.rpartition(".")[0]
        return record.levelno >= self._levels[name]


class DailyFileHandler(logging.FileHandler):
    """Writes to `<path>.<date>` (UTC), a new file each day; the last ones are kept.

    Several processes may write to the same file: each line is one write at its end.
    """

    def __init__(self, path: Path, kept: int = KEPT_DAYS) -> None:
        self._path, self._kept = path, kept
        self._date = ""
        super().__init__(self._dated(self._today()), encoding="utf-8", delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, in the file of the day."""
        today, before = self._today(), self._date
        if today != before:
            self.close()
            self._date = today
            self.baseFilename = str(self._dated(today).absolute())
        super().emit(record)
        if today != before:
            self._drop_old()

    @staticmethod
    def _today() -> str:
        return datetime.now(UTC).date().isoformat()

    def _dated(self, date: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{date}")

    def _drop_old(self) -> None:
        begin = f"{self._path.name}.20"
        kept = sorted(p for p in self._path.parent.iterdir() if p.name.startswith(begin))
        for old in kept[: -self._kept]:
            old.unlink(missing_ok=True)


def configure_log(levels: Levels) -> None:
    """Send log lines to standard error; called once by each process."""
    handler = _prepared(logging.StreamHandler(sys.stderr), levels)
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    logging.basicConfig(level=_lowest(levels), handlers=[handler])
    # It warns of each try of a request; what becomes of the request is said by who asked.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if os.environ.get(CLOCK_OFFSET_VARIABLE):
        logging.getLogger(__name__).warning(
            "%s is set, which is for tests: the wall clock of this process may be wrong",
            CLOCK_OFFSET_VARIABLE,
        )


def log_to_file(
    exact: Path | None,
    default: Path,
    levels: Levels,
    *,
    dated: bool,
    kept: int = KEPT_DAYS,
    prefix: str = "",
) -> None:
    """Write log lines to a file as well.

    Args:
        exact: A file that only grows; None: the default one.
        default: A file that is begun anew each day.
        levels: What is written.
        dated: The default file has the day in its name; else former ones get it.
        kept: How many days of the default file are kept.
        prefix: What each line begins with.

    Raises:
        Misconfigured: The file cannot be written.
    """
    path = exact or default
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler
        if exact is not None:
            handler = logging.FileHandler(exact, encoding="utf-8")
        elif dated:
            handler = DailyFileHandler(default, kept)
        else:
            handler = TimedRotatingFileHandler(
                default, when="midnight", backupCount=kept, encoding="utf-8", utc=True
            )
    except OSError as error:
        raise Misconfigured(
            f"cannot write the log to {path}: {error.strerror or error}; give another file with "
            "--log-path"
        ) from error
    root = logging.getLogger()
    root.addHandler(_prepared(handler, levels, prefix))
    root.setLevel(min(root.level, _lowest(levels)))


def _prepared(handler: logging.Handler, levels: Levels, prefix: str = "") -> logging.Handler:
    formatter = logging.Formatter(prefix.replace("%", "%%") + FORMAT)
    formatter.converter = _utc
    handler.setFormatter(formatter)
    handler.addFilter(LevelFilter(levels))
    return handler


def _utc(seconds: float | None) -> time.struct_time:
    now = time.time() if seconds is None else seconds
    return time.gmtime(now + wall_offset_seconds())


def _lowest(levels: Levels) -> int:
    return min(map(_number, levels.values()))


def _number(level: str) -> int:
    return OFF if level == "off" else int(getattr(logging, level.upper()))
