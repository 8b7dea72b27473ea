import pytest

from mitosis.cli.exit_codes import STATUS, exit_status
from mitosis.errors import (
    AlreadyExists,
    AuthenticationFailed,
    InvalidInput,
    MitosisError,
    NoCoordinator,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    StaleAttempt,
    every_error,
)


def test_the_table_names_every_error_of_the_tree() -> None:
    ours = {cls for cls in every_error().values() if cls.__module__ == "mitosis.errors"}
    assert set(STATUS) == ours


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MitosisError, 1),
        (InvalidInput, 1),
        (NotFound, 3),
        (NotAllowed, 4),
        (AuthenticationFailed, 4),
        (AlreadyExists, 5),
        (StaleAttempt, 5),
        (NoCoordinator, 6),
        (OutcomeUnknown, 6),
    ],
)
def test_the_status_is_that_of_the_contract(error: type[MitosisError], status: int) -> None:
    assert exit_status(error("x")) == status


def test_an_error_of_a_newer_version_has_the_status_of_its_parent() -> None:
    class Newer(NotFound):
        code = "not_found.newer"

    assert exit_status(Newer("x")) == 3
