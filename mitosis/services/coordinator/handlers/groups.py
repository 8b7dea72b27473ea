"""Commands about groups."""

from mitosis.contract import commands, subjects
from mitosis.domain import group
from mitosis.errors import AlreadyExists, LimitReached
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.core import Core, Verbs


class GroupHandlers:
    """Handlers of `group.*`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [("group.create", commands.CreateGroup, self.create)]

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
        core.answer(unit, caller, commands.Done(), then_rights_of=creator.name)
