"""Keys of [coordinator] in a settings file: each does what it says."""

import contextlib
import json
import shutil
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from minio import Minio

from mitosis import ClientConfig, SyncMitoClient
from mitosis.contract.commands import Submitted
from mitosis.contract.queries import TaskView
from mitosis.domain.task import Outcome, TaskState
from mitosis.errors import AuthenticationFailed
from mitosis.testing.waiting import eventually

from ..conftest import Home, in_shell
from .composed import Defaults
from .coordinators import DEFAULT_ADMIN, Lab, in_loop, serve_by_file, until

ROOT = Path(__file__).parents[3]


@pytest.mark.parity("S-037")
@pytest.mark.parity("S-058")
def test_a_coordinator_started_with_a_file_serves_by_its_values(by_file: Lab) -> None:
    assert json.loads(by_file.get("/health")[1]) == {"status": "ok"}
    answer = json.loads(by_file.get("/ready")[1])
    assert (answer["ready"], answer["active"], answer["nats_url"]) == (True, True, by_file.nats)


@pytest.mark.parity("S-038")
def test_an_empty_file_starts_with_the_services_at_their_default_addresses(
    defaults: Defaults,
) -> None:
    assert "ready" in defaults.said, defaults.err
    ready = json.loads(defaults.said["ready"])
    assert ready["ready"] is True
    assert set(ready["checks"]) == {"nats", "postgres", "s3", "projection"}
    assert defaults.said["status"] == "0"


@pytest.mark.parity("S-048")
@pytest.mark.parity("S-049")
def test_the_default_administrator_logs_in_on_a_fresh_store(defaults: Defaults) -> None:
    assert "login" in defaults.said, defaults.err
    who = json.loads(defaults.said["login"])
    assert (who["username"], who["admin"]) == ("mitosis_admin", True)


@pytest.mark.parity("S-039")
def test_the_example_file_is_the_defaults(tmp_path: Path) -> None:
    home = Home(tmp_path)
    shutil.copy(ROOT / "config.example.toml", home.folder / "example.toml")
    example, default = home.run_all([
        ["config", "show", "--json", "--config", "example.toml"], ["config", "show", "--json"],
    ])  # fmt: skip
    assert (example.status, default.status) == (0, 0), example
    shown = [
        {(one["section"], one["key"]): one["value"] for one in done.json["settings"]}
        for done in (example, default)
    ]
    for (section, key), value in shown[1].items():
        found = shown[0][section, key]
        if isinstance(value, str) and key.endswith("_path"):  # paths are relative to the file
            found = found.removeprefix(f"{home.folder}/")
        assert found == value, key
    keys = {one["key"] for one in example.json["settings"] if one["origin"] != "default"}
    assert {"bind", "db_url", "access_token_expires_in", "polling_interval"} <= keys


@pytest.mark.parity("S-040")
def test_bind_is_where_the_endpoint_listens(by_file: Lab) -> None:
    port = by_file.values["bind"].rpartition(":")[2]
    assert by_file.get("/health", base=f"http://127.0.0.1:{port}")[0] == 200


@pytest.mark.parity("S-041")
def test_db_url_is_where_the_read_models_are(by_file: Lab) -> None:
    by_file.login()
    newest = json.loads(by_file.get("/ready")[1])["position"]
    assert newest > 0
    position = "SELECT max(position) FROM views.position"
    in_loop(lambda: by_file.sql(position) >= newest)


