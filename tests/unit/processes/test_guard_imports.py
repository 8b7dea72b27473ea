"""The helpers stay lean: their memory is in every slot and under every peak that is measured."""

import ast
import subprocess
import sys
from pathlib import Path

import mitosis.processes.guard

GUARD = Path(mitosis.processes.guard.__file__).parent


def test_the_helpers_import_the_standard_library_and_each_other_only() -> None:
    foreign = []
    for path in sorted(GUARD.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            foreign += [
                f"{path.name}: {name}"
                for name in names
                if name.split(".")[0] not in sys.stdlib_module_names
            ]
            if isinstance(node, ast.ImportFrom) and node.level > 1:
                foreign.append(f"{path.name}: {'.' * node.level}{node.module}")
    assert foreign == []


def test_the_helpers_load_no_module_that_costs_memory() -> None:
    script = (
        f"import sys; sys.path.append({str(GUARD.parent)!r}); import guard.guardian;"
        "print(*sorted(sys.modules))"
    )
    argv = [sys.executable, "-I", "-S", "-E", "-c", script]
    loaded = set(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split())
    heavy = {"asyncio", "logging", "pathlib", "json", "typing_extensions", "mitosis", "dataclasses"}
    assert loaded & heavy == set()
