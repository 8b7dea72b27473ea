"""Random operations of several users, and what they were told. Seeded; paced by what is waiting."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from mitosis import MitoClient
from mitosis.config.client import (
    CreateUserArgs,
    GetTasksArgs,
    GetWorkersArgs,
    SubmitTaskArgs,
    WatchArgs,
)
from mitosis.contract.commands import SubmitResult
from mitosis.contract.wire import raise_error
from mitosis.domain.names import task_uuid
from mitosis.domain.roles import Role
from mitosis.domain.task import TaskState
from mitosis.errors import AlreadyExists, AuthenticationFailed, MitosisError, NotFound, Unavailable
from mitosis.services.platform.credentials import ADMIN_USER
from mitosis.testing.chaos.evidence import Answer, Operation, Violation
from mitosis.testing.chaos.ledger import SCRIPT
from mitosis.testing.chaos.site import LAB, Site

PARKED = "parked"  # a group that no worker serves: its tasks wait until they are cancelled
MOST_PARKED = 1_000
MANY = 320  # in one request, which is decided in parts
MOST_LIVE = 150  # tasks that wait or run; above it nothing is submitted
BOB = "bob"
BOB_PASSWORD = "password-of-bob"  # noqa: S105
LIVE_STATES = (TaskState.PENDING, TaskState.READY, TaskState.RUNNING)

# Kind of the script, its beats of 0.1 s (from, to), and how often of a hundred.
KINDS = (
    ("plain", 0, 0, 32),
    ("plain", 1, 5, 17),
    ("plain", 10, 30, 20),  # ends behind the back of a frozen worker, and runs again when it wakes
    ("plain", 30, 70, 7),
    ("fails", 0, 3, 8),
    ("result", 0, 2, 9),
    ("daemon", 0, 2, 7),
)
# Programs of milliseconds, which workers line up in their slots; and what breaks the line.
SHORT_KINDS = (("plain", 0, 0, 94), ("fails", 0, 0, 3), ("result", 0, 0, 2), ("plain", 10, 30, 1))


class Wanted(msgspec.Struct, frozen=True):
    """A submit by a user, which may have to be repeated. `uuid`: what the platform must answer."""

    user: str
    args: SubmitTaskArgs
    uuid: str


class Campaign:
    """What is asked of a platform.

    Attributes:
        record: What the clients were told, in order.
        seen: What was wrong already while it went on.
    """

    def __init__(self, site: Site, seed: int, *, per_second: float, short: bool = False) -> None:
        self._site = site
        self._kinds = SHORT_KINDS if short else KINDS
        self._random = random.Random(f"operations-{seed}")
        self._pause_seconds = 1 / per_second
        self._clients: dict[str, MitoClient] = {}
        self._pending: dict[str, Wanted] = {}  # submits of which nobody knows what became
        self._known: list[tuple[str, str]] = []  # user and task of acknowledged ones
        self._again: list[Wanted] = []  # acknowledged ones that may be repeated
        self._numbers = 0
        self._parked = 0
        self._live = 0
        self._news = asyncio.Event()
        self.record: list[Operation] = []
        self.seen: list[Violation] = []

    @property
    def acknowledged(self) -> int:
        """How many submits were answered with "ok"."""
        return len(self._known)

    async def next_acknowledgement(self) -> None:
        """Wait until a submit is answered with "ok", and return in the same moment."""
        await self._news.wait()

    async def prepare(self) -> None:
        """Make users and groups, on a platform that serves."""
        root = self._client(ADMIN_USER)
        await _patiently(root.connect)
        # Two coordinators that begin at once may shut each other out for a moment.
        for name in (LAB, PARKED):
            await _patiently(partial(_there, partial(root.create_group, name)))
        bob = CreateUserArgs(username=BOB, password=BOB_PASSWORD)
        await _patiently(partial(_there, partial(root.create_user, bob)))
        await _patiently(partial(_there, partial(root.change_members, LAB, {BOB: Role.WRITE})))

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as group:
            for user in (ADMIN_USER, ADMIN_USER, BOB):
                group.create_task(self._repeat(partial(self._of_a_user, user)))
            group.create_task(self._repeat(self._change_a_setting, slower=6))
            group.create_task(self._repeat(self._look, slower=4))

    async def finish(self) -> None:
        """Make all settings such that everything can run, and know what became of each submit."""
        await self._let_all_run()
        for wanted in list(self._pending.values()):
            await self._submit(wanted)
        if self._pending:
            text = f"{len(self._pending)} submits are not answered by a platform that is whole"
            self.seen.append(Violation("answers", "submit", text))
        await self._cancel_parked()

    async def live_tasks(self, *groups: str) -> int:
        """Return how many tasks of these groups, by default of all, have not ended.

        Raises:
            MitosisError: Nobody answers.
        """
        root, count = self._client(ADMIN_USER), 0
        for group in groups or (LAB, PARKED):
            wanted = GetTasksArgs(group=group, states=LIVE_STATES, count_only=True)
            count += (await root.get_tasks(wanted)).total
        return count

    async def close(self) -> None:
        """Disconnect."""
        for client in self._clients.values():
            await client.close()

    # --- rhythm ---------------------------------------------------------------------------

    async def _repeat(self, act: Callable[[], Awaitable[None]], *, slower: float = 1.0) -> None:
        while True:
            await act()
            await asyncio.sleep(self._random.uniform(0.2, 1.8) * 3 * slower * self._pause_seconds)

    async def _of_a_user(self, user: str) -> None:
        chance = self._random.random()
        if chance < 0.12 and self._known:
            await self._cancel()
        elif chance < 0.2 and self._again:
            await self._submit(self._random.choice(self._again))
        elif self._live > MOST_LIVE:
            return
        elif chance < 0.75:
            await self._submit(self._wanted(user))
        elif chance < 0.985 or self._parked >= MOST_PARKED:
            await self._submit_many(
                user, [self._wanted(user) for _ in range(self._random.randint(2, 12))]
            )
        else:
            self._parked += MANY
            await self._submit_many(
                ADMIN_USER, [self._wanted(ADMIN_USER, PARKED) for _ in range(MANY)]
            )

    async def _look(self) -> None:
        """Read: how much waits, and whether what was acknowledged can be seen."""
        try:
            self._live = await self.live_tasks(LAB)
            if self._known:
                user, task = self._random.choice(self._known)
                await self._client(user).get_task(task)
        except NotFound as error:
            self.seen.append(Violation("acknowledged is visible", "read", str(error)))
        except Unavailable:
            return

    # --- submits --------------------------------------------------------------------------

    def _wanted(self, user: str, group: str = LAB) -> Wanted:
        draw = self._random
        self._numbers += 1
        key = f"chaos-{self._numbers}"
        kind, least, most, _ = draw.choices(self._kinds, [share for *_, share in self._kinds])[0]
        beats = draw.randint(least, most)
        places = str(self._site.ledger), str(self._site.locks)
        tasks = [task for _, task in self._known[-20:]]
        watch = None
        if tasks and group == LAB and draw.random() < 0.05:
            watch = WatchArgs(draw.choice(tasks), "TaskCommitted")
        args = SubmitTaskArgs(
            command=("sh", "-c", SCRIPT, "chaos", *places, kind, str(beats)),
            group=group,
            tags=draw.choice(((), (), ("gpu",), ("gpu", "fast"))),
            priority=draw.choice((-1, 0, 0, 0, 0, 1, 2)),
            key=key,
            watch=watch,
            retries=draw.choice((0, 2)) if kind == "fails" else 0,
            retry_delay="300ms",
        )
        return Wanted(user, args, task_uuid(group, user, key))

    async def _submit(self, wanted: Wanted) -> None:
        try:
            submitted = await self._client(wanted.user).submit_task(wanted.args)
        except MitosisError as error:
            self._told(wanted, error)
        else:
            self._told(wanted, submitted)

    async def _submit_many(self, user: str, many: list[Wanted]) -> None:
        try:
            results = await self._client(user).tasks.submit_each([one.args for one in many])
        except MitosisError as error:
            for wanted in many:
                self._told(wanted, error)
            return
        for wanted, result in zip(many, results, strict=True):
            self._told(wanted, _of(result))

    def _told(self, wanted: Wanted, told: Any) -> None:
        if isinstance(told, MitosisError):
            self._add("submit", wanted.uuid, told)
            if isinstance(told, Unavailable):
                self._pending[wanted.uuid] = wanted
            else:
                self._pending.pop(wanted.uuid, None)
            return
        self._pending.pop(wanted.uuid, None)
        if told.task != wanted.uuid:
            text = f"it was answered as {told.task}"
            self.seen.append(Violation("one key, one task", wanted.uuid, text))
        self.record.append(Operation("submit", told.task, Answer.OK, told.number))
        self._known.append((wanted.user, told.task))
        self._news.set()
        self._news = asyncio.Event()
        if len(self._again) < 1_000 and wanted.args.watch is None:
            self._again.append(wanted)

    async def _cancel(self) -> None:
        user, task = self._random.choice(self._known[-200:])
        await self._cancel_task(user, task)

    async def _cancel_task(self, user: str, task: str) -> None:
        try:
            await self._client(user).cancel_task(task, "chaos")
        except MitosisError as error:
            self._add("cancel", task, error)
        else:
            self.record.append(Operation("cancel", task, Answer.OK))

    async def _cancel_parked(self) -> None:
        parked = GetTasksArgs(group=PARKED, states=LIVE_STATES, limit=50)
        while tasks := (await self._client(ADMIN_USER).get_tasks(parked)).tasks:
            await asyncio.gather(*(self._cancel_task(ADMIN_USER, one.uuid) for one in tasks))

    # --- settings: one client, one after the other ----------------------------------------

    async def _change_a_setting(self) -> None:
        root, draw = self._client(ADMIN_USER), self._random
        if draw.random() < 0.3:
            await self._set_member(draw.choice((Role.READ, Role.WRITE, Role.WRITE)))
            return
        try:
            page = await root.get_workers(GetWorkersArgs(group=LAB))
        except MitosisError:
            return
        if page.workers:
            worker = draw.choice(page.workers).uuid
            if draw.random() < 0.7:
                await self._set_tags(worker, draw.choice(((), (), (), ("gpu",), ("gpu", "fast"))))
            else:
                await self._set_role(worker, draw.choice((Role.READ, *(3 * [Role.WRITE]))))

    async def _set_tags(self, worker: str, tags: tuple[str, ...]) -> None:
        call = self._client(ADMIN_USER).update_worker_tags(worker, tags)
        await self._set("tags", worker, ",".join(sorted(tags)), call)

    async def _set_role(self, worker: str, role: Role) -> None:
        call = self._client(ADMIN_USER).update_worker_roles(worker, {LAB: role})
        await self._set("role", worker, role.name, call)

    async def _set_member(self, role: Role) -> None:
        call = self._client(ADMIN_USER).change_members(LAB, {BOB: role})
        await self._set("member", BOB, role.name, call)

    async def _set(self, kind: str, subject: str, value: str, call: Awaitable[Any]) -> None:
        try:
            await call
        except MitosisError as error:
            self._add(kind, subject, error, value)
        else:
            self.record.append(Operation(kind, subject, Answer.OK, value=value))

    async def _let_all_run(self) -> None:
        root = self._client(ADMIN_USER)
        await self._set_member(Role.WRITE)
        for one in (await root.get_workers(GetWorkersArgs(group=LAB))).workers:
            await self._set_tags(one.uuid, ())
            await self._set_role(one.uuid, Role.WRITE)

    # --- clients --------------------------------------------------------------------------

    def _client(self, user: str) -> MitoClient:
        if user not in self._clients:
            password = BOB_PASSWORD if user == BOB else ""
            self._clients[user] = MitoClient(self._site.client_config(user, password))
        return self._clients[user]

    def _add(self, kind: str, subject: str, error: MitosisError, value: str = "") -> None:
        # Without a session nothing was asked, and a log-in is part of the request.
        lost = isinstance(error, Unavailable | AuthenticationFailed)
        answer = Answer.UNKNOWN if lost else Answer.REFUSED
        told = f"{error.code}: {error}"
        self.record.append(Operation(kind, subject, answer, value=value, error=told[:300]))


def _of(result: SubmitResult) -> Any:
    if result.submitted is not None:
        return result.submitted
    assert result.error is not None
    try:
        raise_error(result.error)
    except MitosisError as error:
        return error


async def _there(make: Callable[[], Awaitable[Any]]) -> None:
    """Make something that may be there already: of a try whose answer was lost."""
    with contextlib.suppress(AlreadyExists):
        await make()


async def _patiently(act: Callable[[], Awaitable[None]], seconds: float = 60.0) -> None:
    """Do something that fails until the platform serves.

    Raises:
        MitosisError: It has not served in this time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            return await act()
        except MitosisError:
            if loop.time() > deadline:
                raise
        await asyncio.sleep(0.2)
