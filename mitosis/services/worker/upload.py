"""Delivering outputs: pack in threads, ask for a place, PUT, and wait for the verdict.

What cannot be stored becomes a warning on the task, never its failure; the other outputs are
still tried. The whole delivery has a limit.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from mitosis.artifacts.pack import (
    Packed,
    Reader,
    SpoiledFolder,
    pack_directory,
    pack_std_log,
)
from mitosis.artifacts.sending import send
from mitosis.artifacts.transfer import SYSTEM_TRUST, Stopper, Transfers
from mitosis.contract.commands import PartUrls
from mitosis.contract.work import PartsWanted, StoredArtifact, UploadGranted, UploadWanted
from mitosis.domain.durations import format_size
from mitosis.domain.task import ArtifactKind
from mitosis.errors import (
    LimitReached,
    MitosisError,
    NotAllowed,
    NotFound,
    ObjectsUnavailable,
    StaleAttempt,
    Unavailable,
)
from mitosis.processes.runs import RunResult
from mitosis.services.worker.attempt import Attempt
from mitosis.services.worker.core import STALE
from mitosis.services.worker.drafts import Draft, Key
from mitosis.services.worker.link import LONGEST_PAUSE_SECONDS, Link, longer
from mitosis.services.worker.masking import MaskedLog, Masking
from mitosis.services.worker.run import holds_something, stream_warnings
from mitosis.tls import Trust

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_WARNING = 900  # characters; the domain takes 1000 bytes
_MAX_REFUSED_URLS = 3


class Delivered(Protocol):
    """What a delivery needs of the core."""

    def artifact(self, attempt: Attempt, artifact: StoredArtifact) -> Draft:
        """The report about one stored output."""

    def delivered(
        self,
        attempt: Attempt,
        warnings: list[str],
        *,
        timed_out: bool,
        fault: str = "",
        cut_short: bool = False,
        unstored: str = "",
    ) -> None:
        """The delivery is over."""

    def drop(self, key: Key) -> None:
        """The attempt is not ours any more."""


class Deliveries:
    """Deliveries under way. Close it when done.

    Args:
        link: To the coordinator.
        core: Told when a delivery is over.
        report: Queues a report.
        outbox: Folder for archives that are being sent.
        threads: How many archives are packed or sent at once.
        limit_seconds: For one delivery.
        reader: Whom the tasks run as, if that is another user.
    """

    def __init__(
        self,
        link: Link,
        core: Delivered,
        report: Callable[[Draft], None],
        outbox: Path,
        *,
        threads: int,
        trust: Trust = SYSTEM_TRUST,
        limit_seconds: float,
        reader: Reader | None = None,
    ) -> None:
        self.reader = reader
        self._link, self._core, self._report = link, core, report
        self._outbox = outbox
        self._limit = limit_seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="deliver")
        self._transfers = Transfers(trust=trust)
        self._running: dict[Attempt, asyncio.Task[None]] = {}
        self._cut: set[Attempt] = set()

    def begin(self, attempt: Attempt, result: RunResult) -> None:
        """Deliver the outputs of a run that has ended."""
        delivery = _Delivery(self, attempt, self._limit)
        task = asyncio.create_task(self._deliver(delivery, result), name=f"deliver {attempt.key}")
        self._running[attempt] = task
        task.add_done_callback(partial(self._over, delivery))

    def abort(self, attempt: Attempt) -> None:
        """End a delivery."""
        task = self._running.get(attempt)
        if task is not None:
            task.cancel()

    def cut(self, attempt: Attempt) -> None:
        """End a delivery for the owner of the task; what is stored stays stored."""
        if attempt in self._running:
            self._cut.add(attempt)
            self.abort(attempt)

    async def close(self) -> None:
        """End all deliveries and their threads."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._pool.shutdown)

    async def _deliver(self, delivery: "_Delivery", result: RunResult) -> None:
        try:
            await delivery.run(result)
        except TimeoutError:
            delivery.timed_out = True
            delivery.lose(f"outputs: not all could be stored within {self._limit:g} s")
        except Exception as error:  # a mistake here must not keep the task for ever
            log.exception("delivering the outputs of task %s failed", delivery.attempt.key[0])
            delivery.lose(f"outputs: not all could be stored ({type(error).__name__})")

    def _over(self, delivery: "_Delivery", task: asyncio.Task[None]) -> None:
        attempt = delivery.attempt
        self._running.pop(attempt, None)
        delivery.end()
        cut_short = task.cancelled() and attempt in self._cut
        self._cut.discard(attempt)
        if cut_short:
            delivery.warn("outputs: not all are stored: the task was cancelled meanwhile")
        if not task.cancelled() or attempt.dropped or cut_short:
            self._core.delivered(
                attempt,
                delivery.warnings,
                timed_out=delivery.timed_out,
                fault=delivery.fault,
                cut_short=cut_short,
                unstored=delivery.unstored,
            )

    # --- for the deliveries -------------------------------------------------------------------

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work in the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def archive_path(self) -> Path:
        """A new name in the outbox, which is made anew when something has removed it.

        Raises:
            OSError: it cannot be made.
        """
        self._outbox.mkdir(mode=0o700, exist_ok=True)
        return self._outbox / f"{uuid.uuid4().hex}.tar.gz"

    def drop(self, attempt: Attempt) -> None:
        """The coordinator says that the attempt is not ours any more."""
        self._core.drop(attempt.key)

    async def grant(self, wanted: UploadWanted, spend: Callable[[float], None]) -> UploadGranted:
        """Ask for a place; keeps asking while nobody answers.

        Args:
            wanted: What it is for.
            spend: Told of the seconds in which the answer is that the store is away.
        """
        return await self._asked("upload", wanted, UploadGranted, spend)

    async def send(self, granted: UploadGranted, packed: Packed, stop: Callable[[], bool]) -> None:
        """Send an archive to its place."""

        async def urls(first: int) -> list[str]:
            wanted = PartsWanted(granted.object_name, first)
            return (await self._asked("parts", wanted, PartUrls)).urls

        await send(
            self._transfers,
            granted,
            packed.path,
            packed.size_bytes,
            urls,
            lambda piece: self.in_thread(lambda: piece(stop)),
        )

    async def _asked(
        self,
        verb: str,
        body: msgspec.Struct,
        result: type[T],
        spend: Callable[[float], None] = lambda _: None,
    ) -> T:
        pause, command_id = 0.0, str(uuid.uuid4())
        clock = asyncio.get_running_loop().time
        while True:
            begun, answered = clock(), False
            try:
                return await self._link.ask(verb, body, result, command_id=command_id)
            except Unavailable as error:
                if isinstance(error, ObjectsUnavailable):
                    answered, command_id = True, str(uuid.uuid4())  # so ask anew
                if not pause:
                    log.warning("no place for an upload yet: %s", error)
            pause = longer(pause)
            await asyncio.sleep(pause)
            if answered:
                spend(clock() - begun)

    async def judged(
        self, attempt: Attempt, artifact: StoredArtifact, spend: Callable[[float], None]
    ) -> str:
        """Report one stored output; its verdict.

        Args:
            attempt: Whose output.
            artifact: What is stored.
            spend: Told of the seconds in which the answer is that the store is away; what it raises
                ends the wait.
        """
        clock = asyncio.get_running_loop().time
        verdict: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        last: float | None = None

        def decide(code: str) -> None:
            if not verdict.done():
                verdict.set_result(code)

        def goes_on(asked_seconds: float) -> bool:
            nonlocal last
            if verdict.done():  # cut short meanwhile
                return False
            # With the pause before it; what is longer than that was spent without any answer.
            since, last = last, clock()
            most = asked_seconds + LONGEST_PAUSE_SECONDS
            try:
                spend(asked_seconds if since is None else min(last - since, most))
            except TimeoutError as error:
                verdict.set_exception(error)
                return False
            return True

        draft = self._core.artifact(attempt, artifact)
        draft.on_verdict, draft.on_unjudged = decide, goes_on
        self._report(draft)
        return await verdict


