"""The secret of a shutdown, and who may shut down."""

import stat
from pathlib import Path

import pytest

from mitosis.contract import commands
from mitosis.errors import NotAllowed
from mitosis.services.coordinator.handlers.platform import PlatformHandlers
from mitosis.services.coordinator.shutdown import ShutdownSecret


def test_the_secret_is_a_new_one_each_time_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    contents = []
    for _ in range(2):
        secret = ShutdownSecret(path)
        secret.write()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        contents.append(path.read_text().strip())
        secret.check(contents[-1])
        assert contents[-1] not in repr(secret)
        for wrong in (
            "",
            contents[-1] + "x",
            contents[-1][:-1],
            "\u00e4",
            "\ud800",
            *contents[:-1],
        ):
            with pytest.raises(NotAllowed) as refusal:
                secret.check(wrong)
            assert contents[-1] not in refusal.value.message
    secret.remove()
    secret.remove()
    assert not path.exists()
    assert contents[0] != contents[1]


def test_the_file_of_another_process_stays(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    before, after = ShutdownSecret(path), ShutdownSecret(path)
    before.write()
    after.write()
    before.remove()
    after.check(path.read_text().strip())


def test_a_file_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("")
    secret = ShutdownSecret(tmp_path / "file" / "secret")
    secret.write()
    assert "cannot be written" in caplog.text
    with pytest.raises(NotAllowed):
        secret.check("anything")


async def test_only_an_administrator_ends_it_and_after_what_is_on_its_way(coordinator, tmp_path):
    stopped: list[bool] = []
    secret = ShutdownSecret(tmp_path / "secret")
    secret.write()
    handlers = PlatformHandlers(coordinator.core, secret, lambda: stopped.append(True))
    body = commands.Shutdown(secret.path.read_text().strip())
    for owner, wanted, code in (
        ("alice", body, "not_allowed"),
        ("root", commands.Shutdown("wrong"), "not_allowed"),
    ):
        reply = await coordinator.ask(owner, handlers.shutdown, wanted)
        assert coordinator.answer(reply).error.code == code
    assert stopped == []
    submitted = await coordinator.ask(
        "alice", coordinator.tasks.submit, commands.SubmitTask(("true",), "key")
    )
    reply = await coordinator.ask("root", handlers.shutdown, commands.Shutdown())
    assert (stopped, coordinator.answer(reply)) == ([], None), "the task is not stored yet"
    coordinator.store.let_through()
    assert coordinator.answer(submitted, commands.Submitted).error is None
    assert coordinator.answer(reply, commands.Done).result == commands.Done()
    assert stopped == [True]
