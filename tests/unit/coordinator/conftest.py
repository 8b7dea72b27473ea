"""A coordinator without a network: a store that keeps commits until the test lets them through."""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import count
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mitosis.artifacts.multipart import part_length
from mitosis.contract import commands, subjects, wire, work
from mitosis.domain.roles import Role
from mitosis.domain.task import Exit, ExitKind, Usage
from mitosis.domain.user import User
from mitosis.errors import AuthenticationFailed, MitosisError
from mitosis.events.envelope import Commit, decode_commit
from mitosis.events.writer import Append
from mitosis.nats.rpc import Caller
from mitosis.services.auth.key_files import pem_of
from mitosis.services.auth.sealing import Sealer
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.coordinator.answered import Answered
from mitosis.services.coordinator.core import Core, guarded
from mitosis.services.coordinator.dispatcher import Dispatcher
from mitosis.services.coordinator.handlers.files import FileHandlers
from mitosis.services.coordinator.handlers.groups import GroupHandlers
from mitosis.services.coordinator.handlers.reports import ReportHandlers
from mitosis.services.coordinator.handlers.secrets import SecretHandlers, SecretReports
from mitosis.services.coordinator.handlers.tasks import TaskHandlers
from mitosis.services.coordinator.handlers.users import UserHandlers, add_user
from mitosis.services.coordinator.handlers.workers import WorkerHandlers
from mitosis.services.coordinator.history import take_in
from mitosis.services.coordinator.journal import Journal, Unit
from mitosis.services.coordinator.leases import Leases
from mitosis.services.coordinator.retries import Retries
from mitosis.services.coordinator.standing import Standing
from mitosis.services.coordinator.uploads import Uploads
from mitosis.services.coordinator.vault import Vault
from mitosis.services.coordinator.watches import Watches
from mitosis.services.coordinator.world import World

PRIVATE = Ed25519PrivateKey.generate()
KEYS = TokenKeys(PRIVATE, pem_of(PRIVATE))


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.wrong = timedelta()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds) + self.wrong

    def monotonic(self) -> float:
        return self.seconds


class Ids:
    def __init__(self) -> None:
        self._numbers = count(1)

    def commit_id(self) -> str:
        return f"{next(self._numbers):032x}"

    def uuid(self) -> str:
        return f"00000000-0000-4000-8000-{next(self._numbers):012x}"


class Store:
    """Keeps what is handed in; `let_through` makes it stored."""

    def __init__(self) -> None:
        self.next_position = 1
        self.room = 500
        self.fault: str | None = None
        self.stored: list[tuple[int, str, bytes]] = []
        self.batches: list[int] = []
        self.last: dict[str, int] = {}
        self._waiting: deque[tuple[Sequence[Append], int, Callable[[int], None]]] = deque()

    def send_batch(
        self,
        appends: Sequence[Append],
        on_stored: Callable[[int], None],
        on_failed: Callable[[MitosisError], None] | None = None,
    ) -> int:
        first = self.next_position
        self.next_position += len(appends)
        for position, append in enumerate(appends, first):
            # What JetStream checks: the last position of the subject.
            assert append.expected == self.last.get(append.subject, 0), append.subject
            self.last[append.subject] = position
        self._waiting.append((appends, first, on_stored))
        self.batches.append(len(appends))
        return self.next_position - 1

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def let_through(self) -> None:
        while self._waiting:
            appends, first, on_stored = self._waiting.popleft()
            for offset, append in enumerate(appends):
                self.stored.append((first + offset, append.subject, append.payload))
            on_stored(first + len(appends) - 1)

    def cut_off(self, *, after: int) -> None:
        """Store so many of what waits and lose the rest, as when a coordinator is killed."""
        for _ in range(after):
            appends, first, _on_stored = self._waiting.popleft()
            for offset, append in enumerate(appends):
                self.stored.append((first + offset, append.subject, append.payload))
        self._waiting.clear()
        self.next_position = self.stored[-1][0] + 1
        self.last = {subject: position for position, subject, _ in self.stored}

    def commits(self) -> list[tuple[str, Commit]]:
        return [(subject, decode_commit(subject, data)) for _, subject, data in self.stored]

    def topics(self) -> list[list[str]]:
        """Topics of each commit, oldest first, without aggregate and version."""
        return [
            [topic.partition("@")[0] for topic, _ in commit.events] for _, commit in self.commits()
        ]


