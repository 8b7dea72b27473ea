"""What a coordinator that may have been replaced does not do, and how it learns of it."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from mitosis._version import __version__
from mitosis.contract import commands, login, wire
from mitosis.errors import Fenced, NoCoordinator, StoreUnavailable, Unavailable
from mitosis.events.messages import StreamState
from mitosis.services.coordinator import leadership, term
from mitosis.services.coordinator.leadership import SILENT_SECONDS
from mitosis.services.coordinator.leases import MARGIN_SECONDS, Leases
from mitosis.services.coordinator.standing import DOUBT_SECONDS, PROOF_SECONDS, Standing
from mitosis.services.coordinator.storage import NamedArtifacts, NamedAttachments
from mitosis.services.coordinator.term import UNPROVED_SECONDS, Term

LEASE_SECONDS = 5.0


@pytest.mark.parametrize("named", [NamedAttachments, NamedArtifacts])
async def test_files_are_not_deleted_by_one_who_does_not_know_what_others_have_named(
    coordinator: Any, named: Any
) -> None:
    """The store of objects lets anybody delete: a thawed coordinator swept files of the next."""
    task = await coordinator.submit()
    objects = ["alice/of-another-term", f"{task}/2/of-another-term/result.tar.gz"]
    coordinator.core.standing.confirm()
    assert not await named(coordinator.core)(objects)
    coordinator.clock.seconds += 3600
    with pytest.raises(Unavailable):
        await named(coordinator.core)(objects)


async def test_keys_are_not_destroyed_by_one_who_does_not_know_which_tasks_others_have(
    coordinator: Any,
) -> None:
    coordinator.keys.kept = {"f" * 32: b"of a task of the next term"}
    coordinator.clock.seconds += 3600
    cleaning = asyncio.create_task(coordinator.vault.keep_clean())
    for _ in range(20):
        await asyncio.sleep(0)
    assert coordinator.keys.kept
    cleaning.cancel()
    await asyncio.gather(cleaning, return_exceptions=True)
    coordinator.core.standing.confirm()
    cleaning = asyncio.create_task(coordinator.vault.keep_clean())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not coordinator.keys.kept
    cleaning.cancel()
    await asyncio.gather(cleaning, return_exceptions=True)


def test_a_lease_that_a_former_coordinator_may_still_prolong_is_waited_for(
    coordinator: Any,
) -> None:
    """It had its last proof as the term began, and answers for as long as that counts."""
    clock = coordinator.clock
    standing, leases = Standing(clock), Leases(clock)
    standing.prove(clock.seconds)
    leases.assume("worker", PROOF_SECONDS)
    clock.seconds += PROOF_SECONDS
    standing.confirm()
    assert standing.is_sure
    prolonged_until = clock.seconds + LEASE_SECONDS
    clock.seconds = prolonged_until + MARGIN_SECONDS - 0.1
    assert leases.expired({"worker": LEASE_SECONDS}) == []
    clock.seconds += 0.2
    assert leases.expired({"worker": LEASE_SECONDS}) == ["worker"]


async def test_an_answer_that_waited_while_the_coordinator_was_frozen_says_nothing_of_now(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In doubt it asked, and was frozen before it heard: when it woke, it believed that answer."""
    clock, standing = coordinator.clock, coordinator.core.standing
    answers = 0

    def frozen() -> StreamState:
        nonlocal answers
        answers += 1
        if answers > 1:
            held.ended.set_result(Unavailable("enough"))
            raise StoreUnavailable("no answer")
        clock.seconds += 60
        return StreamState(0, 1, 0)

    held = _term(coordinator, monkeypatch, frozen)
    standing.doubt()
    await asyncio.wait_for(held._stand(), 5)
    assert answers == 2, "the stream is asked again"
    assert not standing.is_sure


