"""Histories made of real decisions: a seeded campaign, as it would stand in the stream.

The same seed gives the same bytes. Lives of tasks are interleaved; they are repeated, lost,
cancelled, relabelled, and leave artifacts behind, in proportions that a test can rely on.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from mitosis.contract import subjects
from mitosis.domain import attachment, group, task, user, worker
from mitosis.domain.event import Command, Event
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.names import task_uuid
from mitosis.domain.roles import Role
from mitosis.events.catalogue import AGGREGATES, encode_event
from mitosis.events.envelope import Commit, digest, encode_commit

START = datetime(2026, 1, 1, tzinfo=UTC)
LEASE_SECONDS = 600.0

Stored = tuple[int, str, bytes]


class History:
    """Builds stored commits, one decision after the other, at the positions 1, 2, 3, ..."""

    def __init__(self, seed: int = 1) -> None:
        """Two histories with one seed are equal."""
        self.random = random.Random(seed)  # reproducible, not secret
        self.commits: list[Stored] = []
        self.states: dict[str, Any] = {}
        self._versions: dict[str, tuple[int, str]] = {}
        self._numbers: dict[str, int] = {}

    @property
    def now(self) -> datetime:
        """Time of the next commit: one millisecond after the last one."""
        return START + timedelta(milliseconds=len(self.commits))

    def decide(
        self, tail: str, command: Command, actor: str = "user:alice", session: str = ""
    ) -> list[Event]:
        """Decide a command and store what it makes true; nothing is stored for a repeat."""
        kind = AGGREGATES[subjects.aggregate_kind(tail)]
        events: list[Event] = kind.decide(self.states.get(tail), command)
        if events:
            self.store(tail, events, actor, session)
        return events

    def decided(self, tail: str, *commands: Command) -> list[Event]:
        """Return what some commands, one after the other, make true; nothing is stored."""
        kind = AGGREGATES[subjects.aggregate_kind(tail)]
        state, events = self.states.get(tail), list[Event]()
        for command in commands:
            for event in kind.decide(state, command):
                state = kind.evolve(state, event)
                events.append(event)
        return events

    def store(
        self, tail: str, events: Sequence[Event], actor: str = "user:alice", session: str = ""
    ) -> Stored:
        """Store events without a decision."""
        version, previous = self._versions.get(tail, (0, ""))
        number = len(self.commits) + 1
        bodies = [(topic, msgspec.Raw(body)) for topic, body in map(encode_event, events)]
        commit = Commit(
            f"{number:032x}", f"c{number}", actor, self.now, version + 1, previous, bodies, session
        )
        payload = encode_commit(commit)
        subject = subjects.events(tail)
        self._versions[tail] = (version + len(events), digest(subject, payload))
        kind = AGGREGATES[subjects.aggregate_kind(tail)]
        for event in events:
            self.states[tail] = kind.evolve(self.states.get(tail), event)
        self.commits.append((number, subject, payload))
        return self.commits[-1]

    def add_user(self, name: str, *, admin: bool = False) -> None:
        """Create an account and its own group."""
        self.decide(subjects.user_tail(name), user.CreateUser(name, "$argon2id$not-a-hash", admin))
        self.decide(subjects.group_tail(name), group.CreateGroup(name, name))

    def add_member(self, group_name: str, name: str, role: Role) -> None:
        """Give a user a role in a group."""
        self.decide(subjects.group_tail(group_name), group.ChangeMembers({name: role}))

    def add_worker(self, owner: str, roles: dict[str, Role], **fields: Any) -> str:
        """Register a worker and return its UUID."""
        uuid = task_uuid("workers", owner, str(len(self.commits)))
        self.decide(
            subjects.worker_tail(uuid),
            worker.RegisterWorker(uuid, owner, roles, 1, LEASE_SECONDS, **fields),
        )
        return uuid

    def submit(
        self,
        group_name: str,
        creator: str,
        *,
        key: str = "",
        labels: tuple[str, ...] = (),
        argv: tuple[str, ...] = ("true",),
        **spec: Any,
    ) -> str:
        """Submit a task and return its UUID; `spec` has further fields of TaskSpec."""
        number = self._numbers[group_name] = self._numbers.get(group_name, 0) + 1
        uuid = task_uuid(group_name, creator, key or f"key-{group_name}-{number}")
        command = task.SubmitTask(
            uuid, group_name, creator, number, task.TaskSpec(argv, **spec), labels
        )
        self.decide(subjects.task_tail(group_name, uuid), command)
        return uuid

    def steps_of_a_task(self, group_name: str, uuid: str, worker_uuid: str) -> Iterator[None]:
        """Run a submitted task to its end, one commit for each step of the iterator."""
        tail = subjects.task_tail(group_name, uuid)
        chance = self.random.random()
        if chance < 0.05:
            self.decide(tail, task.RequestCancel("not needed"))
            return
        attempt = 1
        if chance < 0.15:
            yield from self._begin(tail, worker_uuid, attempt)
            yield
            self.decide(tail, task.RequeueTask(attempt, "worker was lost", counted=True))
            attempt += 1
            yield
        if chance < 0.25:
            self.decide(tail, task.ReplaceTaskLabels((f"label-{self.random.randrange(9)}",)))
            yield
        yield from self._begin(tail, worker_uuid, attempt)
        yield
        if chance > 0.6:
            self._store_artifact(tail, uuid, worker_uuid, attempt)
            yield
        if chance > 0.95:
            self._store_artifact(tail, uuid, worker_uuid, attempt)
            yield
        self._end(tail, worker_uuid, attempt)
        if chance > 0.9 and self.states[tail].artifacts:
            yield
            self.decide(tail, task.DeleteArtifact(task.ArtifactKind.RESULT))

    def _begin(self, tail: str, worker_uuid: str, attempt: int) -> Iterator[None]:
        self.decide(tail, task.AssignTask(worker_uuid, LEASE_SECONDS), "system:coordinator")
        yield
        steps = (Step(ExecutionState.EXEC_SPAWNED, self.now),)
        self.decide(tail, task.ReportStart(worker_uuid, attempt, steps), f"worker:{worker_uuid}")

    def _store_artifact(self, tail: str, uuid: str, worker_uuid: str, attempt: int) -> None:
        size = self.random.randrange(1, 1_000_000)
        kind = task.ArtifactKind.RESULT
        name = f"{uuid}/{attempt}/{len(self.commits)}/{kind.filename}"
        stored = task.Artifact(kind, name, size, f"{size:064x}")
        self.decide(tail, task.StoreArtifact(worker_uuid, attempt, stored))

    def _end(self, tail: str, worker_uuid: str, attempt: int) -> None:
        code = self.random.choice((0, 0, 0, 7))
        end = task.Exit(task.ExitKind.CODE, code, stdout_tail="done\n")
        report = task.ReportExit(worker_uuid, attempt, end)
        events = self.decided(tail, report, task.CommitTask(worker_uuid, attempt))
        self.store(tail, events, f"worker:{worker_uuid}")

    def store_attachment(self, group_name: str, key: str, size_bytes: int) -> None:
        """Store a file of a group, new or again."""
        self.decide(
            subjects.attachment_tail(group_name, key),
            attachment.StoreAttachment(
                group_name, key, f"{group_name}/{len(self.commits)}", size_bytes,
                f"{size_bytes:064x}",
            ),
        )  # fmt: skip


def campaign(seed: int, tasks: int, *, live: int = 100) -> History:
    """Return the history of users, groups, workers, files and so many tasks.

    Args:
        seed: Same seed, same history.
        tasks: How many are submitted; each takes 4 to 5 commits on average.
        live: How many lives of tasks are interleaved.
    """
    history = History(seed)
    history.add_user("root", admin=True)
    for name in ("alice", "bob", "carol"):
        history.add_user(name)
    history.decide(subjects.user_tail("carol"), user.ChangeUserState(user.UserPhase.LOCKED))
    history.decide(subjects.group_tail("lab"), group.CreateGroup("lab", "alice"))
    history.add_member("lab", "bob", Role.READ)
    groups = ("alice", "bob", "lab")
    workers = [history.add_worker("alice", dict.fromkeys(groups, Role.WRITE)) for _ in range(4)]
    history.store_attachment("lab", "in/0.bin", 1_000)
    pick = history.random
    lives: list[Iterator[None]] = []
    submitted = 0
    while submitted < tasks or lives:
        if submitted < tasks and len(lives) < live:
            name = pick.choice(groups)
            uuid = history.submit(
                name,
                "alice",
                tags=tuple(pick.sample(("gpu", "arm", "net"), pick.randrange(3))),
                labels=(f"run-{submitted % 7}",),
                priority=pick.randrange(-2, 3),
            )
            lives.append(history.steps_of_a_task(name, uuid, pick.choice(workers)))
            submitted += 1
        chosen = pick.choice(lives)
        if next(chosen, "ended") == "ended":
            lives.remove(chosen)
        if submitted % 50 == 0:
            history.store_attachment("lab", f"in/{submitted % 3}.bin", pick.randrange(10_000))
    history.decide(subjects.attachment_tail("lab", "in/0.bin"), attachment.DeleteAttachment())
    history.decide(subjects.worker_tail(workers[0]), worker.PauseWorker("maintenance"))
    history.decide(subjects.worker_tail(workers[1]), worker.LoseWorker("its machine has rebooted"))
    return history
