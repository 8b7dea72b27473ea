"""Another key pair for a platform that is in use: what the former one has signed stays proved."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.domain.task import Outcome
from mitosis.testing.servers import S3Server

from .conftest import Done, Running, Site, in_shell
from .test_following import wait_for


@pytest.fixture
def site(database: str, s3_server: S3Server) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    made = Site(folder, database, s3_server)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


async def coordinator_of(site: Site) -> Running:
    running = site.start("coordinator", "--config", site.config)
    await running.says("serving")
    return running


def events(site: Site, *arguments: str | Path) -> Done:
    return site.run("events", *arguments)


@pytest.mark.timeout(240)
async def test_what_the_former_key_has_signed_stays_proved_and_work_goes_on_with_the_new_one(
    site: Site, tmp_path: Path
) -> None:
    """By the steps of docs/operations.md, while a task runs; and what an auditor has afterwards."""
    server = site.start_nats(config := site.nats_config())
    coordinator = await coordinator_of(site)
    worker = site.start(
        "worker", "--coordinator", site.http, "-u", "root", "--work-dir", "work",
        MITO_PASSWORD=site.admin_password,
    )  # fmt: skip
    await worker.says("-")
    public = site.folder / "public.pem"
    go, old_key, old_export = tmp_path / "go", tmp_path / "old.pem", tmp_path / "old.jsonl"
    shutil.copy(public, old_key)
    with SyncMitoClient(site.client_config()) as client:
        runs = client.submit_task(in_shell(f"{wait_for(go)}; echo still here"))
        secret = client.submit_task(SubmitTaskArgs(command=("true",), secret_envs={"A": "1234"}))
    # Of its own: the worker keeps the sessions of its user in the usual file.
    mito = ("client", "-c", site.http, "--credential-path", tmp_path / "credentials")
    assert site.run(*mito, "auth", "root", site.admin_password).status == 0
    assert coordinator.stop() == 0  # it signs what is not covered yet
    before = events(site, "verify", "--config", site.config, "--json").json
    assert (before["found"], before["unproved"]) == (0, 0)
    assert events(site, "export", "--config", site.config, "-o", old_export).status == 0

    # The new pair in the place of the old one; NATS needs a restart for another issuer.
    site._make_keys()
    assert public.read_bytes() != old_key.read_bytes()
    assert site.nats_config() == config
    server.stop()
    site.start_nats(config)
    coordinator = await coordinator_of(site)
    expired = site.run(*mito, "get", "groups")
    assert (expired.status, "log in" in expired.complaint) == (4, True), expired
    with SyncMitoClient(site.client_config()) as client:
        go.touch()
        view, unreadable = client.wait_for_tasks([runs, secret])
        # The worker's token was of the former key: it registers anew, and begins again.
        assert (view.outcome, view.attempt, view.losses) == (Outcome.SUCCEEDED, 2, 1)
        assert view.exit is not None
        assert view.exit.stdout_tail == "still here\n"
        assert unreadable.outcome is Outcome.ERROR
        assert "private key of the platform is another one" in unreadable.reason
    assert worker.stop() == 0
    assert coordinator.stop() == 0

    told = events(site, "public-keys", "--config", site.config, "--json").json["keys"]
    assert [one["public_key"].encode() for one in told] == [
        old_key.read_bytes(), public.read_bytes(),
    ]  # fmt: skip
    first, second = told
    assert (first["former"], second["former"]) == ("", first["key"])
    (keys := tmp_path / "keys.pem").write_bytes(
        events(site, "public-keys", "--config", site.config).out
    )
    assert events(site, "export", "--config", site.config, "-o", tmp_path / "new.jsonl").status == 0
    offline = ("verify", "--export", tmp_path / "new.jsonl", "--json")
    for given in ((keys,), (old_key, public), (public,)):
        options = [option for path in given for option in ("--key", path)]
        done = events(site, *offline, *options, "--checkpoint", before["end"])
        assert (done.status, done.json["found"], done.json["unproved"]) == (0, 0, 0), done
        assert done.json["proved_from"] == 1
        seen = {one["key"]: (one["given"], one["checkpoints"] > 0) for one in done.json["keys"]}
        assert seen == {first["key"]: (public not in given or old_key in given, True),
                        second["key"]: (True, True)}  # fmt: skip
    with_archive = events(site, "verify", "--config", site.config, "--json")
    assert (with_archive.status, with_archive.json["found"]) == (0, 0)
    # Who has the former key alone: what it signed holds, the rest is named.
    done = events(site, *offline, "--key", old_key)
    (finding,) = done.json["findings"]
    assert (done.status, finding["kind"]) == (1, "key")
    assert (finding["first"], finding["last"] > second["position"]) == (before["proved"] + 1, True)
    assert done.json["proved"] == before["proved"]
    # And an export of then is proved by the key of then, as ever.
    done = events(site, "verify", "--export", old_export, "--key", old_key, "--json")
    assert (done.status, done.json["unproved"]) == (0, 0)
    # A checkpoint of the former key still finds what is changed under it.
    forged = tmp_path / "forged.jsonl"
    forged.write_text(
        (tmp_path / "new.jsonl").read_text().replace("echo still here", "echo other here")
    )
    done = events(site, "verify", "--export", forged, "--key", keys, "--json")
    (place,) = [one for one in done.json["findings"] if one["kind"] == "checkpoint"]
    assert place["first"] <= place["last"] <= before["position"]
