"""The recipes of docs/programs.md, run as they stand there."""

import re
import shlex
from pathlib import Path

import pytest

from mitosis.processes.runs import Exited

from .conftest import PATH, Bench, until

PAGE = (Path(__file__).parents[3] / "docs" / "programs.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line) for line in re.findall(r"^    (mito client submit .*)$", PAGE, re.MULTILINE)
]


def recipe(word: str) -> list[str]:
    """The command of the recipe that has a word in it, as a task gets it."""
    [found] = [argv for argv in COMMANDS if any(word in part for part in argv)]
    return found[found.index("--") + 1 :]


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def env(bench: Bench) -> dict[str, str]:
    """A home, and a PATH that begins with a folder of stand-ins."""
    return {
        "HOME": str(bench.root),
        "PATH": f"{bench.root}/stand-ins:{PATH}",
        "MITO_TASK_UUID": "task-uuid",
    }


@pytest.mark.parity("R-10")
async def test_an_environment_is_activated_in_the_task(bench: Bench, env: dict[str, str]) -> None:
    write_program(bench.root / "sim/bin/simulate", 'echo "$0 $*"')
    (bench.root / "sim/bin/activate").write_text('PATH="$HOME/sim/bin:$PATH"\n')
    result = await bench.finish(bench.start(*recipe("activate"), env=env))
    assert result.outcome == Exited(0)
    assert result.stdout.tail.decode() == f"{bench.root}/sim/bin/simulate --seed 7\n"


@pytest.mark.parity("R-10")
async def test_a_guarded_bashrc_is_read_by_an_interactive_shell(
    bench: Bench, env: dict[str, str]
) -> None:
    guard = 'case $- in *i*) ;; *) return ;; esac\nuse_sim() { echo "sim $1"; }\n'
    (bench.root / ".bashrc").write_text(guard)
    argv = recipe("use_sim")
    result = await bench.finish(bench.start(*argv, env=env))
    assert (result.outcome, result.stdout.tail) == (Exited(0), b"sim 7\n")
    plain = ["-c" if part == "-ic" else part for part in argv]
    assert (await bench.finish(bench.start(*plain, env=env))).outcome == Exited(127)


@pytest.mark.parity("R-04")
async def test_a_container_is_stopped_by_its_name(bench: Bench, env: dict[str, str]) -> None:
    """The stand-in keeps a container as a file, which outlives the client that made it."""
    state = bench.root / "containers"
    state.mkdir()
    write_program(
        bench.root / "stand-ins/docker",
        f"cd {state}\n"
        'if [ "$1" = stop ]; then echo "stopped $4" > log; rm -f "$4"; exit; fi\n'
        'touch "$4"; while [ -e "$4" ]; do sleep 0.05; done',
    )
    run = bench.start(*recipe("docker"), env=env, grace_seconds=10)
    await until((state / "run-task-uuid").exists)
    run.stop("cancel")
    result = await bench.finish(run)
    assert result.cause == "cancel"
    assert (state / "log").read_text() == "stopped run-task-uuid\n"
    assert not (state / "run-task-uuid").exists()


@pytest.mark.parity("R-04")
async def test_a_remote_program_gets_a_terminal_that_ends_with_the_connection(
    bench: Bench, env: dict[str, str]
) -> None:
    write_program(bench.root / "stand-ins/ssh", 'echo "$@"')
    result = await bench.finish(bench.start(*recipe("ssh"), env=env))
    assert result.stdout.tail.startswith(b"-tt -o BatchMode=yes router exec ")
