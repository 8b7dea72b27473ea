"""Commands of users about workers."""

from collections.abc import Callable

from mitosis.contract import commands, subjects, wire, work
from mitosis.domain import worker
from mitosis.domain.access import need_role, need_worker_role
from mitosis.domain.names import check_uuid
from mitosis.domain.roles import Role
from mitosis.errors import NotAllowed
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.core import Core, Verbs
from mitosis.services.coordinator.departures import lose_worker
from mitosis.services.coordinator.journal import Unit

IssueToken = Callable[[str, float | None], str]


class WorkerHandlers:
    """Handlers of `worker.*` on the user's side."""

    def __init__(self, core: Core, issue_token: IssueToken, lease_seconds: float) -> None:
        self._core = core
        self._issue_token = issue_token
        self._lease_seconds = lease_seconds

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [
            ("worker.register", commands.RegisterWorker, self.register),
            ("worker.drain", commands.DrainWorker, self.drain),
        ]

    def register(self, caller: Caller, body: commands.RegisterWorker) -> None:
        """`worker.register`: the user needs Write in every group that the worker will serve."""
        core = self._core
        user = core.user(caller.owner)
        roles = dict(body.groups) or {}
        for name in roles:
            try:
                need_role(user, core.world.groups.get(name), name, Role.WRITE, "serving a group")
            except NotAllowed as error:
                raise NotAllowed(
                    f"{error}; or leave it out of --groups", **error.details
                ) from error
        roles[user.name] = Role.ADMIN  # the owner's group always manages its worker
        name = core.ids.uuid()
        unit = core.begin(f"user:{user.name}", caller)
        self._succeed(unit, user.name, body)
        unit.run(
            subjects.worker_tail(name),
            worker.RegisterWorker(
                worker=name,
                owner=user.name,
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
            ),
        )
        core.leases.heard(name)
        # It gets work as soon as it asks for the first time, when its subscriptions are there.
        core.dispatcher.unreachable.add(name)
        token = self._issue_token(name, body.lifetime_seconds)
        renew_seconds = self._lease_seconds / 4
        core.answer(
            unit,
            caller,
            commands.Registered(name, token, self._lease_seconds, renew_seconds, roles),
        )

    def drain(self, caller: Caller, body: commands.DrainWorker) -> None:
        """`worker.drain`: needs Admin on the worker."""
        core = self._core
        user = core.user(caller.owner)
        name = check_uuid(body.worker, "worker")
        state = core.world.workers.get(name)
        need_worker_role(user, core.world.roles_of(user.name), state, name, Role.ADMIN)
        unit = core.begin(f"user:{user.name}", caller)
        events = unit.run(subjects.worker_tail(name), worker.DrainWorker(body.reason, body.force))
        message = wire.encode(work.Drain(body.force, body.reason))
        unit.then(lambda _: core.publish(subjects.control(name), message))
        core.answer(unit, caller, commands.Done(changed=bool(events)))

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
