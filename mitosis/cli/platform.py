"""`mito up`, `mito demo`: a whole platform on this machine."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli.exit_codes import DONE, FAILED
from mitosis.cli.invocation import UsageError, current
from mitosis.cli.output.screen import show, write
from mitosis.cli.output.streams import flush
from mitosis.cli.output.values import to_json
from mitosis.cli.parameters import Flag, Number, OptionalNumber, SlotCount
from mitosis.config.checks import MAX_PORT, check_bind, check_log_level, split_bind
from mitosis.config.platform import DemoOptions, PlatformOptions
from mitosis.errors import InvalidInput

if TYPE_CHECKING:
    from mitosis.services.platform import ReadyNotice


def up(
    *,
    data: Path | None = None,
    workers: Annotated[Number, Parameter(name=["--workers", "-n"])] = 1,
    slots: SlotCount = 1,
    ready_file: Path | None = None,
    bind: Annotated[str | None, Parameter(name=["--bind", "-b"])] = None,
    nats_port: OptionalNumber = None,
    log_level: str = "info",
    reset_admin_password: Flag = False,
    relaxed_sync: Flag = False,
) -> int:
    """Run a whole platform on this machine, with nothing to configure.

    Args:
        data: The folder of everything; default: one in the user's data folder.
        workers: How many workers to run.
        slots: How many tasks each worker runs at once; auto: as many as there are cores.
        ready_file: A file that gets one JSON object once the platform serves.
        bind: The address of the HTTP endpoint, 127.0.0.1:PORT; default: port 5000 if free, else a
            free one, kept at the next start.
        nats_port: The port of NATS; default: 4222 if free, else a free one, kept likewise.
        log_level: The least level that is logged.
        reset_admin_password: Give the administrator the password in the data folder anew; all
            sessions of the account end.
        relaxed_sync: Let NATS sync to disk every two minutes: faster, but a power cut may lose
            what was acknowledged.
    """
    _check_counts(workers, 0, slots)
    _check_places(bind, nats_port, log_level)
    from mitosis.bootstrap import run_platform

    options = PlatformOptions(
        data=data,
        workers=workers,
        slots=slots,
        ready_file=ready_file,
        bind=bind,
        nats_port=nats_port,
        log_level=log_level,
        reset_admin_password=reset_admin_password,
        relaxed_sync=relaxed_sync,
    )
    return run_platform(options, _announce)


def demo(
    *,
    workers: Annotated[Number, Parameter(name=["--workers", "-n"])] = 2,
    keep: Flag = False,
) -> int:
    """Run a platform in a scratch folder with a small real campaign, and check its results.

    Args:
        workers: How many workers to run.
        keep: Keep the scratch folder and say where it is.
    """
    # One cell of the campaign is run on two different workers.
    _check_counts(workers, 2, 1)
    from mitosis.bootstrap import run_demo
    from mitosis.cli.output.demo import DemoScreen, show_report

    as_json = current.get().json
    report = run_demo(DemoOptions(workers=workers, keep=keep, json=as_json), DemoScreen())
    if as_json:
        write(to_json(report))
    else:
        show_report(report)
    return FAILED if report.problems else DONE


def _announce(notice: "ReadyNotice") -> None:
    client = f"mito client -c {shlex.quote(notice.http)}"
    # In the environment, not as an argument, which everybody on the machine could read.
    password = f'MITO_PASSWORD="$(cat {shlex.quote(notice.admin_password_file)})"'
    show(
        notice,
        lambda: [
            f"The platform is running; its data is in {notice.data}. Ctrl-C stops it.",
            "Log in from another terminal:",
            f"  {password} {client} auth {notice.admin_user}",
            "Then, for example:",
            f"  {client} submit -- echo hello",
        ],
    )
    flush()


def _check_places(bind: str | None, nats_port: int | None, log_level: str) -> None:
    try:
        if bind is not None:
            check_bind(bind)
    except InvalidInput as error:
        raise UsageError(f"--bind is {bind}: {error.message}") from None
    if bind is not None and split_bind(bind)[0] not in {"127.0.0.1", "localhost"}:
        raise UsageError(
            f"--bind is {bind}: `mito up` serves this machine only, give 127.0.0.1:PORT; for more "
            "machines run the services separately"
        )
    if nats_port is not None and not 0 <= nats_port <= MAX_PORT:
        raise UsageError(f"--nats-port is {nats_port}: it must be from 0 to {MAX_PORT}")
    try:
        check_log_level(log_level)
    except InvalidInput as error:
        raise UsageError(f"--log-level is {log_level}: {error.message}") from None


def _check_counts(workers: int, fewest: int, slots: int) -> None:
    if workers < fewest:
        raise UsageError(f"--workers is {workers}: it must be {fewest} or more")
    if slots < 1:
        raise UsageError(f"--slots is {slots}: it must be 1 or more")
