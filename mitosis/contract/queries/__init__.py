"""Reads of a user: `mito.query.<user>.<noun>.<verb>`, and their results.

| noun.verb | body | result |
|---|---|---|
| user.whoami | Nothing | WhoAmI |
| user.list | ListUsers | UserPage |
| session.list | ListSessions | SessionList |
| task.get | GetTask | TaskView |
| task.list | ListTasks | TaskPage |
| task.explain | ExplainTask | Explanation |
| task.follow | FollowTask | TaskRunner (both in contract/output.py) |
| artifact.get | GetArtifact | ArtifactLink |
| attachment.get | GetAttachment | AttachmentLink |
| attachment.meta | GetAttachment | AttachmentView |
| attachment.list | ListAttachments | AttachmentPage |
| worker.get | GetWorker | WorkerView |
| worker.list | ListWorkers | WorkerPage |
| group.get | GetGroup | GroupView |
| group.list | ListGroups | GroupList |
| event.list | ListEvents | EventPage |

A task can be named by its UUID, by a unique prefix of at least 6 characters, by `last` (the
newest of the user's own), or as `GROUP#12`. Requests with `as_of` can ask for a moment of the past.
"""

from mitosis.contract.queries.events import (
    CommitView,
    EventPage,
    ListEvents,
    StoredEvent,
)
from mitosis.contract.queries.explaining import (
    ExplainTask,
    Explanation,
    WaitView,
)
from mitosis.contract.queries.files import (
    AttachmentLink,
    AttachmentPage,
    AttachmentView,
    GetAttachment,
    ListAttachments,
)
from mitosis.contract.queries.groups import (
    GetGroup,
    GroupList,
    GroupView,
    ListGroups,
)
from mitosis.contract.queries.pages import (
    DEFAULT_PAGE,
    AsOf,
)
from mitosis.contract.queries.tasks import (
    ArtifactLink,
    ArtifactView,
    AttemptEnd,
    FormerAttempt,
    GetArtifact,
    GetTask,
    ListTasks,
    TaskPage,
    TaskView,
)
from mitosis.contract.queries.users import (
    ListSessions,
    ListUsers,
    SessionList,
    SessionView,
    UserPage,
    UserView,
    WhoAmI,
)
from mitosis.contract.queries.workers import (
    GetWorker,
    ListWorkers,
    WorkerPage,
    WorkerView,
)

__all__ = [
    "DEFAULT_PAGE",
    "ArtifactLink",
    "ArtifactView",
    "AsOf",
    "AttachmentLink",
    "AttachmentPage",
    "AttachmentView",
    "AttemptEnd",
    "CommitView",
    "EventPage",
    "ExplainTask",
    "Explanation",
    "FormerAttempt",
    "GetArtifact",
    "GetAttachment",
    "GetGroup",
    "GetTask",
    "GetWorker",
    "GroupList",
    "GroupView",
    "ListAttachments",
    "ListEvents",
    "ListGroups",
    "ListSessions",
    "ListTasks",
    "ListUsers",
    "ListWorkers",
    "SessionList",
    "SessionView",
    "StoredEvent",
    "TaskPage",
    "TaskView",
    "UserPage",
    "UserView",
    "WaitView",
    "WhoAmI",
    "WorkerPage",
    "WorkerView",
]
