"""`MitoClient` with its whole documentation, which `help()`, editors and the API pages show.

It is what programs import. The command line, which shows none of it, imports client.py alone, and
with it only the nouns that it needs.
"""

import re

from mitosis.client.artifacts import Artifacts
from mitosis.client.attachments import Attachments
from mitosis.client.client import MitoClient
from mitosis.client.comparison import Comparing
from mitosis.client.events import Events
from mitosis.client.groups import Groups
from mitosis.client.platform import PlatformCommands
from mitosis.client.reruns import Reruns
from mitosis.client.tasks import Tasks
from mitosis.client.users import Users
from mitosis.client.workers import Workers

__all__ = ["MitoClient"]

_REFERENCE = re.compile(r"See `(\w+)\.(\w+)`\.")
_NOUNS = (
    Artifacts, Attachments, Comparing, Events, Groups, PlatformCommands, Reruns, Tasks, Users,
    Workers,
)  # fmt: skip


def _document(client: type[MitoClient]) -> None:
    """Give each flat method the text of the noun's method that it names."""
    nouns = {noun.__name__: noun for noun in _NOUNS}
    for method in vars(client).values():
        if found := _REFERENCE.fullmatch(getattr(method, "__doc__", None) or ""):
            method.__doc__ = getattr(nouns[found[1]], found[2]).__doc__


_document(MitoClient)
