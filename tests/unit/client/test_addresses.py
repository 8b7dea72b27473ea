import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mitosis.client.addresses import Addresses
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
        self.send_response(200 if body else 404)
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


async def test_the_answer_is_remembered_by_other_commands(
    coordinator: str, addresses: Addresses, tmp_path: Path
) -> None:
    assert await addresses.resolve(coordinator) == ["nats://h:1"]
    other = Addresses(cache=tmp_path / "cache" / "addresses.json")
    assert await other.resolve(coordinator) == ["nats://h:1"]
    assert Handler.asked == 1
    assert await other.resolve(coordinator, fresh=True) == ["nats://h:1"]
    assert Handler.asked == 2


async def test_nats_addresses_are_used_as_they_are(addresses: Addresses) -> None:
    assert await addresses.resolve("nats://a:1, tls://b:2") == ["nats://a:1", "tls://b:2"]


@pytest.mark.parametrize("path", ["page", "list", "nothing"])
async def test_somebody_else_at_the_address_is_no_coordinator(
    coordinator: str, addresses: Addresses, path: str
) -> None:
    with pytest.raises(NoCoordinator):
        await addresses.resolve(f"{coordinator}/{path}")


async def test_a_spoilt_cache_only_costs_a_question(
    coordinator: str, addresses: Addresses, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    for text in ("{", "[]", '{"' + coordinator + '": 3}', '{"' + coordinator + '": []}'):
        (tmp_path / "cache" / "addresses.json").write_text(text)
        assert await addresses.resolve(coordinator) == ["nats://h:1"]


async def test_a_cache_that_cannot_be_written_is_no_error(coordinator: str) -> None:
    assert await Addresses(cache=Path("/proc/none/x")).resolve(coordinator) == ["nats://h:1"]


async def test_other_schemes_are_refused(addresses: Addresses) -> None:
    with pytest.raises(Misconfigured, match="write http://host:port"):
        await addresses.resolve("ftp://x")
