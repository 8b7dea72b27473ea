"""What a command that asks and leaves costs to start: what it imports, over a real connection."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mitosis.config.client import ClientConfig

if TYPE_CHECKING:
    from tests.integration.client.conftest import SmallPlatform

ROOT = Path(__file__).parents[3]

PROBE = """
import sys
before = set(sys.modules)
from mitosis.__main__ import main
status = main()
print(status, *sorted(set(sys.modules) - before), file=sys.stderr)
"""

# Beside the standard library. Each one more is a decision: it costs every command its time.
LIBRARIES = {"attr", "attrs", "cyclopts", "mitosis", "msgspec", "typing_extensions"}
# Of the standard library, and of ours, what costs more than it gives to such a command.
HEAVY = {
    "asyncio", "concurrent", "difflib", "email", "hashlib", "http", "importlib.metadata", "json",
    "mitosis.artifacts", "mitosis.client.artifacts", "mitosis.client.events",
    "mitosis.client.waiting", "mitosis.client.watching", "mitosis.events",
    "mitosis.nats.connection", "mitosis.services", "cyclopts.help", "cyclopts.docs", "random",
    "secrets", "ssl", "subprocess", "tarfile", "tempfile", "tomllib", "zipfile",
}  # fmt: skip


class Command:
    """The command line in a process of its own, as a logged-in user."""

    def __init__(self, config: ClientConfig, home: Path) -> None:
        self._env = {
            "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT),
            "MITO_COORDINATOR_ADDR": config.coordinator_addr,
        }  # fmt: skip
        self._options = ["--credential-path", str(config.credential_path)]

    async def start(self, *words: str, code: str = PROBE) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, "client", *self._options, *words,
            env=self._env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *words: str) -> tuple[int, str, set[str]]:
        """Return status, standard output, and what was imported."""
        process = await self.start(*words)
        out, err = await process.communicate()
        status, *names = err.decode().splitlines()[-1].split()
        return int(status), out.decode(), set(names)


@pytest.fixture
async def command(platform: "SmallPlatform", config: ClientConfig, tmp_path: Path) -> Command:
    found = Command(config, tmp_path)
    process = await found.start("auth", "alice", config.password or "")
    _, err = await process.communicate()
    assert process.returncode == 0, err
    return found


@pytest.mark.parametrize(
    "line",
    [
        "get task {task}", "get task {task} --json", "submit -- echo hello", "get tasks --json",
        "get tasks", "manage task {task} cancel", "get groups", "auth", "create user -u b -p c",
        "submit --memory 1GiB --retries 3 -l a,b -e A=1 -- echo hello",
    ],
)  # fmt: skip
async def test_a_command_that_asks_and_leaves_imports_only_what_it_needs(
    command: Command, line: str
) -> None:
    _, task, _ = await command.run("submit", "--", "true")
    status, out, names = await command.run(*line.format(task=task.strip()).split())
    assert status == 0
    assert out
    loaded = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name.partition(".")[0] for name in loaded} <= LIBRARIES
    assert names & HEAVY == set()


async def test_a_command_that_waits_for_an_answer_can_be_interrupted(
    command: Command, platform: "SmallPlatform"
) -> None:
    platform.silent = 1_000
    process = await command.start(
        "submit", "--", "true", code="from mitosis.__main__ import main; raise SystemExit(main())"
    )
    async with asyncio.timeout(30):
        await platform.asked.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, err.decode()) == (130, b"", "mito: interrupted\n")
