"""Gathering the evidence of a run from a platform whose services have ended."""

import asyncio
import hashlib
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import psycopg
from minio import Minio

from mitosis.artifacts.s3 import S3Settings, S3Store
from mitosis.contract.subjects import EVENTS
from mitosis.domain.event import Event
from mitosis.domain.group import MemberRoleSet
from mitosis.domain.worker import WorkerRegistered, WorkerRolesGranted, WorkerTagsReplaced
from mitosis.errors import CorruptData
from mitosis.events.messages import StoredMessage
from mitosis.events.reader import EventReader
from mitosis.events.verify import ChainVerifier
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.store_client import open_store_client
from mitosis.projections.commit import Commit, RawCommit
from mitosis.services.projector.decoding import decode
from mitosis.testing.chaos.checker import check_settings
from mitosis.testing.chaos.evidence import Evidence, Operation, StoredObject, Violation
from mitosis.testing.chaos.ledger import read_ledger
from mitosis.testing.chaos.site import LAB, Site
from mitosis.testing.views import archived, folded_rows, stored_rows
from mitosis.testing.waiting import processes_with

_SESSIONS = """SELECT 'session of Postgres: ' || coalesce(application_name, '') || ' ' || query
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_PREPARED = "SELECT 'prepared transaction: ' || gid FROM pg_prepared_xacts"
QUIET_SECONDS = 10.0


async def read_stream(site: Site) -> list[RawCommit]:
    """Return all stored messages."""
    user = site.credentials.service
    async with AsyncExitStack() as stack:
        urls = [node.url for node in site.nats]
        login = ServiceLogin(user.name, user.password)
        client = await open_store_client(urls, login, name="chaos")
        stack.push_async_callback(client.close)
        batches = EventReader(client).batches(follow=False)
        return [(one.position, one.subject, one.payload) async for b in batches for one in b]


async def gather(site: Site, record: list[Operation], seen: Iterable[Violation]) -> Evidence:
    """Read everything that a run has left."""
    raw = await read_stream(site)
    commits = [decode(*one) for one in raw]
    complaints = [*seen, *_broken_chain(raw), *check_settings(finals(commits), record)]
    return Evidence(
        commits=commits,
        record=record,
        ledger=read_ledger(site.ledger),
        rows=await asyncio.to_thread(stored_rows, site.postgres.url),
        folded=folded_rows(commits),
        archived=await asyncio.to_thread(archived, site.postgres.url),
        objects=await _objects(site),
        leftovers=[*await _sessions(site), *_folders(site)],
        complaints=complaints,
    )


def finals(commits: Iterable[Commit]) -> dict[tuple[str, str], str]:
    """Return what the settings that a campaign changes are in the end."""
    found: dict[tuple[str, str], str] = {}
    for commit in commits:
        name = commit.tail.rpartition(".")[2]
        for event in commit.events:
            found |= _settings(name, event)
    return found


def _settings(name: str, event: Event) -> dict[tuple[str, str], str]:
    match event:
        case WorkerTagsReplaced(tags):
            return {("tags", name): ",".join(sorted(tags))}
        case WorkerRegistered():
            return {
                ("tags", name): ",".join(sorted(event.tags)),
                ("role", name): event.roles[LAB].name if LAB in event.roles else "",
            }
        case WorkerRolesGranted(roles) if LAB in roles:
            return {("role", name): roles[LAB].name}
        case MemberRoleSet(member, role) if name == LAB:
            return {("member", member): role.name}
        case _:
            return {}


def _broken_chain(raw: Iterable[RawCommit]) -> list[Violation]:
    verifier = ChainVerifier(EVENTS)
    try:
        verifier.check(StoredMessage(*one) for one in raw)
    except CorruptData as error:
        return [Violation("chain", f"position {error.details.get('position')}", str(error))]
    return []


async def _objects(site: Site) -> dict[str, StoredObject]:
    settings = S3Settings(
        url=site.s3.url,
        access_key=site.credentials.s3.access_key,
        secret_key=site.credentials.s3.secret_key,
    )
    store = S3Store(settings)
    bucket = store.artifacts

    def read(client: Minio, name: str) -> StoredObject:
        answer = client.get_object(bucket.name, name)
        try:
            data = answer.read()
        finally:
            answer.close()
            answer.release_conn()
        return StoredObject(len(data), hashlib.sha256(data).hexdigest())

    try:
        listed = await bucket.list_prefix()
        reads = (store.call(partial(read, name=one.name)) for one in listed)
        found = await asyncio.gather(*reads)
        return dict(zip((one.name for one in listed), found, strict=True))
    finally:
        await store.close()


async def _sessions(site: Site) -> list[str]:
    """Return what still has Postgres open after a while."""

    def look() -> list[str]:
        with psycopg.connect(site.postgres.url) as connection:
            rows = [*connection.execute(_SESSIONS), *connection.execute(_PREPARED)]
        return [str(text) for (text,) in rows]

    deadline = asyncio.get_running_loop().time() + QUIET_SECONDS
    while found := await asyncio.to_thread(look):
        if asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.1)
    return []


def _folders(site: Site) -> list[str]:
    """Return what tasks and uploads have left in the folders of the workers."""
    return [
        f"file of a task: {path.relative_to(site.root)}"
        for part in site.of_kind("worker")
        for below in ("slots", "outbox")
        for path in sorted((site.root / part.name / below).rglob("*"))
        if path.is_file()
    ]


async def still_running(text: str, of: Path, seconds: float = QUIET_SECONDS) -> list[str]:
    """Return the processes of a run that are alive after a while.

    Args:
        text: In their command line or environment.
        of: The folder of the run, which they have in theirs as well.
        seconds: How long they may take to end.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while found := set(processes_with(text)) & set(processes_with(str(of))):
        if asyncio.get_running_loop().time() > deadline:
            return [f"process: {command_line(pid)}" for pid in sorted(found)]
        await asyncio.sleep(0.1)
    return []


def command_line(pid: int) -> str:
    """Return the command line of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    except OSError:
        return ""
