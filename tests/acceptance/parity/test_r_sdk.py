"""Rows on the SDK: what a program imports, calls and reads about."""

import ast
import asyncio
import importlib
import inspect
import os
import re
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import mitosis
from mitosis import ArtifactKind, ClientConfig, MitoClient, Outcome, SyncMitoClient, TaskState
from mitosis.cli import commands
from mitosis.config import client as arguments
from mitosis.config.client import CreateUserArgs
from mitosis.errors import AlreadyExists, AuthenticationFailed, NotAllowed

from ..conftest import Platform, side_by_side

ROOT = Path(__file__).parents[3]
PAGES = ("README.md", "docs/sdk.md")
PROGRAMS = [
    (page, code)
    for page in PAGES
    for code in re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
    )
]
METHODS = {
    name: method
    for name, method in vars(MitoClient).items()
    if inspect.isfunction(method) and not name.startswith("_")
}
# They have no business with the platform.
ALONE = {"quit"}
# Where functions of commands and what they share are at home; not `running`, through which each of
# them connects.
HOMES = {f"mitosis.cli.{command.home.partition(':')[0]}" for command in commands.CLIENT}


@pytest.mark.parity("S-225")
def test_the_library_is_imported_by_its_name() -> None:
    """From anywhere, without starting anything, and quickly enough for a script."""
    code = "import sys, mitosis; print(mitosis.__version__, 'nats' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == f"{mitosis.__version__} False\n"
    for name in mitosis.__all__:
        assert getattr(mitosis, name) is not None


@pytest.mark.parity("S-001")
def test_the_library_is_there_under_its_name_in_the_seed() -> None:
    """From anywhere: the same objects."""
    code = (
        "import netmito, mitosis; from netmito import MitoClient, errors; "
        "print(MitoClient is mitosis.MitoClient, netmito.__all__ == mitosis.__all__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "True True\n"


@pytest.mark.parity("S-226")
def test_the_default_settings_are_those_of_the_seed() -> None:
    config = ClientConfig()
    assert config.coordinator_addr == "http://127.0.0.1:5000"
    assert (config.user, config.password, config.credential_path) == (None, None, None)


@pytest.mark.parity("S-227")
def test_a_client_is_made_from_settings_and_connects_at_its_first_call(
    platform: Platform,
) -> None:
    async def first_call() -> str:
        client = MitoClient(platform.config())
        assert client.session.user == ""
        try:
            return (await client.whoami()).username
        finally:
            await client.close()

    assert asyncio.run(first_call()) == platform.notice["admin_user"]


@pytest.mark.parity("S-228")
def test_arguments_are_named_and_a_password_never_shows() -> None:
    args = CreateUserArgs(username="alice", password="s3cret")
    assert (args.username, args.password, args.admin) == ("alice", "s3cret", False)
    assert "s3cret" not in repr(args)
    with pytest.raises(TypeError):
        CreateUserArgs("alice", "s3cret")  # type: ignore[misc]


@pytest.mark.parity("S-229")
def test_a_call_returns_a_typed_result_or_raises_a_typed_error(platform: Platform) -> None:
    stem = uuid.uuid4().hex[:8]

    async def with_a_loop(args: CreateUserArgs) -> None:
        async with MitoClient(platform.config()) as client:
            assert (await client.create_user(args)).changed
            with pytest.raises(AlreadyExists) as caught:
                await client.create_user(args)
            assert caught.value.details["name"] == args.username

    first = CreateUserArgs(username=f"sdk-{stem}", password="p")
    asyncio.run(with_a_loop(first))
    with SyncMitoClient(platform.config()) as client:
        assert client.create_user(CreateUserArgs(username=f"sdk-{stem}-2", password="p")).changed
    with SyncMitoClient(platform.config(first.username, first.password)) as client:
        assert client.whoami().username == first.username
        with pytest.raises(NotAllowed):
            client.create_user(CreateUserArgs(username=f"sdk-{stem}-3", password="p"))
    with pytest.raises(AuthenticationFailed):
        SyncMitoClient(platform.config(first.username, "wrong")).connect()


# --- S-230 ------------------------------------------------------------------------------------


def calls_of(home: str) -> set[str]:
    """Names of the client's methods that a function of the command line uses, also indirectly."""
    module, _, name = home.partition(":")
    pending = [getattr(importlib.import_module(f"mitosis.cli.{module}"), name)]
    seen: set[Any] = set()
    used: set[str] = set()
    while pending:
        function = pending.pop()
        if function in seen:
            continue
        seen.add(function)
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "client":
                used.add(node.attr)
            elif isinstance(node, ast.Name | ast.Attribute):
                called = _named(ast.unparse(node), function.__globals__)
                if inspect.isfunction(called) and called.__module__ in HOMES:
                    pending.append(called)
    return used


def _named(expression: str, names: dict[str, Any]) -> Any:
    """What a name, or a name in an imported module, stands for."""
    first, _, rest = expression.partition(".")
    value = names.get(first)
    return getattr(value, rest, None) if rest and inspect.ismodule(value) else value


@pytest.mark.parity("S-230")
def test_every_command_of_the_client_is_a_method_of_both_clients() -> None:
    assert len(commands.CLIENT) > 10
    missing = [
        command.path
        for command in commands.CLIENT
        if command.path not in ALONE and not calls_of(command.home) & set(METHODS)
    ]
    assert missing == []
    assert [name for name in METHODS if not hasattr(SyncMitoClient, name)] == []


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_described_with_its_result(name: str) -> None:
    method = METHODS[name]
    description = inspect.getdoc(method) or ""
    assert len(description) > 10
    assert not description.startswith("See `")
    assert "return" in inspect.get_annotations(method)
    if name not in {"connect", "close"}:
        assert inspect.getdoc(getattr(SyncMitoClient, name)) == description


# --- examples (D-100) -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program_environment(
    platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Where a program finds the platform, as somebody who may do everything."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path_factory.mktemp("home")),
        "MITO_COORDINATOR_ADDR": platform.notice["http"],
        "MITO_USER": platform.notice["admin_user"],
        "MITO_PASSWORD": platform.admin_password,
    }


