import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mitosis.client.addresses import Addresses, fetch
from mitosis.errors import Misconfigured, NoCoordinator


class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    answers: ClassVar[dict[str, bytes]] = {
        "/connect": json.dumps({"nats": "nats://h:1", "version": "1"}).encode(),
        "/page/connect": b"<html>a web page</html>",
        "/list/connect": b"[1, 2]",
    }

    def do_GET(self) -> None:
        type(self).asked += 1
        body = self.answers.get(self.path)
        self.send_response(503 if "busy" in self.path else 200 if body else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def coordinator() -> Iterator[str]:
    Handler.asked = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def addresses(tmp_path: Path) -> Addresses:
    return Addresses(cache=tmp_path / "cache" / "addresses.json")


def test_the_answer_is_remembered_by_other_commands(
    coordinator: str, addresses: Addresses, tmp_path: Path
) -> None:
    assert addresses.remembered(coordinator) is None
    assert addresses.ask(coordinator) == ["nats://h:1"]
    other = Addresses(cache=tmp_path / "cache" / "addresses.json")
    assert other.remembered(coordinator) == ["nats://h:1"]
    assert Handler.asked == 1
    assert other.ask(coordinator) == ["nats://h:1"]
    assert Handler.asked == 2


def test_nats_addresses_are_used_as_they_are(addresses: Addresses) -> None:
    assert addresses.given("nats://a:1, tls://b:2") == ["nats://a:1", "tls://b:2"]
    assert addresses.given("http://a:1") is None


@pytest.mark.parametrize("path", ["page", "list", "nothing"])
def test_somebody_else_at_the_address_is_no_coordinator(
    coordinator: str, addresses: Addresses, path: str
) -> None:
    with pytest.raises(NoCoordinator) as caught:
        addresses.ask(f"{coordinator}/{path}")
    assert caught.value.is_final, "it is of no use to ask again"
    assert addresses.remembered(f"{coordinator}/{path}") is None


def test_a_coordinator_that_is_silent_is_left_when_the_time_is_over_and_may_be_asked_again(
    addresses: Addresses,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(NoCoordinator) as caught:
            addresses.ask(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2)
    assert time.monotonic() - began < 2
    assert not caught.value.is_final


def test_a_coordinator_that_cannot_serve_just_now_may_be_asked_again(
    coordinator: str, addresses: Addresses
) -> None:
    with pytest.raises(NoCoordinator, match="503") as caught:
        addresses.ask(f"{coordinator}/busy")
    assert not caught.value.is_final


def test_a_spoilt_cache_only_costs_a_question(
    coordinator: str, addresses: Addresses, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    for text in ("{", "[]", '{"' + coordinator + '": 3}', '{"' + coordinator + '": []}'):
        (tmp_path / "cache" / "addresses.json").write_text(text)
        assert addresses.remembered(coordinator) is None
        assert addresses.ask(coordinator) == ["nats://h:1"]
        assert addresses.remembered(coordinator) == ["nats://h:1"]


def test_a_cache_that_cannot_be_written_is_no_error(coordinator: str) -> None:
    assert Addresses(cache=Path("/proc/none/x")).ask(coordinator) == ["nats://h:1"]


def test_other_schemes_are_refused(addresses: Addresses) -> None:
    with pytest.raises(Misconfigured, match="write http://host:port"):
        addresses.given("ftp://x")


def test_a_page_that_comes_byte_by_byte_ends_with_its_time() -> None:
    ended = threading.Event()

    def trickle(listener: socket.socket) -> None:
        stream, _ = listener.accept()
        with stream, contextlib.suppress(OSError):
            while not ended.wait(0.05):
                stream.sendall(b"X")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,), daemon=True)
        thread.start()
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="timed out"):
            fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/connect", seconds=0.3)
        assert time.monotonic() - began < 2.0
        ended.set()
        thread.join()


@pytest.mark.parametrize("told", [b'{"nats": 5}', b'{"nats": []}', b'{"nats": [1]}', b"[]"])
def test_an_answer_without_addresses_is_that_of_somebody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: bytes
) -> None:
    monkeypatch.setattr("mitosis.client.addresses.fetch", lambda *_: told)
    with pytest.raises(NoCoordinator, match="no coordinator of Mitosis") as caught:
        Addresses(cache=tmp_path / "cache").ask("http://h:1")
    assert caught.value.is_final
