"""The secret of `shutdown SECRET`: made anew at each start, in a file for its owner's eyes only.

The coordinator that serves writes the file, so that a standby with the same file does not spoil it.
Being a platform administrator is enough to end the coordinator; who gives a secret as well shows
that they mean this very process and can read its files.
"""

import contextlib
import hmac
import logging
from pathlib import Path

from mitosis.config.locations import cache_dir
from mitosis.errors import NotAllowed
from mitosis.nats.credentials import random_token
from mitosis.nats.server_config import write_private

log = logging.getLogger(__name__)


def default_secret_path(bind: str) -> Path:
    """Return where the file is when no setting names it."""
    return cache_dir() / "coordinator" / f"{bind}.shutdown-secret"


class ShutdownSecret:
    """Of one process. `path` is its file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._secret = random_token(32)

    def __repr__(self) -> str:
        return f"ShutdownSecret({str(self.path)!r})"

    def write(self) -> None:
        """Make the file; one that cannot be written costs a warning, and any secret is refused."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self.path, f"{self._secret}\n")
        except OSError as error:
            log.warning(
                "no shutdown secret: %s cannot be written (%s)", self.path, error.strerror or error
            )
        else:
            log.info("the secret for `mito client shutdown SECRET` is in %s", self.path)

    def remove(self) -> None:
        """Remove the file, which opens nothing any more; one of another process stays."""
        # What cannot be read, or is no text of ours, was not written by this process.
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if self.path.read_text().strip() == self._secret:
                self.path.unlink()

    def check(self, given: str) -> None:
        """Compare a secret.

        Raises:
            NotAllowed: It is another one.
        """
        if not hmac.compare_digest(given.encode(errors="replace"), self._secret.encode()):
            raise NotAllowed(
                "the shutdown secret is wrong: the right one is in the file that the coordinator's "
                "log names; or give none, an administrator needs none"
            )
