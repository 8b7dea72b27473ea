"""The coordinator's memory: every live aggregate and the indexes that decisions need.

Nothing here is authoritative: it is a fold of the stream, and the same fold is used at start (from
history) and at run time (from what was just decided). Ended tasks are not kept; their UUIDs are
remembered as a number each, so that a repeated submit is noticed; so are the keys of deleted
attachments, since a file that is stored under one again continues its history.
"""

import hashlib
from typing import Any

import msgspec

from mitosis.contract import subjects
from mitosis.domain import attachment, group, platform, task, user, worker
from mitosis.domain.dispatch import Waiting
from mitosis.domain.event import Event
from mitosis.domain.platform import Platform
from mitosis.domain.roles import Role
from mitosis.domain.task import Task, TaskState
from mitosis.events import catalogue
from mitosis.events import chain as chains
from mitosis.services.coordinator.openings import Openings

DERIVED = frozenset({"openings"})


# What is kept of each task, in this and in the domain, is `gc=False`: none can be part of a cycle,
# and the collector need not walk over some hundred thousand of them.
class Head(msgspec.Struct, gc=False):
    """Where an aggregate ends: its version, the position and the digest of its last commit."""

    version: int = 0
    position: int = 0
    digest: str = ""


class World(msgspec.Struct, eq=False):
    """All live state, changed only by `apply`. What a task or a head is never changes in place.

    `chain` is the running digest over the `chained` commits of the whole stream (events/chain.py).
    What `DERIVED` names follows from the rest, and is in no snapshot.
    """

    users: dict[str, user.User] = {}
    groups: dict[str, group.Group] = {}
    workers: dict[str, worker.Worker] = {}
    tasks: dict[str, Task] = {}
    attachments: dict[str, attachment.Attachment] = {}
    platform: Platform = Platform()
    heads: dict[str, Head] = {}
    orders: dict[str, int] = {}
    numbers: dict[str, int] = {}
    used_bytes: dict[str, int] = {}
    memberships: dict[str, dict[str, Role]] = {}
    attempts: dict[str, set[str]] = {}
    owned_groups: dict[str, int] = {}
    ended: set[int] = set()
    deleted: set[int] = set()
    chain: str = chains.START
    chained: int = 0
    openings: Openings = msgspec.field(default_factory=Openings)

    # --- reading ------------------------------------------------------------------------------

    def state(self, tail: str) -> Any:
        """Return the state of an aggregate, or None."""
        kind, _, name = tail.partition(".")
        match kind:
            case "task":
                return self.tasks.get(name.rpartition(".")[2])
            case "user":
                return self.users.get(name)
            case "group":
                return self.groups.get(name)
            case "worker":
                return self.workers.get(name)
            case "attachment":
                return self.attachments.get(name)
            case "platform":
                return self.platform
            case _:
                return None

    def roles_of(self, name: str) -> dict[str, Role]:
        """Return the groups of a user with the role in each; deleted groups are left out."""
        return self.memberships.get(name, {})

    def free_slots(self, name: str) -> int:
        """Return how many more tasks a worker may be given."""
        return self.workers[name].slots - len(self.attempts.get(name, ()))

    def has_ended(self, task_uuid: str) -> bool:
        """Whether a task of this UUID has ended (a rare false yes is settled by the store)."""
        return short_id(task_uuid) in self.ended

    def was_deleted(self, attachment_tail: str) -> bool:
        """Whether an attachment was deleted once (a rare false yes is settled by the store)."""
        return short_hash(attachment_tail) in self.deleted

    def waiting(self, name: str) -> Waiting:
        """Return a ready task as dispatch sees it."""
        state = self.tasks[name]
        return Waiting.of(name, state.group, state.spec, self.orders[name])

    # --- changing -----------------------------------------------------------------------------

    def apply(self, tail: str, event: Event, position: int) -> None:
        """Take a fact in. `position` is that of the commit, which may still be on its way."""
        kind, _, name = tail.partition(".")
        match kind:
            case "task":
                group_name, _, uuid = name.rpartition(".")
                self._apply_task(group_name, uuid, event, position)
            case "worker":
                self._apply_worker(name, event)
            case "user":
                self.users[name] = user.evolve(self.users.get(name), event)
            case "group":
                self._apply_group(name, event)
            case "attachment":
                self._apply_attachment(tail, name, event)
            case "secret":
                pass  # nothing is decided on one: whoever needs it reads it from the store
            case "platform":
                self.platform = platform.evolve(self.platform, event)
            case _:
                raise AssertionError(f"no such kind of aggregate: {tail}")

    def link(self, tail: str, head: Head) -> None:
        """Note the end of an aggregate after one more commit, the next one of the stream."""
        self.heads[tail] = head
        self.extend(head.digest)

    def extend(self, digest: str) -> None:
        """Carry the running digest over the next commit of the stream."""
        self.chain = chains.extend(self.chain, digest)
        self.chained += 1

    def open(self, name: str) -> None:
        """Note how many tasks more a worker may be given."""
        worker = self.workers.get(name)
        takes = worker is not None and worker.takes_work
        self.openings.note(name, self.free_slots(name) if takes else 0)

    def forget(self, tail: str) -> None:
        """Drop what has ended and whose last commit is stored; the store can be asked for it."""
        kind, _, name = tail.partition(".")
        if kind == "task":
            uuid = name.rpartition(".")[2]
            state = self.tasks.get(uuid)
            if state is None or state.state.terminal:
                self.tasks.pop(uuid, None)
                self.orders.pop(uuid, None)
                self.heads.pop(tail, None)
        elif kind == "attachment":
            file = self.attachments.get(name)
            if file is None or not file.object_name:
                self.attachments.pop(name, None)
                self.heads.pop(tail, None)
        elif kind == "secret" or (kind == "worker" and name not in self.workers):
            self.heads.pop(tail, None)

    def _apply_task(self, group_name: str, name: str, event: Event, position: int) -> None:
        old = self.tasks.get(name)
        if old is None and self.has_ended(name) and not isinstance(event, task.TaskSubmitted):
            self._charge(group_name, event)  # of one that is not in memory, only this counts
            return
        new = task.evolve(old, event)
        name = new.task  # one text for all that is kept by it
        self.tasks[name] = new
        if isinstance(event, task.TaskSubmitted):
            self.orders[name] = position
            self.numbers[new.group] = max(self.numbers.get(new.group, 0), new.number)
        self._charge(new.group, event)
        before = old.worker if old is not None and old.state is TaskState.RUNNING else ""
        after = new.worker if new.state is TaskState.RUNNING else ""
        if before != after:
            self._move(name, before, after)
        if new.state.terminal:
            self.ended.add(short_id(name))

    def _move(self, name: str, before: str, after: str) -> None:
        """Note that a task is held by another worker than before, or by none."""
        if before:
            self.attempts.get(before, set()).discard(name)
            self.open(before)
        if after:
            self.attempts.setdefault(after, set()).add(name)
            self.open(after)

    def _apply_worker(self, name: str, event: Event) -> None:
        self.workers[name] = worker.evolve(self.workers.get(name), event)
        if isinstance(event, worker.WorkerLeft | worker.WorkerLost):
            del self.workers[name]
            self.attempts.pop(name, None)
        self.openings.crew += 1
        self.open(name)

    def _apply_group(self, name: str, event: Event) -> None:
        self.groups[name] = group.evolve(self.groups.get(name), event)
        match event:
            case group.GroupCreated(_, creator):
                self.memberships.setdefault(creator, {})[name] = Role.ADMIN
                self.owned_groups[creator] = self.owned_groups.get(creator, 0) + 1
            case group.MemberRoleSet(member, role):
                self.memberships.setdefault(member, {})[name] = role
            case group.MemberRemoved(member):
                self.memberships.get(member, {}).pop(name, None)
            case group.GroupStateChanged(group.GroupPhase.DELETED):
                for member in self.groups[name].members:
                    self.memberships.get(member, {}).pop(name, None)
                self.owned_groups[self.groups[name].creator] -= 1
            case _:
                pass

    def _apply_attachment(self, tail: str, name: str, event: Event) -> None:
        self.attachments[name] = attachment.evolve(self.attachments.get(name), event)
        if isinstance(event, attachment.AttachmentDeleted):
            self.deleted.add(short_hash(tail))
        self._charge(name.partition(".")[0], event)

    def _charge(self, group_name: str, event: Event) -> None:
        """Count what an event changes in what a group stores."""
        match event:
            case task.ArtifactStored(_, _, _, size, _, freed):
                self._use(group_name, size - freed)
            case attachment.AttachmentStored(_, _, _, size, _, freed):
                self._use(group_name, size - freed)
            case task.ArtifactDeleted(_, _, freed) | attachment.AttachmentDeleted(_, freed):
                self._use(group_name, -freed)
            case _:
                pass

    def _use(self, group_name: str, size: int) -> None:
        self.used_bytes[group_name] = self.used_bytes.get(group_name, 0) + size


def short_id(task_uuid: str) -> int:
    """Return 60 bits of a UUID as a number: enough to notice a repeat, small in memory."""
    return int(task_uuid.replace("-", "")[:15], 16)


def short_hash(tail: str) -> int:
    """Return 60 bits for any text, as `short_id` does for a UUID."""
    return int.from_bytes(hashlib.blake2b(tail.encode(), digest_size=8).digest()) >> 4


def decide(tail: str, state: Any, command: Any) -> list[Event]:
    """Let the aggregate's rules decide.

    Raises:
        Rejection: A rule says no.
    """
    module = catalogue.AGGREGATES[subjects.aggregate_kind(tail)]
    events: list[Event] = module.decide(state, command)
    return events
