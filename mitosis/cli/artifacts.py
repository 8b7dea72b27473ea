"""`get artifact`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mitosis.cli.output.screen import show
from mitosis.cli.parameters import Flag, Kind
from mitosis.cli.running import with_client


def get_artifact(
    task: str,
    kind: Kind,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    no_download: Flag = False,
) -> None:
    """Download an artifact of a task.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        kind: The output type: result, exec-log or std-log.
        output: A file, or a folder that gets result.tar.gz, exec-log.tar.gz or std-log.tar.gz.
        no_download: Only print the URL, which is good for a while.
    """
    if no_download:
        link = with_client(lambda client: client.artifacts.link(task, kind))
        show(link, lambda: [link.url])
        return
    path = with_client(lambda client: client.get_artifact(task, kind, output))
    size = path.stat().st_size
    show({"path": str(path), "size_bytes": size}, lambda: [f"Downloaded {size} B to {path}"])
