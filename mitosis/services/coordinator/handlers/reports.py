"""What workers tell and ask: renewals, reports, uploads, goodbyes. The hot path."""

import logging
from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

from mitosis.artifacts.names import artifact_object, upload_of
from mitosis.contract import commands, subjects, wire, work
from mitosis.domain import task
from mitosis.domain.execution import Step
from mitosis.domain.limits import MAX_REASON_BYTES, clip_text
from mitosis.domain.task import Artifact, Task
from mitosis.domain.worker import DrainWorker, PauseWorker, Worker, WorkerPhase
from mitosis.errors import (
    AuthenticationFailed,
    InvalidInput,
    NotFound,
    ObjectsUnavailable,
    Rejection,
    StaleAttempt,
)
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.core import Core, Verbs
from mitosis.services.coordinator.departures import lose_worker, requeue, worker_left
from mitosis.services.coordinator.faults import MAX_UNCOUNTED_ATTEMPTS
from mitosis.services.coordinator.journal import Unit
from mitosis.services.coordinator.looks import Beginnings, Looks
from mitosis.services.coordinator.report_checks import (
    MAX_REPORTS,
    check_count,
    check_held,
    check_order,
    check_report,
    check_wanted,
    live_task,
)
from mitosis.services.coordinator.stopping import order_stop
from mitosis.services.coordinator.uploads import (
    GRANT_SECONDS,
    Grant,
    Output,
    Places,
    check_quota,
    check_size,
    open_place,
    part_urls,
    stored_size,
)

log = logging.getLogger(__name__)


