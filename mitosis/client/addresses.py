"""From the coordinator's address to the addresses of NATS servers.

`nats://` addresses are used as they are. `http://` ones are asked for `/connect`, and the answer is
remembered in the cache folder, so that most commands save the question.
"""

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from mitosis.config.checks import split_urls
from mitosis.config.locations import cache_dir
from mitosis.errors import Misconfigured, NoCoordinator
from mitosis.nats.reach import first_that_answers
from mitosis.signals import signals_blocked
from mitosis.tls import Place, Trust, why_refused

if TYPE_CHECKING:
    from http.client import HTTPConnection

ASK_SECONDS = 5.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_REMEMBERED = 100
SYSTEM_TRUST = Trust("coordinator_ca")


class Addresses:
    """Resolves addresses; `cache` is the file of remembered answers."""

    def __init__(self, trust: Trust = SYSTEM_TRUST, cache: Path | None = None) -> None:
        self._trust = trust
        self._cache = cache or cache_dir() / "addresses.json"

    def given(self, address: str) -> list[str] | None:
        """Return the NATS addresses that an address itself names; None: it is to be asked.

        Args:
            address: `http://host:port`, `https://`, or `nats://` and the like; several `nats://`
                ones may be separated by commas.

        Raises:
            Misconfigured: No such form of address.
        """
        scheme = urlsplit(address).scheme
        if scheme in {"nats", "tls", "ws", "wss"}:
            return split_urls(address)
        if scheme not in {"http", "https"}:
            raise Misconfigured(
                f"{address!r} is no address of a coordinator: write http://host:port or "
                "nats://host:port"
            )
        return None

    def remembered(self, address: str) -> list[str] | None:
        """Return what was answered at an address before, which may be out of date."""
        return self._remembered().get(address)

    def ask(self, address: str, seconds: float = ASK_SECONDS) -> list[str]:
        """Ask at an address for the NATS addresses of its platform. Blocks.

        Raises:
            NoCoordinator: Nobody answers, or (it is final) the one who answers is no coordinator.
        """
        found = self._ask(address, seconds)
        self._remember(address, found)
        return found

    def _ask(self, address: str, seconds: float) -> list[str]:
        import ssl

        try:
            page = fetch(f"{address.rstrip('/')}/connect", self._trust, seconds)
            return _servers(msgspec.json.decode(page)["nats"])
        except ssl.SSLError as error:
            parts = urlsplit(address)
            place = Place(parts.hostname or "", parts.port or 443)
            reason = why_refused(place, self._trust) or error.reason or str(error)
            insecure = NoCoordinator(
                f"no secure connection to the coordinator at {address}: {reason}", address=address
            )
            insecure.is_final = not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
            raise insecure from error
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            away = NoCoordinator(
                f"no coordinator answers at {address} ({reason}): start it, or name its address "
                "by -c",
                address=address,
            )
            away.is_final = isinstance(error, SomebodyElse)
            raise away from error
        except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
            other = NoCoordinator(
                f"what answers at {address} is no coordinator of Mitosis: check the address",
                address=address,
            )
            other.is_final = True
            raise other from error

    def _remembered(self) -> dict[str, list[str]]:
        try:
            known = msgspec.json.decode(self._cache.read_bytes())
        except (OSError, ValueError, msgspec.MsgspecError):
            return {}  # a cache: nothing there, or nothing usable, means asking
        if not isinstance(known, dict):
            return {}
        return {key: urls for key, urls in known.items() if _are_texts(urls)}

    def _remember(self, address: str, urls: list[str]) -> None:
        others = {key: value for key, value in self._remembered().items() if key != address}
        newest = dict([(address, urls), *others.items()][:MAX_REMEMBERED])
        temporary = self._cache.with_name(f".{self._cache.name}.{os.urandom(4).hex()}")
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.encode(newest))
            os.replace(temporary, self._cache)  # noqa: PTH105  one name for the whole swap
        except OSError:
            with contextlib.suppress(OSError):  # where no file can be made, none can be removed
                temporary.unlink()  # no cache: the next command asks again


class SomebodyElse(OSError):
    """What answers has no such page, now or later."""


def fetch(url: str, trust: Trust = SYSTEM_TRUST, seconds: float = ASK_SECONDS) -> bytes:
    """Return the body of a small page. Blocks for so long at most, but for the look-up of a name.

    Raises:
        OSError: Nobody answers, or not with success. SomebodyElse: it is of no use to try again.
    """
    import http.client
    from threading import Timer

    parts = urlsplit(url)
    host, is_secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (http.client.HTTPS_PORT if is_secure else http.client.HTTP_PORT)
    deadline = time.monotonic() + seconds
    connection = http.client.HTTPConnection(host, port)
    connection.sock = first_that_answers(host, port, deadline)
    # A page that comes byte by byte is cut off: each byte would have a limit of its own.
    cut_off = Timer(deadline - time.monotonic(), _cut_off, (connection,))
    cut_off.daemon = True
    with signals_blocked():  # they are the main thread's
        cut_off.start()
    try:
        if is_secure:
            connection.sock = trust.context().wrap_socket(connection.sock, server_hostname=host)
        connection.request("GET", parts.path or "/", headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read(MAX_ANSWER_BYTES)
    except http.client.HTTPException as error:
        if time.monotonic() < deadline:
            raise OSError(f"it does not speak HTTP: {type(error).__name__}") from error
        raise TimeoutError("timed out") from error
    finally:
        cut_off.cancel()
        connection.close()
    if time.monotonic() >= deadline:
        raise TimeoutError("timed out")
    if response.status < http.client.INTERNAL_SERVER_ERROR and response.status != http.client.OK:
        raise SomebodyElse(f"HTTP status {response.status}")
    if response.status != http.client.OK:
        raise OSError(f"HTTP status {response.status}")
    return body


def _cut_off(connection: "HTTPConnection") -> None:
    stream = connection.sock
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)


def _servers(told: Any) -> list[str]:
    urls = [told] if isinstance(told, str) else told
    if not _are_texts(urls):
        raise ValueError("no list of addresses")
    found: list[str] = urls
    return found


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
