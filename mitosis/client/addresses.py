"""From the coordinator's address to the addresses of NATS servers.

`nats://` addresses are used as they are. `http://` ones are asked for `/connect`, and the answer is
remembered in the cache folder, so that most commands save the question.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mitosis.config.locations import cache_dir
from mitosis.errors import Misconfigured, NoCoordinator
from mitosis.tls import Place, Trust, why_refused

ASK_SECONDS = 5.0
LEAST_SECONDS = 0.001  # 0 would mean: do not wait
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
            return [part.strip() for part in address.split(",")]
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
            urls: Any = msgspec.json.decode(page)["nats"]
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
        return [urls] if isinstance(urls, str) else [str(url) for url in urls]

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
    """Return the body of a small page. Blocking; each step has what is left of the time.

    Raises:
        OSError: Nobody answers, or not with success. SomebodyElse: it is of no use to try again.
    """
    import http.client

    parts = urlsplit(url)
    deadline = time.monotonic() + seconds
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = trust.context()
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=seconds, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.connect()
        stream = connection.sock
        stream.settimeout(max(LEAST_SECONDS, deadline - time.monotonic()))
        connection.request("GET", parts.path or "/", headers={"Accept": "application/json"})
        response = connection.getresponse()
        stream.settimeout(max(LEAST_SECONDS, deadline - time.monotonic()))
        body = response.read(MAX_ANSWER_BYTES)
    except http.client.HTTPException as error:
        raise OSError(f"it does not speak HTTP: {type(error).__name__}") from error
    finally:
        connection.close()
    if response.status < http.client.INTERNAL_SERVER_ERROR and response.status != http.client.OK:
        raise SomebodyElse(f"HTTP status {response.status}")
    if response.status != http.client.OK:
        raise OSError(f"HTTP status {response.status}")
    return body


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
