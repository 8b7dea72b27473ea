"""The two loops that speak to the coordinator, against a scripted link."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from mitosis.contract.work import Held, Renew, Renewed, Reports, StoredArtifact, Verdicts
from mitosis.domain.execution import ExecutionState as State
from mitosis.domain.task import ArtifactKind, Exit, ExitKind
from mitosis.errors import (
    AuthenticationFailed,
    MitosisError,
    NoCoordinator,
    NotFound,
    ObjectsUnavailable,
    TooLarge,
    Unavailable,
)
from mitosis.services.worker.drafts import Draft
from mitosis.services.worker.lanes import Lanes
from mitosis.services.worker.lease import LeaseKeeper
from mitosis.services.worker.link import Unregistered
from mitosis.services.worker.report import MAX_REPORTS, Reporter

Answer = Any


class ScriptedLink:
    """Each request waits for its answer from the test; none is left over at the end."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[tuple[str, Any, str, asyncio.Future[Answer]]] = asyncio.Queue()

    async def ask(
        self,
        verb: str,
        body: msgspec.Struct,
        result: type[Any],
        *,
        command_id: str = "",
        timeout_seconds: float = 10.0,
    ) -> Any:
        assert result in {Verdicts, Renewed}
        assert timeout_seconds > 0
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.requests.put_nowait((verb, body, command_id, answer))
        return await answer

    async def next(self) -> tuple[str, Any, str, "asyncio.Future[Answer]"]:
        async with asyncio.timeout(5):
            return await self.requests.get()

    async def answer(self, reply: Answer | Callable[[Any], Answer]) -> Any:
        _, body, _, answer = await self.next()
        value = reply(body) if callable(reply) else reply
        if isinstance(value, MitosisError):
            answer.set_exception(value)
        else:
            answer.set_result(value)
        return body


def all_good(body: Reports) -> Verdicts:
    return Verdicts([""] * len(body.reports))


class Desk:
    def __init__(self, kind: type[Reporter] | type[Lanes] = Reporter) -> None:
        self.link = ScriptedLink()
        self.clock = 10.0
        self.verdicts: list[tuple[str, str]] = []
        self.judged = asyncio.Event()
        self.leaving = ""
        self.at_hand = 0
        self.reporter: Any = kind(
            self.link, self.verdict, lambda: self.clock, lambda: self.leaving, lambda: self.at_hand
        )

    async def told(self, count: int) -> None:
        """Wait for so many verdicts."""
        async with asyncio.timeout(5):
            while len(self.verdicts) < count:
                self.judged.clear()
                await self.judged.wait()

    def verdict(self, draft: Draft, code: str) -> None:
        self.verdicts.append((draft.task, code))
        self.judged.set()


@asynccontextmanager
async def running(loop: Any) -> Any:
    task = asyncio.create_task(loop)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def started(task: str = "t1") -> Draft:
    draft = Draft(task, "lab", 1)
    draft.steps.append((State.EXEC_SPAWNED, 9.0))
    draft.started = True
    return draft


def committed(task: str = "t1") -> Draft:
    draft = Draft(task, "lab", 1)
    draft.exit = Exit(ExitKind.CODE)
    draft.committed = True
    return draft


def uploaded(task: str = "t1") -> Draft:
    draft = Draft(task, "lab", 1)
    name = f"{task}/1/u/result.tar.gz"
    draft.artifacts.append(StoredArtifact(ArtifactKind.RESULT, name, 1, "0"))
    draft.alone = True
    return draft


async def test_what_comes_while_a_request_is_out_rides_in_the_next_one() -> None:
    desk = Desk()
    async with running(desk.reporter.run()):
        desk.reporter.add(started("t1"))
        verb, body, _, answer = await desk.link.next()
        assert verb == "report"
        assert [r.task for r in body.reports] == ["t1"]
        desk.reporter.add(committed("t1"))
        desk.reporter.add(started("t2"))
        desk.reporter.add(committed("t2"))
        await asyncio.sleep(0)
        assert desk.link.requests.empty()
        answer.set_result(all_good(body))
        body = await desk.link.answer(all_good)
        assert [(r.task, r.started, r.committed) for r in body.reports] == [
            ("t1", False, True),
            ("t2", True, True),
        ]
    assert desk.link.requests.empty()


