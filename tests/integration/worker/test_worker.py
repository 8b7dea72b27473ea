import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from mitosis.artifacts.transfer import download
from mitosis.artifacts.unpack import unpack
from mitosis.contract.work import CancelAttempt, Drain, Held, Resync
from mitosis.domain.execution import ExecutionState as State
from mitosis.domain.task import ArtifactKind, EndCause, ExitKind
from mitosis.errors import AuthenticationFailed
from mitosis.testing.waiting import eventually

Work = Callable[..., Any]
SLEEP = ("sleep", "600")


async def test_a_worker_registers_runs_reports_and_leaves(coordinator: Any, work: Work) -> None:
    worker = work(tags=("fast",), groups={})
    await worker.ready()
    assert worker.announced == coordinator.workers
    registration = coordinator.registrations[0]
    assert registration.slots == 2
    assert registration.tags == ("fast",)
    assert registration.folder.startswith(f"{worker.folder.resolve()} ")
    assert registration.machine
    task = coordinator.assign("sh", "-c", "echo out; echo err >&2; exit 3")
    told = await coordinator.over(task)
    assert [step.state for step in told.steps] == [
        State.FETCH_RESOURCE_FINISHED,
        State.EXEC_PENDING,
        State.EXEC_SPAWNED,
        State.EXEC_FINISHED,
    ]
    ages = [step.age_seconds for step in told.steps]
    assert ages[0] >= ages[1] >= 0
    assert told.started
    assert told.exit is not None
    assert (told.exit.kind, told.exit.number, told.exit.cause) == (
        ExitKind.CODE,
        3,
        EndCause.OWN,
    )
    assert (told.exit.stdout_tail, told.exit.stderr_tail) == ("out\n", "err\n")
    assert told.exit.usage.wall_seconds > 0
    assert told.committed
    assert told.artifacts == told.warnings == []
    assert await worker.leave() == 0
    assert coordinator.left == ["the test is over"]


async def test_the_environment_is_private_and_the_work_folder_is_own(
    coordinator: Any, work: Work, monkeypatch: Any
) -> None:
    monkeypatch.setenv("MITO_PASSWORD", "hunter2")
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "hunter2")
    worker = work()
    await worker.ready()
    task = coordinator.assign(
        "sh", "-c", "pwd; echo $MITO_RESULT_DIR; echo $MITO_EXEC_DIR; echo $MITO_RESOURCE_DIR; env",
        env={"MINE": "1"},
    )  # fmt: skip
    told = await coordinator.over(task)
    lines = told.exit.stdout_tail.splitlines()
    folders = lines[:4]
    assert all(Path(line).is_relative_to(worker.folder.resolve()) for line in folders)
    assert [Path(line).name for line in folders] == ["work", "result", "exec", "resource"]
    variables = dict(line.split("=", 1) for line in lines[4:])
    assert "hunter2" not in variables.values()
    assert variables["MINE"] == "1"
    assert variables["MITO_TASK_UUID"] == task
    assert (variables["MITO_GROUP"], variables["MITO_ATTEMPT"]) == ("lab", "1")


async def test_outputs_reach_the_store_and_come_back_as_they_were(
    storing_coordinator: Any, storing_work: Work, tmp_path: Path
) -> None:
    coordinator = storing_coordinator
    worker = storing_work()
    await worker.ready()
    script = (
        "echo said; echo complained >&2; echo 42 > $MITO_RESULT_DIR/answer; "
        "mkdir $MITO_EXEC_DIR/trace; echo t > $MITO_EXEC_DIR/trace/1; mkfifo $MITO_EXEC_DIR/pipe"
    )
    told = await coordinator.over(coordinator.assign("sh", "-c", script, terminal=True))
    assert [step.state for step in told.steps] == [
        State.FETCH_RESOURCE_FINISHED,
        State.EXEC_PENDING,
        State.EXEC_SPAWNED,
        State.EXEC_FINISHED,
        State.UPLOAD_RESULT,
        State.UPLOAD_FINISHED_RESULT,
        State.UPLOAD_RESULT_FINISHED,
    ]
    assert told.committed
    assert told.warnings == [
        "exec-log: exec-log/pipe: left out (only files, folders and links are packed)"
    ]
    assert [artifact.kind for artifact in told.artifacts] == [
        ArtifactKind.RESULT,
        ArtifactKind.EXEC_LOG,
        ArtifactKind.STD_LOG,
    ]
    for artifact in told.artifacts:
        url = coordinator.store.artifacts.presign_get(artifact.object_name)
        archive = tmp_path / artifact.kind.filename
        await asyncio.to_thread(
            download, url, archive, sha256=artifact.sha256, size_bytes=artifact.size_bytes
        )
        unpack(archive, tmp_path / "out")
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_text()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == {
        "result/answer": "42\n",
        "exec-log/trace/1": "t\n",
        "std-log/stdout.log": "said\n",
        "std-log/stderr.log": "complained\n",
    }
    assert list((worker.folder / "outbox").iterdir()) == []