class MemoryKeys:
    """The stream of keys."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, secret: str, key: bytes) -> None:
        self.kept[secret] = key

    async def get(self, secret: str) -> bytes | None:
        return self.kept.get(secret)

    async def destroy(self, secret: str) -> None:
        self.kept.pop(secret, None)

    async def stored(self) -> set[str]:
        return set(self.kept)


class Objects:
    """A bucket: sizes by name, and the multipart uploads that were begun."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.deleted: list[str] = []
        self.open: dict[str, str] = {}

    async def size_of(self, object_name: str) -> int | None:
        return self.sizes.get(object_name)

    def presign_put(self, object_name: str, size_bytes: int | None = None) -> str:
        return f"put:{object_name}:{size_bytes}"

    def presign_part(self, object_name: str, store_id: str, number: int, size_bytes: int) -> str:
        return f"part:{object_name}:{store_id}:{number}:{part_length(size_bytes, number)}"

    async def begin_parts(self, object_name: str) -> str:
        self.open[object_name] = f"store-id-{len(self.open)}"
        return self.open[object_name]

    async def join_parts(self, object_name: str, store_id: str, size_bytes: int) -> None:
        assert self.open.pop(object_name) == store_id
        self.sizes[object_name] = size_bytes

    async def drop_parts(self, object_name: str, store_id: str) -> None:
        assert self.open.pop(object_name) == store_id

    async def delete(self, object_names: Any) -> None:
        for name in object_names:
            self.deleted.append(name)
            self.sizes.pop(name, None)


class FastPasswords:
    """Hashes that take no time; Argon2id has its own tests."""

    async def hash(self, password: str) -> str:
        return f"hash of {password}"


