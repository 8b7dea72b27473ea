from pathlib import Path

import pytest

from mitosis import errors
from mitosis.errors import MitosisError, NotFound, StaleAttempt, WrongState, from_wire


def subclasses(cls: type[MitosisError]) -> list[type[MitosisError]]:
    return [cls, *(each for child in cls.__subclasses__() for each in subclasses(child))]


def test_every_error_has_a_code_of_its_own() -> None:
    classes = {cls for cls in subclasses(MitosisError) if cls.__module__ == errors.__name__}
    assert len({cls.code for cls in classes}) == len(classes)
    assert classes <= set(errors.every_error().values())


@pytest.mark.parametrize("cls", subclasses(MitosisError), ids=lambda cls: cls.code)
def test_a_dotted_code_belongs_to_a_child_of_what_stands_before_the_dot(
    cls: type[MitosisError],
) -> None:
    parent = errors.every_error().get(cls.code.rpartition(".")[0])
    assert parent is None or issubclass(cls, parent)


@pytest.mark.parametrize("cls", subclasses(MitosisError)[1:], ids=lambda cls: cls.code)
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
    missing = [cls.code for cls in subclasses(MitosisError) if f"`{cls.code}`" not in page]
    assert missing == []
