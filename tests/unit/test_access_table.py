"""Every verb has a row in docs/access.md, and every row a verb.

A new verb needs a row there, and what is sent for it in
`tests/acceptance/parity/access_requests.py`.
"""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mitosis.contract.commands import SubmitTask
from mitosis.contract.login import PasswordLogin
from mitosis.domain.resources import Limits
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
        self.bodies: list[type[msgspec.Struct]] = []

    def add(self, verb: str, body: type[msgspec.Struct], *_: Any) -> None:
        self.names.append(verb)
        self.bodies.append(body)


def rows_of(table: str) -> set[str]:
    return {row.verb for row in ROWS if row.table == table}


def verbs_of_the_coordinator() -> list[tuple[str, type[msgspec.Struct]]]:
    """Verbs, with their bodies, of every class of handlers, whether a term makes one or not."""
    found: list[tuple[str, type[msgspec.Struct]]] = []
    for module in pkgutil.iter_modules(handlers.__path__, f"{handlers.__name__}."):
        for item in vars(importlib.import_module(module.name)).values():
            if isinstance(item, type) and item.__module__ == module.name and hasattr(item, "verbs"):
                found += [(verb, body) for verb, body, _ in item.verbs(object.__new__(item))]
    return found


def verbs_of_the_projector() -> Verbs:
    verbs = Verbs()
    handlers_of_reads: Any = object.__new__(QueryHandlers)
    handlers_of_reads._queries = Queries(None, None)  # type: ignore[arg-type]
    handlers_of_reads.register(verbs)
    return verbs


def structs_in(kind: msgspec.inspect.Type) -> Iterator[type[msgspec.Struct]]:
    """Every struct that a value of this type can hold, itself included."""
    if isinstance(kind, msgspec.inspect.StructType):
        yield kind.cls
    for field in kind.fields if isinstance(kind, msgspec.inspect.StructType) else ():
        yield from structs_in(field.type)
    for name in ("types", "item_types"):
        for part in getattr(kind, name, ()):
            yield from structs_in(part)
    for name in ("item_type", "key_type", "value_type"):
        if (part := getattr(kind, name, None)) is not None:
            yield from structs_in(part)


def test_no_command_and_no_read_forgets_a_field_that_it_does_not_know() -> None:
    bodies = [body for verb, body in verbs_of_the_coordinator() if "." in verb]
    bodies += [*verbs_of_the_projector().bodies, PasswordLogin]
    found = {part for body in bodies for part in structs_in(msgspec.inspect.type_info(body))}
    assert SubmitTask in found
    assert Limits in found
    assert {part for part in found if not part.__struct_config__.forbid_unknown_fields} == set()


def test_each_command_and_report_has_a_row() -> None:
    verbs = [verb for verb, _ in verbs_of_the_coordinator()]
    assert [verb for verb, count in Counter(verbs).items() if count > 1] == []
    assert {verb for verb in verbs if "." in verb} == rows_of("Commands"), ADVICE
    assert {verb for verb in verbs if "." not in verb} == rows_of("Reports of workers"), ADVICE


def test_each_read_has_a_row() -> None:
    assert set(verbs_of_the_projector().names) == rows_of("Reads"), ADVICE


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
