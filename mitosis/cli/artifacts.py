"""`get artifact`, `upload artifact`, and deleting."""

from pathlib import Path

from mitosis.cli.output.progress import moving
from mitosis.cli.output.screen import show
from mitosis.cli.parameters import Flag, Kind, Output
from mitosis.cli.running import with_client


def get_artifact(
    task: str, kind: Kind, /, *, output: Output = None, no_download: Flag = False
) -> None:
    """Download an artifact of a task.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        kind: The output type: result, exec-log or std-log.
        output: A file, or a folder that gets result.tar.gz, exec-log.tar.gz or std-log.tar.gz.
        no_download: Only print the URL, which is good for a while.
    """
    from mitosis.client.downloads import Downloaded

    if no_download:
        link = with_client(lambda client: client.get_artifact_link(task, kind))
        show(Downloaded(link.size_bytes, link.sha256, url=link.url), lambda: [link.url])
        return
    with moving(f"Downloading {kind.filename}") as progress:
        done = with_client(lambda client: client.artifacts.download(task, kind, output, progress))
    show(done, lambda: [f"Downloaded {done.size_bytes} B to {done.path}"])


def upload_artifact(task: str, kind: Kind, file: Path, /) -> None:
    """Upload a file as an artifact of a task; one of this type is replaced.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        kind: The output type: result, exec-log or std-log.
        file: The path of the local file to upload.
    """
    with moving(f"Uploading {file.name}") as progress:
        done = with_client(lambda client: client.upload_artifact(task, kind, file, progress))
    what = f"{done.kind.value} of task {done.task}"
    show(done, lambda: [f"Uploaded {done.size_bytes} B as {what}"])


def upload_file(file: Path, task: str, kind: Kind, /) -> None:
    """Upload a file as an artifact of a task; one of this type is replaced.

    Args:
        file: The path of the local file to upload.
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        kind: The output type: result, exec-log or std-log.
    """
    upload_artifact(task, kind, file)


def delete_artifact(task: str, kind: Kind, /) -> None:
    """Delete an artifact of a task.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        kind: The output type: result, exec-log or std-log.
    """
    done = with_client(lambda client: client.delete_artifact(task, kind))
    show(done, lambda: [f"Deleted {kind.value} of task {task}"])