class ReportHandlers:
    """Handlers of `mito.worker.<worker>.*`."""

    def __init__(self, core: Core, artifacts: Places) -> None:
        self._core = core
        self._artifacts = artifacts
        self._looks = Looks()
        self._beginnings = Beginnings()

    def close(self) -> None:
        """End what the store is still asked."""
        self._looks.close()
        self._beginnings.close()

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [
            ("renew", work.Renew, self.renew),
            ("report", work.Reports, self.report),
            ("upload", work.UploadWanted, self.upload),
            ("parts", work.PartsWanted, self.parts),
            ("leave", work.Leave, self.leave),
        ]

    # --- renew, leave, upload -----------------------------------------------------------------

    def renew(self, caller: Caller, body: work.Renew) -> None:
        """`renew`: prolong the lease, and compare what each side thinks the worker holds.

        While nothing can be stored it is only prolonged, at once: what runs goes on, and what was
        decided and is not stored yet is nothing to act on.
        """
        core, name = self._core, caller.owner
        state = self._worker(name)
        check_held(body.held)
        core.leases.heard(name)
        term = core.world.platform.term
        if core.journal.fault is not None:
            core.answer_at_once(caller, work.Renewed(state.lease_seconds, [], state.slots, term))
            return
        held = {(h.task, h.attempt) for h in body.held}
        mine = {(t, core.world.tasks[t].attempt) for t in core.world.attempts.get(name, ())}
        foreign = [h for h in body.held if (h.task, h.attempt) not in mine]
        known = [core.world.tasks[one] for one, _ in sorted(mine)]
        unit = core.journal.unit(f"worker:{name}")
        unit.then(lambda _: self._tell_again(state, known, held))
        self._note_leaving(unit, name, body.leaving)
        if name in core.dispatcher.unreachable:
            core.dispatcher.unreachable.discard(name)
            core.dispatcher.worker_ready(unit, name)
        core.answer(unit, caller, work.Renewed(state.lease_seconds, foreign, state.slots, term))

    def _tell_again(self, state: Worker, known: list[Task], held: set[tuple[str, int]]) -> None:
        """Repeat what the worker may have missed.

        Only what was decided before its renewal, and only now that all of that is stored: what is
        on its way to the disk may still be refused, and then nobody may have acted on it.
        """
        core = self._core
        for one in known:
            if one.cancel_requested:
                order_stop(core, one)  # before it is pushed, so it is not begun
        for one in known:
            if (one.task, one.attempt) not in held:
                core.dispatcher.push_assignment(one.task, state.worker, one.attempt)
        if state.phase is WorkerPhase.DRAINING:
            message = wire.encode(work.Drain(state.drain_forced))
            core.publish(subjects.control(state.worker), message)

    def leave(self, caller: Caller, body: work.Leave) -> None:
        """`leave`: goodbye; nothing that it ran is alive."""
        core = self._core
        reason = clip_text(body.reason, MAX_REASON_BYTES)  # a goodbye must not be refused
        unit = core.journal.unit(f"worker:{caller.owner}", caller.request_id)
        if caller.owner in core.world.workers:
            if body.died:
                lose_worker(core, unit, caller.owner, reason)
            else:
                worker_left(core, unit, caller.owner, reason)
        core.answer(unit, caller, commands.Done())

    async def upload(self, caller: Caller, body: work.UploadWanted) -> None:
        """`upload`: a place for an output, reserved against the group's quota."""
        core = self._core
        check_wanted(body)
        state = self._live(caller.owner, body.task, body.attempt)
        former = core.uploads.of_output(body.task, body.attempt, body.kind)
        if former is not None and self._goes_on(former, body.size_bytes):
            grant = former
        else:
            if former is not None:
                self._beginnings.drop(former.upload)
                self._close(former)
            grant = self._reserve(caller.owner, state, body)
        begin = partial(open_place, core.uploads, self._artifacts, grant)
        try:
            place = await self._beginnings.opened(grant.upload, begin)
            unit = core.journal.unit(f"worker:{caller.owner}", caller.request_id)
        except BaseException:
            if not self._goes_on(grant, body.size_bytes):
                core.uploads.take(grant.upload)
            raise
        granted = work.UploadGranted(
            grant.object_name, place.url, GRANT_SECONDS, place.parts, place.part_bytes
        )
        core.answer(unit, caller, granted)

    def _goes_on(self, grant: Grant, size_bytes: int) -> bool:
        """Whether the store is still making this place, or has since nobody waited for it."""
        return grant.size_bytes == size_bytes and self._beginnings.is_under_way(grant.upload)

    def _reserve(self, worker: str, state: Task, body: work.UploadWanted) -> Grant:
        core = self._core
        group, old = core.world.groups[state.group], state.artifact(body.kind)
        upload = core.ids.uuid()
        return core.uploads.grant(
            Grant(
                upload=upload,
                object_name=artifact_object(body.task, body.attempt, upload, body.kind),
                owner=f"worker:{worker}",
                group=state.group,
                size_bytes=body.size_bytes,
                task=body.task,
                attempt=body.attempt,
                kind=body.kind,
            ),
            used_bytes=core.world.used_bytes.get(state.group, 0) - (old.size_bytes if old else 0),
            quota_bytes=group.storage_quota_bytes,
        )

    def parts(self, caller: Caller, body: work.PartsWanted) -> None:
        """`parts`: URLs of the next parts of a large output."""
        core = self._core
        grant = self._granted(caller.owner, body.object_name)
        if grant is None:
            raise NotFound(f"there is no open upload of {body.object_name[:200]}: begin again")
        urls = part_urls(core.uploads, self._artifacts, grant, body.first)
        unit = core.journal.unit(f"worker:{caller.owner}", caller.request_id)
        core.answer(unit, caller, commands.PartUrls(body.first, urls))

    # --- report -------------------------------------------------------------------------------

    def report(self, caller: Caller, body: work.Reports) -> Coroutine[Any, Any, None] | None:
        """`report`: everything new about attempts, in order; each part is judged on its own."""
        check_count(len(body.reports), "reports", MAX_REPORTS)
        if any(report.artifacts for report in body.reports):
            return self._report_with_artifacts(caller, body)
        self._report(caller, body, {})  # the hot path makes no task
        return None

    async def _report_with_artifacts(self, caller: Caller, body: work.Reports) -> None:
        wanted: dict[Output, str] = {}
        for report in body.reports:
            if self._judge(caller.owner, report) is None:
                for artifact in report.artifacts:
                    output = (report.task, report.attempt, artifact.kind)
                    wanted[output] = artifact.object_name
        look = partial(self._real_size, caller.owner)
        self._report(caller, body, await self._looks.sizes(wanted, look))

    async def _real_size(self, worker: str, object_name: str) -> int | None:
        grant = self._granted(worker, object_name)
        if grant is None:  # of an earlier term
            return await self._artifacts.size_of(object_name)
        try:
            return await stored_size(self._core.uploads, self._artifacts, grant)
        except InvalidInput as error:
            log.warning("the parts of %s of worker %s: %s", object_name, worker, error)
            return None

    def _report(self, caller: Caller, body: work.Reports, sizes: dict[str, int | None]) -> None:
        core, name = self._core, caller.owner
        self._worker(name)
        unit = core.journal.unit(f"worker:{name}", caller.request_id)
        self._note_leaving(unit, name, body.leaving)  # or it would get what it hands back
        codes = [self._apply(unit, name, report, sizes) for report in body.reports]
        if name in core.world.workers:
            core.dispatcher.worker_ready(unit, name)
        core.answer(unit, caller, work.Verdicts(codes, core.world.platform.term))

    def _note_leaving(self, unit: Unit, name: str, reason: str) -> None:
        """A worker that leaves on its own account is given nothing more."""
        if reason:
            text = clip_text(reason, MAX_REASON_BYTES)
            unit.run(subjects.worker_tail(name), DrainWorker(text))

    def _apply(
        self, unit: Unit, name: str, report: work.TaskReport, sizes: dict[str, int | None]
    ) -> str:
        error = self._judge(name, report)
        if error is not None:
            if not isinstance(error, StaleAttempt):
                log.warning("report of %s on %.60r refused: %s", name, report.task, error)
            return error.code
        if any(artifact.object_name not in sizes for artifact in report.artifacts):
            return ObjectsUnavailable.code  # not to be known just now: it comes again
        self._take_in(unit, name, self._core.world.tasks[report.task].group, report, sizes)
        return ""

    def _judge(self, name: str, report: work.TaskReport) -> Rejection | None:
        """Say why a report cannot be taken in, as a whole; None: it can."""
        try:
            check_report(report)
            check_order(report, self._live(name, report.task, report.attempt))
        except Rejection as error:
            return error
        return None

    def _take_in(
        self,
        unit: Unit,
        name: str,
        group: str,
        report: work.TaskReport,
        sizes: dict[str, int | None],
    ) -> None:
        core = self._core
        # The group is what the task says, not the worker: it decides where the commit is stored.
        tail = subjects.task_tail(group, report.task)
        steps, attempt = self._steps(report), report.attempt
        if report.started:
            core.dispatcher.faults.started(name)
            unit.run(tail, task.ReportStart(name, attempt, steps if not report.exit else ()))
        if report.exit is not None:
            core.dispatcher.paces.took(name, report.exit.usage.wall_seconds)
            unit.run(tail, task.ReportExit(name, attempt, report.exit, steps))
        elif steps and not report.started:
            unit.run(tail, task.ReportSteps(name, attempt, steps))
        for text in report.warnings:
            unit.run(tail, task.WarnTask(name, attempt, clip_text(text, MAX_REASON_BYTES)))
        for artifact in report.artifacts:
            self._store(unit, tail, name, report, artifact, sizes[artifact.object_name])
        if report.committed:
            if report.exit is None:  # it had outputs, and kept its slot while they were uploaded
                core.dispatcher.paces.was_slow(name)
            self._commit(unit, tail, name, report)
        elif report.handed_back:
            core.dispatcher.paces.was_slow(name)
            counted = self._is_without_end(report)
            requeue(core, unit, report.task, report.handed_back, counted=counted)
        elif report.fault:
            self._fault(unit, name, report)

    def _commit(self, unit: Unit, tail: str, name: str, report: work.TaskReport) -> None:
        """End the task, or let it wait for its next attempt."""
        core, now = self._core, self._core.clock.now()
        command = task.CommitTask(name, report.attempt, now, report.cut_short, report.unstored)
        for event in unit.run(tail, command):
            match event:
                case task.ArtifactDeleted(_, object_name):
                    unit.then(lambda _, gone=object_name: self._discard(gone))  # type: ignore[misc]
                case task.TaskRetryScheduled():
                    core.retries.begin(report.task)
                case _:
                    pass

    def _fault(self, unit: Unit, name: str, report: work.TaskReport) -> None:
        """Give the task to somebody else, after a worker that sets nothing up was paused."""
        core = self._core
        core.dispatcher.paces.was_slow(name)
        before_start = report.before_start and not core.world.tasks[report.task].started
        if before_start and (count := core.dispatcher.faults.failed(name, report.task)):
            why = clip_text(f"{count}: {report.fault}", MAX_REASON_BYTES)
            log.warning("worker %s is paused: %s", name, why)
            unit.run(subjects.worker_tail(name), PauseWorker(why))
        counted = not before_start or self._is_without_end(report)
        blamed = report.fault if report.by_task else f"worker fault: {report.fault}"
        requeue(core, unit, report.task, blamed, counted=counted)

    def _is_without_end(self, report: work.TaskReport) -> bool:
        """Whether a task was begun so often that this attempt counts in any case."""
        begun = report.attempt - self._core.world.tasks[report.task].retries
        return begun > MAX_UNCOUNTED_ATTEMPTS

    def _store(
        self,
        unit: Unit,
        tail: str,
        name: str,
        report: work.TaskReport,
        artifact: work.StoredArtifact,
        size: int | None,
    ) -> None:
        """Name an uploaded object, if it is there and not larger than was granted.

        What is refused is removed, but only ever an object of this very attempt that no event
        names: a worker must not be able to have others' objects deleted.
        """
        core = self._core
        state = core.world.tasks[report.task]
        if any(known.object_name == artifact.object_name for known in state.artifacts):
            return
        grant = self._granted(name, artifact.object_name)
        if grant is not None:
            core.uploads.take(grant.upload)
        try:
            size = check_size(size, grant.size_bytes if grant else artifact.size_bytes)
            quota = core.world.groups[state.group].storage_quota_bytes
            old = state.artifact(artifact.kind)
            used = core.world.used_bytes.get(state.group, 0) - (old.size_bytes if old else 0)
            reserved = 0 if grant else core.uploads.reserved_bytes(state.group)
            check_quota(state.group, size, used + reserved, quota)
        except Rejection as error:
            text = f"{artifact.kind.value}: not stored: {error}"
            unit.run(tail, task.WarnTask(name, report.attempt, text))
            unit.then(lambda _: self._discard(artifact.object_name))
            return
        stored = Artifact(artifact.kind, artifact.object_name, size, artifact.sha256)
        unit.run(tail, task.StoreArtifact(name, report.attempt, stored))

    def _close(self, former: Grant) -> None:
        """Free what a place reserved to which an output could not be sent.

        Its object, if there is one, is left to the sweeper: a report may still name it.
        """
        core = self._core
        store_id = core.uploads.store_id(former.upload)
        core.uploads.take(former.upload)
        if store_id:
            core.in_background(self._artifacts.drop_parts(former.object_name, store_id))

    def _granted(self, worker: str, object_name: str) -> Grant | None:
        """The open upload of this very object; the id alone could be that of somebody else's."""
        grant = self._core.uploads.find(upload_of(object_name), f"worker:{worker}")
        return grant if grant is not None and grant.object_name == object_name else None

    def _discard(self, object_name: str) -> None:
        self._core.in_background(self._artifacts.delete([object_name]))

    # --- checks -------------------------------------------------------------------------------

    def _worker(self, name: str) -> Worker:
        state = self._core.world.workers.get(name)
        if state is None:
            raise AuthenticationFailed(f"worker {name} is gone: register again", worker=name)
        return state

    def _live(self, name: str, uuid: str, attempt: int) -> Task:
        return live_task(self._core.world, name, uuid, attempt)

    def _steps(self, report: work.TaskReport) -> tuple[Step, ...]:
        """Turn ages into times of the coordinator's clock."""
        now = self._core.clock.now()
        return tuple(
            Step(step.state, now - timedelta(seconds=step.age_seconds)) for step in report.steps
        )
