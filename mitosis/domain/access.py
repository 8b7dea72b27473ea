"""Who may do what: the rules that coordinator and projector share."""

from collections.abc import Mapping

from mitosis.domain.group import Group
from mitosis.domain.roles import Role
from mitosis.domain.task import Task
from mitosis.domain.user import User, UserPhase
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
    group = need_existing(group, name)
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


def need_sight(user: User, group: Group | None, task: str) -> None:
    """Check that the user may know of a task of this group.

    Raises:
        NotFound: Said just as of a task that does not exist: who guesses a UUID learns nothing.
    """
    if not user.admin and (group is None or user.name not in group.members):
        raise NotFound(f"there is no task {task}", task=task)


def need_secret_right(user: User, group: Group | None, state: Task) -> None:
    """Check that the user may erase the secrets of a task: its creator, or an Admin.

    Raises:
        NotAllowed: Neither that, nor Admin in its group, nor platform administrator.
    """
    role = group.members.get(user.name) if group is not None else None
    if not (user.admin or user.name == state.creator or role is Role.ADMIN):
        raise NotAllowed(
            f"the secrets of task {state.task} are erased by {state.creator!r}, who submitted it, "
            f"by an Admin of group {state.group!r} or a platform administrator",
            group=state.group,
            needed=Role.ADMIN.label,
        )


def need_group_admin(user: User, group: Group | None, name: str, what: str) -> Group:
    """Check that the user is Admin in the group or a platform administrator; return the group.

    The latter also because a group may have lost its last Admin with the account.

    Raises:
        NotFound: There is no such group. NotAllowed: The role is missing.
        WrongState: The group is locked, and the user is no platform administrator.
    """
    if user.admin:
        return need_existing(group, name)
    return need_role(user, group, name, Role.ADMIN, what)


def need_existing(group: Group | None, name: str) -> Group:
    """Return the group.

    Raises:
        NotFound: There is no such group.
    """
    if group is None:
        raise NotFound(f"there is no group {name!r}", group=name)
    return group


def need_user(user: User | None, name: str) -> User:
    """Return an account that is not deleted.

    Raises:
        NotFound: There is no such user. WrongState: It is deleted.
    """
    if user is None:
        raise NotFound(f"there is no user {name!r}", user=name)
    if user.phase is UserPhase.DELETED:
        raise WrongState(f"user {name!r} is deleted, which cannot be undone", user=name)
    return user


def need_active_admin_left(group: Group, users: Mapping[str, User]) -> None:
    """Check that somebody who can log in is Admin of the group.

    Raises:
        WrongState: All its Admins are locked or deleted.
    """
    if not any(name in users and users[name].active for name in group.admins):
        raise WrongState(
            f"group {group.name!r} would be left without an Admin who can log in: make somebody "
            "else Admin first"
        )


def need_other_admin(users: Mapping[str, User], name: str, what: str) -> None:
    """Check that an active platform administrator is left beside this one.

    Raises:
        WrongState: It is the last one.
    """
    if not any(u.admin and u.active for u in users.values() if u.name != name):
        raise WrongState(
            f"{name!r} is the last platform administrator who can log in: make somebody else one "
            f"before {what}"
        )


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