@pytest.mark.parity("S-042")
def test_s3_url_is_where_the_buckets_are_made(by_file: Lab) -> None:
    values = by_file.values
    store = Minio(
        values["s3_url"].removeprefix("http://"), values["s3_access_key"],
        values["s3_secret_key"], secure=False,
    )  # fmt: skip
    buckets = {bucket.name for bucket in store.list_buckets()}
    assert {values["artifacts_bucket"], values["attachments_bucket"]} <= buckets


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("s3_access_key", marks=pytest.mark.parity("S-043")),
        pytest.param("s3_secret_key", marks=pytest.mark.parity("S-044")),
    ],
)
def test_a_wrong_key_of_the_object_store_is_an_error_at_the_start(by_file: Lab, key: str) -> None:
    path = by_file.write(
        "wrong-key.toml",
        **{**by_file.values, key: "hush-hush-wrong", "bind": "127.0.0.1:0"},
        access_token_private_path="keys/private.pem",
        access_token_public_path="keys/public.pem",
    )
    done = by_file.run("coordinator", "--config", path)
    assert done.status == 1
    said = done.err.splitlines()[-1]
    assert key in said
    assert by_file.values["s3_url"] in said
    assert "hush-hush" not in done.err


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("redis_url", marks=pytest.mark.parity("S-045")),
        pytest.param("redis_worker_password", marks=pytest.mark.parity("S-046")),
        pytest.param("redis_client_password", marks=pytest.mark.parity("S-047")),
    ],
)
def test_a_setting_of_redis_is_accepted_with_a_warning(by_file: Lab, key: str) -> None:
    assert by_file.running is not None
    said = by_file.running.err
    assert f"mito: {key} is accepted but not used: live states travel on NATS\n" in said
    assert "hush-hush" not in said


@pytest.mark.parity("S-051")
@pytest.mark.parity("S-052")
def test_key_paths_are_relative_to_the_file(by_file: Lab, tmp_path: Path) -> None:
    """The file says keys/private.pem; the coordinator was started elsewhere than in keys/."""
    assert 'path = "keys/private.pem"' in by_file.config.read_text()
    assert by_file.login()["sub"] == by_file.user
    done = by_file.run("nats-config", "--config", by_file.config)
    assert done.status == 0  # the issuer is derived from the same key
    other = tmp_path / "moved.toml"
    other.write_text(by_file.config.read_text())
    done = by_file.run("nats-config", "--config", other)
    assert done.status == 1
    assert str(tmp_path / "keys" / "private.pem") in done.complaint
    # The public one: the private one is there now.
    shutil.copytree(by_file.config.parent / "keys", tmp_path / "keys")
    (tmp_path / "keys" / "public.pem").unlink()
    done = by_file.run("coordinator", "--config", other)
    assert done.status == 1
    assert str(tmp_path / "keys" / "public.pem") in done.err


@pytest.mark.parity("S-053")
def test_a_session_is_over_when_access_token_expires_in_says_so(by_file: Lab) -> None:
    credentials = by_file.folder / "short"
    as_user = ("--credential-path", credentials)
    assert by_file.client(*as_user, "auth", by_file.user, by_file.password).status == 0
    config = ClientConfig(coordinator_addr=by_file.http, credential_path=credentials)
    claims = by_file.login()
    assert claims["exp"] - claims["iat"] == 5
    until(claims["exp"] + 0.5)
    with (
        pytest.raises(AuthenticationFailed, match="log in again"),
        SyncMitoClient(config) as client,
    ):
        client.whoami()
    assert by_file.client(*as_user, "get", "groups").status == 4


@pytest.mark.parity("S-054")
async def test_a_worker_silent_for_heartbeat_timeout_is_removed_and_its_task_requeued(
    by_file: Lab,
) -> None:
    worker = by_file.start(
        "worker", "-c", by_file.http, "--work-dir", "frozen", "--lifetime", "1h",
        MITO_USER=by_file.user, MITO_PASSWORD=by_file.password,
    )  # fmt: skip
    await worker.says("registered as worker")
    config = ClientConfig(
        coordinator_addr=by_file.http, credential_path=by_file.folder / "watcher",
        user=by_file.user, password=by_file.password,
    )  # fmt: skip
    with contextlib.closing(SyncMitoClient(config)) as client:
        task = client.submit_task(in_shell("sleep 1000")).task
        await eventually(lambda: client.get_task(task).state is TaskState.RUNNING)
        frozen_at = time.monotonic()
        worker.process.send_signal(signal.SIGSTOP)
        try:
            await eventually(lambda: client.get_task(task).state is TaskState.READY, seconds=30)
            took = time.monotonic() - frozen_at
            assert client.get_workers().workers == []
            assert took >= 1.0  # not at the first missed word, but when the lease is over
            client.cancel_task(task)
        finally:
            worker.close()


