from datetime import timedelta
from pathlib import Path

import pytest

from mitosis.config.client import ClientConfig
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import ConfigFile, combine, find_files, load
from mitosis.config.locations import default_config_file
from mitosis.config.section import Section
from mitosis.config.values import usable_cores
from mitosis.config.worker import WorkerConfig
from mitosis.domain.resources import Limits
from mitosis.domain.roles import Role
from mitosis.errors import InvalidSettings

HERE = Path("/somewhere")


def from_text(section: type[Section], text: str, given: bool = True) -> Section:
    file = ConfigFile(Path("/etc/mito/c.toml"), text, given)
    return combine(section, [file], {}, {}, HERE).config


def test_the_defaults_are_those_of_the_seed() -> None:
    config, sources = combine(CoordinatorConfig, [], {}, {}, HERE)
    assert config == CoordinatorConfig()
    assert set(sources.values()) == {"default"}
    assert config.bind == "127.0.0.1:5000"
    assert config.db_url == "postgres://mitosis:mitosis@localhost/mitosis"
    assert config.access_token_expires_in == timedelta(days=7)
    assert config.heartbeat_timeout == timedelta(minutes=10)
    worker = WorkerConfig()
    assert worker.coordinator_addr == "http://127.0.0.1:5000"
    assert worker.polling_interval == timedelta(minutes=3)
    assert worker.heartbeat_interval == timedelta(minutes=5)


LAYERS = [
    ("default", {}, "127.0.0.1:5000", "default"),
    ("user", {"user": "1.1.1.1:1"}, "1.1.1.1:1", "user.toml"),
    ("file", {"user": "1.1.1.1:1", "file": "2.2.2.2:2"}, "2.2.2.2:2", "file.toml"),
    ("env", {"file": "2.2.2.2:2", "env": "3.3.3.3:3"}, "3.3.3.3:3", "MITO_BIND"),
    (
        "option",
        {"user": "1.1.1.1:1", "file": "2.2.2.2:2", "env": "3.3.3.3:3", "option": "4.4.4.4:4"},
        "4.4.4.4:4",
        "option",
    ),
    ("gap", {"user": "1.1.1.1:1", "env": "3.3.3.3:3"}, "3.3.3.3:3", "MITO_BIND"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "layers", "value", "source"), LAYERS)
def test_a_stronger_source_wins(name: str, layers: dict[str, str], value: str, source: str) -> None:
    files = [
        ConfigFile(HERE / f"{layer}.toml", f'[coordinator]\nbind = "{layers[layer]}"\n')
        for layer in ("user", "file")
        if layer in layers
    ]
    env = {"MITO_BIND": layers["env"]} if "env" in layers else {}
    loaded = combine(CoordinatorConfig, files, env, {"bind": layers.get("option")}, HERE)
    assert loaded.config.bind == value
    assert Path(loaded.sources["bind"]).name.removesuffix(":2") == source


def test_every_seed_key_of_the_coordinator_is_read() -> None:
    text = """
[coordinator]
bind = "127.0.0.1:5000"
db_url = "postgres://mitosis:mitosis@localhost/mitosis"
s3_url = "http://127.0.0.1:9000"
s3_access_key = "mitosis_access"
s3_secret_key = "mitosis_secret"
admin_user = "mitosis_admin"
admin_password = "mitosis_admin"
access_token_private_path = "private.pem"
access_token_public_path = "public.pem"
access_token_expires_in = "7d"
heartbeat_timeout = "600s"
file_log = false

[worker]
coordinator_addr = "http://127.0.0.1:5000"
polling_interval = "3m"
heartbeat_interval = "5m"
lifetime = "7d"
groups = ["group1", "group2:write", "group3:read", "group4:admin"]
tags = ["wired", "file"]
file_log = false
"""
    config = from_text(CoordinatorConfig, text)
    assert isinstance(config, CoordinatorConfig)
    # Paths are relative to the file they come from.
    assert config.access_token_private_path == Path("/etc/mito/private.pem")
    worker = from_text(WorkerConfig, text)
    assert isinstance(worker, WorkerConfig)
    assert worker.lifetime == timedelta(days=7)
    assert worker.tags == ("wired", "file")
    assert worker.groups == {
        "group1": Role.WRITE, "group2": Role.WRITE, "group3": Role.READ, "group4": Role.ADMIN,
    }  # fmt: skip


