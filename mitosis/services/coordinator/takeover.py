"""Opening a term: one atomic batch behind which no older writer can store anything."""

from mitosis._version import __version__
from mitosis.contract import subjects
from mitosis.domain import platform
from mitosis.events.catalogue import encode_event
from mitosis.events.envelope import Commit, decode_commit, digest
from mitosis.events.takeover import WINDOW, takeover_payloads
from mitosis.events.writer import Append, PipelinedWriter
from mitosis.runtime import Clock, Ids
from mitosis.services.coordinator.world import Head, World, decide


async def take_over(
    world: World, writer: PipelinedWriter, clock: Clock, ids: Ids, name: str
) -> None:
    """Store TermStarted with its fence, and take it into the world.

    Raises:
        Fenced: Somebody else has written since history was read.
        StoreUnavailable: It could not be stored.
    """
    tail = subjects.PLATFORM_TAIL
    subject = subjects.events(tail)
    head = world.heads.get(tail) or Head()
    events = decide(tail, world.platform, platform.StartTerm(name, __version__))
    commit = Commit(
        commit=ids.commit_id(),
        command="",
        actor="system:coordinator",
        time=clock.now(),
        version=head.version + 1,
        previous=head.digest,
        events=[encode_event(event) for event in events],
    )
    payloads = takeover_payloads(subject, commit, [ids.commit_id() for _ in range(WINDOW)])
    _, stored = writer.submit_batch([Append(subject, each, head.position) for each in payloads])
    position = await stored
    for event in events:
        world.apply(tail, event, position)
    for payload in payloads[:-1]:
        world.extend(digest(subject, payload))
    last = decode_commit(subject, payloads[-1], position)
    world.link(tail, Head(last.last_version, position, digest(subject, payloads[-1])))
