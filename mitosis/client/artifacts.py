"""Artifacts: outputs of tasks, moved directly between here and the store, and checked."""

from pathlib import Path

from mitosis.client.downloads import Downloaded, download, target_path
from mitosis.client.session import Session
from mitosis.client.threads import Progress, transfers
from mitosis.client.uploads import local_file, upload
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
from mitosis.domain.task import ArtifactKind


class Artifacts:
    """Commands and reads about outputs. A task may be named in any of the short forms."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def link(self, task: str, kind: ArtifactKind) -> ArtifactLink:
        """Return a URL that is good for a while, with size and checksum. The URL is a secret.

        Raises:
            NotFound: No such task, or it has no such output.
        """
        return await self._session.query("artifact", "get", GetArtifact(task, kind), ArtifactLink)

    async def get(
        self,
        task: str,
        kind: ArtifactKind,
        output: Path | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Download an output.

        Args:
            task: In any of the short forms.
            kind: Which output.
            output: A file, or a folder that gets `result.tar.gz` and the like; None: here.
            progress: Told bytes so far and bytes of all, in a thread.

        Returns:
            The file, complete and with the right checksum. An error leaves what was there before.

        Raises:
            NotFound: No such task, or it has no such output.
            ObjectsUnavailable: The store does not give it.
            CorruptData: What the store gave is not what was uploaded.
            InvalidInput: The file cannot be written.

        Example:
            script = "echo 42 > $MITO_RESULT_DIR/answer"
            submitted = await client.submit_task(SubmitTaskArgs(command=("sh", "-c", script)))
            await client.wait_for_tasks([submitted])
            path = await client.get_artifact(submitted.task, ArtifactKind.RESULT, Path("a.tar.gz"))
        """
        done = await self.download(task, kind, output, progress)
        return Path(done.path or "")

    async def download(
        self,
        task: str,
        kind: ArtifactKind,
        output: Path | None = None,
        progress: Progress | None = None,
    ) -> Downloaded:
        """Do the same as `get`; return also size and checksum."""
        target = target_path(output, kind.filename)
        carrier = transfers(self._session.timeout_seconds, self._session.store_trust)
        return await download(carrier, lambda: self.link(task, kind), target, progress)

    async def upload(
        self, task: str, kind: ArtifactKind, path: Path, progress: Progress | None = None
    ) -> UploadedArtifact:
        """Store a file as an output of a task, also after its end; one of this kind is replaced.

        Raises:
            NotFound: No such task. NotAllowed: No Write role in its group.
            InvalidInput: The file cannot be read, or was changed meanwhile.
            LimitReached: The group's quota has no room for it.
            ObjectsUnavailable: The store does not take it.
        """
        file = local_file(path)
        uuid = await self._uuid(task)

        async def begin(size_bytes: int) -> UploadBegun:
            body = BeginArtifact(uuid, kind, size_bytes)
            return await self._session.command("artifact", "begin", body, UploadBegun)

        async def complete(begun: UploadBegun, sha256: str) -> UploadedArtifact:
            body = CompleteArtifact(begun.upload, uuid, kind, sha256)
            return await self._session.command("artifact", "complete", body, UploadedArtifact)

        return await upload(self._session, file, begin, complete, progress)

    async def delete(self, task: str, kind: ArtifactKind) -> Done:
        """Delete an output; its bytes go back to the group's quota.

        Raises:
            NotFound: No such task or output. NotAllowed: No Write role in its group.
        """
        body = DeleteArtifact(await self._uuid(task), kind)
        return await self._session.command("artifact", "delete", body, Done)

    async def _uuid(self, task: str) -> str:
        if is_uuid(task):
            return task.lower()
        return (await self._session.query("task", "get", GetTask(task), TaskView)).uuid
