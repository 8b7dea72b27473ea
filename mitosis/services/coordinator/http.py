"""The HTTP endpoint at `bind`: health, readiness, metrics, and discovery for clients.

It asks for no password, so it tells nothing that needs one; it answers reads only.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator

import msgspec
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mitosis.errors import Misconfigured
from mitosis.services.coordinator.readiness import Readiness
from mitosis.tls import ServerCertificate

MAX_CONNECTIONS = 256
MAX_HEADER_BYTES = 16 * 1024
KEEP_ALIVE_SECONDS = 5
STOP_SECONDS = 2
RENEW_SECONDS = 2.0

log = logging.getLogger(__name__)


class Status(msgspec.Struct):
    """What the endpoint says about its coordinator. `active`: it holds the term."""

    version: str
    nats_url: str
    active: bool
    term: int
    workers: int
    ready_tasks: int
    position: int


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the coordinator, which stops everything in order."""
        yield


def listen(bind: str) -> socket.socket:
    """Open the listening socket.

    Raises:
        Misconfigured: The address cannot be used; says why and what to do.
    """
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except OSError as error:
        listener.close()
        raise Misconfigured(
            f"cannot listen on {bind}: {error.strerror or error}; stop what uses the port or give "
            "another one with --bind HOST:PORT",
            bind=bind,
        ) from error
    return listener


class HttpEndpoint:
    """Serves until it is stopped."""

    def __init__(
        self,
        listener: socket.socket,
        status: Callable[[], Status],
        readiness: Readiness,
        metrics: CollectorRegistry,
        certificate: ServerCertificate | None = None,
    ) -> None:
        """Prepare; `listener` stays the caller's. With a certificate it is HTTPS only."""
        self._certificate = certificate
        self._status = status
        self._readiness = readiness
        self._registry = metrics
        self._listener = listener
        routes = {
            "/health": self._health,
            "/ready": self._ready,
            "/connect": self._connect,
            "/metrics": self._metrics,
        }
        self._paths = sorted(routes)
        app = Starlette(
            routes=[Route(path, answer) for path, answer in routes.items()],
            exception_handlers={HTTPException: self._refuse},
        )
        self._config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        self._config.load()
        if certificate is not None:
            self._config.ssl = certificate.context
        self._server = _Server(self._config)

    async def serve(self) -> None:
        """Answer until `stop`."""
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        beside = [
            asyncio.create_task(self._readiness.sample(), name="sample lag"),
            asyncio.create_task(self._renew_certificate(), name="renew certificate"),
        ]
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._readiness.stop()

    async def _renew_certificate(self) -> None:
        """Use a new certificate as soon as its files are there; a bad one changes nothing."""
        while self._certificate is not None:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                if self._certificate.refresh():
                    log.info("tls_cert was read anew: valid until %s", self._certificate.expires_at)
            except Misconfigured as error:
                log.warning("the new certificate is not used: %s", error)

    def stop(self) -> None:
        """Let `serve` return."""
        self._server.should_exit = True

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        checks = await self._readiness.checks()
        status = self._status()
        ready = status.active and all(check.ok for check in checks.values())
        lag = round(self._readiness.lag.seconds(time.monotonic()), 3)
        content = {
            "ready": ready,
            **msgspec.to_builtins(status),
            "projection_lag_seconds": lag,
            "checks": msgspec.to_builtins(checks),
        }
        return JSONResponse(content, status_code=200 if ready else 503)

    async def _connect(self, _: Request) -> Response:
        status = self._status()
        urls = status.nats_url.split(",")
        nats = urls if len(urls) > 1 else status.nats_url
        return JSONResponse({"nats": nats, "version": status.version})

    async def _metrics(self, _: Request) -> Response:
        await self._readiness.look_at_lag()
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def _refuse(self, _: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        message = f"there is {', '.join(self._paths)} here, each for GET and HEAD; all else is NATS"
        code = "not_found" if status == 404 else "not_allowed"
        content = {"error": {"code": code, "message": message, "details": {}}}
        return JSONResponse(content, status_code=status)
