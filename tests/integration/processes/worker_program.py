"""A worker to be killed: runs one script in each slot, says who its helpers are, and waits.

Its arguments are one JSON object: root, slots, python (script), mark, and options of the engine.
"""

import asyncio
import fcntl
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

from mitosis.processes.engine import Engine
from mitosis.processes.guard import frames
from mitosis.processes.launch import become_subreaper
from mitosis.processes.run import Run
from mitosis.processes.runs import Lost, RunSpec
from mitosis.testing.waiting import eventually


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def stand_still() -> None:
    time.sleep(20)


async def main(wanted: dict[str, Any]) -> None:
    if wanted.get("subreaper"):
        become_subreaper()
    lock = os.open(wanted["lock"], os.O_WRONLY | os.O_CREAT)  # held until death
    fcntl.flock(lock, fcntl.LOCK_EX)
    engine = Engine(
        wanted["slots"],
        Path(wanted["root"]),
        lock_fds=[lock],
        epitaph=wanted.get("epitaph", ()),
        epitaph_env={"PATH": os.defpath},
        adopts_orphans=bool(wanted.get("subreaper")),
        isolate=bool(wanted.get("isolate")),
        control_groups=bool(wanted.get("control_groups", True)),
        ping_seconds=wanted.get("ping", 5.0),
    )
    await engine.start()
    if "lease" in wanted:
        engine.renew(wanted["lease"])
    env = {"PATH": os.environ["PATH"], "MARK": wanted["mark"]}
    argv = wanted.get("argv") or [sys.executable, "-S", "-E", "-c", wanted["python"]]
    env |= wanted.get("env", {})
    spec = RunSpec(
        argv=argv,
        env=env,
        timeout_seconds=wanted.get("timeout"),
        grace_seconds=0.2,
        # Found by the environment only where control groups are not to find it.
        directory_env={} if wanted.get("control_groups", True) else {"result": "RESULT_DIR"},
    )
    runs = [engine.start_task(spec) for _ in range(wanted["slots"])]
    for run in runs:
        while wanted.get("python") and b"ready" not in await run.tail("stdout", 100):
            assert run.outcome is None
            await asyncio.sleep(0.001)
    if wanted.get("copy"):
        multiprocessing.get_context("fork").Process(target=stand_still, daemon=True).start()
    first = engine.abilities.first_pid
    said = {
        "worker": os.getpid(),
        "guardian": engine.guardian_pid,
        "first": first,
        "runners": children(first or engine.guardian_pid),
    }
    say(said)
    if wanted.get("unread"):
        # Questions whose answers nobody reads: the loop stands still with a full socket.
        for run in runs:
            for _ in range(50):
                run._slot.send((frames.PING, 1))
        stand_still()
    results = [await run.result() for run in runs]
    say([result.cause for result in results])
    if wanted.get("lost"):
        say([isinstance(result.outcome, Lost) and result.outcome.by_task for result in results])
    if wanted.get("report"):
        await tell_more(engine, runs)
    await engine.close(0.0)


async def tell_more(engine: Engine, runs: list[Run]) -> None:
    """What is left of the tasks, what they said, and when their slots are free again."""
    results = [await run.result() for run in runs]
    say([[result.tree_clean, *map(str, result.survivors)] for result in results])
    say([f"{result.stdout.tail.decode()}{result.stderr.tail.decode()}" for result in results])
    for run in runs:
        run.release()
    say(engine.free_slots)
    await eventually(lambda: engine.free_slots == len(runs))
    again = engine.start_task(RunSpec(argv=["true"], env={"PATH": os.environ["PATH"]}))
    await again.result()
    say(str(again.folder) not in {str(result.folder) for result in results})
    again.release()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
