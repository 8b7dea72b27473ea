"""`create user`."""

from typing import Annotated

from cyclopts import Parameter

from mitosis.cli.output.screen import show
from mitosis.cli.parameters import Flag
from mitosis.cli.running import with_client
from mitosis.config.client import CreateUserArgs


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
