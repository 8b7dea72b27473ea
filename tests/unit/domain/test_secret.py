"""Secret variables: their names, their bounds, and that no error says a value."""

import pytest

from mitosis.domain import task
from mitosis.domain.secret import (
    MAX_SECRETS,
    MAX_SECRETS_BYTES,
    StoreSecrets,
    check_secret_names,
    check_secrets,
    decide,
    evolve,
)
from mitosis.domain.task import EraseSecrets, SubmitTask, Task, TaskSpec
from mitosis.errors import AlreadyExists, InvalidInput, TooLarge, WrongState

SECRET = StoreSecrets("0" * 32, "lab", "t", ("KEY",), "sealed")


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "Ä", "MITO_GROUP", "A" * 256, "A\n"])
def test_what_cannot_name_a_secret_variable_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_secret_names([name])


def test_names_are_sorted_and_each_given_once_and_no_other_variable() -> None:
    assert check_secret_names(["B", "A"]) == ("A", "B")
    with pytest.raises(InvalidInput, match="twice"):
        check_secret_names(["A", "A"])
    with pytest.raises(InvalidInput, match="A is given both"):
        check_secret_names(["A"], {"A": "1"})
    with pytest.raises(TooLarge):
        check_secret_names([f"N{number}" for number in range(MAX_SECRETS + 1)])


@pytest.mark.parametrize("value", ["", "hidden\0", "hidden\ud800", "hidden" * MAX_SECRETS_BYTES])
def test_a_value_that_cannot_be_is_refused_without_saying_it(value: str) -> None:
    with pytest.raises((InvalidInput, TooLarge)) as refused:
        check_secrets({"KEY": value})
    assert "hidden" not in str(refused.value)
    assert "hidden" not in str(refused.value.details)


def test_all_values_together_have_a_bound() -> None:
    half = "x" * (MAX_SECRETS_BYTES // 2)
    check_secrets({"A": half, "B": half})
    with pytest.raises(TooLarge, match="65537"):
        check_secrets({"A": half, "B": half, "C": "x"})


def test_a_sealing_is_stored_once_and_never_replaced() -> None:
    (stored,) = decide(None, SECRET)
    state = evolve(None, stored)
    assert decide(state, SECRET) == []
    with pytest.raises(AlreadyExists):
        decide(state, StoreSecrets("0" * 32, "lab", "t", ("KEY",), "other"))


def submitted(spec: TaskSpec) -> Task:
    state: Task | None = None
    for event in task.decide(None, SubmitTask("t", "lab", "alice", 1, spec)):
        state = task.evolve(state, event)
    assert state is not None
    return state


def test_secrets_are_erased_once_and_not_of_a_task_without_any() -> None:
    state = submitted(TaskSpec(("true",), secrets=("KEY",), sealing="0" * 32))
    (erased,) = task.decide(state, EraseSecrets("leaked"))
    state = task.evolve(state, erased)
    assert state.erased
    assert task.decide(state, EraseSecrets("leaked")) == []
    with pytest.raises(InvalidInput, match="no secret"):
        task.decide(submitted(TaskSpec(("true",))), EraseSecrets())


def test_new_secrets_are_not_erased_and_an_ended_task_has_none() -> None:
    state = submitted(TaskSpec(("true",), secrets=("KEY",), sealing="0" * 32))
    for command in (
        EraseSecrets(),
        task.ChangeTask(TaskSpec(("true",), secrets=("KEY",), sealing="1" * 32)),
    ):
        for event in task.decide(state, command):
            state = task.evolve(state, event)
    assert not state.erased
    for event in task.decide(state, task.RequestCancel()):
        state = task.evolve(state, event)
    with pytest.raises(WrongState, match="with its end its secrets were erased"):
        task.decide(state, EraseSecrets())
