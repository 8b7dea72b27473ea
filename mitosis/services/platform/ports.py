"""Ports on this machine: the one of the last run if it is still free, else a new one."""

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from mitosis.nats.server_config import write_private
from mitosis.services.platform.failures import PortTaken, ServerFailed

# Below the range from which Linux takes the ports of outgoing connections, so that a port that is
# remembered for the next start is not taken by chance meanwhile.
_FIRST, _LAST = 20_000, 32_000
_TRIES = 200


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tells whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port of closed connections (TIME_WAIT) is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(
    count: int, host: str = "127.0.0.1", is_usable: Callable[[int], bool] | None = None
) -> list[int]:
    """Returns that many different free ports.

    `is_usable`: what must be true of each; None: it is free.

    Raises:
        ServerFailed: none found after a bounded search.
    """
    found: list[int] = []
    for _ in range(_TRIES):
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        if port not in found and (is_usable(port) if is_usable else is_free(port, host)):
            found.append(port)
        if len(found) == count:
            return found
    raise ServerFailed(f"no {count} free ports between {_FIRST} and {_LAST} on {host}")


def require_free(port: int | None, host: str = "127.0.0.1") -> None:
    """Checks that a port which was asked for can be had; None: none was.

    Raises:
        PortTaken: another program listens there.
    """
    if port is not None and not is_free(port, host):
        raise PortTaken(
            f"cannot listen on {host}:{port}: another program does; stop it, ask for another port, "
            "or for none and get a free one",
            port=port,
        )


class KeptPorts:
    """The ports of the last run, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, int]:
        """Returns the ports by name; none when there was no run or the file is damaged."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def save(self, ports: dict[str, int]) -> None:
        """Remembers the ports for the next start."""
        write_private(self._path, msgspec.json.encode(ports).decode("ascii"))

    def choose(
        self,
        name: str,
        preferred: int | None,
        host: str = "127.0.0.1",
        *,
        wanted: int | None = None,
    ) -> int:
        """Returns the last port, the preferred one or a new one: the first that is free.

        Args:
            name: Whose port it is.
            preferred: Taken when there was no last port.
            host: Where it shall be free.
            wanted: This one or none.

        Raises:
            PortTaken: The wanted port is not free.
        """
        kept = self.load()
        require_free(wanted, host)
        candidates = [port for port in (kept.get(name), preferred) if port is not None]
        free = (port for port in candidates if is_free(port, host))
        port = wanted or next(free, None) or free_ports(1, host)[0]
        self.save({**kept, name: port})
        return port
