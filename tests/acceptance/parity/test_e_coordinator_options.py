"""Options of `mito coordinator`: each wins over a file and variables that say something else."""

import re
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mitosis._version import __version__
from mitosis.errors import AuthenticationFailed
from mitosis.testing.waiting import eventually

from ..conftest import Home
from .coordinators import Lab, in_loop


@pytest.mark.parity("S-059")
def test_bind_on_the_command_line_wins_over_file_and_variables(by_options: Lab) -> None:
    assert by_options.get("/health")[0] == 200
    written = re.search(r'bind = "(.*)"', by_options.config.read_text())
    assert written is not None
    assert by_options.get("/health", base=f"http://{written[1]}")[0] == 0


@pytest.mark.parity("S-060")
def test_db_s3_and_redis_are_named_otherwise_than_their_keys(by_options: Lab) -> None:
    """Started with --db, --s3 and --redis; the names of the keys are no options."""
    assert by_options.get("/ready")[0] == 200
    home = Home(by_options.root / "other")
    commands = [["coordinator", f"--{key}-url", "x"] for key in ("db", "s3", "redis")]
    for done in home.run_all(commands):
        assert done.status == 2


@pytest.mark.parity("S-061")
def test_a_port_in_use_is_an_error(by_options: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        values = by_options.values
        done = by_options.run(
            "coordinator", "-b", address, "--db", values["db_url"],
            "--access-token-private-path", "keys/private.pem",
            "--access-token-public-path", "keys/public.pem",
        )  # fmt: skip
    assert done.status == 1
    assert f"cannot listen on {address}: Address already in use" in done.err.splitlines()[-1]


@pytest.mark.parity("S-062")
@pytest.mark.parity("D-099")
def test_a_named_file_that_is_missing_is_an_error_and_none_is_searched_for_above(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    (tmp_path / "config.toml").write_text('[coordinator]\nbind = "9.9.9.9:9"\n')
    missing, upward = home.run_all([
        ["coordinator", "--config", "nowhere.toml"], ["config", "show", "--json", "coordinator"],
    ])  # fmt: skip
    assert missing.status == 2
    assert f"{home.folder / 'nowhere.toml'} cannot be read" in missing.complaint
    shown = {one["key"]: one for one in upward.json["settings"]}
    assert shown["bind"]["origin"] == "default"
    (home.folder / "config.toml").write_text('[coordinator]\nbind = "8.8.8.8:8"\n')
    shown = {one["key"]: one for one in home.run("config", "show", "--json").json["settings"]}
    assert shown["bind"]["value"] == "8.8.8.8:8"


@pytest.mark.parity("S-063")
def test_db_is_where_the_read_models_are(by_options: Lab) -> None:
    by_options.login()
    in_loop(lambda: by_options.sql("SELECT max(position) FROM views.position") > 0)


@pytest.mark.parametrize(
    "option",
    [
        pytest.param("--s3", marks=pytest.mark.parity("S-064")),
        pytest.param("--s3-access-key", marks=pytest.mark.parity("S-065")),
        pytest.param("--s3-secret-key", marks=pytest.mark.parity("S-066")),
    ],
)
def test_an_option_of_the_object_store_wins(by_options: Lab, option: str) -> None:
    """The other way round each makes the start fail: the wrong value of one option suffices.

    A store that does not answer is said only: this platform has a history, and goes on without.
    """
    assert by_options.get("/ready")[0] == 200  # asks the store
    values = by_options.values
    right = {
        "--s3": values["s3_url"],
        "--s3-access-key": values["s3_access_key"],
        "--s3-secret-key": values["s3_secret_key"],
    }
    wrong = {**right, option: "http://127.0.0.1:9" if option == "--s3" else "hush-hush"}
    second = by_options.start(
        "coordinator", "--bind", "127.0.0.1:0", "--db", values["db_url"],
        "--nats", values["nats_url"], "--nats-password", by_options.secret,
        "--nats-system-password", by_options.secret, *(x for pair in wrong.items() for x in pair),
        "--access-token-private-path", "keys/private.pem",
        "--access-token-public-path", "keys/public.pem",
        **{"MITO_" + key.upper(): values[key]
           for key in ("s3_url", "s3_access_key", "s3_secret_key")},
    )  # fmt: skip
    if option == "--s3":
        in_loop(lambda: "waiting as standby" in second.err)
        assert "no answer from the S3 store at http://127.0.0.1:9 " in second.err
        assert second.stop() == 0
    else:
        assert second.wait() == 1
        assert option[2:].replace("-", "_") in second.err
    assert "hush-hush" not in second.err


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("redis_url", marks=pytest.mark.parity("S-067")),
        pytest.param("redis_worker_password", marks=pytest.mark.parity("S-068")),
        pytest.param("redis_client_password", marks=pytest.mark.parity("S-069")),
    ],
)
def test_an_option_of_redis_is_accepted_with_a_warning(by_options: Lab, key: str) -> None:
    assert by_options.running is not None
    assert f"mito: {key} is accepted but not used" in by_options.running.err
    assert "hush-hush" not in by_options.running.err


