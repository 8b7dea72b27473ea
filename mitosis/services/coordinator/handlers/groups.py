"""Commands about groups."""

from collections.abc import Iterable

from mitosis.contract import commands, subjects
from mitosis.domain import group, worker
from mitosis.domain.access import (
    need_active_admin_left,
    need_admin,
    need_existing,
    need_group_admin,
    need_user,
)
from mitosis.domain.group import Group, GroupPhase
from mitosis.domain.limits import MAX_BATCH
from mitosis.domain.names import check_name
from mitosis.domain.roles import Role
from mitosis.errors import AlreadyExists, InvalidInput, LimitReached, TooLarge, WrongState
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.closing import close_deleted
from mitosis.services.coordinator.core import Core, Verbs
from mitosis.services.coordinator.journal import Unit


class GroupHandlers:
    """Handlers of `group.*`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [
            ("group.create", commands.CreateGroup, self.create),
            ("group.change_members", commands.ChangeMembers, self.change_members),
            ("group.set_storage_quota", commands.ChangeStorageQuota, self.set_storage_quota),
            ("group.set_state", commands.ChangeGroupState, self.set_state),
        ]

    def create(self, caller: Caller, body: commands.CreateGroup) -> None:
        """`group.create`: any active user below the group quota."""
        core = self._core
        creator = core.user(caller.owner)
        if body.name in core.world.users and body.name not in core.world.groups:
            raise AlreadyExists(f"{body.name!r} is the name of a user already: choose another")
        events = group.decide(
            core.world.groups.get(body.name), group.CreateGroup(body.name, creator.name)
        )
        owned = core.world.owned_groups.get(creator.name, 0)
        if owned >= creator.group_quota:
            raise LimitReached(
                f"{creator.name!r} has {owned} groups, the quota is {creator.group_quota}: ask a "
                "platform administrator for more",
                used=owned,
                limit=creator.group_quota,
            )
        unit = core.begin(f"user:{creator.name}", caller)
        unit.add(subjects.group_tail(body.name), events)
        core.answer(unit, caller, commands.Done(), then_rights_of=(creator.name,))

    def change_members(self, caller: Caller, body: commands.ChangeMembers) -> None:
        """`group.change_members`: needs Admin in the group, or a platform administrator."""
        core = self._core
        actor = core.user(caller.owner)
        name = check_name(body.group, "group")
        state = need_group_admin(actor, core.world.groups.get(name), name, "changing members")
        self._check_users(body)
        events = group.decide(state, group.ChangeMembers(body.roles, body.removed))
        after = state
        for event in events:
            after = group.evolve(after, event)
        need_active_admin_left(after, core.world.users)
        unit = core.begin(f"user:{actor.name}", caller)
        unit.atomic = True
        unit.add(subjects.group_tail(name), events)
        concerned = _differing(state, after)
        self._take_from_workers(unit, after, concerned)
        core.answer(unit, caller, commands.Done(bool(events)), then_rights_of=concerned)

    def set_storage_quota(self, caller: Caller, body: commands.ChangeStorageQuota) -> None:
        """`group.set_storage_quota`: needs a platform administrator."""
        core = self._core
        need_admin(core.user(caller.owner), "changing quotas")
        state = self._group(body.group)
        unit = core.begin(f"user:{caller.owner}", caller)
        unit.run(subjects.group_tail(state.name), group.ChangeStorageQuota(body.change))
        quota = core.world.groups[state.name].storage_quota_bytes
        core.answer(unit, caller, commands.NewQuota(quota))

    def set_state(self, caller: Caller, body: commands.ChangeGroupState) -> None:
        """`group.set_state`: needs a platform administrator."""
        core = self._core
        need_admin(core.user(caller.owner), "changing the state of groups")
        state = self._group(body.group)
        owner = core.world.users.get(state.name)
        if body.state is GroupPhase.DELETED and owner is not None and owner.active:
            raise WrongState(
                f"group {state.name!r} is the own group of a user: delete the user, or lock the "
                "group"
            )
        unit = core.begin(f"user:{caller.owner}", caller)
        events = unit.run(
            subjects.group_tail(state.name), group.ChangeGroupState(body.state, body.reason)
        )
        deleted = bool(events) and body.state is GroupPhase.DELETED
        concerned = state.members if deleted else ()
        core.answer(unit, caller, commands.Done(bool(events)), then_rights_of=concerned)
        if deleted:
            close_deleted(core)

    # --- shared -------------------------------------------------------------------------------

    def _group(self, name: str) -> Group:
        return need_existing(self._core.world.groups.get(check_name(name, "group")), name)

    def _check_users(self, body: commands.ChangeMembers) -> None:
        count = len(body.roles) + len(body.removed)
        if not count:
            raise InvalidInput("no members are named: write USER:ROLE to set, USER to remove")
        if count > MAX_BATCH:
            raise TooLarge(
                f"{count} members in one request, at most {MAX_BATCH} are possible",
                size=count,
                limit=MAX_BATCH,
            )
        users = self._core.world.users
        for name in (*body.roles, *body.removed):
            account = users.get(check_name(name, "user"))
            if name in body.roles or account is None:  # a deleted one can be removed
                need_user(account, name)

    def _take_from_workers(self, unit: Unit, state: Group, users: Iterable[str]) -> None:
        """Let workers of those who may no longer submit here serve the group no more."""
        lost = {name for name in users if state.members.get(name, Role.READ) < Role.WRITE}
        for name, held in self._core.world.workers.items() if lost else ():
            if held.owner in lost and state.name != held.owner and held.serves(state.name):
                command = worker.RemoveWorkerRoles((state.name,))
                unit.run(subjects.worker_tail(name), command)


def _differing(before: Group, after: Group) -> list[str]:
    """Return the users whose role has changed."""
    names = before.members.keys() | after.members.keys()
    return sorted(n for n in names if before.members.get(n) is not after.members.get(n))