@pytest.mark.long
@pytest.mark.parity("F-40")
async def test_a_task_that_runs_for_many_leases_is_begun_once_however_many_workers_are_idle(
    by_file: Lab, tmp_path: Path, scaled: Callable[[int, int], int]
) -> None:
    """A broker gave work to the others when it had not been acknowledged within its window."""
    config = ClientConfig(
        coordinator_addr=by_file.http, credential_path=by_file.folder / "long-runner",
        user=by_file.user, password=by_file.password,
    )  # fmt: skip
    seconds, runs = scaled(8, 90), tmp_path / "runs"
    workers = [
        by_file.start(
            "worker", "-c", by_file.http, "--work-dir", f"idle-{number}", "--lifetime", "1h",
            MITO_USER=by_file.user, MITO_PASSWORD=by_file.password,
        )
        for number in range(scaled(2, 4))
    ]  # fmt: skip
    try:
        for worker in workers:
            await worker.says("registered as worker")
        with contextlib.closing(SyncMitoClient(config)) as client:
            wanted = in_shell(f"echo x >> {runs}; sleep {seconds}", timeout="5min", key="once")

            def submitted() -> Submitted | None:
                try:
                    return client.submit_task(wanted)
                except AuthenticationFailed:  # a session lasts some seconds here: again
                    return None

            task = await eventually(submitted)
            assert task is not None
            heard: set[datetime | None] = set()
            views: list[TaskView] = []

            def is_over() -> bool:
                try:
                    views.append(view := client.get_task(task.task))
                    if view.worker is not None and not view.state.terminal:
                        heard.add(client.get_worker(view.worker).last_heartbeat_at)
                except AuthenticationFailed:
                    return False
                return view.state.terminal

            await eventually(is_over, seconds=seconds + 60)
            view = views[-1]
        assert (view.outcome, view.attempt, view.losses) == (Outcome.SUCCEEDED, 1, 0)
        assert runs.read_text() == "x\n"
        assert len(heard) > seconds / 3.0, "it went on through renewals of its lease of 3 s"
    finally:
        for worker in workers:
            worker.close()


@pytest.mark.parity("S-055")
@pytest.mark.parity("V-035")
def test_file_log_writes_a_dated_file_named_by_the_bind_address(by_file: Lab) -> None:
    files = by_file.logs()
    days = {datetime.now(UTC).date().isoformat(), by_file_started_day(files)}
    assert set(files) <= {f"{by_file.values['bind']}.log.{day}" for day in days}
    assert "serving" in "".join(files.values())
    assert "projecting into" in "".join(by_file.logs("projector").values())


def by_file_started_day(files: dict[str, str]) -> str:
    """The day in the name of the first file: a test may run over midnight."""
    return min(files).rpartition(".")[2]


@pytest.mark.parity("V-037")
def test_the_level_variables_of_the_original_set_terminal_and_file_apart(by_file: Lab) -> None:
    """Started with RUST_LOG=warn and MITO_FILE_LOG_LEVEL=info."""
    assert by_file.running is not None
    assert " WARNING " in by_file.running.err
    assert " INFO " not in by_file.running.err
    assert " INFO " in "".join(by_file.logs().values())


DURATIONS = {
    "7d": "7d", "600s": "10m", "3m": "3m", "5m": "5m", "10min": "10m", "1year": "365d 6h",
    "1h 30m": "1h 30m", "1h30m": "1h 30m", "500ms": "0.5s", "2 weeks": "14d",
}  # fmt: skip
NO_DURATIONS = [
    "abc", "-3s", "", "7", "0s", "1 fortnight", "1e9d", "3s-", "999999years", "01:30:00",
]  # fmt: skip


