"""Artifacts: outputs of tasks, moved directly between here and the store, and checked."""

from pathlib import Path

from mitosis.artifacts.transfer import Transfers
from mitosis.client.downloads import Downloaded, download, target_path
from mitosis.client.extraction import download_and_extract, target_folder
from mitosis.client.session import Session
from mitosis.client.threads import Progress, transfers
from mitosis.client.uploads import local_file, upload
from mitosis.config.client import DEFAULT_MAX_EXTRACTED_BYTES
from mitosis.contract.commands import (
    BeginArtifact,
    CompleteArtifact,
    DeleteArtifact,
    Done,
    UploadBegun,
    UploadedArtifact,
)
from mitosis.contract.queries import ArtifactLink, GetArtifact, GetTask, TaskView
from mitosis.domain.names import is_uuid
from mitosis.domain.task import ArtifactKind, check_kind


class Artifacts:
    """Commands and reads about outputs. A task may be named in any of the short forms."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def link(self, task: str, kind: ArtifactKind | str) -> ArtifactLink:
        """Return a URL that is good for a while, with size and checksum. The URL is a secret.

        Raises:
            NotFound: No such task, or it has no such output.
        """
        body = GetArtifact(task, check_kind(kind))
        return await self._session.query("artifact", "get", body, ArtifactLink)

    async def get(
        self,
        task: str,
        kind: ArtifactKind | str,
        output: Path | str | None = None,
        progress: Progress | None = None,
        *,
        extract: bool = False,
        max_size_bytes: int = DEFAULT_MAX_EXTRACTED_BYTES,
    ) -> Path:
        """Download an output.

        Args:
            task: In any of the short forms.
            kind: Which output.
            output: A file, or a folder that gets `result.tar.gz` and the like; None: here.
            progress: Told bytes so far and bytes of all, in a thread.
            extract: Unpack it: `output` is a folder, made if missing, that gets a folder `result`
                and the like. Nothing outside of it and nothing that exists is touched.
            max_size_bytes: What may be unpacked at most.

        Returns:
            The file, complete and with the right checksum, or the folder that was unpacked to. An
            error leaves what was there before.

        Raises:
            NotFound: No such task, or it has no such output.
            ObjectsUnavailable: The store does not give it.
            CorruptData: What the store gave is not what was uploaded, or cannot be unpacked.
            InvalidInput: The file cannot be written, or what is unpacked exists already.
            TooLarge: It unpacks to more than is allowed.

        Example:
            script = "echo 42 > $MITO_RESULT_DIR/answer"
            submitted = await client.submit_task(SubmitTaskArgs(command=("sh", "-c", script)))
            await client.wait_for_tasks([submitted])
            path = await client.get_artifact(submitted.task, ArtifactKind.RESULT, Path("a.tar.gz"))
        """
        if extract:
            done = await self.extract(task, kind, output, progress, max_size_bytes=max_size_bytes)
        else:
            done = await self.download(task, kind, output, progress)
        return Path(done.path or "")

    async def download(
        self,
        task: str,
        kind: ArtifactKind | str,
        output: Path | str | None = None,
        progress: Progress | None = None,
    ) -> Downloaded:
        """Do the same as `get`; return also size and checksum."""
        target = target_path(output, check_kind(kind).filename)
        return await download(self._carrier(), lambda: self.link(task, kind), target, progress)

    async def extract(
        self,
        task: str,
        kind: ArtifactKind | str,
        output: Path | str | None = None,
        progress: Progress | None = None,
        *,
        max_size_bytes: int = DEFAULT_MAX_EXTRACTED_BYTES,
    ) -> Downloaded:
        """Do the same as `get` with `extract`; return also what was unpacked, and left out."""
        return await download_and_extract(
            self._carrier(),
            lambda: self.link(task, kind),
            target_folder(output),
            check_kind(kind).value,
            max_bytes=max_size_bytes,
            progress=progress,
        )

    async def upload(
        self,
        task: str,
        kind: ArtifactKind | str,
        path: Path | str,
        progress: Progress | None = None,
    ) -> UploadedArtifact:
        """Store a file as an output of a task, also after its end; one of this kind is replaced.

        Raises:
            NotFound: No such task. NotAllowed: No Write role in its group.
            InvalidInput: The file cannot be read, or was changed meanwhile.
            LimitReached: The group's quota has no room for it.
            ObjectsUnavailable: The store does not take it.
        """
        file, kind = local_file(path), check_kind(kind)
        uuid = await self._uuid(task)

        async def begin(size_bytes: int) -> UploadBegun:
            body = BeginArtifact(uuid, kind, size_bytes)
            return await self._session.command("artifact", "begin", body, UploadBegun)

        async def complete(begun: UploadBegun, sha256: str) -> UploadedArtifact:
            body = CompleteArtifact(begun.upload, uuid, kind, sha256)
            return await self._session.command("artifact", "complete", body, UploadedArtifact)

        return await upload(self._session, file, begin, complete, progress)

    async def delete(self, task: str, kind: ArtifactKind | str) -> Done:
        """Delete an output; its bytes go back to the group's quota.

        Raises:
            NotFound: No such task or output. NotAllowed: No Write role in its group.
        """
        kind = check_kind(kind)
        body = DeleteArtifact(await self._uuid(task), kind)
        return await self._session.command("artifact", "delete", body, Done)

    def _carrier(self) -> Transfers:
        return transfers(self._session.timeout_seconds, self._session.store_trust)

    async def _uuid(self, task: str) -> str:
        if is_uuid(task):
            return task.lower()
        return (await self._session.query("task", "get", GetTask(task), TaskView)).uuid
