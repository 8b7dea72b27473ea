"""One term: from the moment this coordinator becomes the one writer until it stops being it.

A term reads all history, opens itself in the store (TermStarted: whoever wrote before is fenced
from then on, because every append names the end of the stream that it expects), and serves. When
an append fails for good, everything in memory may be ahead of the store: the term ends, and the
next one reads history again. Nothing survives from term to term but the store.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import msgspec

from mitosis.artifacts.s3 import S3Store, wall_time
from mitosis.artifacts.sweeper import sweep_bucket
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.contract import subjects, wire, work
from mitosis.errors import Fenced, MitosisError, StoreUnavailable
from mitosis.events.messages import age_seconds, stream_state
from mitosis.events.reader import EventReader
from mitosis.events.secret_keys import SecretKeys
from mitosis.events.snapshots import SnapshotStore
from mitosis.events.writer import PipelinedWriter
from mitosis.nats.connection import Connection
from mitosis.nats.rpc import Endpoints
from mitosis.nats.store_client import StoreClient
from mitosis.runtime import Clock, Ids
from mitosis.services.auth.password_check import PasswordCheck
from mitosis.services.auth.passwords import Passwords
from mitosis.services.auth.sealing import Sealer
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.coordinator import history
from mitosis.services.coordinator.accounts import CoordinatorAccounts
from mitosis.services.coordinator.administrator import ensure_admin
from mitosis.services.coordinator.answered import Answered
from mitosis.services.coordinator.checkpoints import Checkpoints
from mitosis.services.coordinator.closing import close_deleted
from mitosis.services.coordinator.core import Core, guarded
from mitosis.services.coordinator.departures import lose_worker
from mitosis.services.coordinator.dispatcher import Dispatcher
from mitosis.services.coordinator.handlers.files import FileHandlers
from mitosis.services.coordinator.handlers.groups import GroupHandlers
from mitosis.services.coordinator.handlers.platform import PlatformHandlers
from mitosis.services.coordinator.handlers.presence import PresenceHandlers
from mitosis.services.coordinator.handlers.reports import ReportHandlers
from mitosis.services.coordinator.handlers.secrets import SecretHandlers, SecretReports
from mitosis.services.coordinator.handlers.tasks import TaskHandlers
from mitosis.services.coordinator.handlers.users import UserHandlers
from mitosis.services.coordinator.handlers.workers import WorkerHandlers
from mitosis.services.coordinator.journal import Journal, Unit
from mitosis.services.coordinator.leases import Leases
from mitosis.services.coordinator.repeats import former_commands, once
from mitosis.services.coordinator.retries import Retries
from mitosis.services.coordinator.shutdown import ShutdownSecret
from mitosis.services.coordinator.snapshots import SnapshotRhythm
from mitosis.services.coordinator.standing import LOOK_SECONDS, PROOF_SECONDS, Standing
from mitosis.services.coordinator.storage import NamedArtifacts, NamedAttachments
from mitosis.services.coordinator.takeover import take_over
from mitosis.services.coordinator.tally import Tally
from mitosis.services.coordinator.uploads import Uploads
from mitosis.services.coordinator.vault import Vault
from mitosis.services.coordinator.watches import Watches

log = logging.getLogger(__name__)

LEASE_CHECK_SECONDS = 0.5
WATCH_CHECK_SECONDS = 0.5
FLUSH_SECONDS = 10.0
SWEEP_EVERY = timedelta(hours=1)
LOOK_ALONE_SECONDS = 1.0
# Longer than an election of NATS, 4 to 9 s. Who leads answers a standby also while it can store and
# prove nothing, since its node is cut off and not its own connections: then it makes way.
UNPROVED_SECONDS = 15.0


class Parts(msgspec.Struct):
    """What a term is made of and does not own.

    Attributes:
        workers: The connection by which workers are heard, so that their renewals and reports do
            not stand behind the commands of everybody.
    """

    config: CoordinatorConfig
    connection: Connection
    workers: Connection
    store_client: StoreClient
    objects: S3Store
    passwords: Passwords
    keys: TokenKeys
    clock: Clock
    ids: Ids
    name: str
    secret: ShutdownSecret
    stop: Callable[[], None]
    archived: history.Mark = history.Mark()
    reset_admin_password: bool = False
    store_fault: Callable[[], Awaitable[str | None]] | None = None
    tally: Tally = msgspec.field(default_factory=Tally)


class Term:
    """A coordinator in office."""

    def __init__(
        self, parts: Parts, core: Core, writer: PipelinedWriter, snapshots: SnapshotRhythm
    ) -> None:
        self._parts = parts
        self.core = core
        self.accounts = CoordinatorAccounts(core)
        self.password_check = PasswordCheck(self.accounts, parts.passwords)
        self._writer = writer
        self._snapshots = snapshots
        config = parts.config
        self._checkpoints = Checkpoints(
            core.journal, parts.keys, parts.clock,
            config.checkpoint_every, config.checkpoint_interval.total_seconds(),
        )  # fmt: skip
        self._commands = Endpoints(
            parts.connection,
            subjects.COMMANDS_ALL,
            in_turns=True,
            has_room=core.has_room,
            on_refused=core.turned_away,
        )
        self._reports = Endpoints(parts.workers, subjects.WORKERS_ALL, on_refused=core.turned_away)
        self._services = Endpoints(parts.connection, subjects.SERVICES_ALL)
        self._loops: list[asyncio.Task[None]] = []
        self._of_workers = ReportHandlers(core, parts.objects.artifacts)
        parts.connection.add_listener(
            on_disconnect=core.standing.doubt, on_reconnect=self._ask_workers
        )
        self.ended: asyncio.Future[MitosisError] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, parts: Parts) -> "Term":
        """Read history and become the one writer.

        Raises:
            MitosisError: The store does not answer, is damaged, or somebody else came first.
        """
        reader = EventReader(parts.store_client)
        snapshots = SnapshotStore(parts.store_client)
        world, position, snapshot = await history.read_world(reader, parts.archived, snapshots)
        terms: list[Term] = []

        def closed(error: MitosisError) -> None:
            for term in terms:
                term.end(error)

        writer = await PipelinedWriter.open(
            parts.store_client,
            subjects.EVENTS_STREAM,
            position,
            on_closed=closed,
            why=parts.store_fault,
        )
        try:
            began = parts.clock.monotonic()
            await take_over(world, writer, parts.clock, parts.ids, parts.name)
            push = _pusher(parts.connection)
            journal = Journal(world, writer, parts.clock, parts.ids, closed)
            dispatcher = Dispatcher(world, push)
            standing = Standing(parts.clock)
            watches = Watches(world, dispatcher, journal, parts.clock)
            vault = Vault(
                SecretKeys(parts.store_client),
                Sealer(parts.keys),
                parts.ids,
                lambda tail: history.read_aggregate(reader, tail),
                world,
                standing.check,
            )

            def before_close(unit: Unit) -> None:
                watches.follow_up(unit)
                vault.follow_up(unit)

            journal.before_close = before_close
            core = Core(
                world=world,
                journal=journal,
                dispatcher=dispatcher,
                watches=watches,
                vault=vault,
                retries=Retries(world, dispatcher, journal, parts.clock),
                leases=Leases(parts.clock),
                standing=standing,
                uploads=Uploads(parts.clock),
                clock=parts.clock,
                ids=parts.ids,
                publish=push,
                read_aggregate=lambda tail: history.read_aggregate(reader, tail),
                find_group=lambda task: history.find_group(reader, task),
                has_done=former_commands(reader, parts.clock, position),
                answered=Answered(),
                tally=parts.tally,
            )
            if parts.connection.lone_server is None:  # it stands in a cluster
                standing.prove(began)
            rhythm = SnapshotRhythm(
                snapshots, reader, world, journal, snapshot, parts.config.snapshot_every
            )
            term = cls(parts, core, writer, rhythm)
            terms.append(term)
            await term._take_office()
        except BaseException:
            await writer.close()
            raise
        return term

    async def _take_office(self) -> None:
        core = self.core
        self._checkpoints.tell_key()
        await self._ensure_admin()
        core.dispatcher.restore()
        for name in core.world.workers:
            core.leases.assume(name)
            core.dispatcher.unreachable.add(name)
        await core.watches.restore(core.read_aggregate, self._age)
        core.retries.restore()

    async def _age(self, position: int) -> float:
        return await age_seconds(self._parts.store_client, subjects.EVENTS_STREAM, position)

    async def _ensure_admin(self) -> None:
        parts = self._parts
        name, password = parts.config.admin_user, parts.config.admin_password
        reset = parts.reset_admin_password
        await ensure_admin(self.core, parts.passwords, name, password, reset=reset)
        parts.reset_admin_password = False  # once, not again in the next term

    async def serve(self) -> None:
        """Begin to answer users and workers."""
        core, parts = self.core, self._parts
        # Until now a former one may have answered their renewals; in a cluster it may go on, with a
        # proof of its standing from just before this term began.
        longest = PROOF_SECONDS if core.standing.needs_proof else 0.0
        for name in core.world.workers:
            core.leases.assume(name, longest)
        parts.secret.write()  # not before: a standby may have the file of the one that serves
        tasks = TaskHandlers(core)
        users = UserHandlers(core, parts.passwords, self.password_check)
        groups = GroupHandlers(core)
        platform = PlatformHandlers(core, parts.secret, parts.stop)
        lease_seconds = parts.config.heartbeat_timeout.total_seconds()
        session_seconds = parts.config.access_token_expires_in.total_seconds()
        workers = WorkerHandlers(core, self._worker_token, lease_seconds, session_seconds)
        reports = self._of_workers
        secrets = SecretHandlers(core)
        files = FileHandlers(core, parts.objects.artifacts, parts.objects.attachments)
        for handlers in (tasks, users, groups, workers, files, platform, secrets):
            for verb, body, handler in handlers.verbs():
                self._commands.add(verb, body, guarded(core, once(core, verb, handler)))
        for verb, body, handler in (*reports.verbs(), *SecretReports(core).verbs()):
            self._reports.add(verb, body, guarded(core, handler))
        await self._commands.start()
        await self._reports.start()
        PresenceHandlers(core).register(self._services)
        await self._services.start()
        for going, name in (
            (self._stand(), "standing"),
            (self._watch_leases(), "leases"),
            (self._end_overdue_watches(), "watches"),
            (core.retries.run(), "retries"),
            (self._sweep(), "sweeper"),
            (self._snapshots.keep(), "snapshots"),
            (self._checkpoints.keep(), "checkpoints"),
            (core.vault.keep_clean(), "secrets"),
        ):
            self._keep_going(going, name)
        self._keep_going(self._prove(), "proofs")
        close_deleted(core)
        self._ask_workers()

    def _ask_workers(self) -> None:
        """Let all workers renew at once: each may have missed what was pushed."""
        for name in self.core.world.workers:
            self._ask_worker(name)

    def _ask_worker(self, name: str) -> None:
        self.core.publish(subjects.control(name), wire.encode(work.Resync()))

    def _keep_going(self, going: Coroutine[Any, Any, None], name: str) -> None:
        """Do something for the whole term."""
        loop = asyncio.create_task(going, name=name)
        loop.add_done_callback(self._loop_ended)
        self._loops.append(loop)

    def worker_disconnected(self, name: str) -> None:
        """The connection of a worker was lost: give it nothing new until it is heard again.

        It is asked, as it may be there: the word of a loss can come behind the renewal by which the
        worker is back, and a server that was slow to list its connections is taken to have none.
        """
        if name in self.core.world.workers:
            self.core.dispatcher.unreachable.add(name)
            self._ask_worker(name)

    def _worker_token(self, name: str, seconds: float) -> str:
        now = self._parts.clock.now().timestamp()
        return self._parts.keys.issue("worker", name, issued_at=now, exp=now + seconds)

    async def _stand(self) -> None:
        """Confirm the own standing again and again; after a doubt the stream is asked."""
        standing, clock = self.core.standing, self.core.clock
        while not self.ended.done():
            if not standing.is_sure:
                asked = clock.monotonic()
                if await self._look_who_leads() is not None:
                    standing.confirm(asked)
            if standing.is_sure:
                standing.confirm()
            await asyncio.sleep(LOOK_SECONDS)

    async def _prove(self) -> None:
        """Prove the own standing again and again; commits that are stored do so by themselves.

        Outside of a cluster no proof is needed. But there, too, a coordinator that has nothing to
        store would not notice by anything else that another one could not hear it, and leads.
        """
        core, clock = self.core, self._parts.clock
        needed, failing_since = core.standing.needs_proof, math.inf
        while not self.ended.done():
            if clock.monotonic() - core.journal.proved_at > LOOK_SECONDS:
                asked = clock.monotonic()
                quiet = await self._look_who_leads()
                is_proved = quiet is not None and quiet <= PROOF_SECONDS
                if is_proved or core.journal.proved_at > failing_since:
                    failing_since = math.inf
                if not is_proved:
                    failing_since = min(failing_since, asked)
                if needed and quiet is not None:
                    core.standing.prove(asked - quiet)
                if needed and clock.monotonic() - failing_since > UNPROVED_SECONDS:
                    self.end(StoreUnavailable("nobody could say whether this coordinator leads"))
            if needed:
                core.standing.prove(core.journal.proved_at)
            await asyncio.sleep(LOOK_SECONDS if needed else LOOK_ALONE_SECONDS)

    async def _look_who_leads(self) -> float | None:
        """Ask the stream once, and end the term if somebody else has taken over.

        Returns:
            How long ago (seconds before the question) the one that says so could know it; None: it
            does not answer.
        """
        try:
            state = await stream_state(self._parts.store_client, subjects.EVENTS_STREAM)
        except StoreUnavailable as error:
            log.info("the store does not tell who leads: %s", error)
            return None
        if state.last_seq > self.core.journal.sent_position:
            self.end(Fenced("another coordinator has taken over while this one was away"))
        return state.quiet_seconds

    async def _watch_leases(self) -> None:
        core = self.core
        while not self.ended.done():
            await asyncio.sleep(LEASE_CHECK_SECONDS)
            core.journal.hand_on()
            leases = {n: w.lease_seconds for n, w in core.world.workers.items()}
            for name in core.leases.expired(leases):
                silent = core.leases.silent_seconds(name)
                log.warning("worker %s is lost: silent for %.1f s", name, silent)
                unit = core.journal.unit("system:coordinator")
                proof = f"not heard for {leases[name]:g} s, its lease is over"
                lose_worker(core, unit, name, proof)
                unit.close()

    async def _end_overdue_watches(self) -> None:
        while not self.ended.done():
            await asyncio.sleep(WATCH_CHECK_SECONDS)
            self.core.watches.end_overdue()

    async def _sweep(self) -> None:
        """Sweep both buckets, one after the other."""
        objects, core = self._parts.objects, self.core
        life = timedelta(seconds=objects.url_seconds)
        buckets = ((objects.artifacts, NamedArtifacts), (objects.attachments, NamedAttachments))
        while not self.ended.done():
            for bucket, named in buckets:
                await sweep_bucket(bucket, named(core), wall_time, life)
            await asyncio.sleep(SWEEP_EVERY.total_seconds())

    def _loop_ended(self, loop: asyncio.Task[None]) -> None:
        """A term without its leases must not go on."""
        if loop.cancelled() or self.ended.done():
            return
        log.error(
            "the loop %r of the coordinator failed", loop.get_name(), exc_info=loop.exception()
        )
        self.end(StoreUnavailable("the coordinator failed inside and starts anew: try again"))

    def end(self, error: MitosisError) -> None:
        """The store is closed for this term: tell everybody who waits, and let it be left."""
        self.core.standing.end()
        self.core.journal.fail(error)
        if not self.ended.done():
            self.ended.set_result(error)

    async def close(self) -> None:
        """Stop answering, store what is decided, and leave office."""
        for listener in (self.core.standing.doubt, self._ask_workers):
            self._parts.connection.remove_listener(listener)
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._commands.stop()
        await self._reports.stop()
        self._of_workers.close()
        await self._services.stop()
        if self.core.background:
            await asyncio.wait(self.core.background, timeout=5)
        if not self.ended.done():
            try:
                self._checkpoints.sign()
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self.core.journal.flush()
            except (TimeoutError, MitosisError) as error:
                log.warning("not everything could be stored at the end: %s", error)
        await self._writer.close()
        self.core.journal.fail(StoreUnavailable("the coordinator is stopping: try again"))


def _pusher(connection: Connection) -> Callable[[str, bytes], None]:
    """Return a way to send that never fails: what is lost is asked for or pushed again."""

    def push(subject: str, data: bytes) -> None:
        if not subject:
            return
        try:
            connection.publish(subject, data)
        except MitosisError as error:
            log.info("not sent to %s: %s", subject, error)

    return push
