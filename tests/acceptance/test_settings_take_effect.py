"""Settings of the coordinator that no other test sees the effect of, all at one coordinator."""

import asyncio
import os
import re
import shutil
import signal
import stat
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import GetEventsArgs, SubmitTaskArgs
from mitosis.testing.servers import PostgresServer, S3Server
from mitosis.testing.waiting import eventually

from .conftest import Site, command_of


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    with postgres_server.database() as database:
        made = Site(folder, database, s3_server)
        try:
            made.start_nats(made.nats_config())
            yield made
        finally:
            made.close()
            shutil.rmtree(folder, ignore_errors=True)


def fetched(url: str) -> tuple[int, dict[str, object]]:
    """Status and JSON of an answer, whether it says yes or no."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  http
            return answer.status, msgspec.json.decode(answer.read())
    except urllib.error.HTTPError as no:
        return no.code, msgspec.json.decode(no.read())


async def test_every_setting_of_the_coordinator_has_the_effect_that_it_promises(
    site: Site, tmp_path: Path
) -> None:
    """`--nats-public-url`, `--s3-public-url`, `--shutdown-secret-path`, `--max-projection-lag`,
    `--log-path`, `--log-level`, `--file-log-level`, `snapshot_every` and `checkpoint_every`."""
    public_nats = site.nats.replace("127.0.0.1", "localhost")
    public_s3 = site.values["s3_url"].replace("127.0.0.1", "localhost")
    secret_file, log_file = tmp_path / "secret", tmp_path / "log"
    with site.config.open("a") as config:
        config.write('snapshot_every = 4\ncheckpoint_every = 4\ncheckpoint_interval = "1d"\n')
    options = (
        "coordinator", "--config", site.config,
        "--nats-public-url", public_nats, "--s3-public-url", public_s3,
        "--shutdown-secret-path", secret_file, "--max-projection-lag", "200ms",
        "--log-path", log_file, "--log-level", "warn", "--file-log-level", "debug",
    )  # fmt: skip
    coordinator = site.start(*options)
    await eventually(lambda: secret_file.exists() and fetched_ready(site) == 200, seconds=60)
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    assert fetched(f"{site.http}/connect")[1]["nats"] == public_nats
    with SyncMitoClient(site.client_config()) as client:
        source = tmp_path / "file"
        source.write_bytes(b"content")
        client.upload_attachment(source, "file")
        assert client.get_attachment_link("root", "file").url.startswith(f"{public_s3}/")
        for _ in range(8):
            client.submit_task(SubmitTaskArgs(command=("true",)))
        projectors = [p for p in site.processes() if "projector" in command_of(p)]
        assert projectors
        for projector in projectors:
            os.kill(projector, signal.SIGSTOP)
        try:
            await asyncio.to_thread(client.submit_task, SubmitTaskArgs(command=("true",)))
            await eventually(lambda: fetched_ready(site) == 503, seconds=10)
            assert "lag" in str(fetched(f"{site.http}/ready")[1])
        finally:
            for projector in projectors:
                os.kill(projector, signal.SIGCONT)
        signed = GetEventsArgs(kind="platform", events=("platform.checkpoint_signed",))
        await eventually(lambda: client.get_events(signed).commits, seconds=30)
    await eventually(lambda: "snapshot at position" in log_file.read_text(), seconds=30)
    log = log_file.read_text()
    assert re.search(r" DEBUG .*: task\.submit by root: ok after 0\.\d+ s", log)
    assert "INFO" in log
    assert not {"DEBUG", "INFO"} & set(coordinator.err.split()), "only warnings and worse"
    with SyncMitoClient(site.client_config()) as client:
        client.shutdown(secret_file.read_text().strip())
    assert coordinator.wait() == 0


def fetched_ready(site: Site) -> int:
    """Status of `/ready`; 0: nobody answers."""
    try:
        return fetched(f"{site.http}/ready")[0]
    except OSError:
        return 0
