"""`auth`, `create user`."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli.output.screen import show
from mitosis.cli.parameters import Flag
from mitosis.cli.running import ask_password, client_config, with_client
from mitosis.config.client import CreateUserArgs

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient


def auth(username: str = "", password: str = "", /) -> None:
    """Log in and keep the session; without a name say who is logged in.

    Args:
        username: The username of the user.
        password: The password of the user; better given by MITO_PASSWORD or when asked.
    """
    if not username:
        me = with_client(lambda client: client.whoami())
        name, admin = me.username, me.admin
    else:
        config = client_config()
        secret = password or config.password or ask_password(username)

        async def log_in(client: "MitoClient") -> tuple[str, bool]:
            session = await client.login(username, secret)
            return session.username, session.admin

        name, admin = with_client(log_in, log_in=False)
    show(
        {"username": name, "admin": admin},
        lambda: [f"Logged in as {name}{' (administrator)' if admin else ''}"],
    )


def create_user(
    *,
    username: Annotated[str, Parameter(name=["--username", "-u"])],
    password: Annotated[str, Parameter(name=["--password", "-p"])],
    admin: Flag = False,
) -> None:
    """Create a new user.

    Args:
        username: The username of the user.
        password: The password of the user.
        admin: Whether the user is an admin.
    """
    args = CreateUserArgs(username=username, password=password, admin=admin)
    with_client(lambda client: client.create_user(args))
    show({"username": username, "admin": admin}, lambda: [f"Created user {username}"])