@pytest.mark.parity("S-070")
def test_admin_user_is_who_is_created(by_options: Lab) -> None:
    claims = by_options.login()
    assert claims["sub"] == "boss"
    for other in ("of-the-file", "mitosis_admin"):
        with pytest.raises(AuthenticationFailed):
            by_options.login(other, "of-the-file")


@pytest.mark.parity("S-071")
def test_admin_password_is_the_one_of_the_option(by_options: Lab) -> None:
    by_options.login("boss", "of-the-option")
    for other in ("of-the-file", "of-the-variable", "mitosis_admin"):
        with pytest.raises(AuthenticationFailed):
            by_options.login("boss", other)


@pytest.mark.parity("S-072")
@pytest.mark.parity("S-073")
def test_the_key_paths_of_the_options_are_the_ones_in_use(by_options: Lab) -> None:
    assert "none.pem" in by_options.config.read_text()
    assert by_options.login()["iss"] == "mitosis"  # verified with keys/public.pem


@pytest.mark.parity("S-074")
def test_access_token_expires_in_is_the_life_of_a_session(by_options: Lab) -> None:
    claims = by_options.login()
    assert claims["exp"] - claims["iat"] == 3600


@pytest.mark.parity("S-075")
async def test_heartbeat_timeout_is_the_lease_and_sets_the_pace_of_renewals(
    by_options: Lab,
) -> None:
    """Two seconds: a renewal each half second. By the file it would be one in five minutes."""
    worker = by_options.start(
        "worker", "-c", by_options.http, "--work-dir", "renewing",
        MITO_USER=by_options.user, MITO_PASSWORD=by_options.password,
    )  # fmt: skip
    try:
        await worker.says("registered as worker")
        name = 'mitosis_commands_total{result="ok",verb="renew"}'
        before = by_options.metric(name)
        await eventually(lambda: by_options.metric(name) >= before + 4, seconds=15)
    finally:
        worker.stop()


@pytest.mark.parity("S-076")
def test_log_path_is_exactly_the_file(by_options: Lab) -> None:
    """A start that fails has said why in the file as well."""
    path = by_options.folder / "deep" / "er" / "exact.log"
    before = by_options.logs()
    done = by_options.run(
        "coordinator", "--config", by_options.config, "--log-path", path, "--db",
        by_options.values["db_url"],
    )  # fmt: skip
    assert done.status == 1
    assert done.complaint.removeprefix("mito: ") in path.read_text()
    assert [p.name for p in path.parent.iterdir()] == ["exact.log"]
    assert set(by_options.logs()) == set(before)


@pytest.mark.parity("S-077")
def test_file_log_writes_the_default_file_although_the_settings_file_says_no(
    by_options: Lab,
) -> None:
    assert "file_log = false" in by_options.config.read_text()
    (name,) = by_options.logs()
    day = name.removeprefix(f"{by_options.values['bind']}.log.")
    assert abs((datetime.now(UTC).date() - datetime.fromisoformat(day).date()).days) <= 1
    assert "serving" in by_options.logs()[name]


SEED_OPTIONS = (
    "--bind", "-b", "--config", "--db", "--s3", "--s3-access-key", "--s3-secret-key", "--redis",
    "--redis-worker-password", "--redis-client-password", "--admin-user", "--admin-password",
    "--access-token-private-path", "--access-token-public-path", "--access-token-expires-in",
    "--heartbeat-timeout", "--log-path", "--file-log", "--help", "-h", "--version", "-V",
)  # fmt: skip


@pytest.mark.parity("S-078")
def test_help_of_the_coordinator_shows_usage_and_every_option(tmp_path: Path) -> None:
    home = Home(tmp_path)
    short, long = home.run_all([["coordinator", "-h"], ["coordinator", "--help"]])
    assert (short.status, long.status) == (0, 0)
    assert short.out == long.out
    assert "Usage: mito coordinator [OPTIONS]" in long.text
    words = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*|-V\b", long.text))
    assert [option for option in SEED_OPTIONS if option not in words] == []


@pytest.mark.parity("S-079")
def test_version_is_printed_at_every_level(tmp_path: Path) -> None:
    home = Home(tmp_path)
    levels = [[], ["worker"], ["client"], ["client", "create", "user"]]
    commands = [["coordinator", "-V"], *([*level, "--version"] for level in levels)]
    for done in home.run_all(commands):
        assert (done.status, done.text) == (0, f"mito {__version__}")


@pytest.mark.parity("S-001")
def test_one_executable_has_the_three_kinds_of_processes(tmp_path: Path) -> None:
    home = Home(tmp_path)
    top, *each = home.run_all(
        [["--help"], *([kind, "--help"] for kind in ("coordinator", "worker", "client"))]
    )
    for kind, done in zip(("coordinator", "worker", "client"), each, strict=True):
        assert re.search(rf"^\s*{kind}[:\s]", top.text, re.MULTILINE)
        assert done.status == 0
        assert f"Usage: mito {kind}" in done.text