async def test_the_same_work_on_two_workers_gives_the_same_bytes(
    storing_coordinator: Any, storing_work: Work
) -> None:
    coordinator = storing_coordinator
    await storing_work().ready()
    script = "echo 1 > $MITO_RESULT_DIR/b; mkdir $MITO_RESULT_DIR/a; echo 2 > $MITO_RESULT_DIR/a/c"
    sums = set()
    for _ in range(2):
        told = await coordinator.over(coordinator.assign("sh", "-c", script))
        sums.add(told.artifacts[0].sha256)
    assert len(sums) == 1


async def test_an_output_over_the_quota_is_a_warning_and_the_others_are_stored(
    storing_coordinator: Any, storing_work: Work
) -> None:
    coordinator = storing_coordinator
    coordinator.quota_bytes = 2_000
    await storing_work().ready()
    script = "head -c 9000 /dev/urandom > $MITO_RESULT_DIR/big; echo small > $MITO_EXEC_DIR/x"
    told = await coordinator.over(coordinator.assign("sh", "-c", script))
    assert told.committed
    assert told.exit.number == 0
    assert [artifact.kind for artifact in told.artifacts] == [ArtifactKind.EXEC_LOG]
    (warning,) = told.warnings
    assert warning.startswith("result: 9.")
    assert "over the quota and were not stored" in warning


async def test_a_timeout_keeps_what_was_written(
    storing_coordinator: Any, storing_work: Work
) -> None:
    coordinator = storing_coordinator
    await storing_work().ready()
    told = await coordinator.over(
        coordinator.assign(
            "sh", "-c", "echo before; exec sleep 600", terminal=True, timeout_seconds=3.0
        )
    )
    assert told.exit.cause is EndCause.TIMEOUT
    assert told.exit.stdout_tail == "before\n"
    assert State.EXEC_TIMEOUT in [step.state for step in told.steps]
    assert State.UPLOAD_CANCELLED_RESULT in [step.state for step in told.steps]
    assert [artifact.kind for artifact in told.artifacts] == [ArtifactKind.STD_LOG]


