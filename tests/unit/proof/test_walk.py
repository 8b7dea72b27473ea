"""What was done to history is found, where it was done as exactly as can be told, and only that."""

import pytest

from mitosis.contract import subjects
from mitosis.domain import task
from mitosis.domain.platform import StartTerm
from mitosis.events.envelope import digest
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.proof.findings import SHOWN, Verified
from mitosis.services.proof.fingerprints import Fingerprints
from mitosis.testing.history import History, Stored, campaign
from mitosis.testing.signed import PLATFORM, Signer, new_keys, signed_history, verified


@pytest.fixture(scope="module")
def keys() -> TokenKeys:
    return new_keys()


@pytest.fixture(scope="module")
def commits(keys: TokenKeys) -> list[Stored]:
    return signed_history(keys)


def renumbered(commits: list[Stored]) -> list[Stored]:
    return [(number, subject, payload) for number, (_, subject, payload) in enumerate(commits, 1)]


def changed(commits: list[Stored], index: int) -> list[Stored]:
    """Another time in one commit: it still decodes and folds."""
    position, subject, payload = commits[index]
    other = payload.replace(b'"time":"2026-', b'"time":"2027-', 1)
    assert other != payload
    return [*commits[:index], (position, subject, other), *commits[index + 1 :]]


def kinds(found: Verified) -> set[str]:
    return {one.kind for one in found.findings}


def covers(found: Verified, position: int, kind: str) -> bool:
    return any(one.kind == kind and one.first <= position <= one.last for one in found.findings)


def test_a_sound_history_is_proved_up_to_its_last_checkpoint(commits, keys) -> None:
    found = verified(commits, keys)
    assert (found.found, found.first, found.position) == (0, 1, len(commits))
    assert (found.proved_from, found.proved, found.unproved) == (1, len(commits) - 1, 0)
    assert [(one.key, one.given) for one in found.keys] == [(keys.key_id, True)]


def test_without_a_key_nothing_is_proved(commits) -> None:
    found = verified(commits)
    assert (found.found, found.proved, found.unproved) == (0, 0, len(commits))
    assert found.checkpoints > 1


@pytest.mark.parametrize("index", [1, 30, 41, 60])
def test_a_changed_commit_is_found_in_its_interval(commits, keys, index) -> None:
    found = verified(changed(commits, index), keys)
    assert covers(found, index + 1, "checkpoint")
    assert found.proved < index + 1
    [interval] = [one for one in found.findings if one.kind == "checkpoint"]
    assert interval.last - interval.first <= 26, "the interval between two checkpoints"


def test_a_removed_commit_is_found_by_its_number(commits, keys) -> None:
    found = verified([*commits[:40], *commits[41:]], keys)
    assert [(one.first, one.last) for one in found.findings if one.kind == "number"] == [(41, 41)]
    assert "checkpoint" in kinds(found)


def test_a_removed_commit_is_found_when_the_others_move_up(commits, keys) -> None:
    found = verified(renumbered([*commits[:40], *commits[41:]]), keys)
    assert "number" not in kinds(found)
    assert covers(found, 41, "checkpoint")


def test_a_commit_put_in_is_found(commits, keys) -> None:
    found = verified(renumbered([*commits[:40], commits[40], *commits[40:]]), keys)
    assert covers(found, 42, "checkpoint")
    assert covers(found, 42, "chain")


def test_swapped_commits_are_found(commits, keys) -> None:
    assert commits[40][1] != commits[41][1]
    found = verified(renumbered([*commits[:40], commits[41], commits[40], *commits[42:]]), keys)
    assert covers(found, 41, "checkpoint")
    assert covers(found, 42, "checkpoint")


def test_a_commit_under_another_subject_is_found(commits, keys) -> None:
    position, subject, payload = commits[40]
    other = (position, f"{subject[:-1]}x", payload)
    found = verified([*commits[:40], other, *commits[41:]], keys)
    assert covers(found, 41, "checkpoint")


def test_a_cut_tail_is_no_finding_but_told_and_found_by_a_kept_checkpoint(commits, keys) -> None:
    end = verified(commits, keys).end
    place, _, running = end.partition(":")
    kept = {int(place): running}
    cut = commits[:-5]
    found = verified(cut, keys)
    assert (found.found, found.proved + 1 + found.unproved) == (0, len(cut))
    assert kinds(verified(cut, keys, kept=kept)) == {"kept"}
    assert verified(commits, keys, kept=kept).found == 0
    assert kinds(verified(commits, keys, kept={int(place): "0" * 64})) == {"kept"}