@pytest.mark.parity("S-057")
def test_durations_are_read_as_people_write_them_and_nonsense_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    keys = [("coordinator", "access_token_expires_in"), ("coordinator", "heartbeat_timeout"),
            ("worker", "polling_interval"), ("worker", "heartbeat_interval"),
            ("worker", "lifetime"), ("client", "timeout")]  # fmt: skip

    def write(name: str, texts: list[str]) -> Path:
        tables: dict[str, list[str]] = {}
        for (section, key), text in zip(keys, texts, strict=False):
            tables.setdefault(section, []).append(f"{key} = {json.dumps(text)}")
        path = home.folder / name
        path.write_text("\n".join(f"[{t}]\n" + "\n".join(rows) for t, rows in tables.items()))
        return path

    def some(texts: list[str]) -> list[list[str]]:
        return [texts[at : at + len(keys)] for at in range(0, len(texts), len(keys))]

    good = some(list(DURATIONS))
    bad = some(NO_DURATIONS)
    shown = home.run_all(
        [["config", "show", "--json", "--config", write(f"g{n}", t)] for n, t in enumerate(good)]
    )
    for texts, done in zip(good, shown, strict=True):
        values = {(one["section"], one["key"]): one["value"] for one in done.json["settings"]}
        assert [values[key] for key, _ in zip(keys, texts, strict=False)] == [
            DURATIONS[text] for text in texts
        ]
    checked = home.run_all([["config", "check", write(f"b{n}", t)] for n, t in enumerate(bad)])
    for texts, done in zip(bad, checked, strict=True):
        assert done.status == 2
        assert len(done.err.splitlines()) == len(texts), done.err
        for text in texts:
            assert f"{text!r}: " in done.err


ROUTES = ("/login", "/user/auth", "/user/tasks", "/user/artifacts", "/groups/x", "/worker/x",
          "/admin/shutdown", "/user/redis", "/")  # fmt: skip


@pytest.mark.parity("V-039")
def test_the_endpoint_serves_health_metrics_and_discovery_and_nothing_else(by_file: Lab) -> None:
    for path in ("/health", "/ready", "/metrics", "/connect"):
        assert by_file.get(path)[0] == 200
        assert by_file.get(path, method="HEAD") == (200, b"")
        assert by_file.get(path, method="POST")[0] == 405
    assert json.loads(by_file.get("/connect")[1])["nats"] == by_file.nats
    for path in ROUTES:
        status, body = by_file.get(path)
        assert status == 404
        assert "NATS" in json.loads(body)["error"]["message"]
    assert by_file.metric("mitosis_active") == 1
    before = by_file.metric('mitosis_commands_total{result="ok",verb="group.create"}')
    assert by_file.client("-u", by_file.user, "-p", by_file.password,
                          "create", "group", "counted").status == 0  # fmt: skip
    name = 'mitosis_commands_total{result="ok",verb="group.create"}'
    assert by_file.metric(name) == before + 1
    for page in ("/health", "/ready", "/metrics", "/connect"):
        text = by_file.get(page)[1].decode()
        assert by_file.secret not in text
        assert by_file.values["s3_secret_key"] not in text


LAYERS = """
[coordinator]
bind = "1.1.1.1:1"
s3_region = "{name}"
nats_user = "{name}"
admin_user = "{name}"
[client]
user = "{name}"
[worker]
tags = ["{name}"]
"""


@pytest.mark.parity("V-038")
@pytest.mark.parity("D-097")
def test_a_stronger_source_wins_and_each_value_says_where_it_came_from(tmp_path: Path) -> None:
    home = Home(tmp_path)
    own = home.folder / ".config" / "mitosis" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text(LAYERS.format(name="own") + 'work_dir = "own"\n')
    for name in ("config", "named"):
        text = LAYERS.format(name=name)
        (home.folder / f"{name}.toml").write_text(text.replace(f's3_region = "{name}"\n', ""))
    variables = {
        "MITO_NATS_USER": "for-all", "MITO_ADMIN_USER": "for-all",
        "MITO_COORDINATOR_ADMIN_USER": "for-one", "MITO_CLIENT_USER": "for-clients",
        "MITO_TAGS": "a,b",
    }  # fmt: skip
    plain, named, by_env = [
        {(s["section"], s["key"]): (s["value"], s["origin"]) for s in done.json["settings"]}
        for done in (
            home.run("config", "show", "--json"),
            home.run("config", "show", "--json", "--config", "named.toml"),
            home.run("config", "show", "--json", "--config", "named.toml", more=variables),
        )
    ]
    assert plain["coordinator", "replicas"] == (1, "default")
    assert plain["coordinator", "s3_region"] == ("own", f"{own}:4")
    assert plain["coordinator", "nats_user"] == ("config", f"{home.folder / 'config.toml'}:4")
    assert named["coordinator", "nats_user"] == ("named", f"{home.folder / 'named.toml'}:4")
    assert named["coordinator", "s3_region"] == ("own", f"{own}:4")
    assert by_env["coordinator", "nats_user"] == ("for-all", "MITO_NATS_USER")
    assert by_env["coordinator", "admin_user"] == ("for-one", "MITO_COORDINATOR_ADMIN_USER")
    assert by_env["coordinator", "bind"][0] == "1.1.1.1:1"
    assert by_env["client", "user"] == ("for-clients", "MITO_CLIENT_USER")
    assert by_env["worker", "tags"] == (["a", "b"], "MITO_TAGS")
    address, unused = "http://127.0.0.1:1", "http://127.0.0.1:2"
    by_option = home.run("client", "-c", address, "auth", more={"MITO_COORDINATOR_ADDR": unused})
    assert (by_option.status, address in by_option.complaint) == (6, True), by_option.err


