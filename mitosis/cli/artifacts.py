"""`get artifact`, `upload artifact`, and deleting."""

from pathlib import Path

from mitosis.cli.invocation import UsageError
from mitosis.cli.output.progress import moving
from mitosis.cli.output.screen import note, show
from mitosis.cli.parameters import Flag, Kind, Output, Size
from mitosis.cli.running import with_client
from mitosis.config.client import DEFAULT_MAX_EXTRACTED_BYTES
from mitosis.domain.task import ArtifactKind

_NAMED = 8


def get_artifact(
    task: str,
    kind: Kind,
    /,
    *,
    output: Output = None,
    no_download: Flag = False,
    extract: Flag = False,
    max_size: Size = DEFAULT_MAX_EXTRACTED_BYTES,
) -> None:
    """Download an artifact of a task.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        kind: The output type: result, exec-log or std-log.
        output: A file, or a folder that gets result.tar.gz, exec-log.tar.gz or std-log.tar.gz.
        no_download: Only print the URL, which is good for a while.
        extract: Unpack it. `-o` is the folder to unpack to, made if missing. Nothing outside of it
            and nothing that exists is touched; links that lead out are left out. After an error
            nothing of it is left.
        max_size: With `--extract`: what it may unpack to, such as 500GB.
    """
    from mitosis.client.downloads import Downloaded

    if extract and no_download:
        raise UsageError("--extract and --no-download exclude each other")
    if extract:
        _extract(task, kind, output, max_size)
        return
    if no_download:
        link = with_client(lambda client: client.get_artifact_link(task, kind))
        show(Downloaded(link.size_bytes, link.sha256, url=link.url), lambda: [link.url])
        return
    with moving(f"Downloading {kind.filename}") as progress:
        done = with_client(
            lambda client: client.artifacts.download(task, kind, output, progress), on_loop=True
        )
    show(done, lambda: [f"Downloaded {done.size_bytes} B to {done.path}"])


def _extract(task: str, kind: ArtifactKind, output: Path | None, max_size: int) -> None:
    with moving(f"Downloading {kind.filename}") as progress:
        done = with_client(
            lambda client: client.artifacts.extract(
                task, kind, output, progress, max_size_bytes=max_size
            ),
            on_loop=True,
        )
    unpacked = done.extracted
    if unpacked is None:
        raise AssertionError("what is unpacked is told")
    if unpacked.skipped_count:
        names = ", ".join(unpacked.skipped[:_NAMED])
        more = ", ..." if unpacked.skipped_count > _NAMED else ""
        note(f"{unpacked.skipped_count} left out, links or special files: {names}{more}")
    show(
        done,
        lambda: [f"Extracted {unpacked.members} files, {unpacked.size_bytes} B to {done.path}"],
    )


def upload_artifact(task: str, kind: Kind, file: Path, /) -> None:
    """Upload a file as an artifact of a task; one of this type is replaced.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        kind: The output type: result, exec-log or std-log.
        file: The path of the local file to upload.
    """
    with moving(f"Uploading {file.name}") as progress:
        done = with_client(
            lambda client: client.upload_artifact(task, kind, file, progress), on_loop=True
        )
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
