"""`auth` and `login`, and asking whoever sits at the terminal for a name and a password."""

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from mitosis.cli.invocation import ClientFlags, current
from mitosis.cli.output.results import UserRights
from mitosis.cli.output.screen import can_ask, complain, show
from mitosis.cli.parameters import Flag
from mitosis.cli.terminal import ask_line, ask_secret
from mitosis.config.client import ClientConfig
from mitosis.config.secret_file import read_secret
from mitosis.errors import AuthenticationFailed, InvalidInput

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient

STDIN = Path("-")


def auth(
    username: str = "",
    password: str = "",
    /,
    *,
    nats_context: Annotated[Path | None, Parameter(name="--nats-context", metavar="FILE")] = None,
) -> None:
    """Log in and keep the session; without a name say who is logged in.

    Args:
        username: The username of the user.
        password: The password of the user; better given when asked, by MITO_PASSWORD or by
            --password-file.
        nats_context: Write what another NATS client needs to listen as this user into a file, which
            only its owner can read: a context of the `nats` tool, and plain JSON.
    """
    from mitosis.cli.running import client_config, with_client

    if username:
        _log_in(username, password)
    else:
        me = with_client(lambda client: client.whoami())
        _say_who(me.username, admin=me.admin)
    if nats_context is not None:
        from mitosis.cli.output.nats_context import write_context

        config = msgspec.structs.replace(client_config(), user=username or client_config().user)
        access = with_client(lambda client: client.get_nats_access(), config=config)
        write_context(nats_context, access)


def login(username: str = "", password: str = "", /, *, retain: Flag = False) -> None:
    """Log in and keep the session; what is missing is asked for.

    Args:
        username: The username of the user.
        password: The password of the user; better given when asked, by MITO_PASSWORD or by
            --password-file.
        retain: Nothing more than without it: a new session never ends another one.
    """
    del retain  # a promise that is always kept
    from mitosis.cli.running import client_config

    _log_in(username or client_config().user or ask_user(), password)


def ask_again(config: ClientConfig, usual: str, error: AuthenticationFailed) -> tuple[str, str]:
    """Ask for name and password, after no session was accepted.

    Args:
        config: Of the client. With a password in it there is nothing to ask.
        usual: Whose session it was.
        error: Raised when nobody can be asked.

    Returns:
        Name and password.
    """
    given = config.password or config.password_file
    if given or not can_ask() or current.get().json:
        raise error
    complain(error.message)
    user = config.user or ask_user(usual)
    return user, ask_password(user)


def ask_user(usual: str = "") -> str:
    """Ask the person at the terminal for a name.

    Args:
        usual: Taken when only Enter is pressed.

    Raises:
        InvalidInput: Nothing was typed, or nobody is there.
    """
    if not can_ask():
        raise InvalidInput("no user is named and nobody can be asked: set MITO_USER, or use -u")
    user = ask_line(f"Username [{usual}]: " if usual else "Username: ").strip() or usual
    if not user:
        raise InvalidInput("no user name was given")
    return user


def ask_password(user: str, what: str = "Password") -> str:
    """Ask the person at the terminal for a password, which is not shown.

    Args:
        user: Whose.
        what: Which one, such as `New password`.

    Raises:
        InvalidInput: Nothing was typed, or nobody is there.
    """
    if not can_ask():
        raise InvalidInput(
            f"no password of {user} is given and nobody can be asked: set MITO_PASSWORD, or use "
            "--password-file"
        )
    password = ask_secret(f"{what} of {user}: ")
    if not password:
        raise InvalidInput("no password was given")
    return password


def ask_new_password(user: str) -> str:
    """Ask twice for a password that is to be set.

    Raises:
        InvalidInput: Nothing was typed, or two different ones, or nobody is there.
    """
    password = ask_password(user, "New password")
    if ask_password(user, "Again the new password") != password:
        raise InvalidInput("the two passwords differ: nothing was changed")
    return password


def given_password(flags: ClientFlags) -> str | None:
    """Return the password of the options; `--password-file -` is a line of standard input.

    Raises:
        Misconfigured: There is no such line.
    """
    if flags.password is None and flags.password_file == STDIN:
        return _password_of_stdin()
    return flags.password


@functools.cache
def _password_of_stdin() -> str:
    return read_secret(sys.stdin.buffer, "on standard input")


def _log_in(username: str, password: str) -> None:
    from mitosis.cli.running import client_config, open_client

    config = client_config()
    mine = config.user in {None, username}  # a configured password belongs to its user

    async def configured(client: "MitoClient") -> str | None:
        return client.session.configured_password() if mine else None

    with open_client(config) as run:
        secret = password or run(configured) or ask_password(username)

        async def act(client: "MitoClient") -> tuple[str, bool]:
            client.session.warn = lambda _: None  # said below, as an error: it is all that is asked
            session = await client.login(username, secret)
            if client.session.unkept is not None:
                raise client.session.unkept
            return session.username, session.admin

        name, admin = run(act)
    _say_who(name, admin=admin)


def _say_who(name: str, *, admin: bool) -> None:
    show(
        UserRights(name, admin),
        lambda: [f"Logged in as {name}{' (administrator)' if admin else ''}"],
    )