@pytest.mark.parity("D-100")
def test_the_programs_of_the_documents_run(
    program_environment: dict[str, str], tmp_path: Path
) -> None:
    assert {page for page, _ in PROGRAMS} == set(PAGES)

    def run(program: Any) -> Any:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", program[1]], env=program_environment,
            cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    for (page, code), done in zip(PROGRAMS, side_by_side(run, PROGRAMS), strict=True):
        assert done.returncode == 0, f"{page}:\n{code}\n{done.stderr}"
        assert done.stdout, f"{page} shows nothing:\n{code}"


def examples() -> Iterator[tuple[str, str]]:
    """The examples of the classes and methods of the SDK."""
    for name, value in [
        ("MitoClient", MitoClient), ("SyncMitoClient", SyncMitoClient), *METHODS.items(),
    ]:  # fmt: skip
        found = re.search(r"Example:\n((?: {4}.*\n|\n)+)", f"{inspect.getdoc(value)}\n")
        if found:
            yield name, textwrap.dedent(found[1])


@pytest.mark.parity("D-100")
def test_the_examples_of_the_methods_run(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MITO_COORDINATOR_ADDR", platform.notice["http"])
    monkeypatch.setenv("MITO_USER", platform.notice["admin_user"])
    monkeypatch.setenv("MITO_PASSWORD", platform.admin_password)
    known = {
        **{name: value for name, value in vars(arguments).items() if inspect.isclass(value)},
        "ArtifactKind": ArtifactKind, "Outcome": Outcome, "TaskState": TaskState, "Path": Path,
        "SyncMitoClient": SyncMitoClient, "timedelta": timedelta, "uuid4": uuid.uuid4,
        "Role": mitosis.Role, "OutputChunk": mitosis.OutputChunk,
    }  # fmt: skip
    found = dict(examples())
    assert {"MitoClient", "SyncMitoClient", "submit_task", "watch", "get_artifact"} <= set(found)

    async def run_all() -> None:
        async with MitoClient(platform.config()) as client:
            for name, code in found.items():
                if name != "SyncMitoClient":
                    names = {**known, "client": client}
                    body = textwrap.indent(code, "    ")
                    exec(compile(f"async def example():\n{body}", name, "exec"), names)  # noqa: S102
                    await names["example"]()  # type: ignore[operator]

    asyncio.run(run_all())
    exec(compile(found["SyncMitoClient"], "SyncMitoClient", "exec"), known)  # noqa: S102


# --- S-231 ------------------------------------------------------------------------------------


@pytest.mark.parity("S-231")
def test_the_pages_of_the_api_are_built(tmp_path: Path) -> None:
    """By the same command as `just api-docs`."""
    recipe = re.search(r"^api-docs:\n(?: {4}.*\n)+", (ROOT / "justfile").read_text(), re.MULTILINE)
    assert recipe is not None
    modules = re.findall(r" (mitosis(?:\.\w+)+)", recipe[0])
    done = subprocess.run(
        [sys.executable, "-m", "pdoc", "-d", "google", "-o", str(tmp_path), *modules],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warn" not in done.stderr
    page = (tmp_path / "mitosis" / "client" / "client.html").read_text()
    assert [name for name in METHODS if f'id="MitoClient.{name}"' not in page] == []
    assert "CreateUserArgs" in (tmp_path / "mitosis" / "config" / "client.html").read_text()
    assert "AlreadyExists" in (tmp_path / "mitosis" / "errors.html").read_text()
