"""Reaching a host whose name has several addresses."""

import socket
import time

import pytest

from mitosis.nats import reach


@pytest.fixture
def silent() -> "socket.socket":
    """A listener whose queue is full: whoever connects waits."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(3)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
    yield listener
    for one in (*waiting, listener):
        one.close()


def addresses_of_the_name(monkeypatch: pytest.MonkeyPatch, *listeners: socket.socket) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())
        for listener in listeners
    ]
    monkeypatch.setattr(reach.socket, "getaddrinfo", lambda *_, **__: found)


def test_the_addresses_of_a_name_share_the_time(
    monkeypatch: pytest.MonkeyPatch, silent: socket.socket
) -> None:
    addresses_of_the_name(monkeypatch, silent, silent, silent)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        reach.first_that_answers("a-name", 1, began + 0.3)
    assert 0.2 < time.monotonic() - began < 1.0


def test_a_silent_address_is_left_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch, silent: socket.socket
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as good:
        addresses_of_the_name(monkeypatch, silent, good)
        with reach.first_that_answers("a-name", 1, time.monotonic() + 0.4) as stream:
            assert stream.getpeername() == good.getsockname()


class Hosts:
    """A network whose clock moves only as it is waited: each address takes its time to answer."""

    SOCK_STREAM = socket.SOCK_STREAM

    def __init__(self, *seconds: float) -> None:
        self.now, self._seconds = 100.0, seconds

    def monotonic(self) -> float:
        return self.now

    def getaddrinfo(self, *_: object, **__: object) -> list[tuple[int, int, int, str, float]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", seconds) for seconds in self._seconds]

    def socket(self, *_: int) -> "FarSocket":
        return FarSocket(self)


class FarSocket:
    """A socket of that network."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts, self.seconds, self.peer = hosts, 0.0, 0.0

    def settimeout(self, seconds: float) -> None:
        self.seconds = seconds

    def connect(self, peer: float) -> None:
        self._hosts.now += min(peer, self.seconds)
        if peer > self.seconds:
            raise TimeoutError("timed out")
        self.peer = peer

    def close(self) -> None:
        """Nothing is open."""


def test_a_silent_address_leaves_an_equal_share_of_the_time_to_each_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the loopback the last millisecond is enough, far away it is not."""
    hosts = Hosts(1000.0, 1000.0, 0.9)
    monkeypatch.setattr(reach, "socket", hosts)
    monkeypatch.setattr(reach, "time", hosts)
    found = reach.first_that_answers("a-name", 1, hosts.now + 3.0)
    assert isinstance(found, FarSocket)
    assert found.peer == 0.9
    assert hosts.now == pytest.approx(102.9)
    assert found.seconds == pytest.approx(0.1), "whoever reads has what is left"


def test_a_name_without_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses_of_the_name(monkeypatch)
    with pytest.raises(OSError, match="a-name"):
        reach.first_that_answers("a-name", 1, time.monotonic() + 1.0)
