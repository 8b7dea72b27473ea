"""Commands of users about workers."""

from collections.abc import Callable, Iterable

from mitosis.contract import commands, subjects, wire, work
from mitosis.domain import worker
from mitosis.domain.access import need_role, need_worker_role
from mitosis.domain.event import Command
from mitosis.domain.limits import MAX_TIMEOUT_SECONDS, check_number
from mitosis.domain.names import check_name, check_uuid
from mitosis.domain.roles import Role
from mitosis.domain.user import User
from mitosis.errors import NotAllowed, NotFound
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.core import Core, Verbs
from mitosis.services.coordinator.departures import lose_worker
from mitosis.services.coordinator.journal import Unit

IssueToken = Callable[[str, float], str]

MIN_LIFETIME_SECONDS = 0.001
# A worker at the end of its lifetime finishes what it runs, and needs its connection for that. Its
# token is refused anyway from the moment that the worker is gone.
DRAIN_SECONDS = 30 * 86_400.0


class WorkerHandlers:
    """Handlers of `worker.*` on the user's side."""

    def __init__(
        self,
        core: Core,
        issue_token: IssueToken,
        lease_seconds: float,
        session_seconds: float = 7 * 86_400.0,
    ) -> None:
        """`session_seconds`: lifetime of a worker that names none."""
        self._core = core
        self._issue_token = issue_token
        self._lease_seconds = lease_seconds
        self._session_seconds = session_seconds

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [
            ("worker.register", commands.RegisterWorker, self.register),
            ("worker.drain", commands.DrainWorker, self.drain),
            ("worker.update_tags", commands.ReplaceWorkerTags, self.update_tags),
            ("worker.update_labels", commands.ReplaceWorkerLabels, self.update_labels),
            ("worker.update_roles", commands.GrantWorkerRoles, self.update_roles),
            ("worker.remove_roles", commands.RemoveWorkerRoles, self.remove_roles),
            ("worker.update_slots", commands.ChangeWorkerSlots, self.update_slots),
            ("worker.pause", commands.PauseWorker, self.pause),
            ("worker.resume", commands.ResumeWorker, self.resume),
        ]

    def register(self, caller: Caller, body: commands.RegisterWorker) -> None:
        """`worker.register`: the user needs Write in every group that the worker will serve."""
        core = self._core
        user = core.user(caller.owner)
        self._need_write(user, body.groups, "; or leave it out of --groups")
        # The owner's group always manages its worker.
        roles = {**body.groups, user.name: Role.ADMIN}
        lifetime = check_lifetime(body.lifetime_seconds, self._session_seconds)
        name = core.ids.uuid()
        # Decided before anybody is declared dead: a refused registration leaves no trace.
        events = worker.decide(None, self._registration(name, user.name, roles, body))
        unit = core.begin(f"user:{user.name}", caller)
        self._succeed(unit, user.name, body)
        unit.add(subjects.worker_tail(name), events)
        core.leases.heard(name)
        # It gets work as soon as it asks for the first time, when its subscriptions are there.
        core.dispatcher.unreachable.add(name)
        core.answer(
            unit,
            caller,
            commands.Registered(
                name,
                self._issue_token(name, lifetime + DRAIN_SECONDS),
                self._lease_seconds,
                self._lease_seconds / 4,
                roles,
                lifetime,
            ),
        )

    def _registration(
        self, name: str, owner: str, roles: dict[str, Role], body: commands.RegisterWorker
    ) -> worker.RegisterWorker:
        return worker.RegisterWorker(
            worker=name,
            owner=owner,
            roles=roles,
            slots=body.slots,
            lease_seconds=self._lease_seconds,
            tags=body.tags,
            labels=body.labels,
            machine=body.machine,
            boot=body.boot,
            folder=body.folder,
            host=body.host,
            version=body.version,
            guarantees=body.guarantees,
            default_limits=body.default_limits,
            ceilings=body.ceilings,
        )

    def drain(self, caller: Caller, body: commands.DrainWorker) -> None:
        """`worker.drain`: it finishes what it runs, or hands it back, and leaves."""
        order = work.Drain(body.force, body.reason)
        self._change(caller, body.worker, worker.DrainWorker(body.reason, body.force), order)

    def update_tags(self, caller: Caller, body: commands.ReplaceWorkerTags) -> None:
        """`worker.update_tags`: what waits is looked at anew, what runs is finished."""
        self._change(caller, body.worker, worker.ReplaceWorkerTags(body.tags))

    def update_labels(self, caller: Caller, body: commands.ReplaceWorkerLabels) -> None:
        """`worker.update_labels`."""
        self._change(caller, body.worker, worker.ReplaceWorkerLabels(body.labels))

    def update_roles(self, caller: Caller, body: commands.GrantWorkerRoles) -> None:
        """`worker.update_roles`: who grants needs Write in the groups, too."""
        self._managed(caller, body.worker)  # a stranger learns nothing about groups
        self._need_write(self._core.user(caller.owner), body.roles, "")
        self._change(caller, body.worker, worker.GrantWorkerRoles(body.roles))

    def remove_roles(self, caller: Caller, body: commands.RemoveWorkerRoles) -> None:
        """`worker.remove_roles`."""
        _, state = self._managed(caller, body.worker)
        for name in body.groups:
            if name not in state.roles and name not in self._core.world.groups:
                raise NotFound(f"there is no group {check_name(name, 'group')!r}", group=name)
        self._change(caller, body.worker, worker.RemoveWorkerRoles(body.groups))

    def update_slots(self, caller: Caller, body: commands.ChangeWorkerSlots) -> None:
        """`worker.update_slots`."""
        order = work.Resize(body.slots)
        self._change(caller, body.worker, worker.ChangeWorkerSlots(body.slots), order)

    def pause(self, caller: Caller, body: commands.PauseWorker) -> None:
        """`worker.pause`."""
        self._change(caller, body.worker, worker.PauseWorker(body.reason))

    def resume(self, caller: Caller, body: commands.ResumeWorker) -> None:
        """`worker.resume`."""
        self._change(caller, body.worker, worker.ResumeWorker(), work.Resumed())

    def _managed(self, caller: Caller, given: str) -> tuple[User, worker.Worker]:
        core = self._core
        user = core.user(caller.owner)
        name = check_uuid(given, "worker")
        state = core.world.workers.get(name)
        roles = core.world.roles_of(user.name)
        return user, need_worker_role(user, roles, state, name, Role.ADMIN)

    def _change(
        self, caller: Caller, given: str, command: Command, order: work.Control | None = None
    ) -> None:
        """Change a worker for one of its Admins; dispatch looks at it anew at once."""
        core = self._core
        user, state = self._managed(caller, given)
        name = state.worker
        unit = core.begin(f"user:{user.name}", caller)
        events = unit.run(subjects.worker_tail(name), command)
        if order is not None:  # before the tasks that it makes room for
            message = wire.encode(order)
            unit.then(lambda _: core.publish(subjects.control(name), message))
        if events:
            core.dispatcher.worker_ready(unit, name)
        core.answer(unit, caller, commands.WorkerChanged(name, bool(events)))

    def _need_write(self, user: User, groups: Iterable[str], advice: str) -> None:
        """A user may let a worker serve only groups in which they have Write."""
        for name in groups:
            try:
                need_role(
                    user, self._core.world.groups.get(name), name, Role.WRITE, "serving a group"
                )
            except NotAllowed as error:
                raise NotAllowed(f"{error}{advice}", **error.details) from error

    def _succeed(self, unit: Unit, owner: str, body: commands.RegisterWorker) -> None:
        """Declare those dead whose death this registration proves (same owner only)."""
        core = self._core
        for name, state in list(core.world.workers.items()):
            if state.owner != owner or not body.machine or state.machine != body.machine:
                continue
            if body.boot and state.boot and state.boot != body.boot:
                lose_worker(core, unit, name, "its machine was started anew")
            elif body.folder and state.folder == body.folder:
                lose_worker(core, unit, name, "its successor holds its work folder")


def check_lifetime(given: float | None, default: float) -> float:
    """Return how long a worker may live, in seconds.

    Raises:
        InvalidInput: Not positive, or longer than any task can run.
    """
    if given is None:
        return default
    check_number(given, "the lifetime in seconds", MIN_LIFETIME_SECONDS, MAX_TIMEOUT_SECONDS)
    return given
