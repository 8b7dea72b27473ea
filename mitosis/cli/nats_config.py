"""`mito nats-config`: the configuration that a nats-server of the platform needs."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from mitosis.cli.output.results import ServerConfig
from mitosis.cli.output.screen import note, show
from mitosis.cli.parameters import ConfigPath, Flag, Number
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load
from mitosis.errors import InvalidInput, Misconfigured


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
    issuer: Flag = False,
) -> None:
    """Write the configuration for nats-server, with the users of [coordinator]. It holds passwords.

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
    try:
        text = render(_server_config(settings, wanted, tls_cert, tls_key, not relaxed_sync))
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


def _server_config(
    settings: CoordinatorConfig,
    wanted: dict[str, Any],
    tls_cert: Path | None,
    tls_key: Path | None,
    sync_always: bool,
) -> Any:
    from mitosis.nats.server_config import CalloutConfig, NatsServerConfig, StaticUser, TlsFiles

    if (tls_cert is None) != (tls_key is None):
        raise InvalidInput("--tls-cert and --tls-key belong together: give both or neither")
    tls = TlsFiles(cert_file=str(tls_cert), key_file=str(tls_key)) if tls_cert else None
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
