"""One deadline for all that a request needs, in a world whose clock moves only as it is told."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from mitosis.client.session import Session
from mitosis.config.client import ClientConfig
from mitosis.contract.commands import Done
from mitosis.contract.login import SessionToken
from mitosis.contract.wire import Nothing, Reply, encode
from mitosis.errors import (
    AuthenticationFailed,
    Misconfigured,
    MitosisError,
    NoCoordinator,
    NotAllowed,
    OutcomeUnknown,
    TooManyTries,
    Unavailable,
)
from mitosis.nats.blocking import finish
from mitosis.nats.credentials import Credentials, Guest
from mitosis.tls import Trust

T = TypeVar("T")
NATS = "nats://first:4222"
HTTP = "http://first:5000"
TIMEOUT = 30.0


class Dial(NamedTuple):
    """Somebody connects: when, where, and until when."""

    at: float
    servers: tuple[str, ...]
    is_guest: bool
    deadline: float


class World:
    """A network, a platform and a clock: each connection and question meets what is next in turn.

    With nothing left in turn all goes well.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.dials: list[Dial] = []
        self.questions: list[tuple[str, float]] = []
        self.asked: list[str] = []
        self.next_dials: list[MitosisError | float | None] = []
        self.next_answers: list[MitosisError] = []
        self.next_questions: list[MitosisError | list[str]] = []
        self.known: list[str] | None = None
        self.back_at = 0.0
        self.longest_silence = math.inf  # then it is clear that no answer will come

    def monotonic(self) -> float:
        return self.now

    # --- as the network of a session ---

    async def connect(
        self,
        servers: Sequence[str],
        credentials: Credentials,
        *,
        trust: Trust,
        reconnect: bool,
        deadline: float,
        on_reconnect: Callable[[], None],
    ) -> "Wire":
        self.dials.append(Dial(self.now, tuple(servers), isinstance(credentials, Guest), deadline))
        if self.now < self.back_at:
            raise NoCoordinator("no coordinator answers")
        match self.next_dials.pop(0) if self.next_dials else None:
            case MitosisError() as error:
                raise error
            case float() as seconds:  # silence
                self.now += min(seconds, deadline - self.now)
                raise NoCoordinator("no answer in time")
        return Wire(self, credentials)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def aside(self, work: Callable[[], T], *, may_be_left: bool = False) -> T:
        return work()

    def turns(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext()

    # --- as the addresses ---

    def given(self, address: str) -> list[str] | None:
        return [address] if address.startswith("nats") else None

    def remembered(self, address: str) -> list[str] | None:
        return self.known

    def ask(self, address: str, seconds: float) -> list[str]:
        self.questions.append((address, seconds))
        found = self.next_questions.pop(0) if self.next_questions else ["nats://asked:4222"]
        if isinstance(found, MitosisError):
            self.now += seconds
            raise found
        return found


class Wire:
    """An open connection, at whose end everything is well."""

    failure = None
    address = NATS

    def __init__(self, world: World, credentials: Credentials) -> None:
        self.credentials = credentials
        self._world = world

    async def request(self, subject: str, data: bytes, timeout_seconds: float) -> bytes:
        self._world.asked.append(subject.rpartition(".")[2])
        if self._world.next_answers:
            error = self._world.next_answers.pop(0)
            if type(error) is Unavailable:
                self._world.now += min(timeout_seconds, self._world.longest_silence)
            raise error
        expires = datetime(2030, 1, 1, tzinfo=UTC)
        if subject.endswith("password"):
            return encode(Reply(SessionToken("alice", False, "token", "s1", expires)))
        return encode(Reply(Done()))

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr("mitosis.client.session.time", world)
    monkeypatch.setattr("mitosis.client.retry.time", world)
    return world


@pytest.fixture
def session_at(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Session]:
    monkeypatch.setattr("mitosis.client.session.Addresses", lambda _: world)

    def make(address: str) -> Session:
        config = ClientConfig(
            coordinator_addr=address, user="alice", password="right",
            credential_path=tmp_path / "credentials", timeout=timedelta(seconds=TIMEOUT),
        )  # fmt: skip
        return Session(config, world)

    return make


@pytest.fixture
def session(session_at: Callable[[str], Session]) -> Session:
    return session_at(NATS)


def command(session: Session) -> Done:
    return finish(session.command("task", "submit", Nothing(), Done))


def query(session: Session) -> Done:
    return finish(session.query("task", "get", Nothing(), Done))


@pytest.mark.parametrize("request_of", [command, query])
def test_a_request_that_begins_while_nobody_is_there_is_answered_when_somebody_has_come(
    world: World, session: Session, request_of: Callable[[Session], Done]
) -> None:
    told: list[tuple[str, float]] = []
    session.waiting = lambda error, left: told.append((error.message, left))
    began, world.back_at = world.now, world.now + 8
    assert request_of(session) == Done()
    assert 8 <= world.now - began < 10
    assert told == [("no coordinator answers", TIMEOUT)]
    assert len(world.dials) < 20, "each pause is longer than the one before"


@pytest.mark.parametrize("request_of", [command, query])
def test_where_nobody_comes_the_last_reason_is_told_at_the_deadline(
    world: World, session: Session, request_of: Callable[[Session], Done]
) -> None:
    began, world.back_at = world.now, world.now + 1000
    with pytest.raises(NoCoordinator):
        request_of(session)
    assert TIMEOUT - 2 < world.now - began <= TIMEOUT


def test_all_that_belongs_to_a_request_has_the_same_deadline(
    world: World, session: Session
) -> None:
    began = world.now
    world.next_dials = [5.0, Unavailable("nobody decided")]
    command(session)
    assert {dial.deadline for dial in world.dials} == {began + TIMEOUT}
    assert [dial.is_guest for dial in world.dials] == [True, True, True, False]
    assert world.asked == ["password", "submit"]


def test_silence_ends_with_the_deadline(world: World, session: Session) -> None:
    began, world.next_dials = world.now, [5.0] * 100
    with pytest.raises(NoCoordinator, match="no answer in time"):
        query(session)
    assert world.now - began <= TIMEOUT


@pytest.mark.parametrize(
    "error", [Misconfigured("a certificate that is not believed"), AuthenticationFailed("no")]
)
def test_what_no_waiting_mends_is_told_at_once(
    world: World, session: Session, error: MitosisError
) -> None:
    began, world.next_dials = world.now, [error]
    with pytest.raises(type(error)):
        command(session)
    assert (world.now, len(world.dials)) == (began, 1)


def test_somebody_else_at_the_address_is_told_at_once(
    world: World, session_at: Callable[[str], Session]
) -> None:
    other = NoCoordinator("what answers is no coordinator")
    other.is_final = True
    world.next_questions = [other]
    with pytest.raises(NoCoordinator, match="is no coordinator"):
        command(session_at(HTTP))
    assert len(world.questions) == 1


def test_a_wrong_password_is_tried_once(world: World, session: Session) -> None:
    world.next_answers = [AuthenticationFailed("wrong user or password")]
    with pytest.raises(AuthenticationFailed):
        command(session)
    assert world.asked == ["password"]


@pytest.mark.parametrize("silence", [1.0, math.inf])
def test_a_password_whose_answer_is_lost_is_not_sent_again(
    world: World, session: Session, silence: float
) -> None:
    began, world.longest_silence = world.now, silence
    world.next_answers = [Unavailable("no answer")]
    with pytest.raises(Unavailable):
        command(session)
    assert world.asked == ["password"]
    assert world.now - began == min(silence, TIMEOUT), "also while there is time left"


def test_a_password_that_nobody_received_is_sent_to_the_next_one(
    world: World, session: Session
) -> None:
    world.next_answers = [NoCoordinator("nobody listens")]
    command(session)
    assert world.asked == ["password", "password", "submit"]


def test_a_command_that_was_never_sent_has_no_unknown_outcome(
    world: World, session: Session
) -> None:
    world.next_dials = [Unavailable("nobody decided") for _ in range(1000)]
    with pytest.raises(Unavailable) as caught:
        command(session)
    assert not isinstance(caught.value, OutcomeUnknown)


def test_a_remembered_address_that_is_silent_leaves_half_of_the_time_to_the_question(
    world: World, session_at: Callable[[str], Session]
) -> None:
    began, world.known, world.next_dials = world.now, ["nats://former:4222"], [1000.0]
    command(session_at(HTTP))
    first, second, *_ = world.dials
    assert (first.servers, first.deadline - began) == (("nats://former:4222",), TIMEOUT / 2)
    assert (second.servers, second.at - began) == (("nats://asked:4222",), TIMEOUT / 2)
    assert world.questions[0] == (HTTP, 5.0)


def test_a_coordinator_that_is_frozen_is_not_asked_where_the_platform_is_that_has_another_one(
    world: World, session_at: Callable[[str], Session]
) -> None:
    """A guest got in, so it is the right place: it was only in between."""
    began, world.known = world.now, [NATS]
    world.next_dials = [Unavailable("took too long to decide")]
    command(session_at(HTTP))
    assert world.questions == []
    assert world.now - began < 1


def test_a_coordinator_that_does_not_answer_is_asked_again_until_somebody_leads(
    world: World, session_at: Callable[[str], Session]
) -> None:
    began, world.known = world.now, [NATS]
    world.next_dials = [NoCoordinator("nobody decides")]
    world.next_questions = [NoCoordinator("timed out")]
    command(session_at(HTTP))
    assert len(world.questions) == 1
    assert world.now - began < 7


def test_the_time_that_connecting_took_is_spent_of_that_of_the_first_request(
    world: World, session: Session
) -> None:
    finish(session.open())
    session.spent_seconds = TIMEOUT - 3
    began, world.next_answers = world.now, [NoCoordinator("nobody") for _ in range(1000)]
    with pytest.raises(NoCoordinator):
        command(session)
    assert world.now - began <= 3
    world.next_answers = [NoCoordinator("nobody")]
    assert command(session) == Done()


def test_a_session_that_was_just_opened_is_tried_again_when_it_is_not_known_for_a_moment(
    world: World, session: Session
) -> None:
    """A coordinator that is overtaken in this moment may still say who gets in."""
    unknown = AuthenticationFailed("the session is not accepted any more")
    world.next_dials = [None, unknown, unknown]  # the guest's, then two of the new session
    assert command(session) == Done()
    world.next_dials = [None, *[unknown] * 1000]
    began = world.now
    with pytest.raises(AuthenticationFailed):
        finish(session.login("somebody", "password"))
    assert 2 <= world.now - began < 4


def lost_then_refused() -> list[MitosisError]:
    return [Unavailable("no answer"), AuthenticationFailed("the session is not accepted any more")]


def log_in_to(session: Session, monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """Let a new log-in be followed by what `then` sets."""
    login = session._login

    async def log_in(*arguments: Any, **options: Any) -> SessionToken:
        made = await login(*arguments, **options)
        then()
        return made

    monkeypatch.setattr(session, "_login", log_in)


@pytest.mark.parametrize(
    "later",
    [[NoCoordinator("nobody")] * 1000, [AuthenticationFailed("locked")]],
    ids=["nobody is there", "it is refused again"],
)
def test_a_command_whose_answer_was_lost_before_a_new_log_in_has_an_unknown_outcome(
    world: World, session: Session, monkeypatch: pytest.MonkeyPatch, later: list[MitosisError]
) -> None:
    """What nobody did was said, although the first try may have done it."""
    finish(session.open())
    log_in_to(session, monkeypatch, lambda: setattr(world, "next_answers", [*later]))
    world.next_answers = lost_then_refused()
    with pytest.raises(OutcomeUnknown) as caught:
        command(session)
    assert world.asked[1:4] == ["submit", "submit", "password"]
    assert caught.value.details["command"], "by which it can be sent again"


@pytest.mark.parametrize(
    "error",
    [
        TooManyTries("wait"),
        AuthenticationFailed("wrong password"),
        NoCoordinator("nobody"),
        Unavailable("silence"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_command_whose_answer_was_lost_has_an_unknown_outcome_when_no_log_in_succeeds(
    world: World, session: Session, error: MitosisError
) -> None:
    finish(session.open())
    world.next_answers = [*lost_then_refused(), *[error] * 1000]
    with pytest.raises(OutcomeUnknown, match=error.message):
        command(session)


def test_a_command_whose_answer_was_lost_has_an_unknown_outcome_without_a_password(
    world: World, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever logs in and runs it again would do it twice."""
    finish(session.open())
    monkeypatch.setattr(session, "_password_of", lambda _: None)
    lost, refused = lost_then_refused()
    world.next_answers = [lost, refused]
    with pytest.raises(OutcomeUnknown, match="not accepted any more"):
        command(session)
    world.next_answers = [NoCoordinator("nobody"), refused]
    with pytest.raises(AuthenticationFailed):
        command(session)
    world.next_answers = [lost, refused]
    with pytest.raises(AuthenticationFailed):
        query(session)


def test_a_command_that_is_decided_on_after_a_new_log_in_has_a_known_outcome(
    world: World, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(session.open())
    answers: list[MitosisError] = []
    log_in_to(session, monkeypatch, lambda: setattr(world, "next_answers", [*answers]))
    world.next_answers = lost_then_refused()
    assert command(session) == Done()
    answers, world.next_answers = [NotAllowed("not yours")], lost_then_refused()
    with pytest.raises(NotAllowed):
        command(session)
