"""Log files: their names, their levels, how many are kept."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mitosis.config.log_filter import parse_log_filter
from mitosis.errors import InvalidInput, Misconfigured
from mitosis.log import KEPT_DAYS, DailyFileHandler, LevelFilter, log_to_file


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers, logger.level = handlers, level


def record(name: str, level: int) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, "said", None, None)


FILTERS = [
    ("info", "mitosis.nats.link", logging.INFO, True),
    ("info", "mitosis.nats.link", logging.DEBUG, False),
    ("warn", "mitosis", logging.INFO, False),
    ("trace", "mitosis", logging.DEBUG, True),
    ("off", "mitosis", logging.CRITICAL, False),
    ("INFO,mitosis.nats=debug", "mitosis.nats.link", logging.DEBUG, True),
    ("info,mitosis.nats=debug", "mitosis.natsy", logging.DEBUG, False),
    ("error,netmito::nats=debug", "mitosis.nats", logging.DEBUG, True),
    ("error,mito=debug", "mitosis.cli", logging.DEBUG, True),
    ("mitosis=debug", "uvicorn", logging.INFO, True),
]


@pytest.mark.parametrize(("text", "name", "level", "written"), FILTERS)
def test_a_filter_goes_by_the_nearest_part(text: str, name: str, level: int, written: bool) -> None:
    assert LevelFilter(parse_log_filter(text)).filter(record(name, level)) is written


@pytest.mark.parametrize("text", ["", "loud", "mitosis=", "=debug", "a=b=c", "info," * 400])
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected one of debug, info"):
        parse_log_filter(text)


def test_a_dated_file_bears_the_day_and_two_weeks_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "127.0.0.1:5000.log"
    for day in range(1, 21):
        path.with_name(f"{path.name}.2020-01-{day:02}").touch()
    (tmp_path / "127.0.0.1:5001.log.2019-01-01").touch()  # of another coordinator
    handler = DailyFileHandler(path)
    handler.emit(record("mitosis", logging.INFO))
    handler.close()
    today = path.with_name(f"{path.name}.{datetime.now(UTC).date()}")
    assert "said" in today.read_text()
    mine = sorted(p.name for p in tmp_path.iterdir() if ":5000" in p.name)
    assert len(mine) == KEPT_DAYS
    assert mine[0].endswith("2020-01-08")
    assert (tmp_path / "127.0.0.1:5001.log.2019-01-01").exists()


def test_a_file_may_have_another_level_than_the_terminal(
    root: logging.Logger, tmp_path: Path
) -> None:
    root.setLevel(logging.WARNING)
    path = tmp_path / "deep" / "exact.log"
    levels = parse_log_filter("debug")
    log_to_file(path, tmp_path / "unused.log", levels, dated=True)
    logging.getLogger("mitosis.test").debug("a detail")
    assert "DEBUG   mitosis.test: a detail" in path.read_text()
    assert not list(tmp_path.glob("unused*"))


def test_a_file_that_cannot_be_written_is_named(root: logging.Logger, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "x.log"
    with pytest.raises(Misconfigured, match="give another file with --log-path") as caught:
        log_to_file(path, path, {"": "info"}, dated=True)
    assert str(path) in caught.value.message
