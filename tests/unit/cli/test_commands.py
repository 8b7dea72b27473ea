"""The table of commands, and the help that is made from it."""

import inspect
import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cyclopts import App

from mitosis._version import __version__
from mitosis.cli import grammar, services
from mitosis.cli.commands import CLIENT, GROUPS, NAMED, PLATFORM, SEED_GROUPS, Command, listed
from mitosis.cli.main import root_app
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.section import Section
from mitosis.config.worker import WorkerConfig
from mitosis.domain.durations import parse_duration

Here = Callable[..., Any]  # see conftest.py

LEAVES = [
    (program, path, command, example)
    for program, table in (("", PLATFORM), ("client", CLIENT))
    for path, (command, example) in listed(table).items()
]
LINES = [f"{program} {path}".strip() for program, path, _, _ in LEAVES]


def groups() -> list[str]:
    """Every level above the commands."""
    found = {""}
    for line in LINES:
        words = line.split()
        found |= {" ".join(words[:count]) for count in range(len(words))}
    return sorted(found)


def in_order(tokens: list[str]) -> list[str]:
    if tokens[:1] != ["client"]:
        return tokens
    return ["client", *grammar.verb_first(grammar.split_options(tokens[1:])[1])]


@pytest.mark.parametrize(("program", "path", "command", "example"), LEAVES, ids=LINES)
def test_the_example_of_a_command_is_a_line_that_calls_it(
    program: str, path: str, command: Command, example: str
) -> None:
    tokens = in_order([*program.split(), *shlex.split(example)])
    function, _, _ = root_app().parse_args(tokens, exit_on_error=False, print_error=False)
    assert function.__name__ == command.home.partition(":")[2]
    assert tokens[: len(f"{program} {path}".split())] == f"{program} {path}".split()


@pytest.mark.parametrize("level", groups(), ids=lambda level: level or "mito")
def test_each_group_has_help_with_an_example(level: str, here: Here) -> None:
    for flag in ("--help", "-h"):
        done = here(*level.split(), flag)
        assert done.returncode == 0
        assert done.stdout.startswith(f"Usage: mito {level}".rstrip())
        assert f"Example: mito {level}".rstrip() in done.stdout
    assert here(*level.split(), "-V")[:2] == (0, f"mito {__version__}\n")


@pytest.mark.parametrize(("program", "path", "command", "example"), LEAVES, ids=LINES)
def test_each_command_has_help_with_usage_and_example(
    program: str, path: str, command: Command, example: str, here: Here
) -> None:
    done = here(*program.split(), *path.split(), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: mito {program}".rstrip())
    assert command.summary in done.stdout
    assert f"Example: mito {program} {example}".replace("  ", " ") in " ".join(done.stdout.split())
    assert here(*program.split(), *path.split(), "-V")[:2] == (0, f"mito {__version__}\n")


def test_no_path_is_given_away_twice() -> None:
    paths = [path for c in CLIENT for path in (c.path, *c.also)]
    assert sorted(paths) == sorted(set(paths))


def test_a_group_of_commands_says_what_it_is_for() -> None:
    assert {"manage worker", "manage task", "manage group"} == set(NAMED)
    assert [path for path in GROUPS if not GROUPS[path] and path not in SEED_GROUPS] == []


def test_each_function_of_the_table_has_a_home() -> None:
    root = root_app()
    for program, path, _, _ in LEAVES:
        app: App = root
        for word in f"{program} {path}".split():
            app = app[word]
        assert app.default_command is not None, path


@pytest.mark.parametrize(
    ("service", "settings"),
    [
        (services.coordinator, CoordinatorConfig()),
        (services.projector, CoordinatorConfig()),
        (services.worker, WorkerConfig()),
    ],
    ids=["coordinator", "projector", "worker"],
)
def test_the_help_of_a_service_says_every_default(service: Here, settings: Section) -> None:
    said = described(service)
    for name in inspect.signature(service).parameters:
        default = getattr(settings, name, None)
        if default is None or isinstance(default, bool) or default in ({}, ()):
            continue
        shown = re.search(r"default to `?([^\s`;,]+(?: (?:days|seconds))?)", said[name])
        assert shown, f"{name} does not say its default, {default}"
        text = shown[1].rstrip(".:")
        if isinstance(default, timedelta):
            assert parse_duration(text) == default.total_seconds(), name
        else:
            assert text == str(default), name


def described(service: Here) -> dict[str, str]:
    """What the help says of each parameter."""
    _, _, arguments = (service.__doc__ or "").partition("Args:\n")
    parts = re.split(r"^ {8}(\w+): ", arguments, flags=re.MULTILINE)[1:]
    return {
        name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)
    }
