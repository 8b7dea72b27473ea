"""Who may do what: the rules that coordinator and projector share."""

from collections.abc import Mapping

from mitosis.domain.group import Group
from mitosis.domain.roles import Role
from mitosis.domain.user import User
from mitosis.domain.worker import Worker
from mitosis.errors import NotAllowed, NotFound, WrongState


def need_admin(user: User, what: str) -> None:
    """Check that the user is a platform administrator.

    Raises:
        NotAllowed: It is not.
    """
    if not user.admin:
        raise NotAllowed(f"{what} needs a platform administrator, {user.name!r} is none")


def need_role(user: User, group: Group | None, name: str, role: Role, what: str) -> Group:
    """Check that the user has at least this role in the group, and return the group.

    Raises:
        NotFound: There is no such group. NotAllowed: The role is missing.
        WrongState: The group is locked or deleted, and the operation changes something.
    """
    if group is None:
        raise NotFound(f"there is no group {name!r}", group=name)
    held = group.members.get(user.name)
    if held is None or held < role:
        raise NotAllowed(
            f"{what} needs {role.label} in group {name!r}, {user.name!r} has "
            f"{held.label if held else 'no role there'}: ask an Admin of the group",
            group=name,
            needed=role.label,
        )
    if role > Role.READ and not group.active:
        raise WrongState(f"group {name!r} is {group.phase}: ask a platform administrator")
    return group


def role_on_worker(user: User, memberships: Mapping[str, Role], worker: Worker) -> Role | None:
    """Return what a user may do with a worker: the best over all groups.

    Through a group one has the smaller of one's role in the group and the group's role on the
    worker; the owner and a platform administrator have Admin.
    """
    if user.admin or user.name == worker.owner:
        return Role.ADMIN
    shared = [min(worker.roles[g], role) for g, role in memberships.items() if g in worker.roles]
    return max(shared, default=None)


def need_worker_role(
    user: User, memberships: Mapping[str, Role], worker: Worker | None, name: str, role: Role
) -> Worker:
    """Check the role of a user on a worker, and return the worker.

    Raises:
        NotFound: There is no such worker, or none that the user may see. NotAllowed: The role
            is missing.
    """
    held = role_on_worker(user, memberships, worker) if worker else None
    if worker is None or held is None:
        raise NotFound(f"there is no worker {name}", worker=name)
    if held < role:
        raise NotAllowed(f"this needs {role.label} on worker {name}, you have {held.label}")
    return worker
