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


def test_a_silent_address_leaves_time_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch, silent: socket.socket
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as good:
        addresses_of_the_name(monkeypatch, silent, good)
        with reach.first_that_answers("a-name", 1, time.monotonic() + 0.4) as stream:
            assert stream.getpeername() == good.getsockname()


def test_a_name_without_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses_of_the_name(monkeypatch)
    with pytest.raises(OSError, match="a-name"):
        reach.first_that_answers("a-name", 1, time.monotonic() + 1.0)
