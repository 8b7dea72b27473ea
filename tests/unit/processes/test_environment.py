"""What a task gets of the worker's environment, by a written rule."""

import pytest

from mitosis.processes.environment import check_inherited, clean_environment
from mitosis.processes.user import TaskUser

ALICE = TaskUser("alice", 1000, 1000, (1000,), "/home/alice")


@pytest.mark.parity("R-10")
def test_a_worker_without_environment_gives_a_whole_one() -> None:
    assert clean_environment({}, ALICE) == {
        "HOME": "/home/alice",
        "USER": "alice",
        "LOGNAME": "alice",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.mark.parity("R-10")
def test_nothing_of_the_worker_is_passed_on_that_was_not_chosen() -> None:
    environ = {
        "MITO_PASSWORD": "secret",
        "SSH_AUTH_SOCK": "/run/agent",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "TMPDIR": "/shared",
        "EDITOR": "vi",
        "CUDA_HOME": "/opt/cuda",
        "PATH": "/opt/bin",
        "TZ": "UTC",
        "LC_NUMERIC": "de_DE.UTF-8",
        "HOME": "/srv/alice",
    }
    base = clean_environment(environ, ALICE, inherited=["CUDA_HOME", "NOT_SET"])
    assert base == {
        **clean_environment({}, ALICE),
        "CUDA_HOME": "/opt/cuda",
        "PATH": "/opt/bin",
        "TZ": "UTC",
        "LC_NUMERIC": "de_DE.UTF-8",
        "HOME": "/srv/alice",
    }


def test_another_user_has_its_own_home_and_not_that_of_the_worker() -> None:
    worker = {"HOME": "/root", "USER": "root", "LOGNAME": "root"}
    base = clean_environment(worker, ALICE, is_other_user=True)
    assert (base["HOME"], base["USER"], base["LOGNAME"]) == ("/home/alice", "alice", "alice")


@pytest.mark.parametrize("name", ["LANG", "LC_ALL", "LC_CTYPE"])
def test_a_language_that_was_chosen_stays(name: str) -> None:
    base = clean_environment({name: "fr_FR.UTF-8"}, ALICE)
    assert base[name] == "fr_FR.UTF-8"
    assert base.get("LANG") == ("fr_FR.UTF-8" if name == "LANG" else None)


@pytest.mark.parametrize("name", ["MITO_PASSWORD", "MITO_X", "", "A=B", "A\0"])
def test_some_names_are_never_passed_on(name: str) -> None:
    with pytest.raises(ValueError, match=r"MITO_|no name of a variable"):
        check_inherited([name])
    with pytest.raises(ValueError, match=r"MITO_|no name of a variable"):
        clean_environment({name: "x"}, ALICE, inherited=[name])
