"""docs/access.md, cell by cell, on a running platform.

Users try their rows through the SDK's session, so that the coordinator and the projector decide;
whoever the server is to stop tries with plain nats-py, which knows nothing of our rules.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError

from mitosis import SyncMitoClient
from mitosis.config.client import CreateUserArgs, SubmitTaskArgs
from mitosis.contract import commands, subjects, wire, work
from mitosis.contract.commands import Registered
from mitosis.contract.login import session_of
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind
from mitosis.domain.user import UserPhase
from mitosis.errors import MitosisError
from mitosis.services.auth.key_files import load_keys
from mitosis.testing.access import USERS, Row, read_access
from mitosis.testing.waiting import eventually

from ..conftest import Platform
from .access_requests import REQUESTS, _complete_artifact, _complete_attachment
from .people import Person, fresh

ROWS = read_access(Path(__file__).parents[3] / "docs" / "access.md")
REFUSALS = {"not_allowed", "not_found"}
SPARE_TASKS = 100


class Cast:
    """The actors, and what their rows are about (`access_requests.Stage`)."""

    def __init__(self, platform: Platform, admin: SyncMitoClient, folder: Path) -> None:
        self.platform, self._admin = platform, admin
        self.people = {actor: Person(platform, admin, folder) for actor in USERS}
        self.outsiders = {
            actor: Person(platform, admin, folder)
            for actor in ("expired", "revoked", "locked", "deleted")
        }
        self._owner = Person(platform, admin, folder)
        self._stranger = Person(platform, admin, folder)
        for one in (self._owner, *self.people.values()):
            admin.set_group_quota(one.name, "1000")
        admin.set_admin(self.people["platform admin"].name, admin=True)
        self.group = fresh("lab")
        self._owner.client.create_group(self.group)
        roles = {self.name(role.label): role for role in Role}
        roles |= {one.name: Role.ADMIN for one in self.outsiders.values()}
        self._owner.client.change_members(self.group, roles)
        waiting = SubmitTaskArgs(command=("true",), group=self.group)
        self._tasks = [t.task for t in self._owner.client.submit_many([waiting] * SPARE_TASKS)]
        self.workers: list[Registered] = []
        self.worker_token = self._register(self._owner, self.group)
        self.worker = self.worker_token.worker
        self.other_worker = self._register(self._stranger, self._stranger.name)
        done = _complete_artifact(self, "Write")
        self.do("Write", "artifact", "complete", done)
        attachment = _complete_attachment(self, "Write")
        self.do("Write", "attachment", "complete", attachment)
        self.stored_task, self.stored_key = done.task, attachment.key

    # --- what requests are about ----------------------------------------------------------

    def task(self) -> str:
        return self._tasks.pop()

    def secret_task(self) -> str:
        args = SubmitTaskArgs(
            command=("true",), group=self.group, secret_envs={"KEY": secrets.token_hex(8)}
        )
        return self._owner.client.submit_task(args).task

    def victim(self) -> str:
        name = fresh("victim")
        self._admin.create_user(CreateUserArgs(username=name, password="password"))
        return name

    def scratch_group(self) -> str:
        name = fresh("scratch")
        self._owner.client.create_group(name)
        return name

    def idle_worker(self) -> str:
        return self._register(self._owner, self.group).worker

    def name(self, actor: str) -> str:
        return self.people[actor].name

    def password(self, actor: str) -> str:
        return self.people[actor].password

    def session(self, actor: str) -> str:
        return self.people[actor].client._client.session.session_id

    def do(self, actor: str, noun: str, verb: str, body: msgspec.Struct) -> dict[str, Any]:
        return self._send(self.people[actor], "command", noun, verb, body)

    def ask(self, actor: str, noun: str, verb: str, body: msgspec.Struct) -> dict[str, Any]:
        return self._send(self.people[actor], "query", noun, verb, body)

    # --- who has which token --------------------------------------------------------------

    def token(self, person: Person) -> str:
        connection = person.client._client.session._connection
        assert connection is not None
        return str(connection.credentials.token)

    def expired_token(self) -> str:
        """Of an open session, and over."""
        person = self.outsiders["expired"]
        private = next(self.platform.data.rglob("private.pem"))
        keys = load_keys(private, private.with_name("public.pem"))
        session = person.client._client.session.session_id
        return keys.issue("user", person.name, sid=session, issued_at=1, exp=2)

    def end(self, actor: str) -> None:
        """Make the user what the column says."""
        person = self.outsiders[actor]
        if actor == "revoked":
            self._admin.revoke_sessions(username=person.name)
        elif actor in {"locked", "deleted"}:
            self._admin.set_user_state(person.name, UserPhase(actor))

    # --- shared ---------------------------------------------------------------------------

    def _register(self, person: Person, group: str) -> Registered:
        """A worker that is registered and never asks for work."""
        body = commands.RegisterWorker({group: Role.ADMIN}, tags=("access",))
        self._send(person, "command", "worker", "register", body)
        return self.workers[-1]

    def _send(
        self, person: Person, kind: str, noun: str, verb: str, body: msgspec.Struct
    ) -> dict[str, Any]:
        session = person.client._client.session
        result: dict[str, Any] = person.client._run(
            getattr(session, kind)(noun, verb, body, dict[str, Any])
        )
        if (noun, verb) == ("worker", "register"):
            self.workers.append(msgspec.convert(result, Registered))
        return result

    def close(self) -> None:
        for one in (self._owner, self._stranger, *self.people.values(), *self.outsiders.values()):
            one.client.close()


@pytest.fixture(scope="module")
def cast(
    platform: Platform, admin: SyncMitoClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cast]:
    made = Cast(platform, admin, tmp_path_factory.mktemp("cast"))
    yield made
    made.close()


# --- plain nats-py ----------------------------------------------------------------------------


class Raw:
    """A connection of nats-py that counts what the server denies."""

    def __init__(self) -> None:
        self.client = Client()
        self._denials: list[str] = []

    async def connect(self, platform: Platform, **credentials: Any) -> "Raw":
        await self.client.connect(
            platform.notice["nats"],
            error_cb=self._note,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            connect_timeout=10,
            **credentials,
        )
        return self

    async def may(self, what: str) -> bool:
        """Try `publish SUBJECT` or `subscribe SUBJECT`; a denial comes before the next PONG."""
        verb, subject = what.split()
        self._denials.clear()
        if verb == "publish":
            await self.client.publish(subject, b"{}")
        else:
            await self.client.subscribe(subject)
        await self.client.flush()  # its PING may overtake what waits to be written
        await self.client.flush()
        assert all("permissions violation" in denial for denial in self._denials), self._denials
        return not self._denials

    async def _note(self, error: Exception) -> None:
        self._denials.append(str(error).lower())


@pytest.fixture
async def doors(cast: Cast) -> AsyncIterator[dict[str, Raw]]:
    """An open connection of everybody who has one, by column."""
    nonce = secrets.token_hex(16)
    credentials: dict[str, dict[str, Any]] = {
        "stranger": {"name": nonce, "inbox_prefix": f"_INBOX.guest.{nonce}"},
        "its worker": {"token": cast.worker_token.token},
        "other worker": {"token": cast.other_worker.token},
    }
    for actor, person in cast.people.items():
        person.client.whoami()  # connected, also after a test that has let it in anew
        credentials[actor] = {"token": cast.token(person)}
    async with contextlib.AsyncExitStack() as stack:
        opened = {}
        for actor, given in credentials.items():
            opened[actor] = await Raw().connect(cast.platform, **given)
            stack.push_async_callback(opened[actor].client.close)
        yield opened


def spelled(what: str, cast: Cast, actor: str) -> str:
    """A row of the subjects with the names of this platform in it."""
    self_name = cast.people[actor].name if actor in cast.people else "nobody"
    other = cast.people["Write" if actor != "Write" else "Read"].name
    for word, name in (
        ("SELF", self_name),
        ("OTHER", other),
        ("GROUP", cast.group),
        ("TASK", cast.stored_task),
        ("WORKER", cast.worker),
    ):
        what = what.replace(word, name)
    return what


# --- the tables -------------------------------------------------------------------------------


def outcome(cast: Cast, row: Row, actor: str) -> str:
    """What became of a user's request: `yes`, or who refused it."""
    request = REQUESTS[row.what]
    noun, verb = row.verb.split(".")
    ask = cast.do if row.table == "Commands" else cast.ask
    refuser = "coordinator" if row.table == "Commands" else "projector"
    body = request.body(cast, actor)
    try:
        result = ask(actor, noun, verb, body)
    except MitosisError as error:
        return "yes" if request.done_although(error) else _refused_by(refuser, error.code)
    code = request.refusal(result)
    return _refused_by(refuser, code) if code else "yes"


