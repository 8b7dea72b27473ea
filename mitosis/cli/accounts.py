"""`admin users`, `shutdown`: what needs a platform administrator."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli import users
from mitosis.cli.invocation import UsageError
from mitosis.cli.login import ask_new_password, ask_user
from mitosis.cli.output.results import NamedUser, UserQuota, UserRights, UserState
from mitosis.cli.output.screen import note, on_terminal, show
from mitosis.cli.parameters import Flag, Number, VerboseFlag, choices, several
from mitosis.cli.running import with_client
from mitosis.config.client import DEFAULT_PAGE, GetUsersArgs
from mitosis.domain.user import UserPhase

if TYPE_CHECKING:
    from mitosis.contract.queries import UserPage

States = Annotated[
    tuple[UserPhase, ...],
    several("--state", "-s", read=choices(UserPhase, "state of a user")),
]


def create(
    username: str = "", password: Annotated[str, users.AnyText] = "", /, *, admin: Flag = False
) -> None:
    """Create a new user; what is missing is asked for.

    Args:
        username: The username of the user.
        password: The password of the user; better given when asked.
        admin: Whether the user is an admin.
    """
    name = username or ask_user()
    users.create(name, password or ask_new_password(name), admin=admin)


def list_users(
    prefix: str = "",
    /,
    *,
    state: States = (),
    admins: Flag = False,
    limit: Number = DEFAULT_PAGE,
    offset: Number = 0,
    verbose: VerboseFlag = False,
) -> None:
    """List users by name.

    Args:
        prefix: Beginning of their names.
        state: One or more of active, locked, deleted.
        admins: Only platform administrators.
        limit: How many at most.
        offset: How many to leave out first.
        verbose: On a terminal with exact times.
    """
    args = GetUsersArgs(prefix=prefix, states=state, admins=admins, limit=limit, offset=offset)
    page = with_client(lambda client: client.get_users(args))
    if on_terminal():
        _print_users(page, exact=verbose)
    else:
        show(page, lambda: [one.username for one in page.users])
    note(f"{page.total} user{'' if page.total == 1 else 's'}")


def reset_password(username: str = "", new: Annotated[str, users.AnyText] = "", /) -> None:
    """Give a user a new password; all sessions of that user end.

    Args:
        username: The username of the user.
        new: The new password; better given when asked.
    """
    name = username or ask_user()
    password = new or ask_new_password(name)
    with_client(lambda client: client.reset_password(name, password))
    show(NamedUser(name), lambda: [f"Changed the password of {name}; all sessions have ended"])


def delete_user(username: str, /, *, reason: str = "") -> None:
    """Delete a user for ever: tasks are cancelled, workers drained; the name stays taken.

    Args:
        username: The username of the user.
        reason: Why, for the record.
    """
    _set_state(username, UserPhase.DELETED, reason, "Deleted")


def lock_user(username: str, /, *, reason: str = "") -> None:
    """Lock a user out until unlocked; all sessions end, tasks and workers go on.

    Args:
        username: The username of the user.
        reason: Why, for the record.
    """
    _set_state(username, UserPhase.LOCKED, reason, "Locked")


def unlock_user(username: str, /) -> None:
    """Let a locked user log in again.

    Args:
        username: The username of the user.
    """
    _set_state(username, UserPhase.ACTIVE, "", "Unlocked")


def promote_user(username: str, /) -> None:
    """Make a user a platform administrator.

    Args:
        username: The username of the user.
    """
    with_client(lambda client: client.set_admin(username, admin=True))
    show(UserRights(username, admin=True), lambda: [f"{username} is an administrator"])


def demote_user(username: str, /) -> None:
    """Make a platform administrator a usual user.

    Args:
        username: The username of the user.
    """
    with_client(lambda client: client.set_admin(username, admin=False))
    show(UserRights(username, admin=False), lambda: [f"{username} is no administrator"])


def set_group_quota(username: str, quota: Annotated[str, users.AnyText], /) -> None:
    """Change how many groups a user may have; the own group counts as one.

    Args:
        username: The username of the user.
        quota: The new number as N or =N, or the difference as +N or -N; never below 0.
    """
    done = with_client(lambda client: client.set_group_quota(username, quota))
    show(
        UserQuota(username, done.quota),
        lambda: [f"{username} may have {done.quota} group{'' if done.quota == 1 else 's'}"],
    )


def get_sessions(username: str, /, *, verbose: VerboseFlag = False) -> None:
    """List the open sessions of a user, the newest last.

    Args:
        username: The username of the user.
        verbose: On a terminal with exact times.
    """
    users.print_sessions(username, exact=verbose)


def revoke_sessions(username: str, session: str = "", /) -> None:
    """End a session of a user, or all; what was connected by them is disconnected.

    Args:
        username: The username of the user.
        session: The session, as `admin users sessions` names it; without it all end.
    """
    done = with_client(lambda client: client.revoke_sessions(session, username=username))
    show(done, lambda: ["Ended" if done.changed else "There was nothing to end"])


def shutdown(secret: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None, /) -> None:
    """Shut the coordinator down; a platform of `mito up` ends as a whole.

    Args:
        secret: The content of the coordinator's shutdown file, which its log names; without it
            being an administrator is enough.
    """
    if secret == "":
        raise UsageError("the shutdown secret is empty: give it, or leave it out")
    done = with_client(lambda client: client.shutdown(secret))
    show(done, lambda: ["The coordinator shuts down"])


def _set_state(username: str, state: UserPhase, reason: str, what: str) -> None:
    with_client(lambda client: client.set_user_state(username, state, reason))
    show(UserState(username, state), lambda: [f"{what} user {username}"])


def _print_users(page: "UserPage", *, exact: bool) -> None:
    from mitosis.cli.output.tables import print_table
    from mitosis.cli.output.texts import age, moment

    now = datetime.now(UTC)
    print_table(
        ("USER", "STATE", "ADMIN", "GROUPS", "SESSIONS", "CREATED", "REASON"),
        [
            (
                one.username,
                one.state.value,
                "yes" if one.admin else "",
                f"{one.groups}/{one.group_quota}",
                str(one.sessions),
                moment(one.created_at) if exact else age(one.created_at, now),
                one.reason,
            )
            for one in page.users
        ],
        whole=("USER", "STATE"),
    )