def test_one_change_is_one_interval_and_later_intervals_are_still_checked(commits, keys) -> None:
    found = verified(changed(changed(commits, 20), 70), keys)
    intervals = [(one.first, one.last) for one in found.findings if one.kind == "checkpoint"]
    assert len(intervals) == 2
    assert intervals[0][0] <= 21 <= intervals[0][1] < intervals[1][0] <= 71 <= intervals[1][1]


def test_a_history_written_anew_with_another_key_is_not_proved(keys) -> None:
    forger = new_keys()
    forged = signed_history(forger)
    found = verified(forged, keys)
    assert kinds(found) == {"key"}
    assert (found.proved, found.findings[0].first) == (0, 1)
    assert forger.key_id in found.findings[0].what


@pytest.mark.parity("W-04")
def test_a_changed_checkpoint_is_found_at_its_position(commits, keys) -> None:
    at = next(i for i, one in enumerate(commits) if b"checkpoint_signed" in one[2])
    position, subject, payload = commits[at]
    begin = payload.index(b'"digest":"') + 10
    other = payload[:begin] + b"0" * 64 + payload[begin + 64 :]
    found = verified([*commits[:at], (position, subject, other), *commits[at + 1 :]], keys)
    assert covers(found, position, "signature")
    assert covers(found, position, "checkpoint"), "the next one covers it"


def rotated(first: TokenKeys, second: TokenKeys) -> list[Stored]:
    history = History(3)
    signer = Signer(history, first)
    history.decide(PLATFORM, StartTerm("one"))
    signer.tell()
    signer.sign()
    history.add_user("alice")
    signer.tell(second)
    history.add_user("bob")
    signer.sign()
    return history.commits


def test_a_later_key_vouches_for_what_an_earlier_one_signed_but_not_the_other_way(keys) -> None:
    other = new_keys()
    history = rotated(keys, other)
    assert verified(history, other).found == 0
    assert verified(history, other).proved == len(history) - 1
    assert verified(history, keys, other).found == 0
    late = verified(history, keys)
    assert [(one.kind, one.last) for one in late.findings] == [("key", len(history) - 1)]
    assert late.proved == 2


def test_commits_behind_the_end_of_a_task_continue_its_chain_once() -> None:
    history = campaign(5, 40, live=3)
    tail = next(t for t, state in history.states.items() if t.startswith("task.") and
                state.state.terminal)  # fmt: skip
    history.decide(tail, task.ReplaceTaskLabels(("late",)))
    history.decide(tail, task.ReplaceTaskLabels(("later",)))
    assert verified(history.commits).found == 0
    again = [*history.commits, (len(history.commits) + 1, *history.commits[-1][1:])]
    assert kinds(verified(again)) == {"chain"}
    without = renumbered([*history.commits[:-2], history.commits[-1]])
    assert kinds(verified(without)) == {"chain"}


def test_the_whole_life_of_an_ended_task_cannot_be_told_twice() -> None:
    history = campaign(5, 10, live=3)
    subject = next(s for _, s, _ in history.commits if s.startswith("mito.events.task."))
    life = [one for one in history.commits if one[1] == subject]
    assert kinds(verified(renumbered([*history.commits, *life]))) == {"chain"}


def test_what_cannot_be_applied_is_found() -> None:
    history = History(1)
    history.add_user("alice")
    position, subject, payload = history.commits[1]
    assert subject == subjects.events(subjects.group_tail("alice"))
    as_state = payload.replace(b"group.created@1", b"group.member_removed@1").replace(
        b'"name":"alice","creator":"alice"', b'"user":"bob"'
    )
    found = verified([history.commits[0], (position, subject, as_state)])
    assert (kinds(found), found.findings[0].first) == ({"fold"}, 2)


def test_findings_are_bounded_and_counted(commits, keys) -> None:
    broken = [(position, subject, b"{}") for position, subject, _ in commits] * 3
    found = verified(broken, keys)
    assert len(found.findings) == SHOWN
    assert found.found > 2 * len(commits)


def test_fingerprints_keep_everything_in_sorted_runs() -> None:
    members = Fingerprints(buffer=8)
    for number in range(1_000):
        members.add(f"a{number}")
    assert all(f"a{number}" in members for number in range(1_000))
    assert not any(f"b{number}" in members for number in range(1_000))


def test_the_end_is_the_running_digest(commits) -> None:
    from mitosis.events.chain import START, extend

    chain = START
    for _, subject, payload in commits:
        chain = extend(chain, digest(subject, payload))
    assert verified(commits).end == f"{len(commits)}:{chain}"
