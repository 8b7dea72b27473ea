"""A large file to the store and back, beside the S3 server's own rate with its client library.

Each transfer is a process of its own, `python -m bench.objects`, which prints seconds and the most
memory that it had: with a file of 64 MB and with the large one, to see whether memory is flat.
"""

import asyncio
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from minio import Minio

from bench.platform import Up, connected
from bench.sizes import Bench
from mitosis.config.client import ClientConfig

MIB = 1 << 20
SMALL_MB = 64
PART_BYTES = 64 * MIB
KEY = "bench"
TRANSFERS = ("upload/raw", "upload", "download/raw", "download")


def measure(bench: Bench, up: Up) -> None:
    """Measure all transfers in turn, so often as wanted."""
    size_mb, rounds = bench.sizes.object_mb
    rates: dict[str, list[float]] = {name: [] for name in TRANSFERS}
    small: dict[str, float] = {}
    large = dict.fromkeys(TRANSFERS, 0.0)
    with tempfile.TemporaryDirectory(prefix="mito-bench-") as scratch:
        file = _random_file(Path(scratch) / "small", SMALL_MB)
        for name in TRANSFERS:
            small[name] = _run(name, up, file)["peak_mb"]
        file = _random_file(Path(scratch) / "large", size_mb)
        for _ in range(rounds):
            for name in TRANSFERS:
                done = _run(name, up, file)
                rates[name].append(size_mb / done["seconds"])
                large[name] = max(large[name], done["peak_mb"])
    for name in TRANSFERS:
        direction, _, raw = name.partition("/")
        memory = f"at most {large[name]:.0f} MB of memory, {small[name]:.0f} with {SMALL_MB} MiB"
        bench.results.add(
            f"objects/{name}", f"{direction} of {size_mb:,} MiB", "MiB/s", rates[name],
            who="minio SDK alone" if raw else "mitosis", note=memory,
        )  # fmt: skip


def _random_file(path: Path, size_mb: int) -> Path:
    with path.open("wb") as file:
        for _ in range(size_mb):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    return path


def _run(name: str, up: Up, file: Path) -> dict[str, float]:
    """Run a transfer in a process of its own; what comes back must be what was sent."""
    command = [sys.executable, "-m", "bench.objects", name, str(file), str(up.data)]
    config = up.config
    wanted = {
        "coordinator_addr": config.coordinator_addr, "user": config.user,
        "password": config.password, "credential_path": str(config.credential_path),
    }  # fmt: skip
    done = subprocess.run(
        command, input=json.dumps(wanted).encode(), stdout=subprocess.PIPE, check=True
    )
    if name.startswith("download"):
        back = file.with_suffix(".back")
        with file.open("rb") as sent, back.open("rb") as came:
            same = (hashlib.file_digest(one, "sha256").digest() for one in (sent, came))
            if next(same) != next(same):
                raise SystemExit(f"wrong: {name} brought something else back")
        back.unlink()
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _raw(direction: str, file: Path, data: Path) -> None:
    settings: dict[str, Any] = tomllib.loads((data / "config" / "coordinator.toml").read_text())
    store = settings["coordinator"]
    client = Minio(
        store["s3_url"].partition("://")[2], access_key=store["s3_access_key"],
        secret_key=store["s3_secret_key"], secure=False, region="mitosis",
    )  # fmt: skip
    bucket = "mitosis-bench"
    if direction == "upload":
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket)
        client.fput_object(bucket, KEY, str(file), part_size=PART_BYTES)
    else:
        client.fget_object(bucket, KEY, str(file.with_suffix(".back")))


async def _ours(direction: str, file: Path, config: ClientConfig) -> None:
    async with connected(config) as client:
        if direction == "upload":
            await client.upload_attachment(file, KEY)
        else:
            await client.get_attachment("", KEY, file.with_suffix(".back"))


def main() -> None:
    """Transfer, and print how long it took and how much memory."""
    name, file, data = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    direction, _, raw = name.partition("/")
    config = ClientConfig(**json.load(sys.stdin))
    began = time.perf_counter()
    if raw:
        _raw(direction, file, data)
    else:
        asyncio.run(_ours(direction, file, config))
    seconds = time.perf_counter() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
