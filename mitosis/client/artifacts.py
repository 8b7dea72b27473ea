"""Artifacts: outputs of tasks, downloaded from the store itself and checked."""

from pathlib import Path

from mitosis.client.downloads import download, target_path
from mitosis.client.session import Session
from mitosis.contract.queries import ArtifactLink, GetArtifact
from mitosis.domain.task import ArtifactKind
from mitosis.errors import ObjectsUnavailable

TRIES = 3


class Artifacts:
    """Reads of outputs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def link(self, task: str, kind: ArtifactKind) -> ArtifactLink:
        """Return a URL that is good for a while, with size and checksum. The URL is a secret.

        Raises:
            NotFound: No such task, or it has no such output.
        """
        return await self._session.query("artifact", "get", GetArtifact(task, kind), ArtifactLink)

    async def get(self, task: str, kind: ArtifactKind, output: Path | None = None) -> Path:
        """Download an output.

        Args:
            task: In any of the short forms.
            kind: Which output.
            output: A file, or a folder that gets `result.tar.gz` and the like; None: here.

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
        target = target_path(output, kind.filename)
        for attempt in range(1, TRIES + 1):
            link = await self.link(task, kind)
            try:
                await download(link.url, target, size_bytes=link.size_bytes, sha256=link.sha256)
                break
            except ObjectsUnavailable:
                if attempt == TRIES:
                    raise
        return target
