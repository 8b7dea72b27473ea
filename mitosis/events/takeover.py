"""How a new writer shuts out an older one that may still have commits on their way.

Every append names the last sequence of the whole stream that it expects. Alone that leaves a hole:
an old writer, cut off with commits for positions 10, 11 and 12 on their way, loses position 10 to
one foreign commit, and its commit for position 11 then finds exactly what it expects. JetStream can
check a second, fencing subject, but with replicas only one such check may be in flight
(nats-server refuses the next with error 10164), which would end pipelining.

So a new writer opens its term with one atomic batch that is longer than the window of any writer:
the commit that tells the term, then empty commits. After it every expectation that an old writer
can have on its way lies behind the end of the stream.
"""

from collections.abc import Sequence

import msgspec

from mitosis.events.envelope import Commit, digest, encode_commit

WINDOW = 500
"""Commits that any writer may have in flight; a takeover is one longer."""


def takeover_payloads(subject: str, term: Commit, ids: Sequence[str]) -> list[bytes]:
    """Return the payloads of the atomic batch that opens a term.

    Args:
        subject: Subject of the aggregate that keeps the terms.
        term: The commit that tells the new term.
        ids: Fresh commit ids for the empty commits, `WINDOW` of them.

    Raises:
        ValueError: There are not `WINDOW` ids.
    """
    if len(ids) != WINDOW:
        msg = f"a takeover needs {WINDOW} commit ids, not {len(ids)}"
        raise ValueError(msg)
    payloads = [encode_commit(term)]
    empty = msgspec.structs.replace(term, version=term.last_version + 1, events=())
    for commit in ids:
        previous = digest(subject, payloads[-1])
        payloads.append(
            encode_commit(msgspec.structs.replace(empty, commit=commit, previous=previous))
        )
    return payloads
