"""The keys of secret variables: a stream of their own, outside of the events, that takes deletions.

One message a key, under its id. Destroying one overwrites its bytes in the file of the stream; what
that does not reach is said in docs/decisions/0030-secrets.md. Answers come from the leader of the
stream: a key that was destroyed is never read from a replica that does not know it yet.
"""

import re

from nats.aio.client import Client

from mitosis.contract.subjects import ROOT
from mitosis.errors import StoreUnavailable
from mitosis.events.messages import (
    MESSAGE_NOT_FOUND,
    JetStreamError,
    ask,
    found_or_made,
    last_message,
    parse_answer,
    request,
)

STREAM = "MITO_SECRETS"
PREFIX = f"{ROOT}.secrets"
STORE_SECONDS = 10.0
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class SecretKeys:
    """Writes, reads and destroys keys; only the coordinator in office uses it.

    Args:
        nc: An open connection of a service.
        stream: Name of the stream.
        prefix: Its subjects.
    """

    def __init__(self, nc: Client, stream: str = STREAM, prefix: str = PREFIX) -> None:
        self._nc, self._stream, self._prefix = nc, stream, prefix

    async def ensure(self, replicas: int = 1) -> None:
        """Create the stream if it is not there.

        Raises:
            StoreUnavailable: JetStream does not answer or cannot create it.
        """
        config = {
            "name": self._stream,
            "subjects": [f"{self._prefix}.*"],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "num_replicas": replicas,
            "allow_direct": False,
            "compression": "none",  # so that a message can be overwritten where it lies
        }
        await found_or_made(self._nc, config)

    async def put(self, secret: str, key: bytes) -> None:
        """Store a key; it is on disk when this returns.

        Raises:
            StoreUnavailable: It may be stored, or not.
        """
        reply = await ask(self._nc, self._subject(secret), key, timeout=STORE_SECONDS)
        answer = parse_answer(reply.data)
        if answer.error is not None:
            raise StoreUnavailable(f"a secret's key is not stored: {answer.error.description}")

    async def get(self, secret: str) -> bytes | None:
        """Return a key, or None when it was destroyed or never stored.

        Raises:
            StoreUnavailable: It cannot be read now.
        """
        found = await last_message(self._nc, self._stream, self._subject(secret))
        return None if found is None else found.payload

    async def destroy(self, secret: str) -> None:
        """Overwrite a key and take it away; nothing happens if there is none.

        Raises:
            StoreUnavailable: It may still be there.
        """
        found = await last_message(self._nc, self._stream, self._subject(secret))
        if found is None:
            return
        body = {"seq": found.position, "no_erase": False}
        try:
            await request(self._nc, f"$JS.API.STREAM.MSG.DELETE.{self._stream}", body)
        except JetStreamError as error:
            if error.err_code != MESSAGE_NOT_FOUND:
                raise

    async def stored(self) -> set[str]:
        """Return the ids of all keys.

        Raises:
            StoreUnavailable: They cannot be read now.
        """
        found: set[str] = set()
        while True:
            body = {"subjects_filter": f"{self._prefix}.*", "offset": len(found)}
            answer = await request(self._nc, f"$JS.API.STREAM.INFO.{self._stream}", body)
            page = answer["state"].get("subjects") or {}
            found |= {subject.rpartition(".")[2] for subject in page}
            if not page or len(found) >= answer.get("total", 0):
                return {secret for secret in found if _ID.fullmatch(secret)}

    def _subject(self, secret: str) -> str:
        if not _ID.fullmatch(secret):
            raise AssertionError("the id of a secret is 32 hexadecimal digits")
        return f"{self._prefix}.{secret}"
