"""`mito config`: what is shown, what is found wrong, and never a secret."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.effective import SECTIONS, settings_of
from mitosis.config.example import example, meanings_of
from mitosis.config.loader import load

Here = Callable[..., Any]  # see conftest.py
ROOT = Path(__file__).parents[3]


def test_show_names_each_value_and_where_it_comes_from(here: Here, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[coordinator]\n\ndb_url = "postgres://u:hush@h/d"\nadmin_password = "hush"\n'
    )
    done = here(
        "config", "show", "coordinator", "--json", MITO_COORDINATOR_BIND="1.2.3.4:5", MITO_BIND="x"
    )
    assert "hush" not in done.stdout
    shown = {one["key"]: one for one in json.loads(done.stdout)["settings"]}
    assert set(shown) == set(CoordinatorConfig.__struct_fields__)
    assert {one["section"] for one in shown.values()} == {"coordinator"}
    assert shown["bind"]["value"] == "1.2.3.4:5"
    assert shown["bind"]["origin"] == "MITO_COORDINATOR_BIND"
    assert shown["db_url"]["value"] == "postgres://u:***@h/d"
    assert shown["db_url"]["origin"] == f"{tmp_path / 'config.toml'}:3"
    assert shown["admin_password"]["value"] == "***"
    assert shown["heartbeat_timeout"] == {
        "section": "coordinator", "key": "heartbeat_timeout", "value": "10m", "origin": "default",
    }  # fmt: skip
    assert shown["log_path"]["value"] is None


def test_show_for_a_person_is_a_settings_file_with_the_origins(here: Here) -> None:
    done = here("config", "show", "worker", "client", "--origin", MITO_WORKER_TAGS="a,b")
    assert done.returncode == 0
    assert 'tags = ["a", "b"]' in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("tags")]
    assert line.endswith("# MITO_WORKER_TAGS")
    assert "[worker]" in done.stdout
    assert "[client]" in done.stdout
    assert "[coordinator]" not in done.stdout
    assert here("config", "show", "workers").returncode == 2


def test_check_finds_everything_that_is_wrong(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '[coordinator]\nbnd = "x"\nadmin_password = 12345\n[worker]\n  slots = "many"\n[clint]\n'
    )
    done = here("config", "check", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    places = [line.partition(f"{path}:")[2][:4] for line in done.stderr.splitlines()]
    assert sorted(places) == ["2:1:", "3:1:", "5:3:", "6:1:"]
    assert "12345" not in done.stderr
    problems = json.loads(here("config", "check", str(path), "--json").stdout)["error"]
    assert problems["code"] == "misconfigured.settings"
    assert len(problems["details"]["problems"]) == 4


def test_check_says_what_can_be_used_and_warns(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[coordinator]\nredis_url = "redis://:x@h"\nbind = "127.0.0.1:1"\n[worker]\n')
    done = here("config", "check", str(path), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["settings"] == {"coordinator": 2, "worker": 0, "client": 0}
    assert "redis_url is accepted but not used" in done.stderr
    assert here("config", "check", str(tmp_path / "none.toml")).returncode == 2


def test_the_example_is_every_key_with_its_default(here: Here, tmp_path: Path) -> None:
    text = here("config", "example").stdout
    assert text == example() == (ROOT / "config.example.toml").read_text()
    path = tmp_path / "c.toml"
    path.write_text(text)
    for section in SECTIONS.values():
        loaded = load(section, config=path, env={"HOME": str(tmp_path)}, cwd=tmp_path)
        default = load(section, env={"HOME": str(tmp_path)}, cwd=tmp_path / "nowhere")
        for ours, theirs in zip(settings_of(loaded), settings_of(default), strict=True):
            value = str(ours.value).removeprefix(f"{tmp_path}/")
            assert value == str(theirs.value), ours.key
            unset = theirs.value in (None, [])
            assert (ours.origin == "default") is unset, ours.key
            assert ("# " if unset else "") + ours.key in text


def test_every_setting_has_a_meaning() -> None:
    for section in SECTIONS.values():
        meanings = meanings_of(section)
        assert set(meanings) <= set(section.__struct_fields__)
        assert len(meanings) > len(section.__struct_fields__) // 2
