"""Commands about files: uploads of attachments and artifacts by users, and deletions.

An upload asks the store twice: for a place when it begins, for the real size when it completes.
What was true before such a question is checked again after it. Only an event makes an object a
file; the object that it replaces is removed after the event is stored, never before.
"""

from collections.abc import Callable

import msgspec

from mitosis.artifacts.names import artifact_object, attachment_object
from mitosis.contract import commands, subjects
from mitosis.domain import attachment, task
from mitosis.domain.access import need_role, need_sight
from mitosis.domain.attachment import Attachment, check_key, check_sha256
from mitosis.domain.group import Group
from mitosis.domain.names import check_name, check_uuid
from mitosis.domain.roles import Role
from mitosis.domain.task import Artifact, Task
from mitosis.domain.user import User
from mitosis.errors import AlreadyExists, InvalidInput, NotFound, Rejection
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.core import Core, Verbs
from mitosis.services.coordinator.journal import Unit
from mitosis.services.coordinator.uploads import (
    GRANT_SECONDS,
    Grant,
    Places,
    check_quota,
    check_size,
    give_up,
    open_place,
    part_urls,
    stored_size,
)


class FileHandlers:
    """Handlers of `attachment.*`, `artifact.*` and `upload.*`."""

    def __init__(self, core: Core, artifacts: Places, attachments: Places) -> None:
        self._core = core
        self._artifacts = artifacts
        self._attachments = attachments

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [
            ("attachment.begin", commands.BeginAttachment, self.begin_attachment),
            ("attachment.complete", commands.CompleteAttachment, self.complete_attachment),
            ("attachment.delete", commands.DeleteAttachment, self.delete_attachment),
            ("artifact.begin", commands.BeginArtifact, self.begin_artifact),
            ("artifact.complete", commands.CompleteArtifact, self.complete_artifact),
            ("artifact.delete", commands.DeleteArtifact, self.delete_artifact),
            ("upload.parts", commands.GetParts, self.parts),
            ("upload.abort", commands.AbortUpload, self.abort),
        ]

    # --- begin --------------------------------------------------------------------------------

    async def begin_attachment(self, caller: Caller, body: commands.BeginAttachment) -> None:
        """`attachment.begin`: a place for a file, reserved against the group's quota."""
        core = self._core
        user = core.user(caller.owner)
        name = body.group or user.name
        group = self._writable(user, name, "uploading")
        check_key(name, body.key)
        old = core.world.state(subjects.attachment_tail(name, body.key))
        upload = core.ids.uuid()
        grant = Grant(
            upload=upload, object_name=attachment_object(name, upload), owner=user.name,
            group=name, size_bytes=body.size_bytes, key=body.key,
        )  # fmt: skip
        await self._begin(caller, self._attachments, grant, group, old.size_bytes if old else 0)

    async def begin_artifact(self, caller: Caller, body: commands.BeginArtifact) -> None:
        """`artifact.begin`: a place for an output, reserved against the group's quota."""
        core = self._core
        user = core.user(caller.owner)
        async with core.kept_task(check_uuid(body.task, "task")) as state:
            group = self._writable_task(user, state, "uploading")
            old = state.artifact(body.kind)
            upload = core.ids.uuid()
            grant = Grant(
                upload=upload, object_name=artifact_object(state.task, 0, upload, body.kind),
                owner=user.name, group=state.group, size_bytes=body.size_bytes,
                task=state.task, kind=body.kind,
            )  # fmt: skip
            await self._begin(caller, self._artifacts, grant, group, old.size_bytes if old else 0)

    async def _begin(
        self, caller: Caller, places: Places, grant: Grant, group: Group, freed_bytes: int
    ) -> None:
        core = self._core
        core.uploads.grant(
            grant,
            used_bytes=core.world.used_bytes.get(grant.group, 0) - freed_bytes,
            quota_bytes=group.storage_quota_bytes,
        )
        try:
            place = await open_place(core.uploads, places, grant)
            unit = core.begin("", caller)
        except BaseException:
            core.uploads.take(grant.upload)
            raise
        core.answer(
            unit,
            caller,
            commands.UploadBegun(
                grant.upload, grant.group, GRANT_SECONDS, place.url, place.parts, place.part_bytes
            ),
        )

    def parts(self, caller: Caller, body: commands.GetParts) -> None:
        """`upload.parts`: URLs of the next parts; the reservation lasts another while."""
        core = self._core
        core.user(caller.owner)
        grant = self._open(caller, body.upload)
        urls = part_urls(core.uploads, self._places(grant), grant, body.first)
        core.answer(core.begin("", caller), caller, commands.PartUrls(body.first, urls))

    def abort(self, caller: Caller, body: commands.AbortUpload) -> None:
        """`upload.abort`: what it reserved is free at once, what was sent is removed."""
        core = self._core
        core.user(caller.owner)
        grant = core.uploads.find(body.upload, caller.owner)
        unit = core.begin("", caller)
        if grant is not None:
            self._give_up(grant)
        core.answer(unit, caller, commands.Done(changed=grant is not None))

    # --- complete -----------------------------------------------------------------------------

    async def complete_attachment(self, caller: Caller, body: commands.CompleteAttachment) -> None:
        """`attachment.complete`: name the uploaded object, and forget the one before."""
        core = self._core
        core.user(caller.owner)
        check_sha256(body.sha256)
        check_key(check_name(body.group, "group"), body.key)
        named = attachment_object(body.group, check_uuid(body.upload, "upload"))
        grant = core.uploads.find(body.upload, caller.owner)
        if grant is not None and (grant.group, grant.key) != (body.group, body.key):
            raise InvalidInput(f"upload {body.upload} was begun for {grant.group}/{grant.key}")
        size = await stored_size(core.uploads, self._attachments, grant) if grant else None
        async with core.kept_attachment(body.group, body.key) as old:
            user = core.user(caller.owner)
            if not _is_stored(old, named):
                self._writable(user, body.group, "uploading")

            def store(unit: Unit, size_bytes: int) -> commands.UploadedAttachment:
                group, key, sha256 = body.group, body.key, body.sha256
                unit.run(
                    subjects.attachment_tail(group, key),
                    attachment.StoreAttachment(group, key, named, size_bytes, sha256),
                )
                replaced = bool(old and old.object_name not in {"", named})
                return commands.UploadedAttachment(group, key, size_bytes, sha256, replaced)

            self._complete(caller, body, size, named, old, store)

    async def complete_artifact(self, caller: Caller, body: commands.CompleteArtifact) -> None:
        """`artifact.complete`: name the uploaded object, and forget the one before."""
        core = self._core
        core.user(caller.owner)
        check_sha256(body.sha256)
        uuid = check_uuid(body.task, "task")
        named = artifact_object(uuid, 0, check_uuid(body.upload, "upload"), body.kind)
        grant = core.uploads.find(body.upload, caller.owner)
        if grant is not None and (grant.task, grant.kind) != (uuid, body.kind):
            raise InvalidInput(f"upload {body.upload} was begun for another artifact")
        size = await stored_size(core.uploads, self._artifacts, grant) if grant else None
        async with core.kept_task(uuid) as state:
            user, old = core.user(caller.owner), state.artifact(body.kind)
            if not _is_stored(old, named):
                self._writable_task(user, state, "uploading")

            def store(unit: Unit, size_bytes: int) -> commands.UploadedArtifact:
                artifact = Artifact(body.kind, named, size_bytes, body.sha256)
                tail = subjects.task_tail(state.group, uuid)
                unit.run(tail, task.StoreArtifact("", 0, artifact))
                replaced = bool(old and old.object_name != named)
                return commands.UploadedArtifact(uuid, body.kind, size_bytes, body.sha256, replaced)

            self._complete(caller, body, size, named, old, store)

    def _complete(
        self,
        caller: Caller,
        body: commands.CompleteAttachment | commands.CompleteArtifact,
        size: int | None,
        named: str,
        old: Attachment | Artifact | None,
        store: Callable[[Unit, int], msgspec.Struct],
    ) -> None:
        """Decide in one go, after the store was asked.

        Args:
            caller: Who completes.
            body: Names the upload and its checksum.
            size: What the store says.
            named: The object of the upload.
            old: The file that is replaced.
            store: Decides the event for a size, and returns the reply.
        """
        core = self._core
        if old is not None and _is_stored(old, named):
            if old.sha256 != body.sha256:
                raise AlreadyExists(
                    f"upload {body.upload} was completed with another checksum: upload the file "
                    "again",
                    sha256=old.sha256,
                )
            unit = core.begin(f"user:{caller.owner}", caller)
            core.answer(unit, caller, store(unit, old.size_bytes))
            return
        grant = self._open(caller, body.upload)
        places = self._places(grant)
        unit = core.begin(f"user:{caller.owner}", caller)
        try:
            real_size = check_size(size, grant.size_bytes)
            quota = core.world.groups[grant.group].storage_quota_bytes
            used = core.world.used_bytes.get(grant.group, 0) - (old.size_bytes if old else 0)
            check_quota(grant.group, real_size, used, quota)
            done = store(unit, real_size)
        except Rejection:
            unit.close()
            self._give_up(grant)
            raise
        core.uploads.take(body.upload)
        if old is not None and old.object_name:
            unit.then(lambda _: core.in_background(places.delete([old.object_name])))
        core.answer(unit, caller, done)

    # --- delete -------------------------------------------------------------------------------

    async def delete_attachment(self, caller: Caller, body: commands.DeleteAttachment) -> None:
        """`attachment.delete`: Write in the group, or a platform administrator."""
        core = self._core
        user = core.user(caller.owner)
        name = body.group or user.name
        self._deletable(user, name)
        check_key(name, body.key)
        async with core.kept_attachment(name, body.key) as state:
            self._deletable(core.user(caller.owner), name)
            if state is None or not state.object_name:
                raise NotFound(f"group {name!r} has no attachment {body.key!r}", group=name)
            command = attachment.DeleteAttachment()
            tail = subjects.attachment_tail(name, body.key)
            self._delete(caller, tail, command, self._attachments, state.object_name)

    async def delete_artifact(self, caller: Caller, body: commands.DeleteArtifact) -> None:
        """`artifact.delete`: Write in the task's group, or a platform administrator."""
        core = self._core
        core.user(caller.owner)
        async with core.kept_task(check_uuid(body.task, "task")) as state:
            user = core.user(caller.owner)
            self._see(user, state)
            self._deletable(user, state.group)
            held = state.artifact(body.kind)
            name = held.object_name if held else ""
            tail = subjects.task_tail(state.group, state.task)
            self._delete(caller, tail, task.DeleteArtifact(body.kind), self._artifacts, name)

    def _delete(
        self,
        caller: Caller,
        tail: str,
        command: attachment.DeleteAttachment | task.DeleteArtifact,
        places: Places,
        object_name: str,
    ) -> None:
        core = self._core
        unit = core.begin(f"user:{caller.owner}", caller)
        try:
            unit.run(tail, command)
        except Rejection:
            unit.close()
            raise
        unit.then(lambda _: core.in_background(places.delete([object_name])))
        core.answer(unit, caller, commands.Done())

    # --- checks -------------------------------------------------------------------------------

    def _writable(self, user: User, name: str, what: str) -> Group:
        check_name(name, "group")
        return need_role(user, self._core.world.groups.get(name), name, Role.WRITE, what)

    def _writable_task(self, user: User, state: Task, what: str) -> Group:
        self._see(user, state)
        return self._writable(user, state.group, what)

    def _see(self, user: User, state: Task) -> None:
        need_sight(user, self._core.world.groups.get(state.group), state.task)

    def _deletable(self, user: User, name: str) -> None:
        if not user.admin:
            self._writable(user, name, "deleting files")
        elif check_name(name, "group") not in self._core.world.groups:
            raise NotFound(f"there is no group {name!r}", group=name)

    def _open(self, caller: Caller, upload: str) -> Grant:
        grant = self._core.uploads.find(upload, caller.owner)
        if grant is None:
            raise NotFound(
                f"there is no open upload {upload[:60]!r}: it has expired, or the coordinator was "
                "started anew; begin again",
                upload=upload[:60],
            )
        return grant

    def _places(self, grant: Grant) -> Places:
        return self._artifacts if grant.task else self._attachments

    def _give_up(self, grant: Grant) -> None:
        core = self._core
        core.in_background(give_up(core.uploads, self._places(grant), grant))


def _is_stored(old: Attachment | Artifact | None, named: str) -> bool:
    """Whether an upload was completed already, and the answer was lost.

    It is answered again, whatever its user may do by now: only its user knows its name.
    """
    return old is not None and old.object_name == named
