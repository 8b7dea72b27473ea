"""A worker that is broken or hostile: nothing of what it makes up is stored, kept or believed."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mitosis.contract import commands, work
from mitosis.domain.execution import ExecutionState
from mitosis.domain.task import ArtifactKind, Exit, ExitKind, Usage
from mitosis.errors import StoreUnavailable
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.answered import (
    REMEMBERED_BYTES,
    REMEMBERED_COMMANDS,
    Answered,
)
from mitosis.services.coordinator.core import guarded

ABSENT = "00000000-0000-4000-8000-0000000fffff"
SPAWNED = ExecutionState.EXEC_SPAWNED
END = Exit(ExitKind.CODE)
Change = Callable[[work.TaskReport], Any]


def object_of(report: work.TaskReport, name: str = "result.tar.gz", upload: str = "u") -> str:
    return f"{report.task}/{report.attempt}/{upload}/{name}"


def artifact(report: work.TaskReport, **changed: Any) -> work.StoredArtifact:
    values = {
        "kind": ArtifactKind.RESULT, "object_name": object_of(report), "size_bytes": 1,
        "sha256": "0" * 64,
    }  # fmt: skip
    return work.StoredArtifact(**(values | changed))


def with_artifact(**changed: Any) -> Change:
    return lambda r: r.artifacts.append(artifact(r, **changed))


def put(name: str, value: Any) -> Change:
    return lambda r: setattr(r, name, value)


MADE_UP: dict[str, Change] = {
    "no task": put("task", "x"),
    "a path for a task": put("task", "../../etc"),
    "an endless task": put("task", "a" * 500_000),
    "NUL in the task": put("task", ABSENT[:-1] + "\0"),
    "attempt 0": put("attempt", 0),
    "a negative attempt": put("attempt", -1),
    "a huge attempt": put("attempt", 10**4_000),
    "steps without end": put("steps", [work.AgedStep(SPAWNED, 0.0)] * 1_000),
    "a step in the future": put("steps", [work.AgedStep(SPAWNED, -1.0)]),
    "a step before the big bang": put("steps", [work.AgedStep(SPAWNED, 1e300)]),
    "no number for an age": put("steps", [work.AgedStep(SPAWNED, float("nan"))]),
    "an infinite age": put("steps", [work.AgedStep(SPAWNED, float("inf"))]),
    "warnings without end": put("warnings", ["w"] * 10_000),
    "a negative exit code": put("exit", Exit(ExitKind.CODE, -1)),
    "a huge exit code": put("exit", Exit(ExitKind.CODE, 2**31)),
    "no checksum": with_artifact(sha256=""),
    "NUL in the checksum": with_artifact(sha256="\0" * 64),
    "a negative size": with_artifact(size_bytes=-1),
    "a huge size": with_artifact(size_bytes=2**63),
    "another's object": with_artifact(object_name=f"{ABSENT}/1/u/result.tar.gz"),
    "a name that leaves the folder": lambda r: r.artifacts.append(
        artifact(r, object_name=object_of(r, upload=".."))
    ),
    "no upload in the name": lambda r: r.artifacts.append(
        artifact(r, object_name=object_of(r, upload=""))
    ),
    "an endless name": lambda r: r.artifacts.append(
        artifact(r, object_name=object_of(r, upload="a" * 100_000))
    ),
    "NUL in the name": lambda r: r.artifacts.append(
        artifact(r, object_name=object_of(r, upload="a\0"))
    ),
    "one kind under the name of another": lambda r: r.artifacts.append(
        artifact(r, object_name=object_of(r, "std-log.tar.gz"))
    ),
    "artifacts without end": lambda r: r.artifacts.extend([artifact(r)] * 4),
}


@pytest.mark.parametrize("made_up", MADE_UP)
async def test_a_report_with_something_made_up_leaves_no_trace_and_others_are_taken_in(
    coordinator: Any, made_up: str
) -> None:
    worker = await coordinator.register(slots=2)
    good, bad = await coordinator.submit(), await coordinator.submit()
    before = len(coordinator.store.stored)
    report = work.TaskReport(bad, "alice", 1, started=True)
    MADE_UP[made_up](report)
    coordinator.objects.sizes = {a.object_name: 1 for a in report.artifacts}
    started = work.TaskReport(good, "alice", 1, started=True)
    codes = await coordinator.report(worker, report, started)
    assert codes[0] in {"invalid", "invalid.too_large"}
    assert codes[1] == ""
    assert coordinator.store.topics()[before:] == [["task.started"]]
    assert not coordinator.world.tasks[bad].started
    assert coordinator.replayed().tasks == coordinator.world.tasks


async def test_the_store_of_artifacts_is_asked_about_own_live_attempts_only(
    coordinator: Any,
) -> None:
    asked = []

    async def size_of(name: str) -> int:
        asked.append(name)
        return 1

    coordinator.objects.size_of = size_of
    coordinator.add_user("bob")
    bobs = await coordinator.register("bob")
    await coordinator.register("alice")
    task = await coordinator.submit()
    report = work.TaskReport(task, "alice", 1)
    report.artifacts.append(artifact(report))
    assert await coordinator.report(bobs, report) == ["conflict.stale_attempt"]
    assert asked == []


async def test_another_workers_task_cannot_be_reported_nor_uploaded_for(coordinator: Any) -> None:
    coordinator.add_user("bob")
    bobs = await coordinator.register("bob")
    await coordinator.register("alice")
    task = await coordinator.submit()
    before = len(coordinator.store.stored)
    for group in ("alice", "bob", "*", "a.b"):
        for report in (
            work.TaskReport(task, group, 1, started=True),
            work.TaskReport(task, group, 1, exit=END, committed=True),
            work.TaskReport(task, group, 1, handed_back="mine now"),
            work.TaskReport(task, group, 2, fault="mine now"),
            work.TaskReport(ABSENT, group, 1, started=True),
        ):
            assert await coordinator.report(bobs, report) == ["conflict.stale_attempt"]
        wanted = work.UploadWanted(task, group, 1, ArtifactKind.RESULT, 1)
        reply = await coordinator.ask(bobs, coordinator.reports.upload, wanted)
        coordinator.store.let_through()
        assert coordinator.answer(reply).error.code == "conflict.stale_attempt"
    assert len(coordinator.store.stored) == before


@pytest.mark.parametrize("size", [-1, -(2**63), 2**63, 10**300])
async def test_no_upload_is_reserved_with_a_size_that_cannot_be(coordinator, size):
    """A negative one would make room in the quota for others."""
    worker = await coordinator.register()
    task = await coordinator.submit()
    wanted = work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, size)
    reply = await coordinator.ask(worker, coordinator.reports.upload, wanted)
    coordinator.store.let_through()
    assert coordinator.answer(reply).error.code == "invalid"
    assert coordinator.core.uploads.reserved_bytes("alice") == 0


async def test_the_end_cannot_be_told_before_the_exit_and_nothing_of_such_a_report_is_stored(
    coordinator,
):
    worker = await coordinator.register()
    task = await coordinator.submit()
    before = len(coordinator.store.stored)
    early = work.TaskReport(task, "alice", 1, started=True, warnings=["w"], committed=True)
    assert await coordinator.report(worker, early) == ["invalid"]
    assert len(coordinator.store.stored) == before


async def test_last_words_are_cut_and_never_a_reason_to_refuse(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    end = Exit(
        ExitKind.CODE, 0, reason="r\0" * 9_000, stdout_tail="o\0" * 9_000, stderr_tail="é" * 9_000,
        usage=Usage(wall_seconds=-1e308, user_seconds=1e308, max_rss_bytes=10**300),
    )  # fmt: skip
    long = ["w\0" * 9_000]
    report = work.TaskReport(task, "alice", 1, started=True, exit=end, warnings=long)
    assert await coordinator.report(worker, report) == [""]
    await coordinator.ask(worker, coordinator.reports.leave, work.Leave("bye\0" * 9_000))
    coordinator.store.let_through()
    assert worker not in coordinator.world.workers
    for _, _, payload in coordinator.store.stored:
        assert len(payload) < 20_000
        assert b"\\u0000" not in payload


@pytest.mark.parametrize(
    "held",
    [
        [work.Held("x" * 100_000, "g", 1)],
        [work.Held(ABSENT, "g", 0)],
        [work.Held(ABSENT, "g", 10**300)],
        [work.Held(ABSENT, "g", n) for n in range(1, 9_000)],
    ],
)
async def test_a_renewal_with_something_made_up_does_not_prolong_the_lease(coordinator, held):
    worker = await coordinator.register()
    coordinator.clock.seconds += 100
    reply = await coordinator.ask(worker, coordinator.reports.renew, work.Renew(held))
    coordinator.store.let_through()
    assert coordinator.answer(reply).error.code in {"invalid", "invalid.too_large"}
    assert coordinator.core.leases.silent_seconds(worker) == 100


async def test_a_worker_that_is_gone_can_do_nothing_any_more(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    await coordinator.ask(worker, coordinator.reports.leave, work.Leave())
    coordinator.store.let_through()
    before = len(coordinator.store.stored)
    for handler, body in (
        (coordinator.reports.renew, work.Renew()),
        (coordinator.reports.report, work.Reports([work.TaskReport(task, "alice", 1)])),
        (coordinator.reports.upload, work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, 1)),
    ):
        reply = await coordinator.ask(worker, handler, body)
        coordinator.store.let_through()
        assert coordinator.answer(reply).error is not None
    assert len(coordinator.store.stored) == before


async def test_a_step_that_fails_inside_after_it_changed_the_world_ends_the_term(coordinator):
    """The world would be ahead of the store, and all that follows would stand on nothing."""
    worker = await coordinator.register()
    task = await coordinator.submit()
    ended: list[object] = []
    coordinator.core.journal._on_failed = ended.append

    def broken(caller: Caller, body: msgspec.Struct) -> None:
        unit = coordinator.core.journal.unit("worker:x")
        coordinator.reports._take_in(
            unit, worker, "alice", work.TaskReport(task, "alice", 1, started=True), {}
        )
        raise OverflowError

    with pytest.raises(OverflowError):
        guarded(coordinator.core, broken)(Caller(worker, "report", "", "reply"), work.Renew())
    assert isinstance(ended[0], StoreUnavailable)
    body = commands.SubmitTask(("true",), "k")
    reply = await coordinator.ask("alice", coordinator.tasks.submit, body)
    assert coordinator.answer(reply).error.code == "unavailable.store"


def test_remembered_replies_take_a_bounded_room() -> None:
    answered = Answered()
    callers = [Caller("w", "renew", str(n), "") for n in range(200)]
    for caller in callers:
        answered.begin(caller)
        answered.keep(caller, bytes(1_000_000))
    kept = [caller for caller in callers if answered.begin(caller)[1] is not None]
    assert len(kept) <= REMEMBERED_BYTES // 1_000_000
    assert kept[-1] is callers[-1]


@pytest.mark.parametrize("reply", [b"ok", bytes(1_000_000)])
def test_no_number_of_submits_makes_a_coordinator_forget_what_it_must_not_do_twice(
    reply: bytes,
) -> None:
    answered, rare = Answered(), Caller("root", "user.set_group_quota", "+2", "")
    answered.begin(rare)
    answered.keep(rare, b"done")
    for number in range(REMEMBERED_COMMANDS + 10 if len(reply) < 10 else 100):
        many = Caller("alice", "task.submit", str(number), "")
        answered.begin(many)
        answered.keep(many, reply)
    assert not answered.begin(Caller("alice", "task.submit", "0", ""))[0]
    assert answered.begin(rare) == (True, b"done")


async def test_a_state_that_is_told_again_and_again_is_stored_once_an_attempt(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    before = len(coordinator.store.stored)
    steps = [work.AgedStep(SPAWNED, 0.0), work.AgedStep(ExecutionState.EXEC_FINISHED, 0.0)]
    for _ in range(20):
        report = work.TaskReport(task, "alice", 1, steps=[*steps, *steps])
        assert await coordinator.report(worker, report) == [""]
    assert coordinator.store.topics()[before:] == [["task.progressed"]]
    assert coordinator.store.stored[-1][2].count(b"ExecSpawned") == 1
    back = work.TaskReport(task, "alice", 1, handed_back="again")
    again = work.TaskReport(task, "alice", 2, steps=steps)
    assert await coordinator.report(worker, back, again) == ["", ""]
    assert coordinator.store.topics()[-1] == ["task.requeued", "task.assigned", "task.progressed"]


async def test_what_a_program_is_said_to_have_used_fits_into_every_json_reader(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    usage = Usage(1e300, 1e300, -1.0, 10**300, 10**300, -1)
    report = work.TaskReport(task, "alice", 1, exit=Exit(ExitKind.CODE, usage=usage))
    assert await coordinator.report(worker, report) == [""]
    stored = coordinator.world.tasks[task].exit.usage
    assert all(0 <= value < 2**53 for value in msgspec.structs.astuple(stored))
