"""The Celery application: `true` as a subprocess. Runs in the peers' environment."""

import os
import subprocess

from celery import Celery

_PORT = os.environ["BENCH_REDIS_PORT"]
app = Celery("bench", broker=f"redis://127.0.0.1:{_PORT}/0", backend=f"redis://127.0.0.1:{_PORT}/1")
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=True)


@app.task
def true() -> int:
    """Run the program and return its exit code."""
    return subprocess.run(["/bin/true"]).returncode  # noqa: PLW1510
