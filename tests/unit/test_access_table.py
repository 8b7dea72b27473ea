"""Every verb has a row in docs/access.md, and every row a verb.

A new verb needs a row there, and what is sent for it in
`tests/acceptance/parity/access_requests.py`.
"""

import importlib
import pkgutil
from collections import Counter
from pathlib import Path
from typing import Any

from mitosis.projections.queries import Queries
from mitosis.services.auth.login import Login
from mitosis.services.coordinator import handlers
from mitosis.services.projector.handlers import QueryHandlers
from mitosis.testing.access import TABLES, read_access
from tests.acceptance.parity.access_requests import REQUESTS

ROWS = read_access(Path(__file__).parents[2] / "docs" / "access.md")
ADVICE = "docs/access.md needs a row for each verb, and no others"


class Verbs:
    """Endpoints that only note what is answered."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def add(self, verb: str, *_: Any) -> None:
        self.names.append(verb)


def rows_of(table: str) -> set[str]:
    return {row.verb for row in ROWS if row.table == table}


def verbs_of_the_coordinator() -> list[str]:
    """Verbs of every class of handlers, whether a term makes one or not."""
    found: list[str] = []
    for module in pkgutil.iter_modules(handlers.__path__, f"{handlers.__name__}."):
        for item in vars(importlib.import_module(module.name)).values():
            if isinstance(item, type) and item.__module__ == module.name and hasattr(item, "verbs"):
                found += [verb for verb, _, _ in item.verbs(object.__new__(item))]
    return found


def test_each_command_and_report_has_a_row() -> None:
    verbs = verbs_of_the_coordinator()
    assert [verb for verb, count in Counter(verbs).items() if count > 1] == []
    assert {verb for verb in verbs if "." in verb} == rows_of("Commands"), ADVICE
    assert {verb for verb in verbs if "." not in verb} == rows_of("Reports of workers"), ADVICE


def test_each_read_has_a_row() -> None:
    verbs = Verbs()
    handlers_of_reads: Any = object.__new__(QueryHandlers)
    handlers_of_reads._queries = Queries(None)  # type: ignore[arg-type]
    handlers_of_reads.register(verbs)
    assert set(verbs.names) == rows_of("Reads"), ADVICE


def test_each_verb_of_logging_in_has_a_row() -> None:
    verbs = Verbs()
    Login.add_to(object.__new__(Login), verbs)  # type: ignore[arg-type]
    assert set(verbs.names) == rows_of("Logging in"), ADVICE


def test_each_row_of_a_user_says_what_is_sent_for_it() -> None:
    wanted = {row.what for row in ROWS if row.table in {"Commands", "Reads"}}
    assert wanted == set(REQUESTS)


def test_nobody_without_a_good_token_gets_past_the_server() -> None:
    """What the rules are for these columns, whatever a row is about."""
    for row in ROWS:
        for actor in ("expired", "revoked", "locked", "deleted"):
            assert row.cells[actor] == "server", row
        if row.table in {"Commands", "Reads"}:
            assert row.cells["stranger"] == row.cells["its worker"] == "server", row
    assert {row.table for row in ROWS} == set(TABLES)
