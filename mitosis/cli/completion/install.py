"""`mito --install-completion`: the script of a shell in a file, and a line that loads it."""

import os
import shlex
from pathlib import Path

import msgspec

from mitosis.cli.completion import store
from mitosis.cli.completion.shells import SCRIPTS
from mitosis.cli.completion.tree import make_tree
from mitosis.cli.usage import UsageError
from mitosis.config.locations import data_dir
from mitosis.domain.nearest import one_of
from mitosis.errors import Misconfigured

MARK = "# completion of mito"


class Installed(msgspec.Struct, frozen=True):
    """What has been written. `loaded_by` is the file in which the shell finds it."""

    shell: str
    script: str
    loaded_by: str


def shell_named(name: str | None) -> str:
    """Return the shell that is meant; None: that of the user.

    Raises:
        UsageError: None for which there is a script.
    """
    shell = name or Path(os.environ.get("SHELL", "")).name
    if shell not in SCRIPTS:
        what = f"{shell!r} is no shell" if shell else "no shell is named"
        raise UsageError(f"{what} that can be completed in: {one_of(shell, SCRIPTS)}")
    return shell


def install(shell: str) -> Installed:
    """Write the script, and have it loaded by every new shell of the user.

    Raises:
        Misconfigured: A file cannot be written.
    """
    home = Path(os.environ.get("HOME") or Path.home())
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    try:
        _keep_tree()
        if shell == "fish":
            path = loaded_by = config / "fish" / "completions" / "mito.fish"
            _write(path, SCRIPTS[shell])
        else:
            path = data_dir() / "completion" / f"mito.{shell}"
            _write(path, SCRIPTS[shell])
            folder = Path(os.environ.get("ZDOTDIR") or home) if shell == "zsh" else home
            loaded_by = folder / f".{shell}rc"
            _load_from(loaded_by, path)
    except OSError as error:
        raise Misconfigured(
            f"completion cannot be installed: {error.filename}: {error.strerror}; write the "
            f"script where you like by mito --show-completion {shell}"
        ) from error
    return Installed(shell, str(path), str(loaded_by))


def _keep_tree() -> None:
    from mitosis.cli.main import root_app

    store.store_tree(make_tree(root_app()))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _load_from(settings: Path, script: Path) -> None:
    """Add the line that loads the script, if it is not there."""
    quoted = shlex.quote(str(script))
    line = f"[ -r {quoted} ] && . {quoted}  {MARK}"
    try:
        before = settings.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        before = ""
    lines = [text for text in before.splitlines() if not text.endswith(MARK)]
    after = "\n".join([*lines, line]) + "\n"
    if after != before:
        settings.write_text(after, encoding="utf-8", errors="surrogateescape")
