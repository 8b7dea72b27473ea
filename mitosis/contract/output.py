"""Live output of a running task, while somebody follows it.

A follower sends `FollowTask` as `mito.query.<user>.task.follow`, which needs Read in the group; the
worker is told by `FollowOutput` on `mito.control.<worker>`, and publishes `OutputPiece` and
`OutputReached` on `mito.output.<group>.<task>.<worker>`.

One request serves for everything: it begins, it prolongs (a worker forgets a follower that it has
not heard of for `FOLLOW_SECONDS`), and it says how far the follower has come. The worker is never
more than `WINDOW_BYTES` and one piece of a stream ahead of that: no slow follower fills a buffer.
Offsets count the bytes of a stream from the start of the attempt: who sees a gap asks `again`
from where it is, and what comes twice is known as such.
"""

import msgspec

from mitosis.domain.limits import check_number
from mitosis.domain.task import TaskState
from mitosis.domain.task.spec import MAX_EXACT
from mitosis.errors import InvalidInput

FOLLOW_SECONDS = 15.0
WINDOW_BYTES = 256 * 1024
MAX_BACKLOG_BYTES = 64 * 1024
"""How far before the present end a follower can begin: what fits into one piece."""
MAX_TOKEN_CHARS = 40


class FollowTask(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Follow an attempt, or go on with it, or stop.

    Attributes:
        task: UUID.
        attempt: Number of the attempt, as the follower knows it.
        token: Drawn at random by the follower; empty: only say who runs the task.
        stdout, stderr: Offset up to which the follower has it. Negative: it has nothing, and wants
            to begin so many bytes less one before the present end. None: it does not want it.
        again: Something was lost: send anew from the offsets.
        stop: Follow no more.
    """

    task: str
    attempt: int = 0
    token: str = ""
    stdout: int | None = None
    stderr: int | None = None
    again: bool = False
    stop: bool = False


class TaskRunner(msgspec.Struct):
    """Who runs a task now, or ran its last attempt; `attempt` 0: nobody yet."""

    task: str
    group: str
    state: TaskState
    attempt: int
    worker: str | None


class FollowOutput(msgspec.Struct, tag="follow", omit_defaults=True):
    """The order to the worker. `follower`: user and token, so that nobody can stop another one."""

    task: str
    group: str
    attempt: int
    follower: str
    stdout: int | None = None
    stderr: int | None = None
    again: bool = False
    stop: bool = False


class OutputPiece(msgspec.Struct, tag="piece", omit_defaults=True):
    """Bytes of a stream, exactly as written; a character may be cut at their ends.

    Attributes:
        follower: For whom.
        attempt: Of the task.
        stream: `stdout` or `stderr`.
        offset: Of the first byte.
        data: The bytes; base64 in JSON.
        skipped_bytes: Missing before these: the worker did not keep them.
        backlog: They were there when following began near the end.
    """

    follower: str
    attempt: int
    stream: str
    offset: int
    data: bytes
    skipped_bytes: int = 0
    backlog: bool = False


class OutputReached(msgspec.Struct, tag="reached", omit_defaults=True):
    """The answer to each order, and the last word: up to where everything was sent.

    Attributes:
        stdout, stderr: Offset behind the last byte sent; None: nothing yet, or not wanted.
        over: Nothing more comes.
        refused: Why the worker does not let this follower follow; empty: it does.
    """

    follower: str
    attempt: int
    stdout: int | None = None
    stderr: int | None = None
    over: bool = False
    refused: str = ""


OutputMessage = OutputPiece | OutputReached


def check_follow(wanted: FollowTask) -> None:
    """Check the bounds of a request.

    Raises:
        InvalidInput: Out of bounds.
    """
    token = wanted.token
    if len(token) > MAX_TOKEN_CHARS or not (token.isascii() and (token.isalnum() or not token)):
        raise InvalidInput(
            f"the token of a follower has at most {MAX_TOKEN_CHARS} letters and digits",
            field="token",
        )
    check_number(wanted.attempt, "attempt", 0, MAX_EXACT)
    for name in ("stdout", "stderr"):
        offset = getattr(wanted, name)
        if offset is not None:
            check_number(offset, name, -(MAX_BACKLOG_BYTES + 1), MAX_EXACT)
