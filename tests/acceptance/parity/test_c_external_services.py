"""What a coordinator stands on: Postgres, S3, NATS, the key pair, and the files to start them."""

import hashlib
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.domain.task import ArtifactKind, Outcome
from mitosis.services.platform.ports import free_ports

from ..conftest import Platform, ended, in_shell
from .composed import ROOT, Defaults
from .coordinators import Lab
from .default_addresses import published, services, variables_of


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


@pytest.mark.parity("S-028")
def test_the_compose_file_starts_nats_postgres_and_s3_as_the_defaults_expect_them(
    defaults: Defaults,
) -> None:
    """With its commands, variables and ports; a coordinator without settings served on them."""
    found = services(ROOT, {**variables_of(ROOT / ".env.example"), "NATS_ISSUER": "A"})
    assert set(found) == {"nats", "postgres", "s3"}
    assert {name: published(one)[0] for name, one in found.items()} == {
        "nats": 4222, "postgres": 5432, "s3": 9000,
    }  # fmt: skip
    for service in found.values():
        assert service["image"]
        assert service["restart"] == "unless-stopped"
        assert any(":/" in volume for volume in service["volumes"])
    assert "ready" in defaults.said, defaults.err
    ready = json.loads(defaults.said["ready"])
    assert {name: check["ok"] for name, check in ready["checks"].items()} == {
        "nats": True, "postgres": True, "s3": True, "projection": True,
    }  # fmt: skip
    assert "acknowledges before it has synced" not in defaults.err


@pytest.mark.parity("S-029")
def test_there_is_a_template_of_the_variables() -> None:
    template = ROOT / ".env.example"
    names = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert names == {*variables_of(template), "NATS_ISSUER"}
    assert "NATS_ISSUER=" in template.read_text()
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


DEFAULT = CoordinatorConfig()


@pytest.mark.parametrize(
    ("variable", "default"),
    [
        pytest.param("DB_USERNAME", "mitosis", marks=pytest.mark.parity("S-030")),
        pytest.param("DB_PASSWORD", "mitosis", marks=pytest.mark.parity("S-031")),
        pytest.param("S3_USERNAME", DEFAULT.s3_access_key, marks=pytest.mark.parity("S-032")),
        pytest.param("S3_PASSWORD", DEFAULT.s3_secret_key, marks=pytest.mark.parity("S-033")),
        pytest.param("KV_PASSWORD", DEFAULT.nats_password, marks=pytest.mark.parity("S-034")),
    ],
)
def test_a_variable_of_the_template_is_used_and_is_the_default(variable: str, default: str) -> None:
    values = variables_of(ROOT / ".env.example")
    assert values[variable] == default
    other = services(ROOT, {**values, "NATS_ISSUER": "A", variable: "another-value"})
    used = [v for one in other.values() for v in one["environment"].values()]
    assert used.count("another-value") == 1
    if variable.startswith("DB"):
        assert f"//{values['DB_USERNAME']}:{values['DB_PASSWORD']}@" in DEFAULT.db_url


def _spoiled(site: Lab, folder: Path) -> dict[str, tuple[Path, str]]:
    """Key files that cannot be the private key, each with what it is called."""
    own = site.keys / "private.pem"
    made = {
        "p256": ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", "an EC key"),
        "encrypted": (f"pkey -in {own} -aes256 -passout pass:hush-hush", "an encrypted key"),
        "der": (f"pkey -in {own} -outform DER", "a key in DER form"),
    }
    for name, (command, _) in made.items():
        run = ["openssl", *command.split(), "-out", str(folder / name)]
        subprocess.run(run, check=True, capture_output=True)
    found = {name: (folder / name, what) for name, (_, what) in made.items()}
    (folder / "label").write_text(own.read_text().replace("PRIVATE", "ED25519 PRIVATE"))
    return found | {"label": (folder / "label", "labelled 'ED25519 PRIVATE KEY'")}


def _foreign(folder: Path) -> Path:
    """The public key of another pair."""
    private, public = folder / "other.pem", folder / "other-public.pem"
    for command in (
        f"openssl genpkey -algorithm ed25519 -out {private}",
        f"openssl pkey -in {private} -pubout -out {public}",
    ):
        subprocess.run(command.split(), check=True, capture_output=True)
    return public


@pytest.mark.parity("R-23")
def test_a_key_file_of_another_kind_ends_the_start_with_its_name_and_how_to_make_one(
    by_file: Lab, tmp_path: Path
) -> None:
    """Files of every other kind and manner: tests/unit/auth/test_key_files.py."""
    spoiled = _spoiled(by_file, tmp_path)
    text = (by_file.keys / "private.pem").read_text()
    good = tmp_path / "good"
    good.write_bytes(b"\xef\xbb\xbf# a comment\r\n" + text.replace("\n", "").encode())
    start = ("coordinator", "--config", by_file.config, "--bind", "127.0.0.1:0")
    settings = by_file.write("good.toml", access_token_private_path=str(good))
    *refused, wrong_pair, written = by_file.run_all([
        *([*start, "--access-token-private-path", path] for path, _ in spoiled.values()),
        [*start, "--access-token-public-path", _foreign(tmp_path)],
        ["nats-config", "--issuer", "--config", settings],
    ])  # fmt: skip
    assert (written.status, written.text[0]) == (0, "A")  # on one line, with a mark and a comment
    for done, (path, what) in zip(refused, spoiled.values(), strict=True):
        said = done.err.splitlines()[-1]
        assert done.status == 1, done.err
        assert f"{str(path)!r} is {what}" in said
        assert f"openssl genpkey -algorithm ed25519 -out {path}" in said
    assert wrong_pair.status == 1
    assert "of another pair" in wrong_pair.err
    for done in (*refused, wrong_pair):
        assert "Traceback" not in done.err
        assert text.splitlines()[1] not in done.err
