"""Names of objects: the only place that builds or reads one.

artifacts bucket     <task>/<attempt>/<upload id>/<file name>
attachments bucket   <group>/<upload id>

A name is used once: the upload id is new for every upload, so a late upload of an older attempt
overwrites nothing. Every part is one short clean segment (facts on S3: at most 255 bytes, no
empty, `.` or `..` parts).
"""

import re

from mitosis.domain.task import ArtifactKind
from mitosis.errors import CorruptData

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,126}", re.ASCII)


def artifact_object(task: str, attempt: int, upload: str, kind: ArtifactKind) -> str:
    """Name of an output of one attempt; `attempt` is 0 when a user uploads it."""
    return f"{artifact_prefix(task, attempt)}{_part(upload)}/{kind.filename}"


def artifact_prefix(task: str, attempt: int) -> str:
    """What the names of all outputs of one attempt begin with, with the final slash."""
    return f"{_part(task)}/{attempt}/"


def attachment_object(group: str, upload: str) -> str:
    """Name of one stored version of an attachment; its key is known to the event alone."""
    return f"{_part(group)}/{_part(upload)}"


def filename_of(object_name: str) -> str:
    """Last part of a name: what a downloaded artifact is called."""
    return object_name.rpartition("/")[2]


def task_of(object_name: str) -> str:
    """First part of the name of an artifact: the UUID of its task."""
    return object_name.partition("/")[0]


def upload_of(artifact: str) -> str:
    """Id of the upload that an artifact's name holds; empty if it holds none."""
    parts = artifact.split("/")
    return parts[2] if len(parts) == 4 else ""


def belongs_to_attempt(object_name: str, task: str, attempt: int) -> bool:
    """Whether a worker may name this object in a report about its attempt."""
    prefix = artifact_prefix(task, attempt)
    rest = object_name.removeprefix(prefix).split("/")
    known = {kind.filename for kind in ArtifactKind}
    return (
        object_name.startswith(prefix)
        and len(rest) == 2
        and _PART.fullmatch(rest[0]) is not None
        and rest[1] in known
    )


def _part(text: str) -> str:
    if not _PART.fullmatch(text):
        raise CorruptData(f"{text!r} cannot be a part of an object's name", part=text)
    return text
