"""The coordinator process: checks what it stands on, takes office, serves, and leaves in order."""

import asyncio
import ipaddress
import logging
import secrets
import signal
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, closing
from functools import partial

from mitosis._version import __version__
from mitosis.artifacts.s3 import S3Store
from mitosis.config.checks import split_urls
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.section import without_password
from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.contract.wire import MAX_REQUEST_BYTES
from mitosis.errors import (
    Fenced,
    Misconfigured,
    ObjectsUnavailable,
    StoreUnavailable,
    Unavailable,
)
from mitosis.events.messages import stream_state
from mitosis.events.secret_keys import SecretKeys
from mitosis.events.snapshots import SnapshotStore
from mitosis.events.streams import StreamDefinition, ensure_stream
from mitosis.nats.connection import Connection
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.dialling import tls_context
from mitosis.nats.discovery import Discovery
from mitosis.nats.durability import syncs_always
from mitosis.nats.failures import address
from mitosis.nats.health import write_fault
from mitosis.nats.store_client import StoreClient, open_store_client
from mitosis.runtime import RandomIds, SystemClock
from mitosis.services.auth.passwords import Passwords
from mitosis.services.auth.probe import refuse_open_server
from mitosis.services.auth.service import Authentication
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.coordinator.children import ChildProcess
from mitosis.services.coordinator.history import Mark
from mitosis.services.coordinator.http import HttpEndpoint, Status, listen
from mitosis.services.coordinator.leadership import wait_for_office
from mitosis.services.coordinator.metrics import Source, registry
from mitosis.services.coordinator.readiness import Readiness
from mitosis.services.coordinator.shutdown import ShutdownSecret, default_secret_path
from mitosis.services.coordinator.tally import Tally
from mitosis.services.coordinator.term import Parts, Term
from mitosis.tls import ServerCertificate, Trust

log = logging.getLogger(__name__)

NAME = "mito-coordinator"
PAUSE_BETWEEN_TERMS_SECONDS = 1.0
ELECTION_SECONDS = 15.0  # of a leader of JetStream in a cluster: 4 to 9 s
OBJECTS_SECONDS = 5.0

_WITHOUT_OBJECTS = "serving without the S3 store until it answers, outputs and files wait"


