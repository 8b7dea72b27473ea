"""The planted faults of the fault suite: each applies to the code as it is."""

import inspect
from pathlib import Path

import pytest

from mitosis.testing.chaos import campaign, checker, lives, order, storage
from mitosis.testing.chaos.planted import Planted, all_planted, broken

ROOT = Path(__file__).parents[3]
PLANTED = all_planted(ROOT)
RULES = "".join(inspect.getsource(module) for module in (campaign, checker, lives, order, storage))


def test_there_are_enough_of_them_and_each_has_a_name() -> None:
    assert len({planted.name for planted in PLANTED}) == len(PLANTED) >= 8


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_planted_fault_applies_and_names_rules_of_the_checker(planted: Planted) -> None:
    changed = broken(planted, ROOT)
    assert changed
    for file, text in changed.items():
        assert text != (ROOT / file).read_text()
    unknown = [rule for rule in planted.rules if f'"{rule}"' not in RULES]
    assert unknown == [], "the checker has no such rule"
