"""Workers: which there are, and stopping one."""

from mitosis.client.session import Session
from mitosis.config.client import GetWorkersArgs
from mitosis.contract.commands import Done, DrainWorker
from mitosis.contract.queries import GetWorker, ListWorkers, WorkerPage, WorkerView
from mitosis.domain.names import is_uuid


class Workers:
    """Commands and reads about workers."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, worker: str) -> WorkerView:
        """Return one worker, named by its UUID or a unique prefix.

        Raises:
            NotFound: No such worker, or none that the asker may see.
        """
        return await self._session.query("worker", "get", GetWorker(worker), WorkerView)

    async def list(self, args: GetWorkersArgs | None = None) -> WorkerPage:
        """Return the workers that match."""
        wanted = args or GetWorkersArgs()
        body = ListWorkers(wanted.group, wanted.tags, wanted.all, wanted.limit, wanted.offset)
        return await self._session.query("worker", "list", body, WorkerPage)

    async def cancel(self, worker: str, *, force: bool = False, reason: str = "") -> Done:
        """Stop a worker: it finishes its tasks, or hands them back at once with `force`.

        Raises:
            NotAllowed: The asker has no Admin role on it.
        """
        uuid = worker if is_uuid(worker) else (await self.get(worker)).uuid
        body = DrainWorker(uuid.lower(), force, reason)
        return await self._session.command("worker", "drain", body, Done)