@pytest.mark.parity("R-32")
def test_the_seeds_examples_load_as_they_stand_and_a_slip_gets_its_place(tmp_path: Path) -> None:
    home = Home(tmp_path)
    data = Path(__file__).parent / "settings"
    seeds = sorted(data.glob("seed-*.toml"))
    assert len(seeds) == 2
    slips = {
        "bare.toml": b"[worker]\nlifetime = 7d\n",
        "utf16.toml": "[worker]\n".encode("utf-16"),
        "latin.toml": b'[client]\nuser = "J\xfcrgen"\n',
    }
    for name, content in slips.items():
        (home.folder / name).write_bytes(content)
    done = home.run_all([
        *(["config", "check", path] for path in seeds),
        *(["worker", "--config", name] for name in slips),
    ])  # fmt: skip
    assert [one.status for one in done] == [0, 0, 2, 2, 2]
    place = [f"{home.folder / name}" for name in slips]
    assert f'{place[0]}:2:13: this is no TOML: text needs quotes: write lifetime = "7d"' in (
        done[2].complaint
    )
    assert f"{place[1]}:1:1: the file is UTF-16" in done[3].complaint
    assert f"{place[2]}:2:10: the byte 0xfc is not UTF-8" in done[4].complaint


@pytest.mark.parity("S-050")
@pytest.mark.parity("S-056")
@pytest.mark.parity("D-069")
@pytest.mark.parity("D-098")
@pytest.mark.parity("V-037")
def test_a_restart_keeps_the_administrator_and_only_an_explicit_reset_changes_the_password(
    by_file: Lab,
) -> None:
    """The last one: it restarts the coordinator that the others ask."""
    created = (
        "SELECT count(*) FROM archive.commits WHERE subject = 'mito.events.user.mitosis_admin'"
    )
    assert by_file.running is not None
    assert by_file.running.stop() == 0
    exact = by_file.folder / "logs" / "exact.log"
    (digits,) = ["0123456789"]
    by_file.serve(
        "--config", by_file.config, "--log-path", exact, "--access-token-expires-in", "1h",
        MITO_ADMIN_PASSWORD=digits,
    )  # fmt: skip
    assert by_file.login()["sub"] == DEFAULT_ADMIN  # with the password of the first start
    with pytest.raises(AuthenticationFailed):
        by_file.login(password=digits)
    assert "serving" in exact.read_text()
    config = ClientConfig(coordinator_addr=by_file.http, credential_path=by_file.folder / "before")
    with contextlib.closing(SyncMitoClient(config)) as client:
        client.login(by_file.user, by_file.password)
    assert by_file.running.stop() == 0
    before = by_file.sql(created)

    by_file.serve("--config", by_file.config, "--reset-admin-password", MITO_ADMIN_PASSWORD=digits)
    assert by_file.login(password=digits)["sub"] == DEFAULT_ADMIN
    with pytest.raises(AuthenticationFailed):
        by_file.login()
    with pytest.raises(AuthenticationFailed), SyncMitoClient(config) as client:
        client.whoami()  # the session of before the reset has ended with it
    in_loop(lambda: by_file.sql(created) > before)
    assert by_file.running.stop() == 0
    by_file.password = digits
    serve_by_file(by_file)
    assert by_file.login()["sub"] == DEFAULT_ADMIN
