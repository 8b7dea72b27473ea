"""People of a test: users with a client, and with the command line."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.errors import MitosisError

from ..conftest import Done, Platform
from .machines import Account


class Person(Account):
    """An account with a client by the SDK, and `mito client` of the same session."""

    def __init__(self, platform: Platform, admin: SyncMitoClient, folder: Path) -> None:
        super().__init__(platform, admin, folder)
        self._platform = platform

    def mito(self, *arguments: str | Path) -> Done:
        """Run `mito client` as this person."""
        return self._platform.client("--credential-path", self.credentials, *arguments)


@contextmanager
def people(
    platform: Platform, admin: SyncMitoClient, folder: Path, count: int
) -> Iterator[list[Person]]:
    """So many people, whose clients are closed at the end."""
    with ExitStack() as stack:
        made = [Person(platform, admin, folder) for _ in range(count)]
        for one in made:
            stack.callback(one.client.close)
        yield made


def fresh(word: str) -> str:
    """A name that nobody has."""
    return f"{word}-{secrets.token_hex(4)}"


def refused(code: str, action: Callable[[], object]) -> None:
    """Check that an action is refused with this code."""
    with pytest.raises(MitosisError) as refusal:
        action()
    assert refusal.value.code == code, refusal.value
