"""`mito client`: its options, and the table of its commands."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from mitosis.cli.apps import add, make_app
from mitosis.cli.invocation import ClientFlags
from mitosis.cli.parameters import Coordinator, OptionalDuration, Password, User

# Options before the command that take no value; every other one takes one.
BARE = frozenset({"-h", "--help", "-V", "--version", "-i", "--interactive"})

CREATE = {
    "user": ("users:create_user", "Create a new user"),
    "group": ("groups:create_group", "Create a new group"),
}
GET = {
    "task": ("tasks:get_task", "Get the info of a task"),
    "tasks": ("tasks:get_tasks", "Query a list of tasks subject to the filter"),
    "worker": ("workers:get_worker", "Get the info of a worker"),
    "workers": ("workers:get_workers", "Query a list of workers subject to the filter"),
    "group": ("groups:get_group", "Get the information of a group"),
    "groups": ("groups:get_groups", "Get all groups the user has access to"),
    "artifact": ("artifacts:get_artifact", "Download an artifact of a task"),
}
MANAGE = {
    "worker": {"cancel": ("workers:cancel_worker", "Stop a worker")},
    "task": {"cancel": ("tasks:cancel_task", "Cancel a task")},
}


def client_app() -> App:
    """Return `mito client` with all its commands, none of them imported yet."""
    app = make_app("client", "Run a mitosis client")
    app.usage = "Usage: mito client [OPTIONS] [COMMAND]"
    add(app, "auth", "users:auth", "Authenticate the user")
    app.command(_group("create", "Create a new user or group", CREATE))
    app.command(
        _group(
            "get",
            "Get the info of a task, artifact, worker or group, or a list of them subject to "
            "the filters",
            GET,
        )
    )
    usage = "Usage: mito client submit [OPTIONS] [-- COMMAND...]"
    add(app, "submit", "tasks:submit", "Submit a task", usage)
    manage = make_app("manage", "Manage a worker or a task")
    for noun, verbs in MANAGE.items():
        managed = _group(noun, f"Manage a {noun}", verbs)
        managed.usage = f"Usage: mito client manage {noun} {noun.upper()} COMMAND"
        manage.command(managed)
    app.command(manage)
    add(app, "quit", "interactive:leave", "Quit the client's interactive mode")
    return app


def client_flags(
    *,
    config: Annotated[Path | None, Parameter(name="--config")] = None,
    coordinator: Coordinator = None,
    credential_path: Path | None = None,
    user: User = None,
    password: Password = None,
    timeout: OptionalDuration = None,
    interactive: Annotated[bool, Parameter(name=["--interactive", "-i"], negative=())] = False,
) -> ClientFlags:
    """Run a mitosis client.

    Args:
        config: The path of the config file.
        coordinator: The address of the coordinator.
        credential_path: The path of the user credential file.
        user: The username of the user.
        password: The password of the user; better given by MITO_PASSWORD.
        timeout: How long one request may take, such as 30s.
        interactive: Enable interactive mode.
    """
    return ClientFlags(
        config=config,
        coordinator=coordinator,
        credential_path=credential_path,
        user=user,
        password=password,
        timeout=timeout,
        interactive=interactive,
    )


def split_options(tokens: list[str]) -> tuple[list[str], list[str]]:
    """Part the client's own options from the command, whose options may have the same letters."""
    at = 0
    while at < len(tokens) and tokens[at].startswith("-") and tokens[at] != "--":
        token = tokens[at]
        attached = "=" in token or (not token.startswith("--") and len(token) > 2)
        at += 1 if token in BARE or attached else 2
    return tokens[:at], tokens[at:]


def verb_first(tokens: list[str]) -> list[str]:
    """Turn the seed's `manage task UUID cancel` into `manage task cancel UUID`.

    A name that is also a verb stays a name when a verb follows it.
    """
    match tokens:
        case ["manage", noun, name, verb, *rest] if noun in MANAGE and not name.startswith("-"):
            if verb in MANAGE[noun] or name not in {*MANAGE[noun], "help"}:
                return ["manage", noun, verb, name, *rest]
    return tokens


def _group(name: str, description: str, commands: dict[str, tuple[str, str]]) -> App:
    app = make_app(name, description)
    for command, (home, what) in commands.items():
        add(app, command, home, what)
    return app
