"""Who may connect, asked of a coordinator that may have been replaced."""

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mitosis.nats import callout
from mitosis.nats.callout import ConnectRequest, Grant, Responder, Signer
from mitosis.nats.connection import Msg

REQUEST = ConnectRequest("S", 100, "U", 7, "Client", "here", "", "bob", "pw", "", False)


class Line:
    """What a responder sends."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def publish(self, reply: str, _: bytes) -> None:
        self.sent.append(reply)


async def test_nobody_is_let_in_by_one_who_may_not_know_that_he_was_locked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut off with its node, it went on letting in whom the other half had locked out."""
    monkeypatch.setattr(callout, "decode_request", lambda _: REQUEST)
    monkeypatch.setattr(callout, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(callout, "DOUBT_SECONDS", 0.05)
    line, judged, sure = Line(), [], [False]

    def decide(request: ConnectRequest) -> Grant:
        judged.append(request)
        return Grant("user:bob", (), (), 200)

    signer = Signer(Ed25519PrivateKey.generate(), "MITO")
    responder = Responder(line, signer, decide, lambda: 100.0, lambda: sure[0])  # type: ignore[arg-type]

    def ask(reply: str) -> None:
        responder._receive(Msg(None, reply=reply))  # type: ignore[arg-type]

    ask("first")
    assert await _gone(responder) == 0
    assert (line.sent, judged) == ([], [])
    monkeypatch.setattr(callout, "DOUBT_SECONDS", 10.0)
    ask("second")
    await asyncio.sleep(0)
    assert line.sent == []
    sure[0] = True
    assert await _gone(responder) == 0
    ask("third")
    assert (line.sent, judged) == (["second", "third"], [REQUEST] * 2)


async def _gone(responder: Responder) -> int:
    """Wait until nothing is being decided."""
    tasks: set[asyncio.Task[Any]] = responder._deciding
    if tasks:
        await asyncio.wait(tasks, timeout=5)
    await asyncio.sleep(0)
    return len(tasks)
