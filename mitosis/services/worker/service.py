"""The worker's life: lock a folder, register, serve until it is to leave, say goodbye.

A registration can end without the worker wanting it (its lease was over, its token is refused).
Then everything that runs is killed, and it registers anew.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mitosis.config.locations import data_dir
from mitosis.config.trust import nats_trust, store_trust
from mitosis.config.worker import WorkerConfig
from mitosis.contract.commands import Done
from mitosis.contract.work import Drain, Leave
from mitosis.errors import (
    AuthenticationFailed,
    Misconfigured,
    MitosisError,
    Unavailable,
    WorkerFault,
)
from mitosis.nats.connection import Connection
from mitosis.processes.environment import clean_environment
from mitosis.processes.guard.linux import machine_clock
from mitosis.processes.user import TaskUser, own_user, task_user
from mitosis.services.worker import epitaph
from mitosis.services.worker.assignments import Inbox
from mitosis.services.worker.drain import Departure
from mitosis.services.worker.effects import Parts
from mitosis.services.worker.following import Followers
from mitosis.services.worker.identity import Machine, WorkFolder, this_machine
from mitosis.services.worker.link import NatsLink, Unregistered, longer
from mitosis.services.worker.registration import (
    Membership,
    UserAccess,
    register,
    registration,
)
from mitosis.services.worker.run import TaskTerms
from mitosis.services.worker.secrets import Fetching
from mitosis.services.worker.slots import SlotEngine

log = logging.getLogger(__name__)

LEAVE_SECONDS = 5.0


async def run_worker(
    config: WorkerConfig,
    access: UserAccess,
    *,
    departure: Departure | None = None,
    announce: Callable[[str], None] | None = None,
    handle_signals: bool = True,
    adopts_orphans: bool = False,
) -> int:
    """Be a worker until a signal, an order or the end of the lifetime.

    Args:
        config: The worker's settings; without `work_dir`, the first free default folder is used.
        access: The user who registers it.
        departure: Where to wish that it leaves; None: an own one.
        announce: Gets the UUID after each registration; None: a line on standard output.
        handle_signals: Leave at SIGTERM and SIGINT; hand tasks back at the second one.
        adopts_orphans: This process called `become_subreaper` and has no other children.

    Returns:
        The exit status: 0 after leaving in order, 1 when something of a task may still be alive.

    Raises:
        Misconfigured: The work folder, the user of the tasks, the isolation or the environment
            is not to be had.
        MitosisError: The first registration failed.
    """
    user, base = _tasks_user_and_environment(config)
    folder = await asyncio.to_thread(_open_folder, config.work_dir)
    departure = departure or Departure()
    undo = departure.catch_signals() if handle_signals else None
    try:
        machine = this_machine(folder.path)
        engine = SlotEngine(
            config.slots,
            folder.slots,
            lock_fds=[folder.lock_fd],
            epitaph=epitaph.command(folder.epitaph),
            epitaph_env=epitaph.environment(),
            adopts_orphans=adopts_orphans,
            isolate=config.isolate == "pid",
            user=user,
        )
        if user is not None:
            folder.let_others_pass()
        await _start(engine, config)
        worker = Worker(config, folder, machine, engine, base, departure, announce or _print_line)
        return await worker.run(access)
    finally:
        if undo is not None:
            undo()
        folder.close()


def _open_folder(given: Path | None) -> WorkFolder:
    if given is None:
        return WorkFolder.open_any(data_dir() / "work")
    return WorkFolder.open(given.expanduser())


def _tasks_user_and_environment(
    config: WorkerConfig,
) -> tuple[TaskUser | None, dict[str, str]]:
    """Whom tasks run as, if it is somebody else, and what every task finds in its environment."""
    try:
        user = task_user(config.run_as) if config.run_as else None
    except WorkerFault as error:
        raise Misconfigured(str(error), setting="run_as") from error
    try:
        base = clean_environment(
            os.environ,
            user or own_user(),
            is_other_user=user is not None,
            inherited=config.inherit_env,
        )
    except ValueError as error:
        raise Misconfigured(str(error), setting="inherit_env") from error
    return user, base


async def _start(engine: SlotEngine, config: WorkerConfig) -> None:
    """Start the engine; when it cannot, the most special wish is named as the cause."""
    setting = "run_as" if config.run_as else "isolate" if config.isolate != "none" else "work_dir"
    try:
        await engine.start()
    except (WorkerFault, OSError) as error:
        raise Misconfigured(
            f"the worker cannot run programs here: {error}", setting=setting
        ) from error


def _print_line(worker: str) -> None:
    sys.stdout.write(f"{worker}\n")
    sys.stdout.flush()


class Worker:
    """One process, through its registrations."""

    def __init__(
        self,
        config: WorkerConfig,
        folder: WorkFolder,
        machine: Machine,
        engine: SlotEngine,
        base_environment: Mapping[str, str],
        departure: Departure,
        announce: Callable[[str], None],
    ) -> None:
        self._config, self._folder, self._machine = config, folder, machine
        self._engine, self._departure, self._announce = engine, departure, announce
        self._base = base_environment
        self._lifetime: asyncio.TimerHandle | None = None

    async def run(self, access: UserAccess) -> int:
        """Register and serve until the worker has left."""
        registered_before = False
        if self._config.lifetime is not None:
            self._live_for(self._config.lifetime.total_seconds())
        try:
            while True:
                try:
                    membership = await self._register(access, patient=registered_before)
                except BaseException:
                    await self._close_engine(0.0)
                    raise
                if membership is None:
                    await self._close_engine(0.0)
                    return 0
                registered_before = True
                if self._lifetime is None and membership[0].registered.lifetime_seconds:
                    self._live_for(membership[0].registered.lifetime_seconds)
                status = await self._serve(*membership)
                if status is not None:
                    return status
        finally:
            if self._lifetime is not None:
                self._lifetime.cancel()

    async def _register(
        self, access: UserAccess, *, patient: bool
    ) -> tuple[Membership, float] | None:
        """Register; None when it is to leave before that succeeds."""
        wanted = registration(
            self._config, self._machine, self._folder.identity, self._engine.abilities
        )
        pause = 0.0
        while not self._departure.reason:
            begun = machine_clock()
            try:
                membership = await register(access, wanted, self._config)
            except Unavailable as error:
                if not patient:
                    raise
                if not pause:
                    log.warning("registering anew: %s", error)
            else:
                return membership, begun
            pause = longer(pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._departure.wait()
        return None

    async def _serve(self, membership: Membership, begun: float) -> int | None:
        """Serve one registration; None when the worker has to register anew."""
        registered, connection, _ = membership
        log.info("registered as worker %s", registered.worker)
        for sentence in self._engine.abilities.guarantees():  # a failed start says one thing
            log.info("%s", sentence)
        self._write_files(membership)
        link = NatsLink(connection, registered.worker)
        config = self._config
        parts = Parts(
            link,
            self._engine,
            registered,
            self._folder,
            TaskTerms(self._base, config.default_limits, config.ceilings),
            slots=config.slots,
            renew_seconds=min(config.heartbeat_interval, config.polling_interval).total_seconds(),
            trust=store_trust(config),
            upload_seconds=config.upload_timeout.total_seconds(),
            user=self._engine.user,
        )
        self._engine.renew(registered.lease_seconds, measured_from=begun)
        connection.add_listener(on_reconnect=parts.lease.ask_now)
        followers = Followers(connection, registered.worker, parts.find_run)
        fetching = Fetching(link, parts.core)
        inbox = Inbox(
            parts.core, self._on_drain, parts.lease.ask_now, parts.resize, followers.order,
            lambda: self._restore(parts, membership), fetching.take, link.leads,
        )  # fmt: skip
        try:
            await inbox.subscribe(connection, registered.worker)
            self._departure.listen(lambda reason, force: parts.drain(reason, force=force))
            # From its first renewal on it is reachable and gets work.
            parts.lease.on_first = lambda: self._announce(registered.worker)
            await self._until_left(parts, connection)
        except (Unregistered, Unavailable) as error:
            log.warning("worker %s is not known any more, all it ran is ended: %s",
                        registered.worker, error)  # fmt: skip
            parts.core.drop_all()
            await parts.wait_until_empty()
            return None
        else:
            return await self._leave(link, parts)
        finally:
            self._departure.listen(None)
            await fetching.close()
            await followers.close()
            await parts.deliveries.close()
            await connection.close()

    def _restore(self, parts: Parts, membership: Membership) -> None:
        """Make what is gone of the work folder anew; what cannot be is said with the next task."""
        parts.not_restored = ""
        try:
            if not self._folder.restore() and not self._engine.misses_folders:
                return
            log.warning("the work folder %s was gone, and is made anew", self._folder.path)
            if self._config.run_as:
                self._folder.let_others_pass()
            self._engine.begin_anew()
            self._write_files(membership)
        except (Misconfigured, OSError) as error:
            parts.not_restored = f"it could not be made anew: {error}"
            log.error("%s", parts.not_restored)

    def _write_files(self, membership: Membership) -> None:
        registered = membership.registered
        trust = nats_trust(self._config, membership.servers)
        self._folder.write_record(registered.worker, self._machine)
        epitaph.write(
            self._folder.epitaph,
            epitaph.Epitaph(
                membership.servers,
                registered.worker,
                registered.token,
                str(trust.ca.resolve()) if trust.ca else None,
                trust.insecure,
            ),
        )

    async def _until_left(self, parts: Parts, connection: Connection) -> None:
        """Run the loops until the worker is to leave and holds nothing any more.

        Raises:
            Unregistered: The registration is over.
        """
        loops = [
            asyncio.create_task(parts.reporter.run(), name="reports"),
            asyncio.create_task(parts.lease.run(), name="lease"),
            asyncio.create_task(_watch(connection), name="connection"),
        ]
        leaving = asyncio.create_task(self._leaving(parts), name="leaving")
        try:
            done, _ = await asyncio.wait([*loops, leaving], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*loops, leaving):
                task.cancel()
            await asyncio.gather(*loops, leaving, return_exceptions=True)

    async def _leaving(self, parts: Parts) -> None:
        await self._departure.wait()
        await parts.wait_until_empty()

    async def _leave(self, link: NatsLink, parts: Parts) -> int:
        """Goodbye, which says that nothing is alive: so the engine is closed first."""
        clean = await self._close_engine(0.0) and not parts.core.unclean
        if not clean:
            log.error("something of a task may be alive: the worker does not say goodbye")
            return 1
        try:
            await link.ask(
                "leave", Leave(self._departure.reason), Done, timeout_seconds=LEAVE_SECONDS
            )
        except MitosisError as error:
            log.warning("nobody heard the goodbye, the lease will end: %s", error)
        self._folder.epitaph.unlink(missing_ok=True)
        return 0

    async def _close_engine(self, grace_seconds: float) -> bool:
        try:
            await self._engine.close(grace_seconds)
        except WorkerFault as error:
            log.error("%s", error)
            return False
        return True

    def _on_drain(self, order: Drain) -> None:
        self._departure.wish(order.reason or "asked to leave", force=order.force)

    def _live_for(self, seconds: float) -> None:
        self._lifetime = asyncio.get_running_loop().call_later(seconds, self._end_of_life)

    def _end_of_life(self) -> None:
        """Let tasks finish, and hand back what still runs after the grace, if there is one."""
        reason, grace = "its lifetime is over", self._config.lifetime_grace
        self._departure.wish(reason)
        if grace is not None:
            hand_back = partial(self._departure.wish, reason, force=True)
            loop = asyncio.get_running_loop()
            self._lifetime = loop.call_later(grace.total_seconds(), hand_back)


async def _watch(connection: Connection) -> None:
    """Wait until the connection has given up.

    Raises:
        Unregistered: The worker's token is refused.
    """
    await connection.wait_closed()
    raise Unregistered(
        connection.failure or AuthenticationFailed("the worker's connection was closed")
    )
