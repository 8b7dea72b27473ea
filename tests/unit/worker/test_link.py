"""Whom a worker believes: a coordinator learns only after a moment that another one leads."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from mitosis.contract import wire, work
from mitosis.domain.task import TaskSpec
from mitosis.errors import Unavailable
from mitosis.nats.connection import Msg
from mitosis.services.worker.assignments import Inbox
from mitosis.services.worker.link import FORMER_SECONDS, NatsLink


class Answers:
    """A connection on which the next answer is set by the test."""

    address = "nats://here"

    def __init__(self) -> None:
        self.next: msgspec.Struct = work.Renewed(5.0)

    async def request(self, *_: Any) -> bytes:
        return wire.encode(wire.Reply(self.next))


def linked() -> tuple[NatsLink, Answers, list[float]]:
    answers, clock = Answers(), [50.0]
    return NatsLink(answers, "w1", lambda: clock[0]), answers, clock  # type: ignore[arg-type]


def renewing(link: NatsLink) -> Callable[[], Awaitable[work.Renewed]]:
    return lambda: link.ask("renew", work.Renew(), work.Renewed)


async def test_what_a_former_coordinator_says_about_attempts_is_not_believed() -> None:
    link, answers, _ = linked()
    renew = renewing(link)
    answers.next = work.Renewed(5.0, term=3)
    assert (await renew()).term == 3
    answers.next = work.Renewed(5.0, [work.Held("t", "lab", 1)], term=2)
    with pytest.raises(Unavailable):
        await renew()
    answers.next = work.Verdicts(["conflict.stale_attempt"], term=2)
    with pytest.raises(Unavailable):
        await link.ask("report", work.Reports([]), work.Verdicts)
    answers.next = work.Verdicts([""], term=4)
    assert (await link.ask("report", work.Reports([]), work.Verdicts)).codes == [""]
    answers.next = work.Renewed(5.0, term=3)
    with pytest.raises(Unavailable):
        await renew()


async def test_the_term_of_an_assignment_counts_before_any_answer_of_who_has_pushed_it() -> None:
    """The former one was quicker with its answer: it called the new attempt stale, and it ended."""
    link, answers, _ = linked()
    taken: list[str] = []

    class Core:
        def assign(self, assignment: work.Assignment) -> None:
            taken.append(assignment.task)

    def nothing(*_: Any) -> None: ...

    inbox = Inbox(
        Core(), nothing, nothing, nothing, nothing, nothing, nothing, link.leads,  # type: ignore[arg-type]
    )  # fmt: skip

    def push(task: str, term: int) -> None:
        assignment = work.Assignment(task, "lab", 1, 5.0, TaskSpec(("true",)), term)
        inbox.work(Msg(None, data=wire.encode(assignment)))  # type: ignore[arg-type]

    answers.next = work.Renewed(5.0, term=2)
    await renewing(link)()
    push("of the new one", 3)
    push("of the old one", 2)
    push("of an old version", 0)
    assert taken == ["of the new one", "of an old version"]
    answers.next = work.Verdicts(["conflict.stale_attempt"], term=2)
    with pytest.raises(Unavailable):
        await link.ask("report", work.Reports([]), work.Verdicts)


async def test_a_lower_term_is_believed_when_the_later_one_is_long_gone() -> None:
    """An event stream was restored from a backup: the worker would never have worked again."""
    link, answers, clock = linked()
    for term, seconds in ((9, 0.0), (2, FORMER_SECONDS), (2, 1.0), (3, 1.0)):
        clock[0] += seconds
        answers.next = work.Renewed(5.0, term=term)
        assert (await renewing(link)()).term == term
