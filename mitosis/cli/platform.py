"""`mito up`, `mito demo`: a whole platform on this machine."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mitosis.cli.invocation import UsageError, current
from mitosis.cli.parameters import Flag
from mitosis.config.platform import DemoOptions, PlatformOptions


def up(
    *,
    data: Path | None = None,
    workers: Annotated[int, Parameter(name=["--workers", "-n"])] = 1,
    slots: int = 1,
    ready_file: Path | None = None,
    bind: Annotated[str | None, Parameter(name=["--bind", "-b"])] = None,
    nats_port: int | None = None,
    log_level: str = "info",
) -> int:
    """Run a whole platform on this machine, with nothing to configure.

    Args:
        data: The folder of everything; default: one in the user's data folder.
        workers: How many workers to run.
        slots: How many tasks each worker runs at once.
        ready_file: A file that gets one JSON object once the platform serves.
        bind: The address of the HTTP endpoint; default: port 5000 if free, else a free one.
        nats_port: The port of NATS; default: 4222 if free, else a free one.
        log_level: The least level that is logged.
    """
    from mitosis.bootstrap import run_platform

    _check_counts(workers, slots)
    return run_platform(
        PlatformOptions(
            data=data,
            workers=workers,
            slots=slots,
            ready_file=ready_file,
            bind=bind,
            nats_port=nats_port,
            log_level=log_level,
        )
    )


def demo(
    *,
    workers: Annotated[int, Parameter(name=["--workers", "-n"])] = 2,
    keep: Flag = False,
) -> int:
    """Run a platform in a scratch folder with a small real campaign, and check its results.

    Args:
        workers: How many workers to run.
        keep: Keep the scratch folder and say where it is.
    """
    from mitosis.bootstrap import run_demo

    _check_counts(workers, 1)
    return run_demo(DemoOptions(workers=workers, keep=keep, json=current.get().json))


def _check_counts(workers: int, slots: int) -> None:
    if workers < 0:
        raise UsageError(f"--workers is {workers}: it must be 0 or more")
    if slots < 1:
        raise UsageError(f"--slots is {slots}: it must be 1 or more")
