"""The configuration files that the supervisor writes for the coordinator and the workers."""

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mitosis.errors import Misconfigured
from mitosis.nats.server_config import write_private
from mitosis.services.platform.credentials import ADMIN_USER, Credentials

Value = str | int | float | bool | tuple[str, ...]


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts of a running platform listen."""

    nats: str
    """`nats://127.0.0.1:PORT`"""
    http: str
    """`http://127.0.0.1:PORT`, the coordinator"""
    database: str
    s3: str


def toml_text(values: Mapping[str, Value]) -> str:
    """Returns the values as one flat TOML table.

    Raises:
        Misconfigured: a text that TOML cannot hold (a path that is not UTF-8).
    """
    return "".join(f"{key} = {_toml_value(key, value)}\n" for key, value in values.items())


def coordinator_config(addresses: Addresses, credentials: Credentials) -> dict[str, Value]:
    """Returns what the coordinator and its projector need to serve."""
    return {
        "bind": addresses.http.removeprefix("http://"),
        "db_url": addresses.database,
        "s3_url": addresses.s3,
        "s3_access_key": credentials.s3.access_key,
        "s3_secret_key": credentials.s3.secret_key,
        "nats_url": addresses.nats,
        "nats_user": credentials.service.name,
        "nats_password": credentials.service.password,
        "nats_system_user": credentials.system.name,
        "nats_system_password": credentials.system.password,
        "admin_user": ADMIN_USER,
        "admin_password": credentials.admin_password,
        "access_token_private_path": str(credentials.private_key_path),
        "access_token_public_path": str(credentials.public_key_path),
        "shutdown_secret_path": str(credentials.shutdown_secret_path),
    }


def worker_config(
    addresses: Addresses,
    credentials: Credentials,
    *,
    slots: int,
    work_folder: Path,
    credential_path: Path,
    tags: tuple[str, ...] = (),
) -> dict[str, Value]:
    """Returns what one worker of this machine needs; it registers as the administrator."""
    return {
        "coordinator_addr": addresses.nats,
        "user": ADMIN_USER,
        "password": credentials.admin_password,
        "slots": slots,
        "work_dir": str(work_folder),
        "credential_path": str(credential_path),
        "tags": tags,
    }


def write_config(path: Path, section: str, values: Mapping[str, Value]) -> Path:
    """Writes a configuration file for its owner only (0600) and returns its path."""
    head = f"# Written by `mito up` at every start.\n[{section}]\n"
    write_private(path, head + toml_text(values))
    return path


def _toml_value(key: str, value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_toml_value(key, item) for item in value)}]"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Misconfigured(f"{key}: {value!r} is not valid UTF-8, use another path") from None
    # JSON's strings are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
