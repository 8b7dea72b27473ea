from pathlib import Path

import pytest

from mitosis import errors
from mitosis.errors import MitosisError, NotFound, StaleAttempt, WrongState, from_wire
from mitosis.testing.reference import SpecialError, special_errors

TREE = errors.every_error()
SPECIAL = special_errors()


def test_every_error_has_a_code_of_its_own() -> None:
    classes = {
        cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, MitosisError)
    }
    assert set(TREE.values()) == classes
    codes = [*TREE, *(special.code for special in SPECIAL)]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("code", TREE)
def test_a_dotted_code_belongs_to_a_child_of_what_stands_before_the_dot(code: str) -> None:
    parent = TREE.get(code.rpartition(".")[0])
    assert parent is None or issubclass(TREE[code], parent)


@pytest.mark.parametrize("special", SPECIAL, ids=lambda special: special.code)
def test_a_special_error_arrives_elsewhere_as_its_parent(special: SpecialError) -> None:
    error = from_wire(special.code, "no", {})
    assert type(error) is TREE[special.code.rpartition(".")[0]]
    assert error.details == {"original_code": special.code}


@pytest.mark.parametrize("cls", TREE.values(), ids=TREE)
def test_every_error_is_drawn_in_the_tree(cls: type[MitosisError]) -> None:
    assert cls.__name__ in (errors.__doc__ or "")


def test_an_error_crosses_a_border_as_itself() -> None:
    error = from_wire("conflict.stale_attempt", "too late", {"attempt": 2})
    assert type(error) is StaleAttempt
    assert (str(error), error.details) == ("too late", {"attempt": 2})


def test_an_error_of_a_newer_version_arrives_as_its_nearest_parent() -> None:
    error = from_wire("not_found.task.archived", "gone", {})
    assert type(error) is NotFound
    assert error.details == {"original_code": "not_found.task.archived"}


def test_a_wholly_unknown_error_still_arrives_as_one_of_ours() -> None:
    assert type(from_wire("new_idea", "what", {})) is MitosisError


def test_details_may_have_any_names() -> None:
    error = from_wire("conflict.state", "no", {"message": 1, "self": 2, "code": 3})
    assert type(error) is WrongState
    assert error.details == {"message": 1, "self": 2, "code": 3}
    assert (error.message, error.code) == ("no", "conflict.state")


def test_every_error_is_explained_in_the_documents() -> None:
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
    codes = [*TREE, *(special.code for special in SPECIAL)]
    assert [code for code in codes if f"`{code}`" not in page] == []


def test_a_class_that_shares_a_code_does_not_take_its_place() -> None:
    class Local(WrongState):
        def __init__(self, number: int) -> None:
            super().__init__(f"{number}")

    assert issubclass(Local, WrongState)
    assert type(from_wire("conflict.state", "no", {})) is WrongState
