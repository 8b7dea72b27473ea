"""What a coordinator stands on: Postgres, S3, NATS, the key pair, and the files to start them."""

import hashlib
import tarfile
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.domain.task import ArtifactKind, Outcome
from mitosis.services.platform.ports import free_ports

from ..conftest import Platform, ended, in_shell
from .coordinators import Lab


@pytest.mark.parity("S-025")
def test_a_coordinator_without_postgres_or_nats_ends_with_status_6_and_says_which(
    by_file: Lab,
) -> None:
    (port,) = free_ports(1)
    dead = {
        "db_url": f"postgres://mitosis:hush-hush@127.0.0.1:{port}/mitosis",
        "nats_url": f"nats://127.0.0.1:{port}",
    }
    keys = {"access_token_private_path": "keys/private.pem",
            "access_token_public_path": "keys/public.pem"}  # fmt: skip
    bind = {"bind": "127.0.0.1:0"}
    commands = [
        ["coordinator", "--config",
         by_file.write(f"{key}.toml", **{**by_file.values, **keys, **bind, key: url})]
        for key, url in dead.items()
    ]  # fmt: skip
    for done, key in zip(by_file.run_all(commands), dead, strict=True):
        assert done.status == 6, done
        assert key in done.complaint
        assert f"127.0.0.1:{port}" in done.complaint
        assert "hush-hush" not in done.err


@pytest.mark.parity("S-026")
def test_an_output_goes_to_the_object_store_and_comes_back(
    platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> None:
    (view,) = ended(
        admin,
        in_shell("head -c 70000 /dev/urandom | tee $MITO_RESULT_DIR/x | sha256sum", terminal=True),
    )
    assert view.outcome is Outcome.SUCCEEDED
    for kind in (ArtifactKind.RESULT, ArtifactKind.STD_LOG):
        admin.get_artifact(view.uuid, kind, tmp_path)
    with tarfile.open(tmp_path / "result.tar.gz") as result:
        data = result.extractfile("result/x").read()  # type: ignore[union-attr]
    with tarfile.open(tmp_path / "std-log.tar.gz") as log:
        said = log.extractfile("std-log/stdout.log").read()  # type: ignore[union-attr]
    assert len(data) == 70_000
    assert said.split()[0].decode() == hashlib.sha256(data).hexdigest()


@pytest.mark.parity("S-027")
def test_without_any_setting_of_redis_tasks_are_submitted_executed_and_shown(
    platform: Platform, admin: SyncMitoClient
) -> None:
    settings = (platform.data / "config" / "coordinator.toml").read_text()
    assert "redis" not in settings
    (view,) = ended(admin, in_shell("exit 0"))
    assert view.outcome is Outcome.SUCCEEDED
    assert admin.get_task(view.uuid).state is view.state


@pytest.mark.parity("S-035")
def test_tokens_signed_with_the_openssl_private_key_verify_with_its_public_key(
    by_file: Lab,
) -> None:
    claims = by_file.login()  # decodes the stored token with public.pem
    assert (claims["sub"], claims["typ"]) == (by_file.user, "user")
    assert "BEGIN PRIVATE KEY" in (by_file.keys / "private.pem").read_text()


@pytest.mark.parity("S-036")
def test_a_coordinator_without_its_key_pair_does_not_start(by_file: Lab) -> None:
    bind = ("--bind", "127.0.0.1:0")
    commands = [
        ["coordinator", "--config", by_file.config, *bind, f"--access-token-{half}-path", "no.pem"]
        for half in ("private", "public")
    ]
    for done, half in zip(by_file.run_all(commands), ("private", "public"), strict=True):
        assert done.status == 1
        said = done.err.splitlines()[-1]
        assert f"access_token_{half}_path" in said
        assert f"there is no file '{by_file.folder / 'no.pem'}'" in said
        assert "openssl" in said
