"""A worker asks for secret variables before it starts a program, and keeps them out of tails."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mitosis.contract.work import Assignment, Secrets, SecretsWanted
from mitosis.domain.task import MAX_TAIL_BYTES, Exit, TaskSpec
from mitosis.errors import MitosisError, StaleAttempt, Unavailable
from mitosis.processes.runs import Exited, RunResult, StreamResult
from mitosis.services.worker.masking import Masking
from mitosis.services.worker.run import TaskTerms, ending, run_spec
from mitosis.services.worker.secrets import Fetching

WANTED = Assignment("t", "lab", 1, 60.0, TaskSpec(("true",), secrets=("KEY",), sealing="0" * 32))


class Taker:
    def __init__(self) -> None:
        self.assigned: list[tuple[str, dict[str, str]]] = []
        self.refused: list[str] = []

    def assign(self, assignment: Assignment, secrets: Mapping[str, str] = {}) -> None:
        self.assigned.append((assignment.task, dict(secrets)))

    def refuse(self, assignment: Assignment, end: Exit) -> None:
        self.refused.append(end.reason)


class Link:
    """Answers from a list; an error is raised."""

    def __init__(self, *answers: Secrets | MitosisError) -> None:
        self.answers, self.asked = list(answers), list[msgspec.Struct]()

    async def ask(self, verb: str, body: msgspec.Struct, result: Any, **_: Any) -> Any:
        self.asked.append(body)
        answer = self.answers.pop(0)
        if isinstance(answer, MitosisError):
            raise answer
        return answer


async def fetched(link: Link, times: int = 1) -> Taker:
    taker = Taker()
    fetching = Fetching(link, taker)  # type: ignore[arg-type]
    for _ in range(times):
        fetching.take(WANTED)
    await asyncio.gather(*fetching._waiting.values())
    return taker


async def test_an_assignment_is_handed_on_with_its_secrets_once() -> None:
    link = Link(Secrets({"KEY": "value"}))
    taker = await fetched(link, times=3)
    assert taker.assigned == [("t", {"KEY": "value"})]
    assert link.asked == [SecretsWanted("t", 1)]


async def test_it_asks_again_when_nobody_answers() -> None:
    taker = await fetched(Link(Unavailable("away"), Secrets({"KEY": "value"})))
    assert taker.assigned == [("t", {"KEY": "value"})]


@pytest.mark.parametrize("error", [StaleAttempt("older"), MitosisError("odd")])
async def test_what_is_refused_is_not_started(error: MitosisError) -> None:
    taker = await fetched(Link(error))
    assert (taker.assigned, taker.refused) == ([], [])


async def test_erased_secrets_end_the_attempt_with_the_reason() -> None:
    assert (await fetched(Link(Secrets(missing="erased")))).refused == ["erased"]
    assert (await fetched(Link(Secrets({"OTHER": "x"})))).refused == [
        "the secret variable KEY was not told"
    ]


def test_the_program_gets_them_and_they_count_more_than_the_workers_own() -> None:
    terms = TaskTerms({"KEY": "of the worker", "PATH": "/bin"})
    spec = run_spec(WANTED, terms, {"KEY": "value"}, Masking(["value"]))
    assert spec.env["KEY"] == "value"
    assert spec.tail_bytes == MAX_TAIL_BYTES + len("value")


def told(written: bytes, *values: str) -> str:
    """What of the standard output of a program is stored."""
    masking = Masking(values)
    kept = written[-(MAX_TAIL_BYTES + masking.longest) :]
    stream = StreamResult(len(kept), len(written) - len(kept), tail=kept)
    result = msgspec.structs.replace(RESULT, stdout=stream)
    end = ending(result, masking)
    assert isinstance(end, Exit)
    return end.stdout_tail


RESULT = RunResult(
    outcome=Exited(0), cause="own", started_at=0.0, ended_at=1.0, folder=Path("/none")
)


def test_values_are_masked_wherever_they_stand() -> None:
    assert told(b"a s3cret, s3crets3cret\n", "s3cret") == "a ***, ******\n"
    assert told("päss\u00fcword".encode(), "päss\u00fcword") == "***"
    assert told(b"first line|\nsecond line", "first line\nsecond line") == "***|\n***"
    assert told(b"abcdef abc", "abc", "abcdef") == "*** abc"
    assert told(b"a.b axb", "a.b ") == "***axb"


@pytest.mark.parametrize("before", range(MAX_TAIL_BYTES - 20, MAX_TAIL_BYTES + 40))
def test_no_part_of_a_value_is_told_at_the_border_of_the_tail(before: int) -> None:
    value = "0123456789abcdef"
    tail = told(b"." * 5_000 + value.encode() + b"-" * (before - 16), value)
    assert set(tail) <= {".", "*", "-"}
    assert len(tail) <= MAX_TAIL_BYTES
