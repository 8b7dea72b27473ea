"""The row on what a client is."""

import secrets

import pytest

from ..conftest import Platform


@pytest.mark.parity("S-014")
def test_a_client_does_one_thing_and_ends(platform: Platform, shell: object) -> None:
    """A task, its result, a worker and a group; nothing of any of them stays behind."""
    before = set(platform.children("client"))

    def ends(*command: str) -> str:
        done = platform.client(*command)
        assert (done.status, set(platform.children("client"))) == (0, before), done.err
        return done.text

    task = ends("submit", "--", "sh", "-c", "exit 3")
    group = f"lab-{secrets.token_hex(4)}"
    ends("create", "group", group)
    assert f"{group} = Admin" in ends("get", "groups").splitlines()
    (worker, *_) = ends("get", "workers").splitlines()
    assert f"Worker UUID: {worker}" in ends("get", "worker", worker).splitlines()
    assert f"Task UUID: {task}" in ends("get", "task", task).splitlines()
    assert task in ends("get", "tasks").splitlines()
