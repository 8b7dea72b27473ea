"""What the documents tell a reader to do must be possible."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from mitosis import MitoClient
from mitosis.cli import grammar
from mitosis.cli.main import root_app

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.joinpath("docs").rglob("*.md"), *ROOT.glob("examples/*.md")]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"(?:^    (?:.*&& )?(?:\.venv/bin/)?|`)(mito [^`\n]+)", README, re.MULTILINE)
EXAMPLE = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_two_commands_of_a_new_user_come_first() -> None:
    first = README.index(
        "    python3 -m venv .venv && .venv/bin/pip install '.[embedded]' && .venv/bin/mito demo\n"
        "    .venv/bin/pip install '.[test]' && .venv/bin/pytest\n"
    )
    assert first < README.index("## How it is built")


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_readme_is_one_that_the_command_line_has(line: str) -> None:
    tokens = shlex.split(line)[1:]
    if tokens[0] == "client":
        options, command = grammar.split_options(tokens[1:])
        assert options == []
        tokens = ["client", *grammar.verb_first(command)]
    _, apps, _ = root_app().parse_commands(tokens)
    assert apps[-1].default_command is not None, "names no command"
    root_app().parse_args(tokens, exit_on_error=False, print_error=False)


def test_the_readme_shows_a_session() -> None:
    said = " ".join(COMMANDS)
    for word in ("demo", "up", "auth", "submit", "get task", "get artifact", "manage task"):
        assert f" {word}" in said


@pytest.mark.parametrize("code", EXAMPLE)
def test_an_example_uses_what_the_sdk_has(code: str) -> None:
    tree = ast.parse(code)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            exec(compile(ast.Module([node], []), "README.md", "exec"), {})  # noqa: S102
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "client"
    }
    assert used
    assert [name for name in used if not hasattr(MitoClient, name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_recipes_have_the_names_that_people_expect() -> None:
    recipes = re.findall(r"^([a-z-]+)[^:\n]*:(?!=)", (ROOT / "justfile").read_text(), re.MULTILINE)
    expected = {"setup", "demo", "up", "test", "test-all", "lint", "types", "bench", "docs"}
    assert expected <= set(recipes)
