"""`mito client`: its options, and its place in the whole."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from mitosis.cli.apps import FIRST_OTHER, STEP, epilogue, grow, make_app
from mitosis.cli.commands import CLIENT, NAMED
from mitosis.cli.invocation import ClientFlags
from mitosis.cli.parameters import Coordinator, OptionalDuration, Password, User

# Options before the command that take no value; every other one takes one.
BARE = frozenset({"-h", "--help", "-V", "--version", "-i", "--interactive"})


def client_app() -> App:
    """Return `mito client` with all its commands, none of them imported yet."""
    app = make_app("client", "Run a mitosis client", order=FIRST_OTHER + 2 * STEP + 1)
    app.usage = "Usage: mito client [OPTIONS] [COMMAND]"
    app.help_epilogue = epilogue("mito client submit -- echo hello")
    grow(app, CLIENT, "mito client")
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
    group, verbs = " ".join(tokens[:2]), _verbs(" ".join(tokens[:2]))
    match tokens[2:]:
        case [name, verb, *rest] if group in NAMED and not name.startswith("-"):
            if verb in verbs or name not in {*verbs, "help"}:
                return [*tokens[:2], verb, name, *rest]
    return tokens


def _verbs(group: str) -> set[str]:
    return {c.words[-1] for c in CLIENT if c.path.rpartition(" ")[0] == group}
