"""A context file of the `nats` tool, by which it acts as a user of the platform."""

from pathlib import Path

import msgspec

from mitosis.cli.output.screen import note
from mitosis.client.nats_access import NatsAccess
from mitosis.errors import Misconfigured
from mitosis.nats.server_config import write_private


def write_context(path: Path, access: NatsAccess) -> None:
    """Write it, for the eyes of its owner only, and make its folder: of a new tool it is not there.

    Raises:
        Misconfigured: It cannot be written.
    """
    context = {
        "description": "A session of mito client",
        "url": ",".join(access.servers),
        "token": access.token,
        "inbox_prefix": access.inbox_prefix,
        "ca": str(access.ca or ""),
    }
    text = msgspec.json.format(msgspec.json.encode(context), indent=2).decode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, f"{text}\n")
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror or error}") from error
    note(f"The access of this session is in {path}; it ends with the session")
