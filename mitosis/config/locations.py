"""Where settings, credentials, caches and data lie on this machine.

The folders are those of the original (parity V-032 to V-036): the XDG ones on Linux, those of
`~/Library` on macOS.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

APP = "mitosis"


def config_dir(env: Mapping[str, str] | None = None) -> Path:
    """Folder of the user's settings and credentials."""
    return _folder("XDG_CONFIG_HOME", ".config", "Library/Application Support", env)


def cache_dir(env: Mapping[str, str] | None = None) -> Path:
    """Folder of what can be made again: logs, addresses, history."""
    return _folder("XDG_CACHE_HOME", ".cache", "Library/Caches", env)


def data_dir(env: Mapping[str, str] | None = None) -> Path:
    """Folder of what must be kept: work folders, the data of `mito up`."""
    return _folder("XDG_DATA_HOME", ".local/share", "Library/Application Support", env)


def default_config_file(env: Mapping[str, str] | None = None) -> Path:
    """The user's settings, for every section."""
    return config_dir(env) / "config.toml"


def default_credential_path(env: Mapping[str, str] | None = None) -> Path:
    """The stored sessions of the user."""
    return config_dir(env) / "credentials"


def _folder(variable: str, linux: str, macos: str, env: Mapping[str, str] | None) -> Path:
    values = os.environ if env is None else env
    given = values.get(variable, "")
    # The XDG specification: a relative path is to be ignored.
    if given and Path(given).is_absolute():
        return Path(given) / APP
    home = Path(values["HOME"]) if values.get("HOME") else _home()
    return home / (macos if sys.platform == "darwin" else linux) / APP


def _home() -> Path:
    """Return the home of the account; the root folder for one that is in no list of accounts."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")
