"""The HTTP endpoint at `bind`: health, readiness, metrics, and discovery for clients."""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator

import msgspec
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mitosis.errors import Misconfigured


class Status(msgspec.Struct):
    """What the endpoint says about its coordinator. `active`: it holds the term."""

    version: str
    nats_url: str
    active: bool
    term: int
    workers: int
    ready_tasks: int
    position: int


class _Gauges(Collector):
    """The numbers of the status, read when somebody asks."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield one gauge for each number."""
        status = self._status()
        for name, value, text in (
            ("active", status.active, "1 while this coordinator holds the term"),
            ("term", status.term, "number of the term"),
            ("workers", status.workers, "registered workers"),
            ("ready_tasks", status.ready_tasks, "tasks that wait for a worker"),
            ("position", status.position, "position of the newest commit"),
        ):
            yield GaugeMetricFamily(f"mitosis_{name}", text, value=float(value))


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

    def __init__(self, listener: socket.socket, status: Callable[[], Status]) -> None:
        self._status = status
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(status))
        self._listener = listener
        app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/ready", self._ready),
                Route("/connect", self._connect),
                Route("/metrics", self._metrics),
            ]
        )
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        self._server = _Server(config)

    @property
    def url(self) -> str:
        """Address as the socket has it."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def serve(self) -> None:
        """Answer until `stop`."""
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        await self._server.serve(sockets=[self._listener])

    def stop(self) -> None:
        """Let `serve` return."""
        self._server.should_exit = True

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        status = self._status()
        code = 200 if status.active else 503
        return JSONResponse(msgspec.to_builtins(status), status_code=code)

    async def _connect(self, _: Request) -> Response:
        status = self._status()
        return JSONResponse({"nats": status.nats_url, "version": status.version})

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