def _refused_by(refuser: str, code: str) -> str:
    """Who refused; an error that is about something else is shown as it is."""
    return refuser if code in REFUSALS else code


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.table in {"Commands", "Reads"}], ids=lambda row: row.what
)
def test_a_user_may_do_what_the_row_says_and_nothing_else(cast: Cast, row: Row) -> None:
    found = {actor: outcome(cast, row, actor) for actor in USERS}
    assert found == {actor: row.cells[actor] for actor in USERS}


async def test_the_server_stops_who_is_no_user_whatever_the_verb(
    cast: Cast, doors: dict[str, Raw]
) -> None:
    """Commands, reads, reports and logins as subjects, tried by everybody who may connect."""
    victim = cast.people["Write"].name
    whose = {
        "Commands": lambda verb: f"mito.cmd.{victim}.{verb}",
        "Reads": lambda verb: f"mito.query.{victim}.{verb}",
        "Reports of workers": lambda verb: f"mito.worker.{cast.worker}.{verb}",
        "Logging in": lambda verb: f"mito.login.{verb}",
    }
    wrong = []
    for row in ROWS:
        if row.table not in whose:
            continue
        tried = doors.keys() - (set(USERS) if row.table in {"Commands", "Reads"} else set())
        for actor in tried:
            subject = whose[row.table](row.verb)
            allowed = await doors[actor].may(f"publish {subject}")
            if allowed != (row.cells[actor] == "yes"):
                wrong.append((row.what, actor, allowed))
    assert wrong == []


