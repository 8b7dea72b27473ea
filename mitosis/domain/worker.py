r"""The worker: a process with slots, tags and a role map, which runs tasks of groups.

    (none) --register--> normal <--> paused
                            \________/--> draining --> gone (left or lost; final)

Its lease is not an event: renewals are counted in memory, and only their end is stored.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

from msgspec.structs import replace

from mitosis.domain.event import Command, Event
from mitosis.domain.limits import (
    MAX_REASON_BYTES,
    MAX_SLOTS,
    MAX_TIMEOUT_SECONDS,
    MAX_WORKER_GROUPS,
    check_number,
    check_tags,
    check_text,
    clip_text,
)
from mitosis.domain.names import check_name
from mitosis.domain.resources import NO_LIMITS, Limits
from mitosis.domain.roles import Role
from mitosis.errors import AlreadyExists, InvalidInput, NotFound, TooLarge, WrongState


class WorkerPhase(StrEnum):
    """What a worker may be given."""

    NORMAL = "normal"
    PAUSED = "paused"
    DRAINING = "draining"
    GONE = "gone"


MAX_GUARANTEES = 32


# --- events (stored form: add fields with defaults only) ---------------------------------------


class WorkerRegistered(Event, frozen=True):
    """A worker entered the platform with its slots, tags and role map.

    `machine` and `boot` identify where it runs; `folder` is its locked work folder. A successor
    with the same machine and folder, or another boot of the same machine, proves that this one
    is dead (docs/architecture.md, Time and leases). `guarantees`: what its machine can promise for
    tasks, found out by doing it. `default_limits` hold for tasks that ask for none, `ceilings` for
    all.
    """

    TOPIC: ClassVar[str] = "worker.registered@1"
    worker: str
    owner: str
    roles: dict[str, Role]
    slots: int = 1
    lease_seconds: float = 600.0
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    machine: str = ""
    boot: str = ""
    folder: str = ""
    host: str = ""
    version: str = ""
    guarantees: tuple[str, ...] = ()
    default_limits: Limits = NO_LIMITS
    ceilings: Limits = NO_LIMITS


class WorkerTagsReplaced(Event, frozen=True):
    """The tags of the worker were set anew."""

    TOPIC: ClassVar[str] = "worker.tags_replaced@1"
    tags: tuple[str, ...]


class WorkerLabelsReplaced(Event, frozen=True):
    """The labels of the worker were set anew."""

    TOPIC: ClassVar[str] = "worker.labels_replaced@1"
    labels: tuple[str, ...]


class WorkerRolesGranted(Event, frozen=True):
    """Groups got a role on the worker; roles of other groups stay."""

    TOPIC: ClassVar[str] = "worker.roles_granted@1"
    roles: dict[str, Role]


class WorkerRolesRemoved(Event, frozen=True):
    """Groups lost their role on the worker."""

    TOPIC: ClassVar[str] = "worker.roles_removed@1"
    groups: tuple[str, ...]


class WorkerSlotsChanged(Event, frozen=True):
    """The number of tasks that the worker may run at once was set anew."""

    TOPIC: ClassVar[str] = "worker.slots_changed@1"
    slots: int


class WorkerPaused(Event, frozen=True):
    """The worker takes nothing new until it is resumed."""

    TOPIC: ClassVar[str] = "worker.paused@1"
    reason: str = ""


class WorkerResumed(Event, frozen=True):
    """The worker takes tasks again."""

    TOPIC: ClassVar[str] = "worker.resumed@1"


class WorkerDrainRequested(Event, frozen=True):
    """The worker takes nothing new, finishes and leaves; `force`: hands its tasks back at once."""

    TOPIC: ClassVar[str] = "worker.drain_requested@1"
    reason: str = ""
    force: bool = False


class WorkerLeft(Event, frozen=True):
    """The worker said goodbye: nothing that it ran is alive."""

    TOPIC: ClassVar[str] = "worker.left@1"
    reason: str = ""


class WorkerLost(Event, frozen=True):
    """The worker is gone without a goodbye; `proof` says why nothing that it ran can be alive."""

    TOPIC: ClassVar[str] = "worker.lost@1"
    proof: str = ""


# --- state ------------------------------------------------------------------------------------


class Worker(Command, frozen=True):
    """What decisions about a worker need."""

    worker: str
    owner: str
    roles: dict[str, Role]
    slots: int
    lease_seconds: float
    tags: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()
    machine: str = ""
    boot: str = ""
    folder: str = ""
    phase: WorkerPhase = WorkerPhase.NORMAL
    drain_forced: bool = False
    ceilings: Limits = NO_LIMITS

    @property
    def takes_work(self) -> bool:
        """Whether it may be given a task."""
        return self.phase is WorkerPhase.NORMAL

    def serves(self, group: str) -> bool:
        """Whether tasks of the group may run on it (role Write or Admin)."""
        return self.roles.get(group, Role.READ) >= Role.WRITE


def evolve(state: Worker | None, event: Event) -> Worker:
    """Apply a fact. Total: never raises for an event that `decide` made."""
    match event:
        case WorkerRegistered():
            return Worker(
                event.worker, event.owner, event.roles, event.slots, event.lease_seconds,
                frozenset(event.tags), event.labels, event.machine, event.boot, event.folder,
                ceilings=event.ceilings,
            )  # fmt: skip
        case _ if state is None:
            raise AssertionError(f"{event.TOPIC} before the worker was registered")
        case WorkerTagsReplaced(tags):
            return replace(state, tags=frozenset(tags))
        case WorkerLabelsReplaced(labels):
            return replace(state, labels=labels)
        case WorkerRolesGranted(roles):
            return replace(state, roles={**state.roles, **roles})
        case WorkerRolesRemoved(groups):
            return replace(state, roles={g: r for g, r in state.roles.items() if g not in groups})
        case WorkerSlotsChanged(slots):
            return replace(state, slots=slots)
        case WorkerPaused():
            return replace(state, phase=WorkerPhase.PAUSED)
        case WorkerResumed():
            return replace(state, phase=WorkerPhase.NORMAL)
        case WorkerDrainRequested(_, force):
            return replace(state, phase=WorkerPhase.DRAINING, drain_forced=force)
        case WorkerLeft() | WorkerLost():
            return replace(state, phase=WorkerPhase.GONE)
        case _:
            return state


# --- commands ---------------------------------------------------------------------------------


class RegisterWorker(Command, frozen=True):
    """Enter a new worker with its slots, tags and role map."""

    worker: str
    owner: str
    roles: dict[str, Role]
    slots: int
    lease_seconds: float
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    machine: str = ""
    boot: str = ""
    folder: str = ""
    host: str = ""
    version: str = ""
    guarantees: tuple[str, ...] = ()
    default_limits: Limits = NO_LIMITS
    ceilings: Limits = NO_LIMITS


class ReplaceWorkerTags(Command, frozen=True):
    """Set the tags of the worker."""

    tags: tuple[str, ...]


class ReplaceWorkerLabels(Command, frozen=True):
    """Set the labels of the worker."""

    labels: tuple[str, ...]


class GrantWorkerRoles(Command, frozen=True):
    """Give groups a role on the worker."""

    roles: dict[str, Role]


class RemoveWorkerRoles(Command, frozen=True):
    """Take the roles of groups on the worker away."""

    groups: tuple[str, ...]


class ChangeWorkerSlots(Command, frozen=True):
    """Set how many tasks the worker may run at once."""

    slots: int


class PauseWorker(Command, frozen=True):
    """Give the worker nothing new for the time being."""

    reason: str = ""


class ResumeWorker(Command, frozen=True):
    """Let a paused worker take tasks again."""


class DrainWorker(Command, frozen=True):
    """Let the worker finish and leave; `force`: hand its tasks back at once."""

    reason: str = ""
    force: bool = False


class LeaveWorker(Command, frozen=True):
    """The worker says goodbye: nothing that it ran is alive."""

    reason: str = ""


class LoseWorker(Command, frozen=True):
    """The worker is gone without a goodbye; `proof` says why nothing it ran can be alive."""

    proof: str


def decide(state: Worker | None, command: Command) -> list[Event]:
    """Return what the command makes true; nothing for a repeat.

    Raises:
        Rejection: A rule says no.
    """
    match command:
        case RegisterWorker():
            return _register(state, command)
        case _ if state is None:
            raise NotFound("no such worker")
        case LeaveWorker() | LoseWorker() if state.phase is WorkerPhase.GONE:
            return []
        case _ if state.phase is WorkerPhase.GONE:
            raise WrongState(f"worker {state.worker} is gone")
        case ReplaceWorkerTags(tags):
            tags = check_tags(tags, "tags")
            return [] if frozenset(tags) == state.tags else [WorkerTagsReplaced(tags)]
        case ReplaceWorkerLabels(labels):
            labels = check_tags(labels, "labels")
            return [] if labels == state.labels else [WorkerLabelsReplaced(labels)]
        case GrantWorkerRoles(roles):
            check_roles({**state.roles, **roles})
            new = {g: r for g, r in roles.items() if state.roles.get(g) is not r}
            return [WorkerRolesGranted(new)] if new else []
        case RemoveWorkerRoles(groups):
            held = tuple(sorted({g for g in groups if g in state.roles}))
            return [WorkerRolesRemoved(held)] if held else []
        case ChangeWorkerSlots(slots):
            check_number(slots, "slots", 1, MAX_SLOTS)
            return [] if slots == state.slots else [WorkerSlotsChanged(slots)]
        case PauseWorker(reason):
            check_text(reason, "reason", MAX_REASON_BYTES)
            return [WorkerPaused(reason)] if state.phase is WorkerPhase.NORMAL else []
        case ResumeWorker():
            return [WorkerResumed()] if state.phase is WorkerPhase.PAUSED else []
        case DrainWorker(reason, force):
            if state.phase is WorkerPhase.DRAINING and (state.drain_forced or not force):
                return []
            return [WorkerDrainRequested(check_text(reason, "reason", MAX_REASON_BYTES), force)]
        case LeaveWorker(reason):
            return [WorkerLeft(check_text(reason, "reason", MAX_REASON_BYTES))]
        case LoseWorker(proof):
            return [WorkerLost(clip_text(proof, MAX_REASON_BYTES))]
        case _:
            raise AssertionError(f"no rule for {type(command).__name__}")


def check_roles(roles: Mapping[str, Role]) -> None:
    """Check the role map of a worker.

    Raises:
        InvalidInput: A malformed name of a group. TooLarge: Too many groups.
    """
    if len(roles) > MAX_WORKER_GROUPS:
        raise TooLarge(
            f"{len(roles)} groups, at most {MAX_WORKER_GROUPS} can have a role on one worker",
            field="groups", size=len(roles), limit=MAX_WORKER_GROUPS,
        )  # fmt: skip
    for group in roles:
        check_name(group, "group")


def _register(state: Worker | None, command: RegisterWorker) -> list[Event]:
    if state is not None:
        raise AlreadyExists(f"worker {command.worker} is registered already")
    check_number(command.slots, "slots", 1, MAX_SLOTS)
    check_number(command.lease_seconds, "heartbeat timeout", 0.1, MAX_TIMEOUT_SECONDS)
    if not command.roles:
        raise InvalidInput("a worker must serve at least one group", field="groups")
    check_roles(command.roles)
    for field in ("machine", "boot", "folder", "host", "version"):
        check_text(getattr(command, field), field, 1_024)
    command.default_limits.check()
    command.ceilings.check()
    return [
        WorkerRegistered(
            worker=command.worker,
            owner=command.owner,
            roles=command.roles,
            slots=command.slots,
            lease_seconds=command.lease_seconds,
            tags=check_tags(command.tags, "tags"),
            labels=check_tags(command.labels, "labels"),
            machine=command.machine,
            boot=command.boot,
            folder=command.folder,
            host=command.host,
            version=command.version,
            guarantees=_check_guarantees(command.guarantees),
            default_limits=command.default_limits,
            ceilings=command.ceilings,
        )
    ]


def _check_guarantees(sentences: tuple[str, ...]) -> tuple[str, ...]:
    if len(sentences) > MAX_GUARANTEES:
        raise TooLarge(
            f"{len(sentences)} guarantees, at most {MAX_GUARANTEES} are possible",
            field="guarantees", size=len(sentences), limit=MAX_GUARANTEES,
        )  # fmt: skip
    return tuple(check_text(one, "guarantee", MAX_REASON_BYTES) for one in sentences)