async def test_what_a_python_program_printed_before_it_was_stopped_is_kept(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    await work().ready()
    seen = tmp_path / "seen"
    script = f"import time; print('before'); open({str(seen)!r}, 'w').close(); time.sleep(600)"
    task = coordinator.assign("python3", "-c", script)
    await eventually(seen.exists)
    coordinator.order(CancelAttempt(task, 1))
    told = await coordinator.over(task)
    assert told.exit.stdout_tail == "before\n"


async def test_a_program_that_does_not_exist_is_an_end_of_the_task(
    coordinator: Any, work: Work
) -> None:
    await work().ready()
    told = await coordinator.over(coordinator.assign("no-such-program-anywhere"))
    assert told.exit.kind is ExitKind.NOT_STARTED
    assert told.exit.number == 2
    assert "no-such-program-anywhere" in told.exit.reason
    assert told.committed


async def test_a_cancel_ends_the_program(coordinator: Any, work: Work) -> None:
    await work().ready()
    task = coordinator.assign(*SLEEP)
    await coordinator.started(task)
    coordinator.order(CancelAttempt(task, 1, 5.0))
    told = await coordinator.over(task)
    assert (told.exit.kind, told.exit.number, told.exit.cause) == (
        ExitKind.SIGNAL,
        15,
        EndCause.CANCEL,
    )


async def test_what_waits_too_long_for_a_slot_is_handed_back_and_repeats_are_ignored(
    coordinator: Any, work: Work
) -> None:
    await work(slots=1).ready()
    first = coordinator.assign(*SLEEP)
    await coordinator.started(first)
    coordinator.assign(*SLEEP, task=first)
    second = coordinator.assign("true")
    told = await coordinator.over(second)
    assert told.handed_back == "sent ahead, and no slot became free in time"
    assert len(coordinator.of(first)) == 1


async def test_results_wait_while_the_coordinator_is_away(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    await work().ready()
    go = tmp_path / "go"
    task = coordinator.assign(
        "sh", "-c", f"while ! test -e {go}; do sleep 0.02; done; echo done > {go}"
    )
    await coordinator.started(task)
    await coordinator.go_away()
    go.touch()
    await eventually(lambda: go.read_text() == "done\n")
    assert len(coordinator.of(task)) == 1
    await coordinator.serve()
    told = await coordinator.over(task)
    assert told.exit.number == 0
    assert told.committed


async def test_without_contact_the_program_is_killed_at_the_end_of_the_lease(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    coordinator.lease_seconds, coordinator.renew_seconds = 0.6, 0.1
    await work().ready()
    beat = tmp_path / "beat"
    task = coordinator.assign("sh", "-c", f"while :; do echo x >> {beat}; sleep 0.02; done")
    await coordinator.started(task)
    await eventually(lambda: len(coordinator.held) > 6)
    await coordinator.go_away()
    sizes: list[int] = []

    def silent() -> bool:
        sizes.append(beat.stat().st_size)
        return len(sizes) > 12 and len(set(sizes[-12:])) == 1

    await eventually(silent)
    await coordinator.serve()
    told = await coordinator.over(task)
    assert "no contact" in told.fault
    assert told.exit is None


async def test_a_foreign_attempt_is_killed_without_a_word(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    await work().ready()
    beat = tmp_path / "beat"
    task = coordinator.assign("sh", "-c", f"echo $$ > {beat}; sleep 600")
    await coordinator.started(task)
    pid = int(await eventually(lambda: beat.exists() and beat.read_text()))
    coordinator.foreign = [Held(task, "lab", 1)]
    coordinator.order(Resync())
    await eventually(lambda: not Path(f"/proc/{pid}").exists())
    coordinator.foreign = []
    await coordinator.over(coordinator.assign("true"))
    assert len(coordinator.of(task)) == 1
    coordinator.order(Resync())
    await eventually(lambda: coordinator.held[-1] == [])


async def test_a_stale_verdict_kills_the_program(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    await work(slots=1).ready()
    task = "11111111-1111-4111-8111-111111111111"
    coordinator.codes[task] = "conflict.stale_attempt"
    beat = tmp_path / "beat"
    coordinator.assign("sh", "-c", f"echo $$ > {beat}; exec sleep 600", task=task)
    # The only slot: the next one runs when the first one is gone, which may not have said its pid.
    assert (await coordinator.over(coordinator.assign("true"))).committed
    pid = beat.read_text().strip() if beat.exists() else ""
    assert not pid or not Path(f"/proc/{pid}").exists()
    assert len(coordinator.of(task)) == 1


async def test_an_unknown_worker_kills_what_it_ran_and_registers_anew(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    worker = work()
    await worker.ready()
    beat = tmp_path / "beat"
    task = coordinator.assign("sh", "-c", f"echo $$ > {beat}; sleep 600")
    await coordinator.started(task)
    pid = int(await eventually(lambda: beat.exists() and beat.read_text()))
    coordinator.refusal = AuthenticationFailed("worker is gone: register again")
    coordinator.order(Resync())
    await worker.ready(2)
    assert not Path(f"/proc/{pid}").exists()
    assert len(set(worker.announced)) == 2
    record = json.loads((worker.folder / "worker.json").read_bytes())
    assert record["worker"] == coordinator.workers[1]
    assert (await coordinator.over(coordinator.assign("true"))).committed
    assert len(coordinator.of(task)) == 1


async def test_a_drain_finishes_what_runs_and_then_leaves(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    worker = work()
    await worker.ready()
    go = tmp_path / "go"
    task = coordinator.assign("sh", "-c", f"while ! test -e {go}; do sleep 0.02; done")
    await coordinator.started(task)
    coordinator.order(Drain(reason="maintenance"))
    await eventually(lambda: coordinator.leaving == "maintenance")
    late = await coordinator.over(coordinator.assign("true"))
    assert late.handed_back == "maintenance"
    assert not worker.status.done()
    go.touch()
    assert (await coordinator.over(task)).committed
    assert await worker.status == 0
    assert coordinator.left == ["maintenance"]


async def test_a_forced_drain_hands_back_and_leaves(coordinator: Any, work: Work) -> None:
    worker = work()
    await worker.ready()
    task = coordinator.assign(*SLEEP)
    await coordinator.started(task)
    coordinator.order(Drain(force=True, reason="power cut"))
    told = await coordinator.over(task)
    assert told.handed_back == "power cut"
    assert told.exit is None
    assert await worker.status == 0
    assert coordinator.left == ["power cut"]


async def test_a_worker_leaves_at_the_end_of_its_lifetime(coordinator: Any, work: Work) -> None:
    worker = work(lifetime=timedelta(seconds=0.3))
    await worker.ready()
    assert await worker.status == 0
    assert coordinator.left == ["its lifetime is over"]
    assert coordinator.registrations[0].lifetime_seconds == 0.3


async def test_what_still_runs_long_after_the_lifetime_is_handed_back(
    coordinator: Any, work: Work
) -> None:
    lifetime, grace = timedelta(seconds=0.5), timedelta(seconds=0.5)
    worker = work(lifetime=lifetime, lifetime_grace=grace)
    await worker.ready()
    task = coordinator.assign(*SLEEP)
    await coordinator.started(task)
    told = await coordinator.over(task)
    assert (told.handed_back, told.exit) == ("its lifetime is over", None)
    assert await worker.status == 0
    assert coordinator.left == ["its lifetime is over"]


async def test_many_small_tasks_in_turn_are_each_committed_once(
    coordinator: Any, work: Work
) -> None:
    await work(slots=2).ready()
    tasks: list[str] = []
    for number in range(60):
        if number >= 2:  # as many as there are slots
            await coordinator.over(tasks[number - 2])
        tasks.append(coordinator.assign("true"))
    for task in tasks:
        await coordinator.over(task)
        reports = coordinator.of(task)
        assert [report.committed for report in reports].count(True) == 1
        assert not [report for report in reports if report.handed_back or report.fault]
    assert len(coordinator.reports) <= 2 * len(tasks)
