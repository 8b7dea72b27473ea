"""The platform as a whole."""

from mitosis.client.session import Session
from mitosis.contract.commands import Done, Shutdown


class PlatformCommands:
    """Commands about the platform."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def shutdown(self, secret: str | None = None) -> Done:
        """Let the coordinator end, and with `mito up` the whole platform.

        Args:
            secret: Content of the coordinator's shutdown file; None: being an administrator is
                enough.

        Raises:
            NotAllowed: The asker is no platform administrator, or the secret is a wrong one.
        """
        return await self._session.command("platform", "shutdown", Shutdown(secret), Done)
