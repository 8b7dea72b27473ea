"""Tasks whose outputs are kept: terminal output of 1 KiB, and results of 1 MiB."""

from bench.platform import Up, connected
from bench.rows import DURABLE
from bench.sizes import Bench
from bench.work import checked, throughput
from mitosis import MitoClient
from mitosis.config.client import GetTasksArgs, SubmitTaskArgs
from mitosis.domain.task import ArtifactKind

KIB, MIB = 1 << 10, 1 << 20
TALK = SubmitTaskArgs(command=("/bin/echo", "x" * (KIB - 1)), terminal=True)
RESULT = SubmitTaskArgs(
    command=("/bin/sh", "-c", f'head -c {MIB} /dev/urandom > "$MITO_RESULT_DIR/data"')
)
LOOKED_AT = 50


async def terminal(bench: Bench, up: Up) -> None:
    """Measure tasks with 1 KiB of terminal output."""
    async with connected(up.config) as client:
        for count, rounds in bench.sizes.terminal:
            rates = []
            for _ in range(rounds):
                async with checked(client, count) as done:
                    rates.append(await throughput(client, count, TALK, into=done))
                await _check_outputs(client, min(count, LOOKED_AT), ArtifactKind.STD_LOG)
            bench.results.add(f"terminal/{count}", f"{count:,} x 1 KiB of terminal output kept",
                              "tasks/s", rates, note=DURABLE)  # fmt: skip


async def results(bench: Bench, up: Up) -> None:
    """Measure tasks with a result of 1 MiB."""
    count, rounds = bench.sizes.results
    rates = []
    async with connected(up.config) as client:
        for _ in range(rounds):
            async with checked(client, count) as done:
                rates.append(await throughput(client, count, RESULT, into=done))
            await _check_outputs(client, min(count, LOOKED_AT), ArtifactKind.RESULT)
    bench.results.add("results", f"{count} x a result of 1 MiB", "tasks/s", rates, note=DURABLE)


async def _check_outputs(client: MitoClient, count: int, kind: ArtifactKind) -> None:
    page = await client.get_tasks(GetTasksArgs(limit=count))
    for task in page.tasks:
        if kind not in {artifact.kind for artifact in task.artifacts}:
            raise SystemExit(f"wrong: task {task.uuid} has no {kind.value}")