async def test_a_loss_of_the_connection_is_not_settled_by_a_question_from_before(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = coordinator.core.standing
    answers = 0

    def lost_again() -> StreamState:
        nonlocal answers
        answers += 1
        if answers > 1:
            held.ended.set_result(Unavailable("enough"))
            raise StoreUnavailable("no answer")
        coordinator.clock.seconds += 0.01
        standing.doubt()
        return StreamState(0, 1, 0)

    held = _term(coordinator, monkeypatch, lost_again)
    standing.doubt()
    await asyncio.wait_for(held._stand(), 5)
    assert not standing.is_sure


async def test_a_doubt_is_over_when_the_stream_has_said_that_nobody_else_has_written(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = coordinator.core.standing

    def slow() -> StreamState:
        coordinator.clock.seconds += DOUBT_SECONDS - 0.1
        assert not standing.is_sure, "whoever asks meanwhile is not answered"
        held.ended.set_result(Unavailable("enough"))
        return StreamState(0, 1, 0)

    held = _term(coordinator, monkeypatch, slow)
    coordinator.clock.seconds += 60
    assert not standing.is_sure
    await asyncio.wait_for(held._stand(), 5)
    coordinator.clock.seconds += 1
    assert standing.is_sure


async def test_who_has_learned_that_another_one_leads_answers_nothing_more(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream had answered, so it was sure again: it let people in by what it knew before."""
    standing = coordinator.core.standing
    held = _term(coordinator, monkeypatch, _then(StreamState(0, 1, 510)))
    standing.doubt()
    await asyncio.wait_for(held._stand(), 5)
    assert isinstance(held.ended.result(), Fenced)
    assert not standing.is_sure
    standing.confirm()
    standing.prove(coordinator.clock.seconds)
    with pytest.raises(Unavailable, match="is over"):
        standing.check()


async def test_what_was_decided_and_not_sent_does_not_hide_what_another_one_has_stored(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With some hundred commits waiting, the term of another one was within what it expected."""
    held = _term(coordinator, monkeypatch, _then(StreamState(0, 1, 510)))
    coordinator.store.room = 0
    for number in range(600):
        await coordinator.ask(
            "alice", coordinator.tasks.submit, commands.SubmitTask(("true",), f"{number}")
        )
    assert coordinator.core.journal.position > 510
    await held._look_who_leads()
    assert isinstance(held.ended.result(), Fenced)


async def test_a_coordinator_of_a_cluster_makes_way_when_nobody_can_say_that_it_leads(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node was cut off, its connections were not: it told every standby that it is there."""
    clock = coordinator.clock

    def nobody() -> StreamState:
        clock.seconds += 1
        raise StoreUnavailable("no answer")

    held = _term(coordinator, monkeypatch, nobody)
    began = clock.seconds
    coordinator.core.standing.prove(began)
    await asyncio.wait_for(held._prove(), 5)
    assert isinstance(held.ended.result(), StoreUnavailable)
    assert UNPROVED_SECONDS < clock.seconds - began < UNPROVED_SECONDS + 3


async def test_a_coordinator_makes_way_when_only_one_that_is_cut_off_says_that_it_leads(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader of the stream beside it answered all the time, and had heard of no majority."""
    clock, answers = coordinator.clock, 0

    def cut_off() -> StreamState:
        nonlocal answers
        answers += 1
        clock.seconds += 1
        if answers > 2 * UNPROVED_SECONDS:
            held.ended.set_result(Unavailable("enough"))
        return StreamState(0, 1, 0, PROOF_SECONDS + answers)

    held = _term(coordinator, monkeypatch, cut_off)
    began = clock.seconds
    coordinator.core.standing.prove(began)
    await asyncio.wait_for(held._prove(), 5)
    assert isinstance(held.ended.result(), StoreUnavailable)
    assert UNPROVED_SECONDS < clock.seconds - began < UNPROVED_SECONDS + 3


async def test_a_coordinator_goes_on_while_it_is_told_now_and_then_that_it_leads(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, quiet = coordinator.clock, deque([30.0] * 10 + [1.0] + [30.0] * 10)

    def somebody() -> StreamState:
        clock.seconds += 1
        if not quiet:
            held.ended.set_result(Unavailable("enough"))
        return StreamState(0, 1, 0, quiet.popleft() if quiet else 0.0)

    held = _term(coordinator, monkeypatch, somebody)
    coordinator.core.standing.prove(clock.seconds)
    await asyncio.wait_for(held._prove(), 5)
    assert held.ended.result().message == "enough"


async def test_a_coordinator_outside_of_a_cluster_learns_that_another_one_leads(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose commands did not arrive, and that had nothing to store, went on for ever."""
    held = _term(coordinator, monkeypatch, _then(StreamState(0, 1, 510)))
    await asyncio.wait_for(held._prove(), 5)
    assert isinstance(held.ended.result(), Fenced)
    assert not coordinator.core.standing.needs_proof


def _then(state: StreamState) -> Callable[[], StreamState]:
    return lambda: state


def _term(coordinator: Any, monkeypatch: pytest.MonkeyPatch, state: Any) -> Term:
    """A term without what serves; `state` says what the stream answers, or raises."""

    async def stream_state(*_: Any) -> StreamState:
        found: StreamState = state()
        return found

    monkeypatch.setattr(term, "stream_state", stream_state)
    monkeypatch.setattr(term, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(term, "LOOK_ALONE_SECONDS", 0.0)
    coordinator.clock.seconds += 1  # since something was stored
    held = object.__new__(Term)
    held._parts = SimpleNamespace(clock=coordinator.clock, store_client=None)  # type: ignore[assignment]
    held.core = coordinator.core
    held.ended = asyncio.get_running_loop().create_future()
    return held


class Told(Exception):
    """The standby has asked once more, although it was told everything."""


class Office:
    """A connection in a cluster, by which a standby asks; each answer takes its time."""

    lone_server: str | None = None
    address = "nats://here"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *script: tuple[float, str]) -> None:
        self.is_connected = True
        self._script, self._now = deque(script), 100.0
        self._listeners: list[Callable[[], None]] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self._now)
        monkeypatch.setattr(leadership, "PAUSE_SECONDS", 0.0)

    def add_listener(self, *, on_reconnect: Callable[[], None]) -> None:
        self._listeners.append(on_reconnect)

    def remove_listener(self, listener: Callable[[], None]) -> None:
        self._listeners.remove(listener)

    async def request(self, *_: Any) -> bytes:
        if not self._script:
            raise Told
        seconds, word = self._script.popleft()
        self._now += seconds
        self.is_connected = word != "down"
        if word == "up":
            for listener in self._listeners:
                listener()
        if word == "nobody":
            raise NoCoordinator("nobody listens")
        if word == "hello":
            return wire.encode(wire.Reply(login.Welcome(__version__, 7)))
        raise Unavailable(f"it is {word}")


HELLO, SILENT, DOWN, UP, NOBODY = "hello", "silent", "down", "up", "nobody"


@pytest.mark.parametrize(
    "script",
    [
        ((1, HELLO), (2, DOWN), (2, DOWN), (2, DOWN), (0, SILENT)),
        ((1, HELLO), (2, DOWN), (2, DOWN), (2, UP), (1, SILENT)),
        ((1, HELLO), (60, SILENT), (1, SILENT)),
    ],
    ids=["its connection was down", "its connection came back", "it was frozen itself"],
)
async def test_a_standby_that_could_hear_nobody_does_not_take_that_for_silence(
    monkeypatch: pytest.MonkeyPatch, script: tuple[tuple[float, str], ...]
) -> None:
    office = Office(monkeypatch, *script)
    with pytest.raises(Told):
        await leadership.wait_for_office(office)  # type: ignore[arg-type]
    assert not office._listeners


async def test_a_standby_takes_over_after_a_silence_in_which_it_could_hear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Office(monkeypatch, (1, HELLO), (1, SILENT), (1, SILENT), (1, SILENT), (1, SILENT))
    await leadership.wait_for_office(office)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lone_server", "fenced", "seconds"),
    [("here", False, 1), ("here", True, SILENT_SECONDS), (None, False, SILENT_SECONDS)],
    ids=["alone on its server", "somebody has just taken over", "in a cluster"],
)
async def test_a_standby_takes_over_at_once_only_where_it_would_see_who_leads(
    monkeypatch: pytest.MonkeyPatch, lone_server: str | None, fenced: bool, seconds: float
) -> None:
    """Two coordinators took the office from each other all the time."""
    office = Office(monkeypatch, *[(1, NOBODY)] * 20)
    office.lone_server = lone_server
    began = office._now
    await leadership.wait_for_office(office, fenced=fenced)  # type: ignore[arg-type]
    assert office._now - began == seconds
