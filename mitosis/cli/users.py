"""`create user`, and one's own account: password, sessions, log out."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli.invocation import UsageError
from mitosis.cli.login import ask_new_password, ask_password
from mitosis.cli.output.results import NamedUser, UserRights
from mitosis.cli.output.screen import note, on_terminal, show
from mitosis.cli.parameters import Flag, VerboseFlag
from mitosis.cli.running import with_client
from mitosis.config.client import CreateUserArgs

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient
    from mitosis.contract.queries import SessionList

AnyText = Parameter(allow_leading_hyphen=True)  # a password may begin with a dash


def create_user(
    *,
    username: Annotated[str, Parameter(name=["--username", "-u"])],
    password: Annotated[str, Parameter(name=["--password", "-p"], allow_leading_hyphen=True)],
    admin: Flag = False,
) -> None:
    """Create a new user.

    Args:
        username: The username of the user.
        password: The password of the user.
        admin: Whether the user is an admin.
    """
    create(username, password, admin=admin)


def create(username: str, password: str, *, admin: bool) -> None:
    """Create a user and say so."""
    args = CreateUserArgs(username=username, password=password, admin=admin)
    with_client(lambda client: client.create_user(args))
    show(UserRights(username, admin), lambda: [f"Created user {username}"])


def change_password(
    old: Annotated[str, AnyText] = "", new: Annotated[str, AnyText] = "", /
) -> None:
    """Change your own password. All your other sessions end, this one stays.

    Args:
        old: The present password; better given when asked.
        new: The new password; better given when asked.
    """

    async def act(client: "MitoClient") -> str:
        user = client.session.user
        present = old or ask_password(user, "Present password")
        await client.change_password(present, new or ask_new_password(user))
        return user

    name = with_client(act)
    show(NamedUser(name), lambda: [f"Changed the password of {name}; other sessions have ended"])


def get_sessions(*, verbose: VerboseFlag = False) -> None:
    """List your own open sessions, the newest last.

    Args:
        verbose: On a terminal with exact times.
    """
    print_sessions("", exact=verbose)


def print_sessions(username: str, *, exact: bool) -> None:
    """Print the open sessions of a user; empty: of the one who asks."""

    async def act(client: "MitoClient") -> "tuple[SessionList, str]":
        return await client.get_sessions(username), client.session.session_id

    found, present = with_client(act)
    if on_terminal():
        _print_table(found, present, exact=exact)
    else:
        show(found, lambda: [one.session for one in found.sessions])
    count = len(found.sessions)
    note(f"{count} open session{'' if count == 1 else 's'} of {found.username}")


def revoke_sessions(session: str = "", /, *, all: Flag = False, others: Flag = False) -> None:  # noqa: A002  the name of the option
    """End a session of yours, all others, or all; what was connected by them is disconnected.

    Args:
        session: The session, as `users sessions` names it.
        all: All of them, this one too.
        others: All but this one.
    """
    if bool(session) + all + others != 1:
        raise UsageError("name one session, or give --others or --all")
    done = with_client(lambda client: client.revoke_sessions(session, keep_this=others))
    show(done, lambda: ["Ended" if done.changed else "There was nothing to end"])


def logout() -> None:
    """Log out: this session ends and is forgotten; your other sessions stay."""

    async def act(client: "MitoClient") -> str:
        await client.logout()
        return client.session.user

    name = with_client(act)
    show(NamedUser(name), lambda: [f"Logged out {name}"])


def _print_table(found: "SessionList", present: str, *, exact: bool) -> None:
    from mitosis.cli.output.tables import print_table
    from mitosis.cli.output.texts import age, ahead, moment

    now = datetime.now(UTC)
    print_table(
        ("SESSION", "OPENED", "EXPIRES", "FROM", ""),
        [
            (
                one.session,
                moment(one.opened_at) if exact else age(one.opened_at, now),
                moment(one.expires_at) if exact else ahead(one.expires_at, now),
                one.source,
                "this one" if one.session == present else "",
            )
            for one in found.sessions
        ],
        whole=("SESSION",),
    )
