"""The command line as a whole process: `mito client get task` and `submit`, over a bare Python."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.platform import Up, connected
from bench.sizes import Bench
from bench.work import TRUE, checked

BARE = (sys.executable, "-c", "pass")
MITO = (str(Path(sys.executable).with_name("mito")),)


async def measure(bench: Bench, up: Up) -> None:
    """Measure each command in turn, so often as wanted."""
    count = bench.sizes.commands
    environment = _environment(up)
    async with connected(up.config) as client:
        task = (await client.submit_task(TRUE)).task
        await client.wait_for_tasks([task])
        commands = {
            "bare": BARE,
            "get": (*MITO, "client", "get", "task", task),
            "submit": (*MITO, "client", "submit", "--", "/bin/true"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        cpu: dict[str, list[float]] = {name: [] for name in commands}
        async with checked(client, count + 1) as said:
            for turn in range(count + 1):
                for name, command in commands.items():
                    took, used, out = _run(command, environment)
                    if turn:  # in the first one byte code is written, and addresses are kept
                        seconds[name].append(took * 1000)
                        cpu[name].append(used * 1000)
                said.append(out.strip())
            await client.wait_for_tasks(said)
    bare = statistics.median(seconds["bare"])
    for name, what in (("get", "mito client get task"), ("submit", "mito client submit")):
        bench.results.add(f"client/{name}", what, "ms", seconds[name])
        bench.results.add(f"client/{name}/more", f"{what}: over python -c pass", "ms",
                          statistics.median(seconds[name]) - bare)  # fmt: skip
        bench.results.add(f"client/{name}/cpu", f"{what}: CPU", "ms", cpu[name])
    bench.results.add("client/bare", "python -c pass", "ms", seconds["bare"], who="Python",
                      note=f"CPU {statistics.median(cpu['bare']):.0f} ms")  # fmt: skip


def _environment(up: Up) -> dict[str, str]:
    """What a user has who has logged in."""
    home = up.data.with_name("home")
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "MITO_COORDINATOR_ADDR": up.http,
    }  # fmt: skip
    secret = {"MITO_PASSWORD": str(up.config.password)}
    _run((*MITO, "client", "auth", str(up.config.user)), environment | secret)
    return environment


def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float, str]:
    """Run a command; return seconds, CPU seconds and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, done.stdout
