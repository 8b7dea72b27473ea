"""Roles, and the grants of the option `--groups`."""

import pytest

from mitosis.domain.roles import Role, parse_grants, parse_role
from mitosis.errors import InvalidInput


def test_a_higher_role_includes_the_lower_ones() -> None:
    assert Role.ADMIN > Role.WRITE > Role.READ
    assert [role.label for role in Role] == ["Read", "Write", "Admin"]


@pytest.mark.parametrize("text", ["read", "Read", "READ"])
def test_a_role_is_read_in_three_cases(text: str) -> None:
    assert parse_role(text) is Role.READ


@pytest.mark.parametrize("text", ["", "wat", "rEAD", "1", "read ", "administrator"])
def test_another_role_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"[Uu]se one of read, write, admin"):
        parse_role(text)


def test_grants_are_read_as_the_original_shows_them() -> None:
    grants = parse_grants(["group1", "group2:write", "group3:read", "group4:admin"])
    assert grants == {
        "group1": Role.WRITE,
        "group2": Role.WRITE,
        "group3": Role.READ,
        "group4": Role.ADMIN,
    }


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["g:wat"], "is no role"),
        (["g:"], "has no role behind the colon: write g:write"),
        ([""], "cannot name a group"),
        ([":read"], "cannot name a group"),
        (["a b:read"], "cannot name a group"),
        (["g", "g:read"], "given twice"),
    ],
)
def test_a_malformed_grant_is_refused(items: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_grants(items)


def test_a_role_can_be_mandatory() -> None:
    with pytest.raises(InvalidInput, match="needs a role: write lab:read"):
        parse_grants(["lab"], default=None)
