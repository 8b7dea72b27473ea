"""Tables on terminals that are too narrow for them."""

import pytest

from mitosis.cli.output.tables import LEAST_WIDTH, fit, print_table, short_ids


def test_the_widest_columns_are_cut_first_and_the_whole_ones_never() -> None:
    assert fit([3, 36, 9, 200], [False, False, True, True], 80) == [3, 36, 9, 32]
    assert fit([36, 30, 20], [False, True, True], 60) == [36, 12, 12]
    assert fit([36, 30, 20], [False, True, True], 10) == [36, LEAST_WIDTH, LEAST_WIDTH]
    assert fit([3, 2], [True, True], 80) == [3, 2]


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_a_long_command_hides_no_other_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "dumb")
    print_table(("UUID", "STATE", "COMMAND"), [("u" * 36, "finished", "x" * 500)], whole=("UUID",))
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "UUID"
    assert row.split()[0] == "u" * 36
    assert len(row.split()) == 3
    assert len(row) <= max(int(columns), 36 + 2 * (LEAST_WIDTH + 2))


def test_a_row_is_one_line_also_with_line_ends_in_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    print_table(("UUID", "COMMAND"), [("u" * 36, "echo 'a\nb'"), ("v" * 36, "echo")])
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split(maxsplit=1) == ["u" * 36, "echo 'a\\nb'"]
    assert second.split() == ["v" * 36, "echo"]


def test_a_uuid_is_shortened_to_what_tells_it_from_the_others() -> None:
    assert short_ids([]) == []
    assert short_ids(["e07a2bf2-166d", "b168dbe6-5c44"]) == ["e07a2bf2", "b168dbe6"]
    assert short_ids(["e07a2bf2-166d", "e07a2bf2-1777"]) == ["e07a2bf2-16", "e07a2bf2-17"]
    assert short_ids(["e07a2bf2-166d", "e07a2bf2-166d"]) == ["e07a2bf2", "e07a2bf2"]