class Coordinator:
    """Everything of the process that outlives a term."""

    def __init__(
        self,
        config: CoordinatorConfig,
        keys: TokenKeys,
        certificate: ServerCertificate | None,
        objects: S3Store,
        applied: Callable[[], Awaitable[int]],
        children: Sequence[ChildProcess] = (),
        archived: Mark | None = None,
        *,
        reset_admin_password: bool = False,
    ) -> None:
        """Prepare.

        Args:
            config: Settings.
            keys: The platform's key pair.
            certificate: Of the HTTP endpoint; None: plain HTTP.
            objects: The S3 store.
            applied: Asks for the position of the read models.
            children: Processes that live as long as this one.
            archived: The newest commit of the archive.
            reset_admin_password: Give the administrator the configured password anew, once.
        """
        self._config = config
        self._applied = applied
        self._tally = Tally()
        self._returns: Counter[str] = Counter()
        self._archived = archived or Mark()
        self._reset_admin_password = reset_admin_password
        self._objects = objects
        self._children = children
        self._term: Term | None = None
        self._fault: str | None = None  # why no term could be opened yet
        self._fenced = False  # the last term has ended because somebody else began one
        self._stopping = asyncio.Event()
        self._instance = secrets.token_hex(4)  # tells this process's connections from another's
        self._tls: ssl.SSLContext | None = None
        self._certificate = certificate
        self._keys = keys

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM.

        Raises:
            MitosisError: Something that it stands on is missing or wrong at start.
        """
        config = self._config
        trust = Trust("nats_ca", config.nats_ca, config.insecure)
        self._tls = tls_context(trust, config.nats_servers)
        login = ServiceLogin(config.nats_user, config.nats_password)
        system_login = ServiceLogin(
            config.nats_system_user,
            config.nats_system_password,
            "nats_system_user and nats_system_password",
        )
        self._stop_on_signals()
        secret = ShutdownSecret(config.shutdown_secret_path or default_secret_path(config.bind))
        async with AsyncExitStack() as stack:
            listener = stack.enter_context(closing(listen(config.bind)))
            passwords = stack.enter_context(closing(Passwords()))
            connection = await stack.enter_async_context(
                await Connection.open(
                    config.nats_servers, login, name=f"{NAME} {self._instance}", trust=trust
                )
            )
            await refuse_open_server(config.nats_url, tls=self._tls)
            workers = await stack.enter_async_context(
                await Connection.open(
                    config.nats_servers,
                    login,
                    name=f"{NAME}-workers {self._instance}",
                    trust=trust,
                )
            )
            system = await stack.enter_async_context(
                await Connection.open(
                    config.nats_servers, system_login, name=f"{NAME}-system", trust=trust
                )
            )
            store_client = await open_store_client(
                config.nats_servers,
                login,
                name=f"{NAME}-store {self._instance}",
                tls=self._tls,
                trust=trust,
            )
            stack.push_async_callback(store_client.close)
            check_payload(store_client.max_payload)
            await self._ensure_streams(store_client)
            await self._check_objects(store_client)
            await self._warn(system)
            parts = Parts(
                config=config,
                connection=connection,
                workers=workers,
                store_client=store_client,
                objects=self._objects,
                passwords=passwords,
                keys=self._keys,
                clock=SystemClock(),
                ids=RandomIds(),
                archived=self._archived,
                reset_admin_password=self._reset_admin_password,
                store_fault=partial(self._find_fault, system),
                tally=self._tally,
                name=f"{socket.gethostname()}:{listener.getsockname()[1]}",
                secret=secret,
                stop=self._stopping.set,
            )
            stack.callback(secret.remove)
            await self._serve(parts, system, listener)

    async def _find_fault(self, system: Connection) -> str | None:
        self._fault = await write_fault(system)
        return self._fault

    async def _ensure_streams(self, store_client: StoreClient) -> None:
        """Make the streams; a cluster that has just started may still be choosing a leader."""
        clock, replicas = asyncio.get_running_loop().time, self._config.replicas
        deadline = clock() + ELECTION_SECONDS
        while True:
            try:
                await ensure_stream(store_client, StreamDefinition(replicas=replicas))
                await SnapshotStore(store_client).ensure(replicas)
                await SecretKeys(store_client).ensure(replicas)
            except StoreUnavailable as error:
                if clock() >= deadline:
                    raise
                log.info("the event store is not ready yet: %s", error)
                await asyncio.sleep(PAUSE_BETWEEN_TERMS_SECONDS)
            else:
                return

    async def _check_objects(self, store_client: StoreClient) -> None:
        """Refuse a store that is wrong, and one that is away before anything was ever stored.

        Later on commands must not stand still because files cannot be moved for a while.
        """
        has_history = (await stream_state(store_client, EVENTS_STREAM)).last_seq > 0
        try:
            async with asyncio.timeout(OBJECTS_SECONDS if has_history else None):
                await self._objects.check()
        except TimeoutError:
            log.warning("%s: no answer in %g s", _WITHOUT_OBJECTS, OBJECTS_SECONDS)
        except ObjectsUnavailable as error:
            if not has_history or not error.is_away:
                raise
            log.warning("%s: %s", _WITHOUT_OBJECTS, error)

    async def _warn(self, system: Connection) -> None:
        """Say what works here and will not do what its owner may expect."""
        config = self._config
        if not await syncs_always(system):
            log.warning(
                "the NATS server acknowledges before it has synced: a power cut may lose "
                "acknowledged commits. Set `sync_interval: always` in its jetstream block, as "
                "`mito nats-config` does"
            )
        if not is_loopback(config.bind.rpartition(":")[0]):
            for key in ("nats_public_url", "s3_public_url"):
                if getattr(config, key) is None:
                    log.warning(
                        "%s is not set: clients and workers on other machines are told %s",
                        key,
                        without_password(getattr(config, key.replace("_public", ""))),
                    )

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)

    def _status(self) -> Status:
        term, config = self._term, self._config
        return Status(
            version=__version__,
            nats_url=",".join(map(address, split_urls(config.nats_public_url or config.nats_url))),
            active=term is not None,
            term=term.core.world.platform.term if term else 0,
            workers=len(term.core.world.workers) if term else 0,
            ready_tasks=len(term.core.dispatcher) if term else 0,
            position=term.core.journal.position if term else 0,
        )

    def _endpoint(self, parts: Parts, system: Connection, listener: socket.socket) -> HttpEndpoint:
        async def nats() -> None:
            for connection in (parts.connection, parts.workers, system):
                if not connection.is_connected:
                    raise StoreUnavailable(f"the connection to {connection.address} is down")
            await stream_state(parts.store_client, EVENTS_STREAM)
            fault = self._term.core.journal.fault if self._term else self._fault
            if fault:
                raise StoreUnavailable(fault)

        def end() -> int | None:
            return self._term.core.journal.position if self._term else None

        def returns() -> dict[str, int]:
            return {**self._returns, "store": parts.store_client.stats["reconnects"]}

        connections = {"commands": parts.connection, "workers": parts.workers, "system": system}
        for name, connection in connections.items():
            self._returns[name] = 0
            connection.add_listener(on_reconnect=partial(self._returns.update, [name]))
        readiness = Readiness(
            nats=nats,
            objects=self._objects.check,
            applied=self._applied,
            end=end,
            max_lag_seconds=self._config.max_projection_lag.total_seconds(),
        )
        source = Source(
            lambda: self._term.core if self._term else None, self._tally, readiness.lag, returns
        )
        return HttpEndpoint(listener, self._status, readiness, registry(source), self._certificate)

    async def _serve(self, parts: Parts, system: Connection, listener: socket.socket) -> None:
        http = self._endpoint(parts, system, listener)
        serving = asyncio.create_task(http.serve(), name="http")
        discovery = Discovery(
            parts.connection, NAME, __version__, "decides commands, dispatches tasks", self._status
        )
        await discovery.start()
        for child in self._children:
            child.start()
        try:
            while not self._stopping.is_set():
                await self._one_term(parts, system)
        finally:
            await asyncio.gather(*(child.stop() for child in self._children))
            await discovery.stop()
            http.stop()
            await serving

    async def _one_term(self, parts: Parts, system: Connection) -> None:
        """Wait for office, hold it, lose it; what is away for a while does not end the process."""
        fenced, self._fenced = self._fenced, False
        if not await self._unless_stopped(wait_for_office(parts.connection, fenced=fenced)):
            return
        try:
            self._fault = None
            term = await Term.open(parts)
            try:
                await self._hold(term, parts, system)
            finally:
                self._term = None
                await term.close()
        except (Fenced, Unavailable) as error:
            self._fenced = isinstance(error, Fenced)
            log.warning("no term could be held: %s", error)
        await self._unless_stopped(asyncio.sleep(PAUSE_BETWEEN_TERMS_SECONDS))

    async def _hold(self, term: Term, parts: Parts, system: Connection) -> None:
        number = term.core.world.platform.term
        authentication = Authentication(
            term.accounts,
            parts.keys,
            parts.connection,
            system,
            server=self._config.nats_url,
            term=lambda: number,
            session_seconds=self._config.access_token_expires_in.total_seconds(),
            on_worker_gone=term.worker_disconnected,
            tls=self._tls,
            clock=lambda: parts.clock.now().timestamp(),
            check=term.password_check,
            is_sure=lambda: term.core.standing.is_sure,
        )
        term.core.rights_changed = authentication.rights.changed
        try:
            closed = await authentication.connections.kick_others(NAME, self._instance)
            if closed:
                log.info("%d connections of other coordinators closed", closed)
            await term.serve()
            await authentication.start()
            authentication.rights.unknown()
            self._term = term
            log.info("term %d: serving", number)
            await self._until_ended(term)
        finally:
            await authentication.stop()

    async def _until_ended(self, term: Term) -> None:
        if await self._unless_stopped(asyncio.shield(term.ended)):
            self._fenced = isinstance(term.ended.result(), Fenced)
            log.warning("the term has ended: %s", term.ended.result())

    async def _unless_stopped(self, work: Awaitable[object]) -> bool:
        """Await something unless the process is told to stop; return whether it ended."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return True
            return False
        finally:
            task.cancel()
            stopping.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)


def server_certificate(config: CoordinatorConfig) -> ServerCertificate | None:
    """Return the certificate of the HTTP endpoint, or None for plain HTTP.

    Raises:
        Misconfigured: One file without the other, or files that cannot be used.
    """
    if config.tls_cert is None and config.tls_key is None:
        return None
    if config.tls_cert is None or config.tls_key is None:
        missing = "tls_cert" if config.tls_cert is None else "tls_key"
        raise Misconfigured(
            f"{missing} is not set: tls_cert and tls_key belong together, give both or neither"
        )
    found = ServerCertificate(config.tls_cert, config.tls_key)
    if found.expires_soon:
        log.warning("tls_cert: %s expires on %s", config.tls_cert, found.expires_at)
    return found


def check_payload(max_payload: int) -> None:
    """Refuse a NATS server that would not take the commit of the largest request.

    Raises:
        Misconfigured: Says what to set.
    """
    needed = 2 * MAX_REQUEST_BYTES  # the request in its envelope, with room for other escapes
    if max_payload < needed:
        raise Misconfigured(
            f"the NATS server takes messages of {max_payload} bytes, {needed} are needed: set "
            "max_payload in its configuration as `mito nats-config` writes it",
            max_payload=max_payload,
            needed=needed,
        )


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
