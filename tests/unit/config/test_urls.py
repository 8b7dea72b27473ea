"""Settings that name several servers."""

import pytest

from mitosis.config.checks import split_urls, urls_check
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.section import without_password
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
