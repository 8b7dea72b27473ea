"""The table of the contract, read off the grants; the server's side is tested on a real one."""

import pytest

from mitosis.services.auth import permissions

NONCE = "abcdefghijklmnop1234"


def test_a_guest_may_log_in_for_ten_seconds():
    grant = permissions.guest(NONCE, 1_000)
    assert grant.publish == ("mito.login.>",)
    assert grant.subscribe == (f"_INBOX.guest.{NONCE}.>",)
    assert grant.expires_at == 1_010


def test_a_user_has_its_own_subjects_and_the_live_ones_of_its_groups():
    grant = permissions.user("alice", ["lab", "alice"], 5_000)
    assert grant.publish == ("mito.cmd.alice.>", "mito.query.alice.>")
    assert set(grant.subscribe) == {
        "_INBOX.user.alice.>",
        "mito.live.task.lab.>", "mito.live.attachment.lab.>", "mito.output.lab.>",
        "mito.live.task.alice.>", "mito.live.attachment.alice.>", "mito.output.alice.>",
    }  # fmt: skip
    assert (grant.name, grant.expires_at) == ("user:alice", 5_000)


def test_a_session_hears_its_own_answers_only():
    grant = permissions.user("alice", [], 5_000, session="s1")
    assert grant.subscribe == ("_INBOX.user.alice.s1.>",)


def test_an_administrator_also_sees_everything_but_accounts():
    grant = permissions.user("root", ["root"], 1, admin=True)
    assert grant.publish == ("mito.cmd.root.>", "mito.query.root.>", "$SRV.>")
    assert set(grant.subscribe) == {
        "_INBOX.user.root.>", "mito.output.root.>", "mito.live.task.>", "mito.live.group.>",
        "mito.live.worker.>", "mito.live.attachment.>",
    }  # fmt: skip


def test_a_worker_has_its_own_subjects_in_every_group():
    grant = permissions.worker("w-1", 9)
    assert grant.publish == ("mito.worker.w-1.>", "mito.output.*.*.w-1")
    assert grant.subscribe == ("mito.work.*.w-1", "mito.control.w-1", "_INBOX.worker.w-1.>")


@pytest.mark.parametrize("name", ["", "*", ">", "a.b", "a b", "a\n", "alice.>"])
def test_no_name_can_widen_a_permission(name):
    for make in (
        lambda: permissions.guest(name, 1),
        lambda: permissions.user(name, [], 1),
        lambda: permissions.user("alice", [name], 1),
        lambda: permissions.worker(name, 1),
    ):
        with pytest.raises(ValueError, match="one token"):
            make()
