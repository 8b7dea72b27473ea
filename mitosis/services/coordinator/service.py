"""The coordinator process: checks what it stands on, takes office, serves, and leaves in order."""

import asyncio
import logging
import signal
import socket

from prometheus_client import CollectorRegistry

from mitosis._version import __version__
from mitosis.artifacts.s3 import S3Store
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.errors import Fenced, MitosisError, StoreUnavailable
from mitosis.events.reader import EventReader
from mitosis.events.streams import ensure_stream
from mitosis.nats.connection import Connection
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.discovery import register_service
from mitosis.runtime import RandomIds, SystemClock
from mitosis.services.auth.passwords import PasswordHasher
from mitosis.services.auth.probe import refuse_open_server
from mitosis.services.auth.service import AuthService
from mitosis.services.auth.tokens import load_keys
from mitosis.services.coordinator.accounts import CoordinatorAccounts
from mitosis.services.coordinator.http import HttpEndpoint, Status, listen
from mitosis.services.coordinator.leadership import wait_for_office
from mitosis.services.coordinator.term import Parts, Term

log = logging.getLogger(__name__)

PAUSE_BETWEEN_TERMS_SECONDS = 1.0


class Coordinator:
    """Everything of the process that outlives a term."""

    def __init__(self, config: CoordinatorConfig) -> None:
        self._config = config
        self._term: Term | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM.

        Raises:
            MitosisError: Something that it stands on is missing or wrong at start.
        """
        config = self._config
        keys = load_keys(config.access_token_private_path, config.access_token_public_path)
        listener = listen(config.bind)
        try:
            self._stop_on_signals()
            connection = await self._connect(ServiceLogin(config.nats_user, config.nats_password))
            async with connection:
                await refuse_open_server([config.nats_url], tls_ca=self._ca)
                await ensure_stream(connection, replicas=config.replicas)
                store = S3Store.from_config(config)
                await store.check()
                parts = Parts(
                    config=config,
                    connection=connection,
                    store=store,
                    hasher=PasswordHasher(),
                    keys=keys,
                    clock=SystemClock(),
                    ids=RandomIds(),
                    name=f"{socket.gethostname()}-{config.bind}",
                )
                await self._serve(parts, listener)
        finally:
            listener.close()

    @property
    def _ca(self) -> str | None:
        return str(self._config.nats_ca) if self._config.nats_ca else None

    async def _connect(self, credentials: ServiceLogin) -> Connection:
        return await Connection.open(
            [self._config.nats_url], credentials, name="mito-coordinator", tls_ca=self._ca
        )

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)

    def _status(self) -> Status:
        term = self._term
        world = term.core.world if term else None
        return Status(
            version=__version__,
            nats_url=self._config.nats_public_url or self._config.nats_url,
            active=term is not None,
            term=world.platform.term if world else 0,
            workers=len(world.workers) if world else 0,
            ready_tasks=len(term.core.dispatcher) if term else 0,
            position=term.core.journal.position if term else 0,
        )

    async def _serve(self, parts: Parts, listener: socket.socket) -> None:
        http = HttpEndpoint(listener, self._status, CollectorRegistry())
        serving = asyncio.create_task(http.serve(), name="http")
        discovery = await register_service(parts.connection, "mito-coordinator", __version__)
        try:
            while not self._stopping.is_set():
                await self._one_term(parts)
        finally:
            await discovery.stop()
            http.stop()
            await serving

    async def _one_term(self, parts: Parts) -> None:
        if not await self._unless_stopped(wait_for_office(parts.connection)):
            return
        reader = EventReader(parts.connection)
        try:
            term = await Term.open(parts, reader)
        except (Fenced, StoreUnavailable) as error:
            log.warning("no term could be opened: %s", error)
            await self._unless_stopped(asyncio.sleep(PAUSE_BETWEEN_TERMS_SECONDS))
            return
        auth = AuthService(
            connection=parts.connection,
            system=ServiceLogin(self._config.nats_system_user, self._config.nats_system_password),
            accounts=CoordinatorAccounts(term.core),
            keys=parts.keys,
            hasher=parts.hasher,
            clock=parts.clock,
            term=term.core.world.platform.term,
            session_lifetime=self._config.access_token_expires_in,
            on_worker_disconnected=term.worker_disconnected,
        )
        try:
            await term.serve()
            await auth.start()
            self._term = term
            log.info("term %d: serving on %s", term.core.world.platform.term, self._config.bind)
            await self._until_ended(term)
        finally:
            self._term = None
            await auth.stop()
            await term.close()

    async def _until_ended(self, term: Term) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({stopping, term.ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if term.ended.done():
            error = term.ended.result()
            log.warning("the term has ended: %s", error)
            await self._unless_stopped(asyncio.sleep(PAUSE_BETWEEN_TERMS_SECONDS))

    async def _unless_stopped(self, work: "asyncio.Future[None] | object") -> bool:
        """Await something unless the process is told to stop; return whether it was awaited."""
        task = asyncio.ensure_future(work)  # type: ignore[arg-type]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
                return True
            return False
        finally:
            task.cancel()
            stopping.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)


_ = MitosisError