WRONG = [
    ('[coordinator]\n\nbnid = "x"\n', r"c\.toml:3:1: unknown key 'bnid': did you mean 'bind'\?"),
    ('coordinator.bnid = "x"\n', r"c\.toml:1:1: unknown key 'bnid'"),
    ('[client]\n[cordinator]\nbind="x:1"\n', r"c\.toml:2:1: unknown section 'cordinator'.*'coordi"),
    ("[coordinator]\ns3_secret_key = 7\n", r"c\.toml:2:1: s3_secret_key = \*\*\*: expected"),
    ("[coordinator]\nadmin_user = 7\n", r"c\.toml:2:1: admin_user = 7: expected a string"),
    ("[coordinator]\nfile_log = 'yes'\n", r"c\.toml:2:1: file_log = 'yes': expected true or false"),
    ("[coordinator]\nreplicas = true\n", r"c\.toml:2:1: replicas = True: expected a whole number"),
    ("[coordinator]\nreplicas = 9\n", r"replicas = 9: expected a whole number from 1 to 5"),
    (
        "[coordinator]\nartifacts_bucket = \"A_B\"\n",
        r"artifacts_bucket = .A_B.: expected the name of a bucket: 3 to 63",
    ),
    ("[coordinator]\nattachments_bucket = \"a..b\"\n", r"attachments_bucket = .*lower-case"),
    ("[coordinator]\nheartbeat_timeout = 600\n", r"c\.toml:2:1: .*expected a duration in quotes"),
    ("[coordinator]\nheartbeat_timeout = '-3s'\n", r"c\.toml:2:1: .*is no duration"),
    ("[coordinator]\nbind = '127.0.0.1'\n", r"c\.toml:2:1: bind = '127.0.0.1': expected host:port"),
    ("[coordinator]\ndb_url = 'mysql://u:pw@h/d'\n", r"mysql://u:\*\*\*@h/d.*postgres://"),
    ("[coordinator\n", r"c\.toml:1:13: this is no TOML: a section is written \[name\]"),
    ("coordinator = 3\n", r"c\.toml:1:1: coordinator must be a section: \[coordinator\]"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_file_is_refused_with_place_value_and_expected_form(
    text: str, message: str
) -> None:
    with pytest.raises(InvalidSettings, match=message):
        from_text(CoordinatorConfig, text)


def test_a_variable_of_the_wrong_form_is_named() -> None:
    with pytest.raises(InvalidSettings, match=r"MITO_SLOTS: slots = 'many': expected a whole"):
        combine(WorkerConfig, [], {"MITO_SLOTS": "many"}, {}, HERE)


def test_a_password_of_digits_stays_a_string() -> None:
    config = combine(ClientConfig, [], {"MITO_PASSWORD": "0123", "MITO_USER": "7"}, {}, HERE).config
    assert (config.user, config.password) == ("7", "0123")


def test_secrets_never_show() -> None:
    config = CoordinatorConfig(
        admin_password="s3cr3t-a", s3_secret_key="s3cr3t-b", db_url="postgres://u:s3cr3t-c@h/d",
        redis_url="redis://:s3cr3t-d@h", nats_password="s3cr3t-e", nats_system_password="s3cr3t-f",
        redis_client_password="s3cr3t-g", redis_worker_password="s3cr3t-h",
        nats_url="nats://u:s3cr3t-i@h:1",
    )  # fmt: skip
    assert "s3cr3t" not in repr(config)
    assert "s3cr3t" not in repr(WorkerConfig(password="s3cr3t"))
    assert "s3cr3t" not in repr(ClientConfig(password="s3cr3t"))


def test_settings_of_redis_are_accepted_with_a_warning_each() -> None:
    config = from_text(CoordinatorConfig, '[coordinator]\nredis_url = "redis://:x@localhost"\n')
    assert isinstance(config, CoordinatorConfig)
    assert len(config.warnings()) == 1
    assert "redis_url" in config.warnings()[0]
    assert "NATS" in config.warnings()[0]


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"nowhere\.toml cannot be read: No such file"):
        load(ClientConfig, config=tmp_path / "nowhere.toml", env={"HOME": str(tmp_path)})


def test_a_folder_as_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="cannot be read: Is a directory"):
        load(ClientConfig, config=tmp_path, env={"HOME": str(tmp_path)})


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSettings, match=r"c\.toml:1:1: the file is UTF-16.*save it"):
        load(ClientConfig, config=tmp_path / "c.toml", env={"HOME": str(tmp_path)})


def test_the_users_file_and_the_file_of_the_folder_are_found(tmp_path: Path) -> None:
    own = tmp_path / "cfg" / "mitosis"
    own.mkdir(parents=True)
    (own / "config.toml").write_text('[client]\nuser = "own"\ntimeout = "5s"\n')
    (tmp_path / "config.toml").write_text('[client]\nuser = "folder"\n')
    env = {"XDG_CONFIG_HOME": str(tmp_path / "cfg"), "HOME": str(tmp_path)}
    config, sources = load(ClientConfig, env=env, cwd=tmp_path)
    assert (config.user, config.timeout) == ("folder", timedelta(seconds=5))
    assert sources["user"] == f"{tmp_path / 'config.toml'}:2"
    assert sources["timeout"] == f"{own / 'config.toml'}:3"
    (tmp_path / "named.toml").write_text("[client]\n")
    named, _ = load(ClientConfig, config=Path("named.toml"), env=env, cwd=tmp_path)
    assert named.user == "own"  # --config replaces ./config.toml, not the user's own file


def test_a_config_toml_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('title = "my blog"\n[params]\nx = 1\n')
    env = {"HOME": str(tmp_path)}
    assert load(ClientConfig, env=env, cwd=tmp_path).config == ClientConfig()
    with pytest.raises(InvalidSettings, match="unknown section 'title'"):
        load(ClientConfig, config=tmp_path / "config.toml", env=env, cwd=tmp_path)


