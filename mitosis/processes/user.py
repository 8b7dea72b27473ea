"""The user that tasks run as, when the worker is root and was told to give its rights up."""

import os
import pwd

from msgspec import Struct

from mitosis.errors import WorkerFault


class TaskUser(Struct, frozen=True):
    """A user of this machine.

    Attributes:
        name: as in the user database.
        uid: number of the user.
        gid: its first group.
        groups: all its groups.
        home: its home folder, for the environment of tasks.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    def environment(self) -> dict[str, str]:
        """Variables that say who and where the user is."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def task_user(name: str) -> TaskUser:
    """The user with a name, or with a number as `1000`.

    Raises:
        WorkerFault: there is none, or this process may not become it.
    """
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError) as problem:
        raise WorkerFault(f"run as {name}: this machine has no such user") from problem
    if os.geteuid() not in {0, entry.pw_uid}:
        raise WorkerFault(
            f"run as {name}: only a worker that is root can run tasks as another user; "
            f"this one is user {os.geteuid()}"
        )
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return TaskUser(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups), entry.pw_dir)


def own_user() -> TaskUser:
    """The user of this process; one without an entry in the database is named by its number."""
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return TaskUser(str(uid), uid, os.getegid(), tuple(os.getgroups()), "/")
    return TaskUser(entry.pw_name, uid, entry.pw_gid, tuple(os.getgroups()), entry.pw_dir)
