"""Celery with Redis, two worker processes. Runs in the peers' environment.

The durability of Redis comes in BENCH_REDIS: `none`, or the value of `appendfsync`.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time

from bench.peers.say import SLOTS, rate, round_trips, sizes, trips

WAIT_SECONDS = 60


def campaign(count: int) -> None:
    """Send all, then take all results."""
    from bench.peers.celery_app import true

    results = [true.delay() for _ in range(count)]
    if any(result.get(timeout=WAIT_SECONDS) != 0 for result in results):
        raise SystemExit("a task failed")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _await_port(port: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def main() -> None:
    """Start Redis and the workers, measure, stop them."""
    port = _free_port()
    os.environ["BENCH_REDIS_PORT"] = str(port)
    mode = os.environ["BENCH_REDIS"]
    durability = ["--appendonly", "no"] if mode == "none" else [
        "--appendonly", "yes", "--appendfsync", mode
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        redis = subprocess.Popen([
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", *durability,
            "--dir", folder, "--loglevel", "warning", "--logfile", f"{folder}/log",
        ])  # fmt: skip
        try:
            _await_port(port)
            workers = subprocess.Popen([
                sys.executable, "-m", "celery", "-A", "bench.peers.celery_app", "worker",
                "-P", "prefork", "-c", str(SLOTS), "-l", "ERROR", "--without-gossip",
                "--without-mingle",
            ], env={**os.environ, "C_FORCE_ROOT": "1"})  # fmt: skip
            try:
                campaign(50)
                for size in sizes():
                    rate(size, campaign)
                round_trips(trips(), lambda: campaign(1))
            finally:
                workers.terminate()
                workers.wait()
        finally:
            redis.terminate()
            redis.wait()


if __name__ == "__main__":
    main()