async def test_reports_are_gathered_while_more_than_half_of_what_was_at_hand_still_is() -> None:
    desk = Desk()
    async with running(desk.reporter.run()):
        for desk.at_hand in (8, 7, 6, 5):
            desk.reporter.add(committed(f"at-{desk.at_hand}"))
            await asyncio.sleep(0)
        assert desk.link.requests.empty()
        desk.at_hand = 4
        desk.reporter.add(committed("at-4"))
        body = await desk.link.answer(all_good)
        assert [r.task for r in body.reports] == ["at-8", "at-7", "at-6", "at-5", "at-4"]
        await desk.told(5)
        desk.at_hand = 0
        desk.reporter.add(committed("last"))
        assert [r.task for r in (await desk.link.answer(all_good)).reports] == ["last"]


async def test_nothing_is_gathered_before_there_is_a_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk, gathered = Desk(), list[int]()

    async def gather() -> None:
        gathered.append(len(desk.reporter._waiting))

    monkeypatch.setattr(desk.reporter, "_gather", gather)
    async with running(desk.reporter.run()):
        desk.at_hand = 8
        for count in (1, 2):
            desk.reporter.add(committed())
            await desk.link.answer(all_good)
            await desk.told(count)
    assert gathered == [1, 1], "and not once more after each answer"


async def test_a_report_is_not_kept_back_for_long_however_much_is_at_hand() -> None:
    desk = Desk()
    async with running(desk.reporter.run()):
        desk.at_hand = 8
        desk.reporter.add(started())
        assert [r.task for r in (await desk.link.answer(all_good)).reports] == ["t1"]


async def test_a_request_without_answer_is_repeated_with_the_same_id_and_older_ages() -> None:
    desk = Desk()
    async with running(desk.reporter.run()):
        desk.reporter.add(started())
        _, first, first_id, answer = await desk.link.next()
        answer.set_exception(NoCoordinator("nobody"))
        desk.clock = 15.0
        desk.reporter.add(committed())
        _, second, second_id, answer = await desk.link.next()
        assert first_id == second_id
        assert first.reports[0].steps[0].age_seconds == 1.0
        assert second.reports[0].steps[0].age_seconds == 6.0
        assert len(second.reports) == 1
        answer.set_result(Verdicts([""]))
        body = await desk.link.answer(all_good)
        assert body.reports[0].committed
    assert desk.link.requests.empty()


async def test_a_report_that_the_coordinator_could_not_check_comes_again_in_order() -> None:
    desk = Desk()
    async with running(desk.reporter.run()):
        desk.reporter.add(started("t1"))
        desk.reporter.add(started("t2"))
        await desk.link.answer(Verdicts(["unavailable.objects", ""]))
        desk.reporter.add(committed("t2"))
        tasks = []
        while len(tasks) < 2:
            body = await desk.link.answer(all_good)
            tasks += [report.task for report in body.reports]
        await desk.told(3)
    assert sorted(tasks) == ["t1", "t2"]
    assert sorted(desk.verdicts) == [("t1", ""), ("t2", ""), ("t2", "")]


async def test_reports_of_uploads_wait_for_the_store_and_hold_up_nobody_else() -> None:
    desk = Desk()
    async with running(desk.reporter.run()):
        desk.reporter.add(uploaded("t1"))
        desk.reporter.add(committed("t2"))
        await desk.link.answer(ObjectsUnavailable("S3 is away"))
        body = await desk.link.answer(all_good)
        assert [report.task for report in body.reports] == ["t2"]
        body = await desk.link.answer(all_good)
        assert [report.task for report in body.reports] == ["t1"]
        await desk.told(2)
    assert desk.link.requests.empty()


async def test_others_are_told_while_the_coordinator_still_looks_at_an_upload() -> None:
    desk = Desk(Lanes)
    async with running(desk.reporter.run()):
        desk.reporter.add(uploaded("t1"))
        _, body, _, answer = await desk.link.next()
        assert [report.task for report in body.reports] == ["t1"]
        for name in ("t2", "t3"):
            desk.reporter.add(committed(name))
            body = await desk.link.answer(all_good)
            assert [report.task for report in body.reports] == [name]
        await desk.told(2)
        answer.set_result(Verdicts([""]))
        await desk.told(3)
    assert desk.verdicts == [("t2", ""), ("t3", ""), ("t1", "")]