@pytest.mark.parity("D-062")
async def test_the_server_gives_each_actor_the_subjects_of_its_column(
    cast: Cast, doors: dict[str, Raw]
) -> None:
    wrong = []
    for row in ROWS:
        if row.table == "Subjects":
            for actor, door in doors.items():
                allowed = await door.may(spelled(row.what, cast, actor))
                if allowed != (row.cells[actor] == "yes"):
                    wrong.append((row.what, actor, allowed))
    assert wrong == []


def own_inbox(cast: Cast, actor: str) -> str:
    """Where the session of somebody may hear answers, and nobody else."""
    person = cast.people[actor]
    return f"_INBOX.user.{person.name}.{session_of(cast.token(person))}"


async def test_no_command_is_answered_on_a_subject_of_somebody_else(
    cast: Cast, doors: dict[str, Raw]
) -> None:
    """A user may name any subject for the answer; the services must not lend their rights."""
    other, spy = own_inbox(cast, "Admin"), doors["Admin"].client
    got: list[bytes] = []

    async def note(message: Any) -> None:
        got.append(message.data)

    await spy.subscribe(f"{other}.>", cb=note)
    await spy.flush()
    writer = doors["Write"].client
    subject = subjects.query(cast.people["Write"].name, "user", "whoami")
    body = wire.encode(wire.Request(wire.Nothing()))
    await writer.publish(subject, body, reply=f"{other}.spoof")
    own = f"{own_inbox(cast, 'Write')}.x"
    answers = await writer.subscribe(own)
    await writer.publish(subject, body, reply=own)
    await answers.next_msg(timeout=10)  # requests of one connection are taken in order
    await spy.flush()
    assert got == []


@pytest.mark.parametrize("actor", ["expired", "revoked", "locked", "deleted"])
async def test_a_token_that_is_over_opens_nothing_and_what_it_had_opened_is_closed(
    cast: Cast, actor: str
) -> None:
    """So that every cell of the column is the server's: there is no connection to try it by."""
    person = cast.outsiders[actor]
    token = cast.token(person)
    standing = await Raw().connect(cast.platform, token=token)
    try:
        assert await standing.may(f"subscribe mito.live.task.{cast.group}.>")
        if actor == "expired":
            token = cast.expired_token()
        else:
            cast.end(actor)
            await eventually(lambda: standing.client.is_closed, seconds=1)
    finally:
        await standing.client.close()
    with pytest.raises(NatsError):
        await Raw().connect(cast.platform, token=token)
    assert {row.cells[actor] for row in ROWS} == {"server"}


async def test_a_role_that_is_given_or_taken_changes_live_connections_within_a_second(
    cast: Cast,
) -> None:
    person = cast.people["no role"]
    subject = f"subscribe mito.live.task.{cast.group}.>"
    for role in (Role.READ, None):
        before = await Raw().connect(cast.platform, token=cast.token(person))
        try:
            assert await before.may(subject) == (role is None)
            if role is None:
                cast._owner.client.change_members(cast.group, removed=[person.name])
            else:
                cast._owner.client.change_members(cast.group, {person.name: role})
            await eventually(lambda client=before.client: client.is_closed, seconds=1)
        finally:
            await before.client.close()
        after = await Raw().connect(cast.platform, token=cast.token(person))
        assert await after.may(subject) == (role is not None)
        await after.client.close()


@pytest.mark.parity("D-060")
async def test_a_worker_learns_only_what_concerns_its_own_tasks(cast: Cast) -> None:
    """Another worker's token reads no task, artifact or attachment of the group."""
    door = await Raw().connect(cast.platform, token=cast.other_worker.token)
    uuid = cast.other_worker.worker
    inbox = f"_INBOX.worker.{uuid}.x"
    answers = await door.client.subscribe(inbox)
    body = work.UploadWanted(cast.stored_task, cast.group, 1, ArtifactKind.RESULT, 1)
    for verb, wanted in (("upload", body), ("renew", work.Renew())):
        await door.client.publish(
            subjects.from_worker(uuid, verb),
            wire.encode(wire.Request(wanted, secrets.token_hex(8))),
            reply=inbox,
        )
        answer = (await answers.next_msg(timeout=10)).data
        assert cast.stored_task.encode() not in answer or b'"error"' in answer
        assert b"http" not in answer
    await door.client.close()


async def test_the_workers_of_the_cast_leave(cast: Cast) -> None:
    """The last one: nothing of them stays on the platform that all tests share."""
    for one in cast.workers:
        door = await Raw().connect(cast.platform, token=one.token)
        body = wire.encode(wire.Request(work.Leave("done"), secrets.token_hex(8)))
        inbox = f"_INBOX.worker.{one.worker}.x"
        answers = await door.client.subscribe(inbox)
        await door.client.publish(subjects.from_worker(one.worker, "leave"), body, reply=inbox)
        await answers.next_msg(timeout=10)
        await door.client.close()
