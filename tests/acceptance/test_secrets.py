"""Secret variables: the running program has them, and nobody and no file else."""

import gzip
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client

from mitosis import OutputChunk, SyncMitoClient
from mitosis.config.client import GetEventsArgs, SubmitTaskArgs
from mitosis.contract import subjects
from mitosis.domain.roles import Role
from mitosis.domain.task import Outcome
from mitosis.events.reader import EventReader
from mitosis.events.secret_keys import SecretKeys
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.store_client import open_store_client
from mitosis.services.auth.key_files import load_keys
from mitosis.services.auth.sealing import Sealer
from mitosis.services.coordinator.history import read_aggregate
from mitosis.testing.waiting import eventually

from .conftest import Person, Platform, ended, in_shell
from .parity.terminals import Terminal

PROOF = 'printf %s "$TOKEN" | sha256sum'


def digest_of(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def files_with(needle: bytes, *folders: Path) -> list[str]:
    """Every file below that holds some bytes; what is packed by gzip is looked into."""
    found = []
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            content = path.read_bytes()
            content += gzip.decompress(content) if content[:2] == b"\x1f\x8b" else b""
        except (FileNotFoundError, OSError, EOFError):  # it has just been taken away
            continue
        if needle in content:
            found.append(str(path))
    return found


@asynccontextmanager
async def service(platform: Platform) -> AsyncIterator[Client]:
    """A connection of the services; short, since what else is done here blocks the loop."""
    stored = json.loads((platform.data / "secrets" / "services.json").read_bytes())
    login = ServiceLogin("mito_coordinator", stored["nats_password"])
    client = await open_store_client([platform.notice["nats"]], login, name="test")
    try:
        yield client
    finally:
        await client.close()


async def keys_of(platform: Platform) -> dict[str, bytes]:
    async with service(platform) as client:
        keys = SecretKeys(client)
        found = {secret: await keys.get(secret) for secret in await keys.stored()}
    return {secret: key for secret, key in found.items() if key is not None}


async def opened(platform: Platform, group: str, task: str) -> dict[str, str]:
    """What somebody reads who has the stream, the keys and the private key."""
    ((secret, key),) = (await keys_of(platform)).items()
    async with service(platform) as client:
        found = await read_aggregate(EventReader(client), subjects.secret_tail(group, secret))
    assert found is not None
    private = next(platform.data.rglob("private.pem"))
    sealer = Sealer(load_keys(private, private.with_name("public.pem")))
    sealed: str = found[0][0].sealed  # type: ignore[attr-defined]
    return sealer.open(sealed, key, f"{group}/{task}/{secret}")


@pytest.mark.parity("W-08")
@pytest.mark.timeout(180)
async def test_a_secret_lies_nowhere_in_clear_and_its_key_is_gone_after_the_end_or_an_erasing(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    platform = await make_platform(workers=1, slots=1).start()
    group = platform.notice["admin_user"]
    assert platform.client("auth", group, platform.admin_password).status == 0
    value, plain = secrets.token_hex(24), secrets.token_hex(24)
    script = f'echo "it is $TOKEN"; {PROOF} > "$MITO_RESULT_DIR/sum"; echo {plain}'
    submit = ("submit", "--secret-env", "TOKEN", "--", "sh", "-c", script)
    places = (platform.data, platform.home.folder)
    task = platform.client(*submit, more={"TOKEN": value}).text
    with SyncMitoClient(platform.config()) as admin:
        (view,) = admin.wait_for_tasks([task])
        assert view.outcome is Outcome.SUCCEEDED
        assert view.exit is not None
        assert view.exit.stdout_tail == f"it is ***\n{plain}\n"
        path = admin.get_artifact(task, "result", tmp_path / "result.tar.gz")
        assert digest_of(value).encode() in gzip.decompress(path.read_bytes())
        assert "Secrets: TOKEN=***\n" in platform.client("get", "task", task).text

        async def destroyed() -> bool:
            return not await keys_of(platform)

        await eventually(destroyed)
        assert files_with(plain.encode(), *places), "what is no secret is found so"
        assert files_with(value.encode(), *places) == []

        holder = admin.submit_task(in_shell("sleep 600"))
        waiting = platform.client(*submit, more={"TOKEN": value}).text
        assert await opened(platform, group, waiting) == {"TOKEN": value}
        (key,) = (await keys_of(platform)).values()
        assert files_with(key, platform.data), "the key is in a file until it is destroyed"
        backup = tmp_path / "backup"
        kept = platform.home.run("backup", backup, "--data", platform.data, seconds=120)
        assert kept.status == 0, kept
        erased = platform.client(
            "manage", "task", waiting, "erase-secrets", "--reason", "it has leaked"
        )
        assert (erased.status, "erased" in erased.text) == (0, True), erased
        assert await keys_of(platform) == {}
        assert files_with(key, platform.data, backup) == []
        assert files_with(value.encode(), *places, backup) == []
        admin.cancel_task(holder.task, stop_signal="KILL")
        (over,) = admin.wait_for_tasks([waiting])
        assert (over.outcome, "secret variables were erased" in over.reason) == (
            Outcome.ERROR, True,
        )  # fmt: skip
        page = admin.get_events(GetEventsArgs(kind="task", name=waiting))
        (fact,) = [
            (commit.actor, event.data)
            for commit in page.commits
            for event in commit.events
            if event.event == "task.secrets_erased@1"
        ]
        assert fact == (f"user:{group}", {"reason": "it has leaked"})
    config = platform.data / "config" / "coordinator.toml"
    verified = platform.home.run("events", "verify", "--config", config)
    assert verified.status == 0, verified


class Heard:
    """A raw connection, and everything that it was sent."""

    def __init__(self) -> None:
        self.client, self.messages = Client(), list[bytes]()

    async def listen(self, platform: Platform, *heard: str, **credentials: Any) -> "Heard":
        await self.client.connect(platform.notice["nats"], allow_reconnect=False, **credentials)

        async def keep(message: Any) -> None:
            self.messages.append(message.subject.encode() + message.data)

        for subject in heard:
            await self.client.subscribe(subject, cb=keep)
        await self.client.flush()
        return self


def token_of(client: SyncMitoClient) -> str:
    connection = client._client.session._connection
    assert connection is not None
    return str(connection.credentials.token)


@pytest.mark.parity("W-08")
async def test_no_member_no_admin_no_worker_and_no_listener_ever_sees_a_secret(
    platform: Platform, admin: SyncMitoClient, person: Person
) -> None:
    group, value = platform.notice["admin_user"], secrets.token_hex(24)
    stored = json.loads((platform.data / "secrets" / "services.json").read_bytes())
    admin.change_members(group, {person.name: Role.ADMIN})
    person.client.get_group(group)  # let in anew, with its new role
    ears = [
        await Heard().listen(
            platform, f"mito.live.task.{group}.>", f"mito.output.{group}.>",
            token=token_of(person.client),
        ),
        await Heard().listen(
            platform, *(f"mito.live.{kind}.>" for kind in ("task", "group", "worker")),
            token=token_of(admin),
        ),
        await Heard().listen(
            platform, "$SYS.>", user="mito_system", password=stored["nats_system_password"]
        ),
        # Not even what the services push and store has it; their requests and answers do.
        await Heard().listen(
            platform, "mito.work.>", "mito.control.>", "mito.live.>", "mito.events.>",
            "mito.secrets.>", "mito.output.>", "mito.svc.>",
            user="mito_coordinator", password=stored["nats_password"],
        ),
    ]  # fmt: skip
    try:
        args = in_shell(f'echo "$TOKEN"; {PROOF}', secret_envs={"TOKEN": value})
        (view,) = ended(admin, args)
        assert view.exit is not None
        assert digest_of(value) in view.exit.stdout_tail
        for ear in ears:
            await ear.client.flush()
            assert value.encode() not in b"".join(ear.messages)
        for ear in ears[:2]:
            heard = b"".join(ear.messages)
            assert b"task.submitted" in heard
            assert b"secret.stored" not in heard
        assert b"secret.stored" in b"".join(ears[3].messages)
    finally:
        for ear in ears:
            await ear.client.close()
    for who in (person.client, admin):
        sealed = who.get_events(GetEventsArgs(kind="secret", group=group))
        (one,) = [e for c in sealed.commits for e in c.events if e.data["task"] == view.uuid]
        assert one.withheld == ("sealed",)
        seen = [
            who.get_task(view.uuid),
            who.get_events(GetEventsArgs(kind="task", name=view.uuid)),
            sealed,
        ]
        assert value.encode() not in msgspec.json.encode(seen)


def test_each_attempt_has_the_secret(admin: SyncMitoClient) -> None:
    value = secrets.token_hex(24)
    script = f'{PROOF} | grep -q {digest_of(value)} || exit 9; [ "$MITO_ATTEMPT" = 2 ] || exit 3'
    again = in_shell(script, secret_envs={"TOKEN": value}, retries=1, retry_delay="100ms")
    (view,) = ended(admin, again)
    assert (view.outcome, view.attempt) == (Outcome.SUCCEEDED, 2)


async def test_what_is_followed_and_collected_of_the_terminal_has_stars_in_its_place(
    platform: Platform, tmp_path: Path
) -> None:
    value = secrets.token_hex(12)
    # In two pieces, the first of which is written alone; and its beginning at the very end.
    script = (
        'printf "a %s" "${TOKEN%????????????}"; sleep 0.5; printf "%s b\\n" "${TOKEN#????????????}"'
        '; echo "<$TOKEN>"; printf %s "${TOKEN%????????????}"'
    )
    stars = "*" * len(value)
    shown = f"a {stars} b\n<{stars}>\n{'*' * 12}".encode()
    async with platform.open_client() as client:
        args = in_shell(script, secret_envs={"TOKEN": value}, terminal=True)
        submitted = await client.submit_task(args)
        chunks = [e async for e in client.follow([submitted]) if isinstance(e, OutputChunk)]
        assert b"".join(chunk.data for chunk in chunks) == shown
        (view,) = await client.wait_for_tasks([submitted])
        assert view.exit is not None
        assert view.exit.stdout_tail == "a *** b\n<***>\n***"
        await client.get_artifact(view.uuid, "std-log", tmp_path, extract=True)
    (log,) = tmp_path.rglob("stdout.log")
    assert log.read_bytes() == shown


def test_values_come_from_the_environment_a_file_standard_input_and_the_person(
    platform: Platform, person: Person, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("of the file\n")
    task = person.shell(
        "submit", "--secret-env", "A", "--secret-env", f"B@{file}", "--secret-env", "C@-",
        "--secret-env", "D=a,b=c@d", "--", "true", more={"A": "of the environment"}, stdin=b"piped",
    )  # fmt: skip
    assert task.status == 0, task
    assert person.client.get_task(task.text).spec.secrets == ("A", "B", "C", "D")
    key = secrets.token_hex(8)
    same = {"A": "of the environment", "B": "of the file", "C": "piped", "D": "a,b=c@d"}
    args = SubmitTaskArgs(command=("true",), key=key, secret_envs=same)
    submitted = person.client.submit_task(args)
    again = person.shell(
        "submit", "--key", key, "--secret-env", "A", "--secret-env", f"B@{file}",
        "--secret-env", "C@-", "--secret-env", "D=a,b=c@d", "--", "true",
        more={"A": "of the environment"}, stdin=b"piped",
    )  # fmt: skip
    assert again.text == submitted.task, "each value is what it was given as"
    conflict = person.shell(
        "submit", "--key", key, "--secret-env", "A=hidden-1", "--secret-env", f"B@{file}",
        "--secret-env", "C@-", "--secret-env", "D=a,b=c@d", "--", "true", stdin=b"piped",
    )  # fmt: skip
    assert (conflict.status, "hidden-1" in conflict.err) == (5, False), conflict
    refused = person.shell("submit", "--secret-env", "A=hidden", "--secret-env", "A=hidden", "--")
    assert (refused.status, "hidden" in refused.err) == (2, False), refused
    nobody = person.shell("submit", "--secret-env", "NOT_SET", "--", "true")
    assert nobody.status == 2
    assert "NOT_SET is not in the environment" in nobody.complaint
    terminal = Terminal(
        "-c", platform.notice["http"], "--credential-path", tmp_path / "credentials",
        "submit", "--secret-env", "TYPED", "--", "true", home=tmp_path,
    )  # fmt: skip
    try:
        terminal.child.expect_exact("Value of TYPED: ")
        assert not terminal.echoes
        terminal.send("typed-in\r")
        assert terminal.ends() == 0, terminal.said
        assert "typed-in" not in terminal.said
    finally:
        terminal.close()


def test_secrets_are_changed_taken_away_and_erased_by_whoever_submitted_them(
    person: Person,
) -> None:
    task = person.shell("submit", "--secret-env", "A=1234", "--", "true").text
    change = ("manage", "task", task, "change", "--secret-env")
    assert person.shell(*change, "B=5678").status == 0
    assert "Secrets: B=***" in person.shell("get", "task", task).text
    erased = person.shell("manage", "task", task, "erase-secrets", "--json")
    assert erased.json["changed"] is True
    again = person.shell("tasks", "erase-secrets", task, "--json")
    assert again.json["changed"] is False
    assert person.shell(*change).status == 0
    assert person.client.get_task(task).spec.secrets == ()
    none = person.shell("manage", "task", task, "erase-secrets")
    assert (none.status, "has no secret variables" in none.complaint) == (1, True), none