def test_paths_of_options_and_variables_start_at_the_present_folder() -> None:
    env = {"MITO_CREDENTIAL_PATH": "cred"}
    config = combine(ClientConfig, [], env, {"nats_ca": Path("ca.pem")}, HERE).config
    assert (config.credential_path, config.nats_ca) == (HERE / "cred", HERE / "ca.pem")


def test_a_variable_for_one_service_wins_over_the_one_for_all() -> None:
    env = {"MITO_BIND": "1.1.1.1:1", "MITO_COORDINATOR_BIND": "2.2.2.2:2", "MITO_WORKER_SLOTS": "3"}
    config, sources = combine(CoordinatorConfig, [], env, {}, HERE)
    assert (config.bind, sources["bind"]) == ("2.2.2.2:2", "MITO_COORDINATOR_BIND")
    env = {"MITO_PASSWORD": "for-all", "MITO_CLIENT_PASSWORD": "for-clients"}
    assert combine(ClientConfig, [], env, {}, HERE).config.password == "for-clients"
    assert combine(WorkerConfig, [], env, {}, HERE).config.password == "for-all"


LOG_VARIABLES = [
    ({"RUST_LOG": "debug"}, ("debug", None, False)),
    ({"RUST_LOG": "debug", "MITO_LOG_LEVEL": "error"}, ("error", None, False)),
    ({"RUST_LOG": "hyper=loud!"}, ("info", None, False)),  # of another program
    ({"MITO_FILE_LOG": "debug"}, ("info", "debug", False)),
    ({"MITO_FILE_LOG": "true"}, ("info", None, True)),
    ({"MITO_FILE_LOG": "off"}, ("info", None, False)),
    ({"MITO_FILE_LOG": "debug", "MITO_FILE_LOG_LEVEL": "warn"}, ("info", "warn", False)),
]


@pytest.mark.parametrize(("env", "wanted"), LOG_VARIABLES)
def test_the_variables_of_the_original_set_log_levels(
    env: dict[str, str], wanted: tuple[str, str | None, bool]
) -> None:
    config = combine(CoordinatorConfig, [], env, {}, HERE).config
    assert (config.log_level, config.file_log_level, config.file_log) == wanted


def test_a_switch_that_is_neither_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="MITO_FILE_LOG: file_log = 'perhaps': expected true"):
        combine(CoordinatorConfig, [], {"MITO_FILE_LOG": "perhaps"}, {}, HERE)


def test_no_file_is_searched_for_in_parent_folders(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[client]\nuser = "above"\n')
    below = tmp_path / "below"
    below.mkdir()
    env = {"HOME": str(tmp_path / "home")}
    assert load(ClientConfig, env=env, cwd=below).config.user is None
    with pytest.raises(InvalidSettings, match=r"below/config\.toml cannot be read"):
        load(ClientConfig, config=Path("config.toml"), env=env, cwd=below)


def test_an_account_without_a_home_has_folders_at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run with a user id that is in no list of accounts."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert default_config_file({}) == Path("/.config/mitosis/config.toml")
    assert default_config_file({"HOME": "/h"}) == Path("/h/.config/mitosis/config.toml")


def test_limits_and_slots_of_a_worker_are_written_as_people_write_them() -> None:
    text = '[worker]\nslots = "auto"\nmax_memory = "2GiB"\ndefault_memory = 1073741824\n'
    text += 'max_cpu_time = "1h"\ndefault_processes = 50\n'
    worker = from_text(WorkerConfig, text)
    assert isinstance(worker, WorkerConfig)
    assert worker.slots == usable_cores() >= 1
    assert worker.ceilings == Limits(memory_bytes=2 << 30, cpu_seconds=3600)
    assert worker.default_limits == Limits(memory_bytes=1 << 30, processes=50)
    assert WorkerConfig().ceilings == WorkerConfig().default_limits == Limits()
    variables = {"MITO_SLOTS": "auto", "MITO_WORKER_MAX_FILE_SIZE": "10kB"}
    loaded = combine(WorkerConfig, [], variables, {}, HERE).config
    assert loaded.slots == usable_cores()
    assert loaded.ceilings == Limits(file_size_bytes=10_000)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('slots = "many"', "expected a whole number, or auto"),
        ("slots = 0", "expected a whole number from 1"),
        ("slots = true", "expected a whole number, or auto"),
        ("max_memory = true", "expected a size in quotes"),
        ('max_memory = "lots"', "'lots' is no size"),
        ("default_memory = 5", "expected a whole number from 1048576"),
        ("max_open_files = 2", "expected a whole number from 8"),
        ('default_cpu_time = "10"', "it has no unit"),
    ],
)
def test_a_limit_of_a_worker_that_cannot_be_is_refused_with_its_line(line: str, said: str) -> None:
    with pytest.raises(InvalidSettings, match=said) as refused:
        from_text(WorkerConfig, f"[worker]\n{line}\n")
    assert ":2:" in str(refused.value)


def test_a_folder_of_settings_that_may_not_be_looked_into_is_somebody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of the real root, for the root of a user namespace that has no HOME."""

    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refused)
    assert find_files(None, {}, tmp_path) == []