async def test_what_is_said_of_one_attempt_stays_in_its_order_also_around_an_upload() -> None:
    desk = Desk(Lanes)
    exited = Draft("t1", "lab", 1)
    exited.exit = Exit(ExitKind.CODE)
    async with running(desk.reporter.run()):
        desk.reporter.add(exited)
        _, body, _, answer = await desk.link.next()
        desk.reporter.add(uploaded())
        desk.reporter.add(committed())
        desk.reporter.add(committed("t2"))
        await asyncio.sleep(0)
        assert desk.link.requests.empty()
        answer.set_result(all_good(body))
        told: list[tuple[str, bool, bool]] = []
        for _ in range(4):
            _, body, _, answer = await desk.link.next()
            one = [(r.task, bool(r.artifacts), r.committed) for r in body.reports]
            unjudged = body.reports[0].artifacts and one[0] not in told
            told += one
            answer.set_result(Verdicts(["unavailable.objects"]) if unjudged else all_good(body))
        await desk.told(4)
    assert desk.link.requests.empty()
    assert ("t2", False, True) in told[:2]
    assert [one for one in told if one[0] == "t1"] == [
        ("t1", True, False),
        ("t1", True, False),
        ("t1", False, True),
    ]


@pytest.mark.parametrize(
    "answer", [Verdicts(["unavailable.objects"]), ObjectsUnavailable("the store is away")]
)
async def test_an_upload_that_is_given_up_is_not_reported_again_and_the_end_follows_at_once(
    answer: Answer,
) -> None:
    desk, asked = Desk(Lanes), list[float]()
    upload = uploaded()

    def gives_up(asked_seconds: float) -> bool:
        asked.append(asked_seconds)
        return False

    upload.on_unjudged = gives_up
    async with running(desk.reporter.run()):
        desk.reporter.add(upload)
        _, _, _, pending = await desk.link.next()
        desk.reporter.add(committed())
        desk.clock += 5.0
        if isinstance(answer, MitosisError):
            pending.set_exception(answer)
        else:
            pending.set_result(answer)
        body = await desk.link.answer(all_good)
        assert [(r.task, r.committed) for r in body.reports] == [("t1", True)]
        await desk.told(1)
    assert asked == [5.0]
    assert desk.link.requests.empty()


async def test_forgotten_reports_are_not_sent_in_either_lane() -> None:
    desk = Desk(Lanes)
    async with running(desk.reporter.run()):
        desk.reporter.add(started())
        _, body, _, answer = await desk.link.next()
        desk.reporter.add(uploaded())
        desk.reporter.add(committed())
        desk.reporter.forget(("t1", 1))
        answer.set_result(all_good(body))
        desk.reporter.add(started("t2"))
        assert [r.task for r in (await desk.link.answer(all_good)).reports] == ["t2"]
    assert desk.link.requests.empty()


async def test_every_verdict_is_told() -> None:
    desk = Desk()
    async with running(desk.reporter.run()):
        desk.reporter.add(started("t1"))
        desk.reporter.add(started("t2"))
        await desk.link.answer(Verdicts(["conflict.stale_attempt", "invalid"]))
        await desk.told(2)
    assert desk.verdicts == [("t1", "conflict.stale_attempt"), ("t2", "invalid")]


async def test_forgotten_reports_are_not_sent() -> None:
    desk = Desk()
    desk.reporter.add(started("t1"))
    desk.reporter.add(started("t2"))
    desk.reporter.forget(("t1", 1))
    async with running(desk.reporter.run()):
        body = await desk.link.answer(all_good)
    assert [report.task for report in body.reports] == ["t2"]


async def test_a_request_has_at_most_256_reports() -> None:
    desk = Desk()
    for number in range(MAX_REPORTS + 1):
        desk.reporter.add(started(f"t{number}"))
    sizes = []
    async with running(desk.reporter.run()):
        for _ in range(2):
            body = await desk.link.answer(all_good)
            sizes.append(len(body.reports))
    assert sizes == [MAX_REPORTS, 1]