class _Delivery:
    """One delivery: packs everything, releases the run, then sends one archive after another.

    The limit counts packing and sending, and the time in which the coordinator answers that the
    store is away; not the time in which it does not answer.
    """

    def __init__(self, all_: Deliveries, attempt: Attempt, limit_seconds: float) -> None:
        self._all, self.attempt = all_, attempt
        self._left_seconds = limit_seconds
        self.timed_out = False
        self.fault = self.unstored = ""
        self._stopper = Stopper()
        self._archives: list[Path] = []
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text[:MAX_WARNING])

    def lose(self, text: str) -> None:
        """An output could not be stored: a warning, and for the first one the task's reason."""
        self.warn(text)
        self.unstored = self.unstored or text[:MAX_WARNING]

    def end(self) -> None:
        """Let threads stop, give the run back, remove the archives."""
        self._stopper.stop()
        self._release()
        for path in self._archives:
            path.unlink(missing_ok=True)

    async def run(self, result: RunResult) -> None:
        packed = []
        # What was stopped has its outcome, whatever is left of its outputs.
        own = result.cause == "own"
        for kind, work in self._packings(result):
            archive = await self._pack(kind, work, own=own)
            if archive is not None:
                packed.append((kind, archive))
        if self.attempt.assignment.spec.terminal:
            for text in stream_warnings(result):
                self.warn(text)
        self._release()
        if self.fault:
            return
        for kind, archive in packed:
            await self._store(kind, archive)

    def _packings(
        self, result: RunResult
    ) -> list[tuple[ArtifactKind, Callable[[Path], Packed | None]]]:
        folder, stop, reader = result.folder, self._stopper, self._all.reader
        found: list[tuple[ArtifactKind, Callable[[Path], Packed | None]]] = []
        for kind, part in ((ArtifactKind.RESULT, "result"), (ArtifactKind.EXEC_LOG, "exec")):
            # Looking costs less than a thread.
            if holds_something(folder / part) is not False:
                packing = partial(_pack_folder, folder / part, kind.value, stop, reader)
                found.append((kind, packing))
        if self.attempt.assignment.spec.terminal:
            output = folder / "output"
            logs = partial(_pack_output, output, stop, self.attempt.masking)
            found.append((ArtifactKind.STD_LOG, logs))
        return found

    async def _pack(
        self, kind: ArtifactKind, work: Callable[[Path], Packed | None], *, own: bool
    ) -> Packed | None:
        try:
            path = self._all.archive_path()
            self._archives.append(path)
            async with self._limited():
                packed = await self._all.in_thread(partial(work, path))
        except SpoiledFolder as error:
            self.warn(f"{kind.value}: {error}")
            return None
        except TimeoutError:
            raise  # of the whole delivery; it is an OSError, too
        except OSError as error:  # of the archive: what cannot be read is only left out
            text = f"{kind.value}: could not be packed on the worker: {error.strerror}"
            if own:
                self.fault = self.fault or text
            else:
                self.warn(text)
            return None
        if packed is not None:
            for text in packed.warnings:
                self.warn(f"{kind.value}: {text}")
        return packed

    async def _store(self, kind: ArtifactKind, packed: Packed) -> None:
        try:
            granted = await self._send(kind, packed)
        except StaleAttempt:
            self._all.drop(self.attempt)
            return
        except LimitReached as error:
            size = format_size(packed.size_bytes)
            self.lose(
                f"{kind.value}: {size} are over the quota and were not stored ({error.message})"
            )
            return
        except MitosisError as error:
            size = format_size(packed.size_bytes)
            self.lose(f"{kind.value}: {size} were not stored: {error.message}")
            return
        artifact = StoredArtifact(kind, granted.object_name, packed.size_bytes, packed.sha256)
        code = await self._all.judged(self.attempt, artifact, self._spend)
        if code and code != STALE:
            self.lose(f"{kind.value}: not stored: the coordinator refused it ({code})")

    async def _send(self, kind: ArtifactKind, packed: Packed) -> UploadGranted:
        """Get a place and send; again with a new place while that may help."""
        of = self.attempt.assignment
        wanted = UploadWanted(of.task, of.group, of.attempt, kind, packed.size_bytes)
        pause, refused = 0.0, 0
        while True:
            granted = await self._all.grant(wanted, self._spend)
            async with self._limited():
                try:
                    await self._all.send(granted, packed, self._stopper)
                    return granted
                except (NotAllowed, NotFound):
                    # A URL has expired after a long wait for the store, or the coordinator was
                    # started anew and knows nothing of this upload.
                    refused += 1
                    if refused == _MAX_REFUSED_URLS:
                        raise
                except ObjectsUnavailable as error:
                    if not error.details.get("again"):
                        raise
                    log.warning("upload of %s of task %s: %s", kind.value, of.task, error)
                pause = longer(pause)
                await asyncio.sleep(pause)

    @contextlib.asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            async with asyncio.timeout(max(0.001, self._left_seconds)):
                yield
        finally:
            self._left_seconds -= clock() - begun

    def _spend(self, seconds: float) -> None:
        """Count time against the limit.

        Raises:
            TimeoutError: Nothing is left of it.
        """
        self._left_seconds -= seconds
        if self._left_seconds <= 0:
            raise TimeoutError

    def _release(self) -> None:
        run, self.attempt.run = self.attempt.run, None
        if run is not None:
            run.release()


def _pack_folder(
    folder: Path, top: str, stop: Callable[[], bool], reader: Reader | None, archive: Path
) -> Packed | None:
    return pack_directory(folder, top, archive, stop=stop, reader=reader)


def _pack_output(
    folder: Path, stop: Callable[[], bool], masking: Masking | None, archive: Path
) -> Packed:
    through = partial(MaskedLog, masking) if masking is not None else None
    return pack_std_log(
        folder / "stdout.log", folder / "stderr.log", archive, stop=stop, through=through
    )
