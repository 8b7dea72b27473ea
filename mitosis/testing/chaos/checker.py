"""All rules, and those about what clients were told and what the ledger says. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from mitosis.domain.task import (
    EndCause,
    ExitKind,
    TaskCancelRequested,
    TaskSubmitted,
)
from mitosis.testing.chaos.evidence import Answer, Evidence, Operation, Violation
from mitosis.testing.chaos.ledger import BESIDE, END, START, overlaps
from mitosis.testing.chaos.lives import Life, check_lives, check_numbers, lives_of
from mitosis.testing.chaos.order import check_order
from mitosis.testing.chaos.storage import (
    check_archive,
    check_artifacts,
    check_objects,
    check_read_models,
)


def check_acknowledged(evidence: Evidence) -> Iterator[Violation]:
    """What was answered with "ok" is in the stream; what was refused has left no trace."""
    lives = lives_of(evidence.commits)
    submits: dict[str, list[Operation]] = defaultdict(list)
    for operation in evidence.record:
        if operation.kind == "submit":
            submits[operation.subject].append(operation)
        elif operation.kind == "cancel" and operation.answer is Answer.OK:
            life = lives.get(operation.subject)
            if life is None or not life.all(TaskCancelRequested):
                text = "its cancellation was acknowledged and is not stored"
                yield Violation("acknowledged is stored", operation.subject, text)
    for task, operations in submits.items():
        yield from _submitted(task, operations, lives.get(task))


def _submitted(task: str, told: list[Operation], life: Life | None) -> Iterator[Violation]:
    events = [e for e in life.all(TaskSubmitted) if isinstance(e, TaskSubmitted)] if life else []
    numbers = {one.number for one in told if one.answer is Answer.OK}
    if numbers and not events:
        yield Violation("acknowledged is stored", task, "it was acknowledged and is not stored")
    elif numbers - {event.number for event in events}:
        given = sorted(event.number for event in events)
        text = f"it was acknowledged as {sorted(numbers)} and stored as {given}"
        yield Violation("acknowledged is stored", task, text)
    if events and all(one.answer is Answer.REFUSED for one in told):
        yield Violation("refused leaves no trace", task, f"stored, but refused: {told[0].error}")


def check_settings(
    finals: dict[tuple[str, str], str], record: Iterable[Operation]
) -> list[Violation]:
    """Settings are in the end what was acknowledged last, or what nobody knows the fate of.

    Args:
        finals: What each setting is now, by kind and subject.
        record: One setting must have been changed by one client, one change after the other.
    """
    last: dict[tuple[str, str], str] = {}
    unknown: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in record:
        key = one.kind, one.subject
        if one.answer is Answer.OK:
            last[key] = one.value
        elif one.answer is Answer.UNKNOWN:
            unknown[key].add(one.value)
    return [
        Violation(
            "acknowledged is stored", subject, f"{kind} is {now!r}, but {value!r} was answered ok"
        )
        for (kind, subject), value in last.items()
        if (now := finals.get((kind, subject))) is not None
        and now != value
        and now not in unknown[kind, subject]
    ]


def check_ledger(evidence: Evidence) -> Iterator[Violation]:
    """No two attempts of a task overlap, and ledger and stream tell the same story."""
    for task, text in overlaps(evidence.ledger):
        yield Violation("no two attempts at once", task, text)
    lives = lives_of(evidence.commits)
    ends: dict[tuple[str, int], int] = {}
    for word, task, attempt, number in evidence.ledger:
        life = lives.get(task)
        if word in {START, BESIDE} and (life is None or attempt not in life.attempts):
            text = f"attempt {attempt} has run and was given to nobody"
            yield Violation("stored before it runs", task, text)
        if word == END:
            ends[task, attempt] = number
    for life in lives.values():
        yield from _agrees(life, ends)


def _agrees(life: Life, ends: dict[tuple[str, int], int]) -> Iterator[Violation]:
    exited = life.last_exit
    if exited is None or exited.exit.kind is not ExitKind.CODE:
        return
    if exited.exit.cause is EndCause.OWN:
        written = ends.get((life.task, exited.attempt))
        if written != exited.exit.number:
            text = f"attempt {exited.attempt} is told to have ended with {exited.exit.number}"
            yield Violation("ledger and stream agree", life.task, f"{text}, and wrote {written}")


def check_leftovers(evidence: Evidence) -> Iterator[Violation]:
    """Nothing unexplained is left, and nothing was seen to be wrong on the way."""
    for text in evidence.leftovers:
        yield Violation("nothing unexplained", "leftover", text)
    yield from evidence.complaints


RULES: tuple[Callable[[Evidence], Iterable[Violation]], ...] = (
    check_acknowledged,
    check_lives,
    check_numbers,
    check_ledger,
    check_order,
    check_artifacts,
    check_objects,
    check_read_models,
    check_archive,
    check_leftovers,
)


def check(evidence: Evidence) -> list[Violation]:
    """Return every violation, in the order of the rules."""
    return [violation for rule in RULES for violation in rule(evidence)]
