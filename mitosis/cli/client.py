"""`mito client`: its options, and its place in the whole."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from mitosis.cli.apps import FIRST_OTHER, STEP, epilogue, grow, make_app
from mitosis.cli.commands import CLIENT
from mitosis.cli.invocation import ClientFlags
from mitosis.cli.parameters import Coordinator, OptionalDuration, Password, PasswordFile, User


def client_app(only: str = "") -> App:
    """Return `mito client` with all its commands, or with one; none of them is imported yet."""
    app = make_app("client", "Run a mitosis client", order=FIRST_OTHER + 2 * STEP + 1)
    app.usage = "Usage: mito client [OPTIONS] [COMMAND]"
    app.help_epilogue = epilogue("mito client submit -- echo hello")
    grow(app, CLIENT, "mito client", only)
    return app


def client_flags(
    *,
    config: Annotated[Path | None, Parameter(name="--config")] = None,
    coordinator: Coordinator = None,
    credential_path: Path | None = None,
    user: User = None,
    password: Password = None,
    password_file: PasswordFile = None,
    timeout: OptionalDuration = None,
    coordinator_ca: Path | None = None,
    insecure: Annotated[bool | None, Parameter(negative=())] = None,
    interactive: Annotated[bool, Parameter(name=["--interactive", "-i"], negative=())] = False,
) -> ClientFlags:
    """Run a mitosis client.

    Args:
        config: The path of the config file.
        coordinator: The address of the coordinator; default: http://127.0.0.1:5000.
        credential_path: The path of the user credential file.
        user: The username of the user.
        password: The password of the user; other users of this machine can see it in the list of
            processes, so better give it when asked, by MITO_PASSWORD or by --password-file.
        password_file: The file whose first line is the password of the user; - is standard input.
        timeout: How long one request may take, with connecting and all repetitions; default: 30s.
        coordinator_ca: The certificate of the authority that signed the coordinator's, and those
            of its services.
        insecure: Do not check certificates; for a trial only.
        interactive: Enable interactive mode.
    """
    return ClientFlags(
        config=config,
        coordinator=coordinator,
        credential_path=credential_path,
        user=user,
        password=password,
        password_file=password_file,
        timeout=timeout,
        coordinator_ca=coordinator_ca,
        insecure=insecure,
        interactive=interactive,
    )


def read_flags(options: list[str]) -> ClientFlags:
    """Read the options between `mito client` and its command."""
    if not options:
        return ClientFlags()
    app = make_app("client", "Run a mitosis client")
    app.default(client_flags)
    flags: Any = app(options, result_action="return_value", exit_on_error=False, print_error=False)
    return flags if isinstance(flags, ClientFlags) else ClientFlags()
