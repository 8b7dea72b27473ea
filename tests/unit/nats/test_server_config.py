import stat
from pathlib import Path

import pytest

from mitosis.errors import Misconfigured
from mitosis.nats.nkeys import account_public_key, user_public_key
from mitosis.nats.server_config import (
    CalloutConfig,
    ClusterConfig,
    NatsServerConfig,
    StaticUser,
    TlsFiles,
    render,
    write_private,
)

ISSUER = account_public_key(bytes(range(32)))


def config(**changes: object) -> NatsServerConfig:
    values: dict[str, object] = {
        "store_dir": "/data/jetstream",
        "service_users": (StaticUser(name="mito_coordinator", password="s3cret"),),
        "system_users": (StaticUser(name="mito_system", password="other"),),
        "callout": CalloutConfig(issuer=ISSUER),
        **changes,
    }
    return NatsServerConfig(**values)  # type: ignore[arg-type]


def test_strangers_are_sent_to_the_callout_and_services_are_not() -> None:
    text = render(config())
    assert f"issuer: {ISSUER}" in text
    assert 'auth_users: [ "mito_coordinator", "mito_system" ]' in text
    assert "system_account: SYS" in text


def test_acknowledged_means_on_disk_unless_relaxed_on_purpose() -> None:
    assert "sync_interval: always" in render(config())
    assert "sync_interval" not in render(config(sync_always=False))


def test_a_silent_peer_is_noticed_within_seconds() -> None:
    text = render(config())
    assert 'ping_interval: "5s"' in text
    assert "ping_max: 2" in text


@pytest.mark.parametrize("password", ["", "$2a$11$abcdefghijklmnopqrstuv", "a\nb", "a\x00b"])
def test_passwords_that_the_server_would_misread_are_refused(password: str) -> None:
    with pytest.raises(Misconfigured, match=r"password|control") as caught:
        render(config(service_users=(StaticUser(name="a", password=password),)))
    assert not password or password not in str(caught.value)


def test_quotes_in_a_password_cannot_end_the_string() -> None:
    text = render(config(service_users=(StaticUser(name="a", password='x" } evil: "\\'),)))
    assert r'"x\" } evil: \"\\"' in text


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(Misconfigured, match="names of their own"):
        render(config(system_users=(StaticUser(name="mito_coordinator", password="x"),)))


def test_a_server_without_system_user_is_refused() -> None:
    with pytest.raises(Misconfigured, match="system user"):
        render(config(system_users=()))


def test_the_issuer_must_be_an_account_key() -> None:
    wrong = CalloutConfig(issuer=user_public_key(bytes(range(32))))
    with pytest.raises(Misconfigured, match="account nkey"):
        render(config(callout=wrong))


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "example.org"])  # noqa: S104
def test_the_monitoring_page_stays_on_loopback(host: str) -> None:
    with pytest.raises(Misconfigured, match="loopback"):
        render(config(monitoring=(host, 8222)))


def test_a_node_of_a_cluster_knows_its_routes_and_certificates() -> None:
    cluster = ClusterConfig(
        name="mito",
        host="0.0.0.0",  # noqa: S104
        port=6222,
        routes=("nats-route://a:6222", "nats-route://b:6222"),
        user=StaticUser(name="route", password="r"),
        tls=TlsFiles(cert_file="/c.pem", key_file="/k.pem", ca_file="/ca.pem", verify_clients=True),
    )
    text = render(config(cluster=cluster, tls=TlsFiles(cert_file="/c.pem", key_file="/k.pem")))
    assert '"nats-route://b:6222"' in text
    assert "verify: true" in text
    assert text.count("tls {") == 2


def test_passwords_are_not_in_the_printed_form() -> None:
    assert "s3cret" not in repr(config())


def test_a_private_file_is_only_for_its_owner_and_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "nats.conf"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "geheim\n")
    assert path.read_text() == "geheim\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
