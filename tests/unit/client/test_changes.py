"""History in words: every event has some, and says what it changed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mitosis.client.changes import AttributeChange, HistoryEntry, Teller, told
from mitosis.client.happenings import HAPPENINGS
from mitosis.contract.queries import CommitView, StoredEvent
from mitosis.domain import attachment, group, task, user, worker
from mitosis.domain.event import Event
from mitosis.domain.resources import Limits
from mitosis.domain.roles import Role
from mitosis.domain.task import Outcome, TaskSpec
from mitosis.events.catalogue import EVENTS, decode_event
from mitosis.events.outward import outward, shown
from mitosis.testing.history import campaign

GOLDEN = Path(__file__).parents[2] / "golden" / "events"
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def commit(*events: StoredEvent, position: int = 1) -> CommitView:
    return CommitView(position, NOW, "user:alice", "", "", "", "task", "lab", "x", list(events))


def tell(*commits: list[Event]) -> list[HistoryEntry]:
    teller = Teller()
    return [teller.tell(commit(*map(shown, events))) for events in commits]


def changes(entry: HistoryEntry) -> dict[str, tuple[Any, Any]]:
    return {c.attribute: (c.old, c.new) for event in entry.events for c in event.changes}


@pytest.mark.parametrize("topic", EVENTS)
def test_every_event_has_words_for_each_stored_body(topic: str) -> None:
    assert topic.partition("@")[0] in HAPPENINGS, "say in client/happenings.py what it means"
    for body in msgspec.json.decode((GOLDEN / f"{topic}.json").read_bytes()):
        event = shown(decode_event(topic, msgspec.json.encode(body)))
        said = told(event)
        assert said
        assert "None" not in said
        assert "{" not in said
        Teller().tell(commit(event))


def test_a_difference_goes_from_what_was_to_what_is() -> None:
    first = TaskSpec(("run", "a"), env={"SEED": "1", "OLD": "x"})
    then = TaskSpec(("run", "b"), env={"SEED": "2"}, priority=5, limits=Limits(memory_bytes=4096))
    submitted, changed, relabelled = tell(
        [task.TaskSubmitted("x", "lab", "alice", 7, first, ("l1",))],
        [task.TaskChanged(then)],
        [task.TaskLabelsReplaced(())],
    )
    assert submitted.events[0].told == "submitted by alice as lab#7"
    assert changes(submitted) == {
        "state": (None, "pending"),
        "spec.argv": (None, ["run", "a"]),
        "spec.env.SEED": (None, "1"),
        "spec.env.OLD": (None, "x"),
        "labels": (None, ["l1"]),
    }, "what is as by default says nothing"
    assert changes(changed) == {
        "spec.argv": (["run", "a"], ["run", "b"]),
        "spec.env.SEED": ("1", "2"),
        "spec.env.OLD": ("x", None),
        "spec.priority": (0, 5),
        "spec.limits.memory_bytes": (None, 4096),
    }
    assert changes(relabelled) == {"labels": (["l1"], [])}


def test_an_end_says_its_cause_and_what_it_took_away() -> None:
    *_, requeued, cancelled = tell(
        [task.TaskSubmitted("x", "lab", "alice", 1, TaskSpec(("true",)))],
        [task.TaskReady(), task.TaskAssigned(1, "w1", 600.0)],
        [task.TaskRequeued(1, "its worker is lost", counted=True)],
        [task.TaskCancelled(Outcome.CANCELLED, "enough")],
    )
    assert requeued.events[0].cause == "its worker is lost"
    assert changes(requeued) == {"state": ("running", "ready"), "worker": ("w1", None)}
    assert cancelled.events[0].cause == "enough"
    assert changes(cancelled) == {"state": ("ready", "cancelled"), "outcome": (None, "cancelled")}


@pytest.mark.parametrize("kind", task.ExitKind)
def test_the_end_of_a_program_is_told_as_what_it_was(kind: task.ExitKind) -> None:
    expected = {
        task.ExitKind.CODE: "exit code 0",
        task.ExitKind.SIGNAL: "signal 9",
        task.ExitKind.NOT_STARTED: "not started",
    }[kind]
    (entry,) = tell([task.TaskExited(1, task.Exit(kind, {"signal": 9, "code": 0}.get(kind, 2)))])
    assert entry.events[0].told == f"the program ended: {expected}"
    assert changes(entry) == {"exit": (None, expected)}


@pytest.mark.parametrize("outcome", task.Outcome)
def test_the_state_after_an_end_is_that_of_the_task(outcome: task.Outcome) -> None:
    for event in (task.TaskCommitted(1, outcome, ""), task.TaskCancelled(outcome, "")):
        (entry,) = tell([event])
        assert changes(entry)["state"] == (None, outcome.state)


def test_roles_are_words_and_those_of_others_stay() -> None:
    roles = {"lab": Role.WRITE}
    registered, granted, removed, tagged = tell(
        [worker.WorkerRegistered("w", "alice", roles, tags=("old",))],
        [worker.WorkerRolesGranted({"other": Role.READ})],
        [worker.WorkerRolesRemoved(("lab",))],
        [worker.WorkerTagsReplaced(("new",))],
    )
    assert changes(registered)["roles.lab"] == (None, "write")
    assert changes(granted) == {"roles.other": (None, "read")}
    assert changes(removed) == {"roles.lab": ("write", None)}
    assert changes(tagged) == {"tags": (["old"], ["new"])}
    assert changes(tell([group.GroupCreated("g", "alice")])[0])["members.alice"] == (None, "admin")


def test_what_is_hidden_is_said_to_be_hidden() -> None:
    created, changed = tell(
        [user.UserCreated("alice", "$argon2id$secret")], [user.PasswordChanged("$argon2id$other")]
    )
    assert AttributeChange("password_hash", hidden=True) in created.events[0].changes
    assert changed.events[0].changes == (AttributeChange("password_hash", hidden=True),)
    assert "argon2id" not in msgspec.json.encode([created, changed]).decode()


def test_what_is_withheld_from_the_asker_is_no_guess() -> None:
    event = StoredEvent("group.member_role_set@1", {}, ("user", "role"))
    entry = Teller().tell(commit(event))
    assert entry.events[0].told == "member role set"
    assert {c.attribute for c in entry.events[0].changes if c.hidden} == {"user", "role"}


def test_an_event_of_a_newer_version_is_told_by_its_name_and_fields() -> None:
    entry = Teller().tell(commit(StoredEvent("task.put_on_ice@1", {"for": {"days": 3}})))
    assert entry.events[0].told == "put on ice"
    assert changes(entry) == {"for.days": (None, 3)}


def test_a_replaced_file_shows_both_sums() -> None:
    stored, again, deleted = tell(
        [attachment.AttachmentStored("lab", "k", "o1", 3, "aa")],
        [attachment.AttachmentStored("lab", "k", "o2", 4, "bb", 3)],
        [attachment.AttachmentDeleted("o2", 4)],
    )
    assert changes(stored) == {"file.size_bytes": (None, 3), "file.sha256": (None, "aa")}
    assert changes(again) == {"file.size_bytes": (3, 4), "file.sha256": ("aa", "bb")}
    assert changes(deleted) == {"file.size_bytes": (4, None), "file.sha256": ("bb", None)}


def test_the_states_that_are_told_follow_each_other_without_a_gap() -> None:
    """In a whole campaign: what a change says was before is what the change before it said."""
    tellers: dict[tuple[str, str], Teller] = {}
    last: dict[tuple[str, str, str], Any] = {}
    seen = 0
    for position, subject, payload in campaign(7, 300).commits:
        view = outward(subject, payload, position)
        entry = tellers.setdefault((view.kind, view.name), Teller()).tell(view)
        for event in entry.events:
            for change in event.changes:
                if change.hidden:
                    continue
                key = (view.kind, view.name, change.attribute)
                if key in last:
                    assert change.old == last[key], key
                last[key] = change.new
                seen += change.old is not None
    assert seen > 500
