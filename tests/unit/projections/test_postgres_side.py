"""What goes to Postgres and what comes back as an error, without a server."""

import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from mitosis.errors import CorruptData, Misconfigured, MitosisError, ViewUnavailable
from mitosis.projections.migrations import known_versions
from mitosis.projections.postgres import OutOfStep, conninfo, explained, shown
from mitosis.projections.statements import rows_json


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://mito:secret@db:5432/x", "postgres://mito@db:5432/x"),
        ("postgresql://mito@/x?host=/run/pg", "postgresql://mito@/x?host=/run/pg"),
        ("postgres://db/x?password=secret", "postgres://db/x"),
        ("postgres://u:s%40cret@db/x", "postgres://u@db/x"),
        ("host=db user=mito password=secret dbname=x", "user=mito dbname=x host=db"),
    ],
)
def test_addresses_are_shown_without_passwords(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_a_malformed_address_is_a_wrong_setting_and_not_repeated() -> None:
    with pytest.raises(Misconfigured) as caught:
        conninfo("nonsense secret", "test")
    assert "secret" not in str(caught.value)


ERRORS = [
    (psycopg.OperationalError("gone"), ViewUnavailable),
    (psycopg.errors.AdminShutdown("bye"), ViewUnavailable),
    (psycopg.errors.QueryCanceled("slow"), ViewUnavailable),
    (psycopg.errors.DiskFull("full"), ViewUnavailable),
    (psycopg.InterfaceError("closed"), ViewUnavailable),
    (ConnectionResetError("reset"), ViewUnavailable),
    (psycopg.errors.UniqueViolation("twice"), OutOfStep),
    (psycopg.errors.UndefinedTable("no table"), Misconfigured),
    (psycopg.errors.InvalidPassword("no"), Misconfigured),
    (psycopg.errors.InsufficientPrivilege("no"), Misconfigured),
    (psycopg.errors.InvalidTextRepresentation("no uuid"), CorruptData),
    (psycopg.errors.NumericValueOutOfRange("large"), CorruptData),
    (psycopg.errors.NotNullViolation("null"), CorruptData),
]


@pytest.mark.parametrize(("error", "expected"), ERRORS)
def test_every_kind_of_error_of_the_driver_has_a_meaning(
    error: Exception, expected: type[MitosisError]
) -> None:
    with pytest.raises(MitosisError) as caught, explained("postgres://u:secret@db/x"):
        raise error
    assert type(caught.value) is expected
    assert caught.value.__cause__ is error
    assert "secret" not in str(caught.value)


def test_no_class_of_the_driver_is_left_without_a_meaning() -> None:
    pending: list[type[Exception]] = [psycopg.Error]
    while pending:
        cls = pending.pop()
        pending.extend(cls.__subclasses__())
        with pytest.raises(MitosisError), explained("postgres://db/x"):
            raise cls("something")


def test_nul_is_replaced_wherever_it_stands_and_nothing_else() -> None:
    rows = [{"a": "x\0y", "b": [{"c\0": "\\u0000"}], "n": 1.5, "z": None}]
    expected = [{"a": "x\ufffdy", "b": [{"c\ufffd": "\\u0000"}], "n": 1.5, "z": None}]
    assert msgspec.json.decode(rows_json(rows)) == expected
    assert msgspec.json.decode(rows_json([{"b": "\\u0000"}])) == [{"b": "\\u0000"}]


def test_both_series_of_migrations_are_found() -> None:
    versions = known_versions()
    assert versions.archive >= 1
    assert versions.views >= 1


def test_a_server_that_has_vanished_is_noticed_also_while_it_owes_an_answer() -> None:
    """No keepalive is sent then, and the system by itself goes on for a quarter of an hour."""
    known = conninfo_to_dict(conninfo("postgresql://somewhere/db", "test"))
    assert int(str(known["keepalives_idle"])) <= 10
    assert 5_000 <= int(str(known["tcp_user_timeout"])) <= 30_000
