"""What each event says in words, and what it makes of the thing that it happened to.

By stored name without its version. An event that is not known here, from a newer version, is told
by its name and its fields.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from mitosis.domain.durations import format_duration
from mitosis.domain.roles import Role
from mitosis.domain.task import ExitKind, Outcome

Fields = dict[str, Any]
Path = tuple[str, ...]
"""An attribute of a thing, such as `("spec", "env", "SEED")`."""


class Happening(NamedTuple):
    """How to tell of one kind of event.

    Attributes:
        words: What happened, from the fields of the event.
        sets: What it makes of attributes; a dict replaces all that is below a path, None takes it
            away.
    """

    words: Callable[[Fields], str]
    sets: Callable[[Fields], dict[Path, Any]] = lambda _: {}


def _text(template: str) -> Callable[[Fields], str]:
    return template.format_map


def _role(number: int) -> str:
    return Role(number).name.lower()


def _ended(exit_: Fields) -> str:
    match ExitKind(exit_["kind"]):
        case ExitKind.CODE:
            return f"exit code {exit_['number']}"
        case ExitKind.SIGNAL:
            return f"signal {exit_['number']}"
        case ExitKind.NOT_STARTED:
            return "not started"


def _phase(what: str) -> Callable[[Fields], str]:
    """A thing is active (again), locked or deleted."""
    return lambda f: f"{what} {'unlocked' if f['state'] == 'active' else f['state']}"


def _submitted(f: Fields) -> dict[Path, Any]:
    spec, labels = f["spec"], f["labels"]
    return {("state",): "pending", ("spec",): spec, ("labels",): labels}


def _registered(f: Fields) -> dict[Path, Any]:
    told = ("owner", "slots", "lease_seconds", "tags", "labels", "host", "version", "guarantees",
            "default_limits", "ceilings")  # fmt: skip
    roles = {group: _role(role) for group, role in f["roles"].items()}
    return {("state",): "normal", ("roles",): roles} | {(name,): f[name] for name in told}


def _stored_file(f: Fields) -> Fields:
    return {"size_bytes": f["size_bytes"], "sha256": f["sha256"]}


def _changed(f: Fields) -> dict[Path, Any]:
    changed: dict[Path, Any] = {("spec",): f["spec"]}
    return changed | ({("state",): "pending"} if f["steps"] else {})


def _back(state: str) -> Callable[[Fields], dict[Path, Any]]:
    """An attempt is over, and the task goes on."""
    return lambda _: {("state",): state, ("worker",): None, ("exit",): None}


def _over(f: Fields) -> dict[Path, Any]:
    outcome = f["outcome"]
    return {("state",): Outcome(outcome).state, ("outcome",): outcome, ("worker",): None}


_TASK = {
    "submitted": Happening(_text("submitted by {creator} as {group}#{number}"), _submitted),
    "labels_replaced": Happening(
        _text("labels replaced"), lambda f: {("labels",): f["labels"]}
    ),
    "changed": Happening(_text("changed"), _changed),
    "ready": Happening(_text("waits for a worker only"), lambda _: {("state",): "ready"}),
    "assigned": Happening(
        _text("given to worker {worker} as attempt {attempt}"),
        lambda f: {("state",): "running", ("worker",): f["worker"], ("attempt",): f["attempt"]},
    ),
    "started": Happening(_text("the program of attempt {attempt} runs")),
    "progressed": Happening(
        lambda f: "reached " + ", ".join(state for state, _ in f["steps"])
    ),
    "exited": Happening(
        lambda f: f"the program ended: {_ended(f['exit'])}",
        lambda f: {("exit",): _ended(f["exit"])},
    ),
    "artifact_stored": Happening(
        _text("{kind} stored, {size_bytes} bytes"),
        lambda f: {("artifacts", f["kind"]): _stored_file(f)},
    ),
    "artifact_deleted": Happening(
        _text("{kind} deleted"), lambda f: {("artifacts", f["kind"]): None}
    ),
    "warned": Happening(_text("warning: {text}")),
    "retry_scheduled": Happening(
        _text("attempt {attempt} {outcome}; runs again at {not_before} or later"),
        _back("pending"),
    ),
    "requeued": Happening(
        lambda f: f"attempt {f['attempt']} is over without an outcome; waits for a worker again"
        + (", counted as a loss" if f["counted"] else ""),
        _back("ready"),
    ),
    "committed": Happening(_text("ended: {outcome}"), _over),
    "cancel_requested": Happening(
        lambda f: "is to end"
        + (f", by SIG{f['stop_signal']}" if f["stop_signal"] else "")
        + (
            ""
            if f["grace_seconds"] is None
            else f", within {format_duration(f['grace_seconds'])}"
        ),
        lambda _: {("cancel_requested",): True},
    ),
    "cancelled": Happening(_text("ended: {outcome}"), _over),
    "secrets_erased": Happening(_text("the key of its secret variables was destroyed")),
}  # fmt: skip

_WORKER = {
    "registered": Happening(_text("entered the platform, started by {owner}"), _registered),
    "tags_replaced": Happening(_text("tags replaced"), lambda f: {("tags",): f["tags"]}),
    "labels_replaced": Happening(_text("labels replaced"), lambda f: {("labels",): f["labels"]}),
    "roles_granted": Happening(
        _text("roles given"),
        lambda f: {("roles", group): _role(role) for group, role in f["roles"].items()},
    ),
    "roles_removed": Happening(
        _text("roles taken away"), lambda f: {("roles", group): None for group in f["groups"]}
    ),
    "slots_changed": Happening(_text("slots changed"), lambda f: {("slots",): f["slots"]}),
    "paused": Happening(_text("paused"), lambda _: {("state",): "paused"}),
    "resumed": Happening(_text("resumed"), lambda _: {("state",): "normal"}),
    "drain_requested": Happening(
        lambda f: (
            "is to hand its tasks back and leave"
            if f["force"]
            else "is to finish its tasks and leave"
        ),
        lambda _: {("state",): "draining"},
    ),
    "left": Happening(_text("left"), lambda _: {("state",): "gone"}),
    "lost": Happening(_text("lost"), lambda _: {("state",): "gone"}),
}

_USER = {
    "created": Happening(
        _text("account {name} created"),
        lambda f: {
            ("state",): "active", ("admin",): f["admin"], ("group_quota",): f["group_quota"],
        },
    ),
    "password_changed": Happening(
        lambda f: "password changed; all sessions ended"
        + (f" but {f['kept_session']}" if f["kept_session"] else "")
    ),
    "state_changed": Happening(_phase("account"), lambda f: {("state",): f["state"]}),
    "admin_changed": Happening(
        lambda f: "became a platform administrator"
        if f["admin"]
        else "is a platform administrator no more",
        lambda f: {("admin",): f["admin"]},
    ),
    "group_quota_changed": Happening(
        _text("quota of groups changed"), lambda f: {("group_quota",): f["quota"]}
    ),
    "session_opened": Happening(
        lambda f: f"logged in{' from ' + f['source'] if f['source'] else ''}, session "
        f"{f['session']} until {f['expires_at']}"
    ),
    "session_revoked": Happening(
        lambda f: f"session {f['session']} ended"
        if f["session"]
        else "all sessions ended" + (f" but {f['kept_session']}" if f["kept_session"] else "")
    ),
}  # fmt: skip

_GROUP = {
    "created": Happening(
        _text("group {name} created by {creator}"),
        lambda f: {
            ("state",): "active", ("members", f["creator"]): "admin",
            ("storage_quota_bytes",): f["storage_quota_bytes"],
        },
    ),
    "member_role_set": Happening(
        lambda f: f"{f['user']} is {Role(f['role']).label}",
        lambda f: {("members", f["user"]): _role(f["role"])},
    ),
    "member_removed": Happening(
        _text("{user} is no member any more"), lambda f: {("members", f["user"]): None}
    ),
    "storage_quota_changed": Happening(
        _text("storage quota changed"), lambda f: {("storage_quota_bytes",): f["quota_bytes"]}
    ),
    "state_changed": Happening(_phase("group"), lambda f: {("state",): f["state"]}),
}  # fmt: skip

_ATTACHMENT = {
    "stored": Happening(
        _text("stored, {size_bytes} bytes"), lambda f: {("file",): _stored_file(f)}
    ),
    "deleted": Happening(_text("deleted"), lambda _: {("file",): None}),
}

_PLATFORM = {
    "term_started": Happening(
        _text("coordinator {coordinator} is the one writer from here on"),
        lambda f: {("term",): f["term"], ("version",): f["version"]},
    ),
    "checkpoint_signed": Happening(
        _text("{count} commits up to position {position} signed with key {key}")
    ),
    "key_rotated": Happening(
        _text("checkpoints are signed with key {key}"), lambda f: {("key",): f["key"]}
    ),
    "restored": Happening(_text("{commits} lost commits brought back, up to {position}")),
    "stream_repaired": Happening(_text("the stream was repaired")),
}

_SECRET = {"stored": Happening(lambda f: f"secret variables sealed: {', '.join(f['names'])}")}

HAPPENINGS: dict[str, Happening] = {
    f"{kind}.{name}": happening
    for kind, table in (
        ("task", _TASK), ("worker", _WORKER), ("user", _USER), ("group", _GROUP),
        ("attachment", _ATTACHMENT), ("platform", _PLATFORM), ("secret", _SECRET),
    )
    for name, happening in table.items()
}  # fmt: skip
