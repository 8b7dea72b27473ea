"""What is sent for each row of docs/access.md, so that a user with the right to do it succeeds.

Only the standard library and the contract are imported here: the unit tests read the names.
"""

# ruff: noqa: ARG005  each is called with (stage, actor)

import hashlib
import secrets
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from mitosis.contract import commands, queries
from mitosis.contract.output import FollowTask
from mitosis.contract.wire import Nothing
from mitosis.domain.group import GroupPhase
from mitosis.domain.quotas import QuotaChange
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind
from mitosis.domain.user import UserPhase
from mitosis.errors import MitosisError

CONTENT = b"what is uploaded"
MULTIPART_BYTES = 100 * 1024**2


class Stage(Protocol):
    """What the test has prepared. All is fresh where it is used up."""

    group: str
    worker: str
    stored_task: str
    stored_key: str

    def task(self) -> str:
        """A task of the group that has not started."""

    def secret_task(self) -> str:
        """One with a secret variable, of a user with another role."""

    def victim(self) -> str:
        """A user without rights."""

    def scratch_group(self) -> str:
        """A group of somebody else."""

    def idle_worker(self) -> str:
        """A worker like `worker`, to be sent away."""

    def name(self, actor: str) -> str:
        """Name of the user in the column."""

    def password(self, actor: str) -> str:
        """Of the same."""

    def session(self, actor: str) -> str:
        """Id of the session of the same."""

    def do(self, actor: str, noun: str, verb: str, body: msgspec.Struct) -> dict[str, Any]:
        """Send a command as the user in the column."""


Body = Callable[[Stage, str], msgspec.Struct]


def _nothing(_: dict[str, Any]) -> str:
    return ""


class Request(NamedTuple):
    """One row's request.

    Attributes:
        body: Made for (stage, actor).
        refusal: Code of a refusal inside of a successful answer.
        done_although: Whether an error means that the right was there.
    """

    body: Body
    refusal: Callable[[dict[str, Any]], str] = _nothing
    done_although: Callable[[MitosisError], bool] = lambda _: False


def _submit(stage: Stage, _: str) -> commands.SubmitTask:
    return commands.SubmitTask(("true",), secrets.token_hex(8), stage.group)


def _refusal_of_one(result: dict[str, Any]) -> str:
    (one,) = result["results"]
    return str(one.get("error", {}).get("code", ""))


def _begun(stage: Stage, actor: str, noun: str, body: msgspec.Struct) -> dict[str, Any]:
    """Begin an upload as the actor, or as somebody who may if the actor may not."""
    try:
        return stage.do(actor, noun, "begin", body)
    except MitosisError:
        return stage.do("Write", noun, "begin", body)


def _sent(stage: Stage, actor: str, noun: str, body: msgspec.Struct) -> str:
    begun = _begun(stage, actor, noun, body)
    put = urllib.request.Request(  # noqa: S310  our own S3
        begun["url"], data=CONTENT, headers={"If-None-Match": "*"}, method="PUT"
    )
    with urllib.request.urlopen(put, timeout=20) as answer:  # noqa: S310
        assert answer.status == 200
    return str(begun["upload"])


def _complete_attachment(stage: Stage, actor: str) -> commands.CompleteAttachment:
    key = f"k-{secrets.token_hex(4)}"
    begin = commands.BeginAttachment(key, len(CONTENT), stage.group)
    upload = _sent(stage, actor, "attachment", begin)
    return commands.CompleteAttachment(
        upload, stage.group, key, hashlib.sha256(CONTENT).hexdigest()
    )


def _complete_artifact(stage: Stage, actor: str) -> commands.CompleteArtifact:
    task = stage.task()
    begin = commands.BeginArtifact(task, ArtifactKind.RESULT, len(CONTENT))
    upload = _sent(stage, actor, "artifact", begin)
    return commands.CompleteArtifact(
        upload, task, ArtifactKind.RESULT, hashlib.sha256(CONTENT).hexdigest()
    )


def _open_upload(stage: Stage, actor: str) -> str:
    begin = commands.BeginAttachment(f"k-{secrets.token_hex(4)}", MULTIPART_BYTES, stage.group)
    return str(_begun(stage, actor, "attachment", begin)["upload"])


