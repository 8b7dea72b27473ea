"""Settings that name several servers."""

import pytest

from mitosis.config.checks import split_urls, urls_check
from mitosis.config.client import ClientConfig
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.section import without_password
from mitosis.config.worker import WorkerConfig
from mitosis.errors import InvalidInput

THREE = "nats://a:4222, nats://b:4222,tls://c"


def test_addresses_are_parted_by_commas_and_a_password_may_have_one() -> None:
    assert split_urls(THREE) == ["nats://a:4222", "nats://b:4222", "tls://c"]
    assert split_urls("nats://u:p,w@a:1,nats://b") == ["nats://u:p,w@a:1", "nats://b"]
    assert CoordinatorConfig(nats_url=THREE).nats_servers == split_urls(THREE)


def test_no_password_of_any_of_them_is_shown() -> None:
    shown = without_password("nats://u:one@a:1,nats://u:two@b:2,nats://c")
    assert shown == "nats://u:***@a:1,nats://u:***@b:2,nats://c"


@pytest.mark.parametrize("wrong", ["nats://a,http://b", "nats://a,b", "nats://a:x,nats://b", "a"])
def test_each_of_them_must_be_right(wrong: str) -> None:
    check = urls_check("nats", "tls")
    check(THREE)
    check(None)
    with pytest.raises(InvalidInput, match="nats:// or tls://"):
        check(wrong)


@pytest.mark.parametrize("settings", [ClientConfig, WorkerConfig])
@pytest.mark.parametrize(
    "address",
    [
        "http://host:5000",
        "nats://10.0.0.1:4222,nats://10.0.0.2:4222,nats://10.0.0.3:4222",
        "tls://a:4222, tls://b:4222",
    ],
)
def test_clients_and_workers_take_one_address_or_a_list_of_nats_servers(
    settings: type[ClientConfig | WorkerConfig], address: str
) -> None:
    settings.CHECKS["coordinator_addr"](address)


@pytest.mark.parametrize(
    "address",
    ["http://a b", "http://a:1,http://b:2", "nats://a:1,b:2", "nats://a:port", "http://u:sEcReT@h"],
)
def test_other_addresses_are_refused_and_a_password_in_one_is_not_shown(address: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ClientConfig.CHECKS["coordinator_addr"](address)
    assert "sEcReT" not in caught.value.message
