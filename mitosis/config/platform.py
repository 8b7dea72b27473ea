"""Options of `mito up` and `mito demo`, which have no section in the file."""

from pathlib import Path

import msgspec


class PlatformOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A platform on one machine.

    Attributes:
        data: Folder with everything; None: `up` in the data folder of the user.
        workers: How many workers to run.
        slots: How many tasks each worker runs at once.
        ready_file: Gets one JSON object once the platform serves.
        bind: Where the HTTP endpoint listens, on loopback; port 0: any free one; None: port 5000 if
            free, else a free one.
        nats_port: Port of NATS; 0: any free one; None: 4222 if free, else a free one.
        log_level: Level of what is logged.
        reset_admin_password: Give the administrator the password of the data folder anew.
        relaxed_sync: Let NATS sync its store every two minutes only.
    """

    data: Path | None = None
    workers: int = 1
    slots: int = 1
    ready_file: Path | None = None
    bind: str | None = None
    nats_port: int | None = None
    log_level: str = "info"
    reset_admin_password: bool = False
    relaxed_sync: bool = False


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The demonstration.

    Attributes:
        workers: How many workers to run.
        keep: Keep the scratch folder and say where it is.
        json: Print the results as one JSON value.
    """

    workers: int = 2
    keep: bool = False
    json: bool = False
