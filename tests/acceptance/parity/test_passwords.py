"""Passwords: where they may be, how often they may be guessed, and what is stored of them."""

import asyncio
import contextlib
import io
import secrets
import tomllib
from pathlib import Path
from typing import Any

import pexpect
import psycopg
import pytest

from mitosis import ClientConfig, SyncMitoClient
from mitosis.config.client import CreateUserArgs, SubmitTaskArgs
from mitosis.errors import AuthenticationFailed, MitosisError, TooManyTries
from mitosis.events.reader import EventReader
from mitosis.nats.connection import Connection
from mitosis.nats.credentials import ServiceLogin

from ..conftest import MITO, Platform
from .people import fresh, people


def settings(platform: Platform) -> dict[str, Any]:
    """What the coordinator was told."""
    path = next(platform.data.rglob("coordinator.toml"))
    values: dict[str, Any] = tomllib.loads(path.read_text())["coordinator"]
    return values


async def stored_commits(platform: Platform) -> list[tuple[str, bytes]]:
    """Every commit with its subject, read as a service may."""
    values = settings(platform)
    login = ServiceLogin(values["nats_user"], values["nats_password"])
    async with await Connection.open([values["nats_url"]], login, name="test") as connection:
        found = []
        async for batch in EventReader(connection.raw).batches(follow=False):
            found += [(subject, payload) for _, subject, payload in batch]
        return found


def rows(platform: Platform) -> list[bytes]:
    """Every row of every table, the archive's too, as text."""
    with psycopg.connect(settings(platform)["db_url"]) as database:
        tables = database.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        return [
            str(row[0]).encode()
            for (table,) in tables
            for row in database.execute(
                f"SELECT t::text || coalesce(convert_from(p, 'UTF8'), '') FROM"  # noqa: S608  our own names
                f" (SELECT t, {'payload' if table == 'archive.commits' else 'NULL::bytea'} AS p"
                f" FROM {table} t) x"
            ).fetchall()
        ]


def command_lines(platform: Platform) -> list[bytes]:
    """Arguments and environments of all that runs of the platform."""
    found = []
    for pid in platform.home.processes():
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # it has just ended
                found.append(Path(f"/proc/{pid}/{name}").read_bytes())
    return found


@pytest.mark.parity("D-063")
def test_a_password_is_kept_nowhere_in_clear_and_in_the_stream_as_argon2id(
    platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> None:
    name, first, second, third, wrong = fresh("keeper"), *(secrets.token_hex(16) for _ in range(4))
    assert platform.client(
        "-u", platform.notice["admin_user"], "-p", platform.admin_password,
        "create", "user", "-u", name, "-p", first,
    ).status == 0  # fmt: skip
    path = tmp_path / "credentials"
    config = ClientConfig(coordinator_addr=platform.notice["http"], credential_path=path)
    with contextlib.closing(SyncMitoClient(config)) as client:
        client.login(name, first)
        client.change_password(first, second)
        admin.reset_password(name, third)
        with pytest.raises(AuthenticationFailed):
            client.login(name, wrong)
        client.login(name, third)
        with pytest.raises(MitosisError) as refusal:
            client.change_password(wrong, first)
        assert wrong not in str(refusal.value)
        client.get_task(client.submit_task(SubmitTaskArgs(command=("true",))).task)
        places = {
            "stream": [payload for _, payload in asyncio.run(stored_commits(platform))],
            "postgres": rows(platform),
            "processes": command_lines(platform),
            "logs": [log.read_bytes() for log in platform.data.rglob("*.log*") if log.is_file()],
            "credentials": [path.read_bytes()],
            "supervisor": [(platform.supervisor.out + platform.supervisor.err).encode()],
        }
    for place, texts in places.items():
        assert texts, place
        for secret in (first, second, third, wrong):
            assert not [text for text in texts if secret.encode() in text], (place, secret)
    mine = [
        payload
        for subject, payload in asyncio.run(stored_commits(platform))
        if subject == f"mito.events.user.{name}"
    ]
    hashes = [text for text in mine if b"password_hash" in text]
    assert len(hashes) == 3, "created, changed, reset"
    assert all(b"$argon2id$v=19$" in text for text in hashes)
    views = [text for text in rows(platform) if name.encode() in text and b"argon2id" in text]
    assert all(b"password_hash" in text and b"previous" in text for text in views), "archive only"


@pytest.mark.parity("D-070")
def test_guessing_a_password_takes_longer_each_time_and_nobody_else_waits(
    platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> None:
    victim, other = fresh("victim"), fresh("other")
    for name in (victim, other):
        admin.create_user(CreateUserArgs(username=name, password="right"))
    config = ClientConfig(
        coordinator_addr=platform.notice["http"], credential_path=tmp_path / "credentials"
    )
    with contextlib.closing(SyncMitoClient(config)) as client:
        for _ in range(5):
            with pytest.raises(AuthenticationFailed):
                client.login(victim, "wrong")
        with pytest.raises(TooManyTries) as refusal:
            client.login(victim, "right")
        assert 0 < refusal.value.details["retry_after_seconds"] <= 1
        assert client.login(other, "right").username == other


def test_a_new_password_is_asked_for_twice_and_shown_never(
    platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> None:
    with people(platform, admin, tmp_path, 1) as (one,):
        fresh_one = secrets.token_hex(8)
        for again, status in (("something else", 1), (fresh_one, 0)):
            child = pexpect.spawn(
                MITO[0],
                [*MITO[1:], "client", "-c", platform.notice["http"], "--credential-path",
                 str(one.credentials), "users", "change-password"],
                env={**platform.home.environment, "TERM": "dumb"}, encoding="utf-8", timeout=60,
            )  # fmt: skip
            seen = io.StringIO()
            child.logfile_read = seen
            for prompt, answer in (
                ("Present password", one.password),
                ("New password", fresh_one),
                ("Again the new password", again),
            ):
                child.expect(f"{prompt} of {one.name}: ")
                child.sendline(answer)
            child.expect(pexpect.EOF)
            child.close()
            assert child.exitstatus == status, seen.getvalue()
            for secret in (one.password, fresh_one, again):
                assert secret not in seen.getvalue()
        assert one.client.login(one.name, fresh_one).username == one.name