class FastCheck:
    """Compares such hashes."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def check(self, username: str, password: str, source: str) -> User:
        user = self._core.world.users[username]
        if user.password_hash != f"hash of {password}":
            raise AuthenticationFailed("wrong user name or password")
        return user


class Coordinator:
    """A term over a fake store, with what it sent."""

    def __init__(self) -> None:
        self.clock, self.ids, self.store, self.objects = Clock(), Ids(), Store(), Objects()
        self.attachments = Objects()
        self.keys = MemoryKeys()
        self.world = World()
        self.alive = True  # the loop that looks at the clock runs
        self.sent: list[tuple[str, bytes]] = []
        self.start()

    def start(self) -> None:
        """Begin a term over `self.world`."""
        push = lambda subject, data: self.sent.append((subject, data))  # noqa: E731
        journal = Journal(self.world, self.store, self.clock, self.ids)  # type: ignore[arg-type]
        dispatcher = Dispatcher(self.world, push)
        standing = Standing(self.clock)
        self.vault = Vault(
            self.keys, Sealer(KEYS), self.ids, self._read, self.world, standing.check
        )
        watches = Watches(self.world, dispatcher, journal, self.clock)

        def before_close(unit: Unit) -> None:
            watches.follow_up(unit)
            self.vault.follow_up(unit)

        journal.before_close = before_close
        self.core = Core(
            world=self.world,
            journal=journal,
            dispatcher=dispatcher,
            watches=watches,
            retries=Retries(self.world, dispatcher, journal, self.clock),
            leases=Leases(self.clock),
            standing=standing,
            uploads=Uploads(self.clock),
            vault=self.vault,
            clock=self.clock,
            ids=self.ids,
            publish=push,
            read_aggregate=self._read,
            find_group=self._find,
            has_done=self._has_done(len(self.store.stored)),
            answered=Answered(),
        )
        self.tasks = TaskHandlers(self.core)
        self.reports = ReportHandlers(self.core, self.objects)
        self.users = UserHandlers(self.core, FastPasswords(), FastCheck(self.core))  # type: ignore[arg-type]
        self.groups = GroupHandlers(self.core)
        self.files = FileHandlers(self.core, self.objects, self.attachments)
        self.secrets = SecretHandlers(self.core)
        self.told = SecretReports(self.core)
        self.workers = WorkerHandlers(self.core, lambda name, _: f"token of {name}", 600.0)

    async def _read(self, tail: str) -> Any:
        from mitosis.events.envelope import digest
        from mitosis.services.coordinator.history import events_of
        from mitosis.services.coordinator.world import Head

        events, head = [], None
        for position, subject, data in self.store.stored:
            if subject == subjects.events(tail):
                commit = decode_commit(subject, data)
                events += events_of(commit)
                head = Head(commit.last_version, position, digest(subject, data))
        return (events, head) if head else None

    def _has_done(self, upto: int) -> Any:
        former = list(self.store.stored[:upto])

        async def has_done(tail: str, actor: str, command: str) -> bool:
            commits = [
                decode_commit(s, d) for _, s, d in former if fnmatchcase(s, f"mito.events.{tail}")
            ]
            return any((c.actor, c.command) == (actor, command) for c in commits)

        return has_done

    async def _find(self, task: str) -> str | None:
        for _, subject, _data in self.store.stored:
            if subject.endswith(f".{task}"):
                return subject.split(".")[3]
        return None

    # --- what tests do --------------------------------------------------------------------------

    def replayed(self) -> World:
        """Fold what is stored into a new world, as a start does."""
        world = World()
        for position, subject, data in self.store.stored:
            take_in(world, position, subject, data)
        return world

    def add_user(self, name: str, *, admin: bool = False) -> None:
        unit = self.core.journal.unit("system:coordinator")
        add_user(self.core, unit, name, "hash", admin=admin)
        unit.close()
        self.store.let_through()

    async def ask(
        self, owner: str, handler: Any, body: msgspec.Struct, request_id: str = ""
    ) -> str:
        """Send a request; return the subject of its reply."""
        reply = f"reply.{next(_replies)}"
        if self.alive:
            self.core.standing.confirm()
        outcome = guarded(self.core, handler)(Caller(owner, "", request_id, reply), body)
        if outcome is not None:
            await outcome
        return reply

    def answer(self, reply: str, result: type[Any] = wire.Nothing) -> Any:
        """Return the reply that was sent, or None when there is none yet."""
        found = [data for subject, data in self.sent if subject == reply]
        return wire.reply_decoder(result).decode(found[0]) if found else None

    def pushed(self) -> list[work.Assignment]:
        decode = msgspec.json.Decoder(work.Assignment).decode
        return [decode(data) for subject, data in self.sent if subject.startswith("mito.work.")]

    async def register(self, owner: str = "alice", **options: Any) -> str:
        """Register a worker and let it ask for the first time."""
        body = commands.RegisterWorker(**options)
        reply = await self.ask(owner, self.workers.register, body)
        self.store.let_through()
        name: str = self.answer(reply, commands.Registered).result.worker
        await self.ask(name, self.reports.renew, work.Renew())
        self.store.let_through()
        return name

    async def submit(self, owner: str = "alice", key: str = "", **options: Any) -> str:
        options.setdefault("argv", ("true",))
        body = commands.SubmitTask(key=key or f"key-{next(_replies)}", **options)
        reply = await self.ask(owner, self.tasks.submit, body)
        self.store.let_through()
        answer = self.answer(reply, commands.Submitted)
        assert answer.error is None, answer.error
        task: str = answer.result.task
        return task

    async def report(self, worker: str, *reports: work.TaskReport) -> list[str]:
        reply = await self.ask(worker, self.reports.report, work.Reports(list(reports)))
        self.store.let_through()
        codes: list[str] = self.answer(reply, work.Verdicts).result.codes
        return codes

    def ended(
        self, task: str, attempt: int = 1, number: int = 0, wall: float = 60.0
    ) -> work.TaskReport:
        end = Exit(ExitKind.CODE, number, usage=Usage(wall_seconds=wall))
        return work.TaskReport(task, "alice", attempt, started=True, exit=end, committed=True)


_replies = count(1)


@pytest.fixture
def coordinator() -> Coordinator:
    """A coordinator with the users alice and root (an administrator)."""
    made = Coordinator()
    made.add_user("alice")
    made.add_user("root", admin=True)
    return made


__all__ = ["Coordinator", "Role"]
