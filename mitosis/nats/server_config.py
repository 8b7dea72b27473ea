"""The nats-server configuration that the platform needs, rendered as text.

Accounts, auth callout, limits and durability stand here once; `mito up`, `mito nats-config` and the
tests use the same text. Nothing here starts or reaches a server.
"""

import hmac
import json
import os
import re
import secrets
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

import msgspec

from mitosis.errors import Misconfigured
from mitosis.nats.nkeys import KeyKind, decode

PLATFORM_ACCOUNT = "MITO"
"""The account of every user, worker and service."""
SYSTEM_ACCOUNT = "SYS"
"""The account that sees connects and disconnects and may close connections."""

DEFAULT_MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
"""Largest message: 8 MiB, the most that nats-server accepts without a warning.

A stored commit carries its request (argv and environment strings up to 128 KiB each, or a batch
of tasks) plus envelope, and has to fit; the contract bounds requests well below, and the guest to
8 KiB.
"""

_BCRYPT = re.compile(r"^\$2[abxy]\$\d\d\$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class StaticUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user that the server itself knows: a service or the system user. Bypasses the callout."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"StaticUser(name={self.name!r}, password=...)"


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Certificate files of a listener; `verify_clients` asks for a client certificate of the CA."""

    cert_file: str
    key_file: str
    ca_file: str | None = None
    verify_clients: bool = False


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Routes to the other nodes of a cluster (three nodes for three replicas)."""

    name: str
    host: str
    port: int
    routes: tuple[str, ...]
    """`nats-route://host:port` of every node; the own one may be among them."""
    user: StaticUser | None = None
    """What nodes show each other; None only when the route network is private."""
    advertise: str = ""
    """`host:port` at which other nodes reach this one, if not where it listens."""
    tls: TlsFiles | None = None


class CalloutConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers for connections that the server does not know."""

    issuer: str
    """Account nkey (`A...`) whose private half signs the answers; see `nkeys.issuer_account`."""
    timeout_seconds: float = 3.0
    """How long a new connection waits for the answer; clients wait longer than this to connect."""


class NatsServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that one nats-server of the platform is told."""

    store_dir: str
    service_users: tuple[StaticUser, ...]
    system_users: tuple[StaticUser, ...]
    callout: CalloutConfig | None
    """None: only the static users may connect (tests, and a server before its coordinator)."""
    host: str = "127.0.0.1"
    port: int = 4222
    """-1: a free port, told in `ports_file_dir`."""
    server_name: str = "mito"
    """Must differ between the nodes of a cluster."""
    ports_file_dir: str | None = None
    monitoring: tuple[str, int] | None = None
    """Host and port of the HTTP monitoring page, which asks for no password: loopback only."""
    sync_always: bool = True
    """True: acknowledged means on disk. False: the server syncs every two minutes, so a power cut
    or a killed virtual machine loses what was acknowledged in that time. Gains about ten times
    the appends per second on one node."""
    max_payload_bytes: int = DEFAULT_MAX_PAYLOAD_BYTES
    max_connections: int = 65_536
    ping_interval_seconds: int = 5
    ping_max: int = 2
    """A silent peer is dropped after about interval x (ping_max + 0.5 to 1)."""
    write_deadline_seconds: int = 10
    """How long a client may refuse to read before it is dropped."""
    cluster: ClusterConfig | None = None
    tls: TlsFiles | None = None


def render(config: NatsServerConfig) -> str:
    """Returns the text of a configuration file. It holds passwords: store it by `write_private`.

    Raises:
        Misconfigured: a value that the server would misread or that would open it to strangers.
    """
    _check(config)
    lines = [
        "# nats-server configuration of Mitosis. Holds passwords: for its owner's eyes only.",
        f"server_name: {_quoted(config.server_name)}",
        f"host: {_quoted(config.host)}",
        f"port: {config.port}",
        *([f"ports_file_dir: {_quoted(config.ports_file_dir)}"] if config.ports_file_dir else []),
        *_monitoring(config.monitoring),
        "logtime_utc: true",
        "",
        f"max_payload: {config.max_payload_bytes}",
        f"max_pending: {max(64 * 1024 * 1024, 8 * config.max_payload_bytes)}",
        f"max_connections: {config.max_connections}",
        f'ping_interval: "{config.ping_interval_seconds}s"',
        f"ping_max: {config.ping_max}",
        f'write_deadline: "{config.write_deadline_seconds}s"',
        "",
        *_tls(config.tls, indent=""),
        *_jetstream(config),
        *_accounts(config),
        *_authorization(config),
        *_cluster(config.cluster),
    ]
    return "\n".join(lines) + "\n"


def route_password(secret: str, cluster: str) -> str:
    """Return what the servers of a cluster show each other: derived, so that all have the same."""
    return hmac.new(secret.encode(), f"mitosis route {cluster}".encode(), sha256).hexdigest()


def write_private(path: Path, text: str) -> None:
    """Replaces a file at once by one that only its owner can read (0600), synced to disk.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check(config: NatsServerConfig) -> None:
    names = [user.name for user in (*config.service_users, *config.system_users)]
    if not config.service_users or not config.system_users:
        raise Misconfigured("at least one service user and one system user are needed")
    if len(set(names)) != len(names):
        raise Misconfigured(f"static users need names of their own, got {sorted(names)}")
    if config.callout is not None:
        _check_issuer(config.callout.issuer)
    if config.monitoring is not None and not _is_loopback(config.monitoring[0]):
        raise Misconfigured(
            f"monitoring asks for no password: bind it to loopback, not {config.monitoring[0]}"
        )


def _check_issuer(issuer: str) -> None:
    try:
        kind, _ = decode(issuer)
    except ValueError as error:
        raise Misconfigured(f"the callout's issuer {issuer!r}: {error}") from error
    if kind is not KeyKind.ACCOUNT:
        raise Misconfigured(f"the callout's issuer is an account nkey (A...), not {issuer}")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _monitoring(monitoring: tuple[str, int] | None) -> list[str]:
    if monitoring is None:
        return []
    host, port = monitoring
    return [f"http: {_quoted(f'[{host}]:{port}' if ':' in host else f'{host}:{port}')}"]


def _jetstream(config: NatsServerConfig) -> list[str]:
    sync = ["  sync_interval: always  # acknowledged means on disk"] if config.sync_always else []
    return ["jetstream {", f"  store_dir: {_quoted(config.store_dir)}", *sync, "}", ""]


def _accounts(config: NatsServerConfig) -> list[str]:
    return [
        "accounts {",
        f"  {PLATFORM_ACCOUNT} {{",
        "    jetstream: enabled",
        *_users(config.service_users),
        "  }",
        f"  {SYSTEM_ACCOUNT} {{",
        *_users(config.system_users),
        "  }",
        "}",
        f"system_account: {SYSTEM_ACCOUNT}",
        "",
    ]


def _users(users: tuple[StaticUser, ...]) -> list[str]:
    return [
        "    users: [",
        *(f"      {{ {_user(user)} }}" for user in users),
        "    ]",
    ]


def _user(user: StaticUser) -> str:
    return f"user: {_quoted(user.name)}, password: {_password(user.password)}"


def _authorization(config: NatsServerConfig) -> list[str]:
    if config.callout is None:
        return []
    names = [user.name for user in (*config.service_users, *config.system_users)]
    return [
        "authorization {",
        f"  timeout: {config.callout.timeout_seconds:g}",
        "  auth_callout {",
        f"    issuer: {config.callout.issuer}",
        f"    auth_users: [ {', '.join(_quoted(name) for name in names)} ]",
        f"    account: {PLATFORM_ACCOUNT}",
        "  }",
        "}",
        "",
    ]


def _cluster(cluster: ClusterConfig | None) -> list[str]:
    if cluster is None:
        return []
    user = cluster.user
    return [
        "cluster {",
        f"  name: {_quoted(cluster.name)}",
        f"  host: {_quoted(cluster.host)}",
        f"  port: {cluster.port}",
        *([f"  advertise: {_quoted(cluster.advertise)}"] if cluster.advertise else []),
        *([f"  authorization {{ {_user(user)} }}"] if user else []),
        "  routes: [",
        *(f"    {_quoted(route)}" for route in cluster.routes),
        "  ]",
        *_tls(cluster.tls, indent="  "),
        "}",
        "",
    ]


def _tls(files: TlsFiles | None, *, indent: str) -> list[str]:
    if files is None:
        return []
    return [
        f"{indent}tls {{",
        f"{indent}  cert_file: {_quoted(files.cert_file)}",
        f"{indent}  key_file: {_quoted(files.key_file)}",
        *([f"{indent}  ca_file: {_quoted(files.ca_file)}"] if files.ca_file else []),
        *([f"{indent}  verify: true"] if files.verify_clients else []),
        f"{indent}}}",
    ]


def _password(password: str) -> str:
    # The server takes a password of this shape for a hash, and anyone who reads it for a login.
    if not password or _BCRYPT.match(password):
        raise Misconfigured("a password of a static user is plain text and not empty")
    return _quoted(password)


def _quoted(text: str) -> str:
    """A double-quoted string of the server's format; for what is let through, JSON's escapes."""
    if _CONTROL.search(text):
        raise Misconfigured("control characters cannot stand in a server configuration")
    return json.dumps(text, ensure_ascii=False)