async def test_a_request_that_is_too_large_is_split_and_at_last_shortened() -> None:
    desk = Desk()
    for name in ("t1", "t2"):
        draft = committed(name)
        draft.exit = Exit(ExitKind.CODE, stdout_tail="x" * 4096)
        desk.reporter.add(draft)

    def picky(body: Reports) -> Any:
        large = len(body.reports) > 1 or (body.reports[0].exit or Exit(ExitKind.CODE)).stdout_tail
        return TooLarge("too large") if large else all_good(body)

    async with running(desk.reporter.run()):
        tasks: list[str] = []
        for _ in range(8):
            body = await desk.link.answer(picky)
            if not body.reports[0].exit.stdout_tail:
                tasks.append(body.reports[0].task)
            if len(tasks) == 2:
                break
    assert tasks == ["t1", "t2"]


@pytest.mark.parametrize("draft", [started(), uploaded()])
@pytest.mark.parametrize("error", [NotFound("gone"), AuthenticationFailed("refused")])
async def test_a_worker_that_is_not_known_any_more_is_told(
    error: MitosisError, draft: Draft
) -> None:
    desk = Desk(Lanes)
    desk.reporter.add(draft)
    async with running(desk.reporter.run()) as loop:
        await desk.link.answer(error)
        with pytest.raises(Unregistered):
            await loop


def test_a_start_is_never_merged_behind_an_exit() -> None:
    assert not committed().merge(started())
    first = Draft("t1", "lab", 1)
    first.exit = Exit(ExitKind.CODE)
    assert not first.merge(started())


class Landlord:
    def __init__(self, every: float = 3600.0) -> None:
        self.link = ScriptedLink()
        self.clock = 50.0
        self.leases: list[tuple[float, float]] = []
        self.foreign: list[Held] = []
        self.held = [Held("t1", "lab", 1)]
        self.keeper = LeaseKeeper(
            self.link,
            every,
            lambda: self.held,
            lambda length, since: self.leases.append((length, since)),
            self.foreign.extend,
            lambda: self.clock,
            leaving=lambda: self.leaving,
        )
        self.leaving = ""


async def test_whoever_leaves_says_so_with_each_request() -> None:
    desk, landlord = Desk(), Landlord()
    desk.leaving = landlord.leaving = "its lifetime is over"
    desk.reporter.add(started())
    async with running(desk.reporter.run()), running(landlord.keeper.run()):
        for link in (desk.link, landlord.link):
            _, body, _, _ = await link.next()
            assert body.leaving == "its lifetime is over"


async def test_a_lease_counts_from_the_sending_of_what_was_answered() -> None:
    landlord = Landlord()
    async with running(landlord.keeper.run()):
        verb, body, _, answer = await landlord.link.next()
        assert (verb, body) == ("renew", Renew([Held("t1", "lab", 1)]))
        landlord.clock = 58.0
        answer.set_result(Renewed(20.0, [Held("t9", "lab", 1)]))
        landlord.keeper.ask_now()
        await landlord.link.next()
    assert landlord.leases == [(20.0, 50.0)]
    assert landlord.foreign == [Held("t9", "lab", 1)]


async def test_what_is_foreign_is_dropped_before_the_lease_is_prolonged() -> None:
    told: list[str] = []
    landlord = Landlord()
    keeper = LeaseKeeper(
        landlord.link, 3600.0, list,
        lambda _, __: told.append("prolonged"), lambda _: told.append("dropped"), lambda: 50.0,
    )  # fmt: skip
    async with running(keeper.run()):
        await landlord.link.answer(Renewed(20.0, [Held("t9", "lab", 1)]))
        keeper.ask_now()
        await landlord.link.next()
    assert told == ["dropped", "prolonged"]


async def test_a_renewal_without_answer_prolongs_nothing_and_is_repeated() -> None:
    landlord = Landlord()
    async with running(landlord.keeper.run()):
        await landlord.link.answer(Unavailable("no answer"))
        landlord.clock = 60.0
        await landlord.link.answer(Renewed(20.0))
        landlord.keeper.ask_now()
        await landlord.link.next()
    assert landlord.leases == [(20.0, 60.0)]


async def test_renewals_come_by_themselves() -> None:
    landlord = Landlord(every=0.01)
    async with running(landlord.keeper.run()):
        for _ in range(3):
            await landlord.link.answer(Renewed(20.0))


async def test_the_lease_of_an_unknown_worker_ends_the_registration() -> None:
    landlord = Landlord()
    async with running(landlord.keeper.run()) as loop:
        await landlord.link.answer(NotFound("no such worker"))
        with pytest.raises(Unregistered):
            await loop