def _attachment_to_delete(stage: Stage, _: str) -> commands.DeleteAttachment:
    done = _complete_attachment(stage, "Write")
    stage.do("Write", "attachment", "complete", done)
    return commands.DeleteAttachment(done.key, stage.group)


def _artifact_to_delete(stage: Stage, _: str) -> commands.DeleteArtifact:
    done = _complete_artifact(stage, "Write")
    stage.do("Write", "artifact", "complete", done)
    return commands.DeleteArtifact(done.task, done.kind)


def _too_new(error: MitosisError) -> bool:
    """Users may not delete what was stored within the hour; that is no question of rights."""
    return error.code == "conflict.state"


def _secret_was_asked(error: MitosisError) -> bool:
    """An administrator gets as far as the (wrong) secret; the right one has its own test."""
    return "secret is wrong" in error.message


RESULT = ArtifactKind.RESULT

REQUESTS: dict[str, Request] = {
    # --- accounts -------------------------------------------------------------------------
    "user.create": Request(
        lambda stage, actor: commands.CreateUser(f"new-{secrets.token_hex(4)}", "password")
    ),
    "user.change_password": Request(
        lambda stage, actor: commands.ChangePassword(
            stage.password(actor), stage.password(actor), stage.session(actor)
        )
    ),
    "user.reset_password": Request(
        lambda stage, actor: commands.ResetPassword(stage.victim(), "password")
    ),
    "user.set_state": Request(
        lambda stage, actor: commands.ChangeUserState(stage.victim(), UserPhase.LOCKED)
    ),
    "user.set_admin": Request(
        lambda stage, actor: commands.ChangeAdmin(stage.victim(), admin=True)
    ),
    "user.set_group_quota": Request(
        lambda stage, actor: commands.ChangeGroupQuota(stage.victim(), QuotaChange(9))
    ),
    "session.revoke (own)": Request(lambda stage, actor: commands.RevokeSession("no such one")),
    "session.revoke (of others)": Request(
        lambda stage, actor: commands.RevokeSession(username=stage.victim())
    ),
    # --- groups ---------------------------------------------------------------------------
    "group.create": Request(
        lambda stage, actor: commands.CreateGroup(f"new-{secrets.token_hex(4)}")
    ),
    "group.change_members": Request(
        lambda stage, actor: commands.ChangeMembers(stage.group, {stage.victim(): Role.READ})
    ),
    "group.set_storage_quota": Request(
        lambda stage, actor: commands.ChangeStorageQuota(stage.group, QuotaChange(1, relative=True))
    ),
    "group.set_state": Request(
        lambda stage, actor: commands.ChangeGroupState(
            stage.scratch_group() if actor == "platform admin" else stage.group, GroupPhase.LOCKED
        )
    ),
    # --- tasks ----------------------------------------------------------------------------
    "task.submit": Request(_submit),
    "task.submit_many (each task)": Request(
        lambda stage, actor: commands.SubmitMany([_submit(stage, actor)]), _refusal_of_one
    ),
    "task.cancel": Request(lambda stage, actor: commands.CancelTask(stage.task())),
    "task.label": Request(lambda stage, actor: commands.ReplaceTaskLabels(stage.task(), ("l",))),
    "task.change": Request(lambda stage, actor: commands.ChangeTask(stage.task(), priority=3)),
    "task.erase_secrets (of a task of somebody else; of an own one always)": Request(
        lambda stage, actor: commands.EraseSecrets(stage.secret_task())
    ),
    # --- files ----------------------------------------------------------------------------
    "attachment.begin": Request(
        lambda stage, actor: commands.BeginAttachment(secrets.token_hex(4), 1, stage.group)
    ),
    "attachment.complete (own upload)": Request(_complete_attachment),
    "attachment.delete": Request(_attachment_to_delete, done_although=_too_new),
    "artifact.begin": Request(lambda stage, actor: commands.BeginArtifact(stage.task(), RESULT, 1)),
    "artifact.complete (own upload)": Request(_complete_artifact),
    "artifact.delete": Request(_artifact_to_delete, done_although=_too_new),
    "upload.parts (own upload)": Request(
        lambda stage, actor: commands.GetParts(_open_upload(stage, actor), 1)
    ),
    "upload.abort (own; nothing happens to others)": Request(
        lambda stage, actor: commands.AbortUpload(_open_upload(stage, actor))
    ),
    # --- workers --------------------------------------------------------------------------
    "worker.register (that serves the group)": Request(
        lambda stage, actor: commands.RegisterWorker({stage.group: Role.WRITE}, tags=("access",))
    ),
    "worker.drain": Request(lambda stage, actor: commands.DrainWorker(stage.idle_worker())),
    "worker.update_tags": Request(
        lambda stage, actor: commands.ReplaceWorkerTags(stage.worker, ("access", "more"))
    ),
    "worker.update_labels": Request(
        lambda stage, actor: commands.ReplaceWorkerLabels(stage.worker, ("label",))
    ),
    "worker.update_roles": Request(
        lambda stage, actor: commands.GrantWorkerRoles(stage.worker, {stage.name(actor): Role.READ})
    ),
    "worker.remove_roles": Request(
        lambda stage, actor: commands.RemoveWorkerRoles(stage.worker, (stage.name(actor),))
    ),
    "worker.update_slots": Request(
        lambda stage, actor: commands.ChangeWorkerSlots(stage.worker, 2)
    ),
    "worker.pause": Request(lambda stage, actor: commands.PauseWorker(stage.worker)),
    "worker.resume": Request(lambda stage, actor: commands.ResumeWorker(stage.worker)),
    # --- the platform ---------------------------------------------------------------------
    "platform.shutdown": Request(
        lambda stage, actor: commands.Shutdown("a wrong secret"), done_although=_secret_was_asked
    ),
    # --- reads ----------------------------------------------------------------------------
    "user.whoami": Request(lambda stage, actor: Nothing()),
    "user.list": Request(lambda stage, actor: queries.ListUsers()),
    "session.list (own)": Request(lambda stage, actor: queries.ListSessions()),
    "session.list (of others)": Request(lambda stage, actor: queries.ListSessions(stage.victim())),
    "event.list (of a task, or of a group's tasks)": Request(
        lambda stage, actor: queries.ListEvents(kind="task", name=stage.stored_task)
    ),
    "event.list (of a worker)": Request(
        lambda stage, actor: queries.ListEvents(kind="worker", name=stage.worker)
    ),
    "event.list (of a group)": Request(
        lambda stage, actor: queries.ListEvents(kind="group", name=stage.group)
    ),
    "event.list (of oneself)": Request(
        lambda stage, actor: queries.ListEvents(kind="user", name=stage.name(actor))
    ),
    "event.list (of another user)": Request(
        lambda stage, actor: queries.ListEvents(kind="user", name=stage.victim())
    ),
    "event.list (of the tasks of all own groups)": Request(
        lambda stage, actor: queries.ListEvents(kind="task")
    ),
    "event.list (of everything)": Request(lambda stage, actor: queries.ListEvents()),
    "group.get": Request(lambda stage, actor: queries.GetGroup(stage.group)),
    "group.list (own)": Request(lambda stage, actor: Nothing()),
    "task.get": Request(lambda stage, actor: queries.GetTask(stage.stored_task)),
    "task.list": Request(lambda stage, actor: queries.ListTasks(stage.group)),
    "task.explain": Request(lambda stage, actor: queries.ExplainTask(stage.stored_task)),
    "task.follow": Request(lambda stage, actor: FollowTask(stage.stored_task)),
    "artifact.get": Request(lambda stage, actor: queries.GetArtifact(stage.stored_task, RESULT)),
    "attachment.get": Request(
        lambda stage, actor: queries.GetAttachment(stage.stored_key, stage.group)
    ),
    "attachment.meta": Request(
        lambda stage, actor: queries.GetAttachment(stage.stored_key, stage.group)
    ),
    "attachment.list": Request(lambda stage, actor: queries.ListAttachments(stage.group)),
    "worker.get": Request(lambda stage, actor: queries.GetWorker(stage.worker)),
    "worker.list": Request(lambda stage, actor: queries.ListWorkers(stage.group)),
}
