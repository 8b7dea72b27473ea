"""The core's wishes, carried out by the engine, the reporter and the deliveries."""

import asyncio
from functools import partial

from mitosis.artifacts.pack import Reader
from mitosis.contract.commands import Registered
from mitosis.contract.work import Held
from mitosis.domain.task import Exit, ExitKind
from mitosis.errors import WorkerFault
from mitosis.processes.guard.linux import machine_clock
from mitosis.processes.run import Run
from mitosis.processes.runs import RunResult, RunSpec
from mitosis.processes.user import TaskUser
from mitosis.services.worker.attempt import Attempt, Phase
from mitosis.services.worker.core import Core
from mitosis.services.worker.drafts import Draft, Key
from mitosis.services.worker.faults import complaint, file_system_of
from mitosis.services.worker.following import Followed
from mitosis.services.worker.identity import WorkFolder
from mitosis.services.worker.lanes import Lanes
from mitosis.services.worker.lease import LeaseKeeper
from mitosis.services.worker.line import LINE_PATIENCE_SECONDS
from mitosis.services.worker.link import Link
from mitosis.services.worker.run import Ending, Fault, TaskTerms, run_spec
from mitosis.services.worker.slots import SlotEngine
from mitosis.services.worker.upload import Deliveries
from mitosis.tls import Trust

MAX_DELIVERY_THREADS = 4


class Parts:
    """The parts of one registration, wired to each other; implements the core's `Effects`.

    Attributes:
        core, reporter, deliveries, lease: The parts.
    """

    def __init__(
        self,
        link: Link,
        engine: SlotEngine,
        registered: Registered,
        folder: WorkFolder,
        terms: TaskTerms,
        *,
        slots: int,
        renew_seconds: float,
        trust: Trust,
        upload_seconds: float,
        user: TaskUser | None = None,
    ) -> None:
        self._engine = engine
        self._slots_folder = folder.slots
        self._file_system = file_system_of(folder.slots)
        self._terms = terms
        self._nothing_held = asyncio.Event()
        #: Why a work folder that is gone cannot be made anew; empty when nobody has tried.
        self.not_restored = ""
        self.core = Core(self, slots)
        self.reporter = Lanes(
            link, self.core.verdict, machine_clock, self._leaving, lambda: self.core.waiting
        )
        self.deliveries = Deliveries(
            link,
            self.core,
            self.reporter.add,
            folder.outbox(),
            threads=min(slots, MAX_DELIVERY_THREADS),
            trust=trust,
            limit_seconds=upload_seconds,
            reader=None if user is None else Reader(user.uid, user.groups),
        )
        self.lease = LeaseKeeper(
            link,
            min(registered.renew_seconds, renew_seconds),
            self._held,
            self._prolong,
            self.core.drop_foreign,
            machine_clock,
            self.resize,
            self._leaving,
        )
        engine.on_free = self.core.fill

    def _held(self) -> list[Held]:
        return self.core.held

    def _leaving(self) -> str:
        return self.core.draining

    def drain(self, reason: str, *, force: bool) -> None:
        """Take nothing new, and say so at once, or the coordinator would go on giving."""
        self.core.drain(reason, force=force)
        self.lease.ask_now()

    def _prolong(self, lease_seconds: float, measured_from: float) -> None:
        self._engine.renew(lease_seconds, measured_from=measured_from)
        if self.core.waiting:
            self.core.fill()

    def find_run(self, task: str, attempt: int) -> Followed | None:
        """What somebody who follows an attempt can read."""
        held = self.core.attempt((task, attempt))
        if held is None:
            return Followed(None, over=True) if self.core.is_over((task, attempt)) else None
        run = held.run if isinstance(held.run, Run) else None
        if held.phase is Phase.LINED_UP:
            run = None
        over = held.phase in {Phase.DELIVERING, Phase.REPORTED}
        return Followed(run, over, held.masking)

    def resize(self, slots: int) -> None:
        """Run so many at once from now on."""
        self._engine.grow(slots)
        self.core.resize(slots)

    async def wait_until_empty(self) -> None:
        """Wait until nothing is held."""
        while not self.core.empty:
            self._nothing_held.clear()
            await self._nothing_held.wait()

    # --- Effects ------------------------------------------------------------------------------

    def now(self) -> float:
        """The machine's clock."""
        return machine_clock()

    def free_slots(self) -> int:
        """Slots of the engine that can take a program.

        None while the lease is over: what comes before the next renewal is answered waits for it. A
        start would be refused and counted as a loss, again and again within milliseconds.
        """
        if self._engine.lease_is_over:
            return 0
        free = self._engine.free_slots
        if free and self._engine.slots > self.core.slots:  # fewer are wanted than there are
            free = max(0, min(free, self.core.slots - len(self._engine.runs)))
        return free

    def start(self, attempt: Attempt) -> Run | None:
        """Start the program of an attempt."""
        end: Ending
        try:
            return self._engine.start_task(
                self._spec(attempt),
                on_started=partial(self._started, attempt),
                on_ended=partial(self._ended, attempt),
            )
        except ValueError as error:
            end = Exit(ExitKind.NOT_STARTED, reason=str(error)[:500])
        except WorkerFault as error:
            end = Fault(f"the worker could not set the task up: {error}", before_start=True)
        asyncio.get_running_loop().call_soon(self.core.not_started, attempt, end)
        return None

    def _spec(self, attempt: Attempt) -> RunSpec:
        return run_spec(attempt.assignment, self._terms, attempt.secrets, attempt.masking)

    def line_up(self, attempt: Attempt, most: int) -> Run | None:
        """Give the program of an attempt to a slot that is taken."""
        if self._engine.slots > self.core.slots or self._engine.lease_is_over:
            return None
        try:
            return self._engine.line_up(
                partial(self._spec, attempt),
                most=most,
                patience_seconds=LINE_PATIENCE_SECONDS,
                on_started=partial(self._started, attempt),
                on_ended=partial(self._ended, attempt),
            )
        except ValueError:
            return None  # `start` says why, when its turn comes

    def _started(self, attempt: Attempt, run: Run) -> None:
        self.core.started(attempt, run.started_at)

    def _ended(self, attempt: Attempt, _run: Run, result: RunResult) -> None:
        self.core.ended(attempt, result)

    def deliver(self, attempt: Attempt, result: RunResult) -> None:
        """Pack and upload."""
        self.deliveries.begin(attempt, result)

    def abort_delivery(self, attempt: Attempt) -> None:
        """Stop packing and uploading."""
        self.deliveries.abort(attempt)

    def cut_delivery(self, attempt: Attempt) -> None:
        """Stop packing and uploading, with what is stored."""
        self.deliveries.cut(attempt)

    def report(self, draft: Draft) -> None:
        """Queue a report."""
        self.reporter.add(draft)

    def remind(self, attempt: Attempt, seconds: float) -> None:
        """Come back to an attempt that waits for a slot."""
        asyncio.get_running_loop().call_later(seconds, self.core.waited, attempt)

    def forget_reports(self, key: Key) -> None:
        """Drop reports that wait."""
        self.reporter.forget(key)

    def complaint(self) -> str:
        """Look at the file system and at the engine."""
        if self._engine.is_broken:
            return "no runner can be started any more: start the worker anew"
        found = complaint(self._slots_folder, self._file_system)
        return f"{found}; {self.not_restored}" if found and self.not_restored else found

    def idle(self) -> None:
        """Nothing is held."""
        self._nothing_held.set()
