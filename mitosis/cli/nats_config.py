"""`mito nats-config`: the configuration that a nats-server of the platform needs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from mitosis.cli.output.results import ServerConfig
from mitosis.cli.output.screen import note, show
from mitosis.cli.parameters import ConfigPath, Flag, Number, several
from mitosis.config.checks import check_bind
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load
from mitosis.errors import InvalidInput, Misconfigured

if TYPE_CHECKING:
    from mitosis.nats.server_config import TlsFiles

FEWEST_SERVERS = 3
ROUTE_USER = "mito_route"


class Node(NamedTuple):
    """What was said of the cluster that the server is in."""

    cluster: str | None
    name: str | None
    host: str
    port: int
    routes: tuple[str, ...]
    ca: Path | None


def nats_config(
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    config: ConfigPath = None,
    store_dir: Path = Path("nats-data"),
    host: str = "127.0.0.1",
    port: Number = 4222,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    relaxed_sync: Flag = False,
    cluster: str | None = None,
    server_name: str | None = None,
    cluster_port: Number = 6222,
    routes: Annotated[tuple[str, ...], several("--routes")] = (),
    cluster_ca: Path | None = None,
    issuer: Flag = False,
) -> None:
    """Write the configuration for nats-server, with the users of [coordinator]. It holds passwords.

    For a cluster run it once for each of the three servers, with the same settings file, the same
    --cluster and --routes, and --server-name and --host of that server. Then set `replicas = 3` and
    all three addresses, separated by commas, as `nats_url`.

    Args:
        output: The file to write, readable by its owner only; default: standard output.
        config: The config file of the coordinator.
        store_dir: Where nats-server keeps the events.
        host: The address that nats-server listens on.
        port: The port that nats-server listens on.
        tls_cert: The certificate of nats-server.
        tls_key: The private key of the certificate.
        relaxed_sync: Let the server sync every two minutes: a power cut may lose acknowledged
            commits of that time; about ten times the commits per second on one node.
        cluster: The name of the cluster that this server is one of.
        server_name: The name of this server in it; each has another.
        cluster_port: The port on which this server listens for the others.
        routes: Where the servers of the cluster listen for each other, HOST:PORT, all of them.
        cluster_ca: The certificate of the authority that signed the servers' certificates: they
            then use TLS between each other too, and show each other --tls-cert.
        issuer: Print only the public key by which the server knows the coordinator, for a
            configuration of one's own (deploy/nats.conf).
    """
    from mitosis.nats.server_config import render, write_private

    settings = load(CoordinatorConfig, config=config).config
    if issuer:
        key = _issuer(settings)
        show({"issuer": key}, lambda: [key])
        return
    wanted = {"store_dir": str(store_dir.resolve()), "host": host, "port": port}
    own = Node(cluster, server_name, host, cluster_port, routes, cluster_ca)
    try:
        tls = _tls(tls_cert, tls_key)
        wanted |= _cluster(settings, own, tls)
        text = render(_server_config(settings, wanted, tls, not relaxed_sync))
    except ValueError as error:
        raise Misconfigured(f"this cannot be a nats-server configuration: {error}") from error
    if output is None:
        show(ServerConfig(config=text), lambda: [text.rstrip("\n")])
        return
    try:
        write_private(output, text)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror or error}") from error
    show(ServerConfig(path=str(output)), lambda: [str(output)])
    note(f"Start the server by: nats-server -c {output}")


def _tls(tls_cert: Path | None, tls_key: Path | None) -> "TlsFiles | None":
    from mitosis.nats.server_config import TlsFiles

    if (tls_cert is None) != (tls_key is None):
        raise InvalidInput("--tls-cert and --tls-key belong together: give both or neither")
    return TlsFiles(cert_file=str(tls_cert), key_file=str(tls_key)) if tls_cert else None


def _cluster(settings: CoordinatorConfig, node: Node, tls: "TlsFiles | None") -> dict[str, Any]:
    """What makes a server one of a cluster; nothing for a server that stands alone."""
    from msgspec.structs import replace

    from mitosis.nats.server_config import ClusterConfig, StaticUser, route_password

    if node.cluster is None:
        if node.name is not None or node.routes or node.ca is not None:
            raise InvalidInput("--server-name, --routes and --cluster-ca need --cluster NAME")
        return {}
    if node.name is None or len(node.routes) < FEWEST_SERVERS:
        raise InvalidInput(
            "--cluster needs --server-name, another for each server, and --routes with HOST:PORT "
            f"of all servers, {FEWEST_SERVERS} or more"
        )
    if node.ca is not None and tls is None:
        raise InvalidInput("--cluster-ca needs --tls-cert and --tls-key")
    for route in node.routes:
        check_bind(route)
    user = StaticUser(
        name=ROUTE_USER, password=route_password(settings.nats_system_password, node.cluster)
    )
    ca = str(node.ca) if node.ca else None
    cluster = ClusterConfig(
        name=node.cluster,
        host=node.host,
        port=node.port,
        routes=tuple(f"nats-route://{user.name}:{user.password}@{route}" for route in node.routes),
        user=user,
        tls=replace(tls, ca_file=ca, verify_clients=True) if tls and ca else None,
    )
    return {"server_name": node.name, "cluster": cluster}


def _server_config(
    settings: CoordinatorConfig, wanted: dict[str, Any], tls: "TlsFiles | None", sync_always: bool
) -> Any:
    from mitosis.nats.server_config import CalloutConfig, NatsServerConfig, StaticUser

    return NatsServerConfig(
        **wanted,
        service_users=(StaticUser(name=settings.nats_user, password=settings.nats_password),),
        system_users=(
            StaticUser(name=settings.nats_system_user, password=settings.nats_system_password),
        ),
        callout=CalloutConfig(issuer=_issuer(settings)),
        sync_always=sync_always,
        tls=tls,
    )


def _issuer(settings: CoordinatorConfig) -> str:
    from mitosis.nats.nkeys import issuer_account
    from mitosis.services.auth.key_files import load_private_key, pem_of

    return issuer_account(pem_of(load_private_key(settings.access_token_private_path)))
