"""Commands of a user: `mito.cmd.<user>.<noun>.<verb>`, and their results.

| noun.verb | body | result |
|---|---|---|
| user.create | CreateUser | Done |
| user.change_password | ChangePassword | Done |
| user.reset_password | ResetPassword | Done |
| user.set_state | ChangeUserState | Done |
| user.set_admin | ChangeAdmin | Done |
| user.set_group_quota | ChangeGroupQuota | NewQuota |
| group.create | CreateGroup | Done |
| group.change_members | ChangeMembers | Done |
| group.set_storage_quota | ChangeStorageQuota | NewQuota |
| group.set_state | ChangeGroupState | Done |
| task.submit | SubmitTask | Submitted |
| task.submit_many | SubmitMany | SubmittedMany |
| task.cancel | CancelTask | Cancelled |
| task.label | ReplaceTaskLabels | Changed |
| task.change | ChangeTask | Changed |
| task.erase_secrets | EraseSecrets | Changed |
| attachment.begin | BeginAttachment | UploadBegun |
| attachment.complete | CompleteAttachment | UploadedAttachment |
| attachment.delete | DeleteAttachment | Done |
| artifact.begin | BeginArtifact | UploadBegun |
| artifact.complete | CompleteArtifact | UploadedArtifact |
| artifact.delete | DeleteArtifact | Done |
| upload.parts | GetParts | PartUrls |
| upload.abort | AbortUpload | Done |
| worker.register | RegisterWorker | Registered |
| worker.drain | DrainWorker | WorkerChanged |
| worker.update_tags | ReplaceWorkerTags | WorkerChanged |
| worker.update_labels | ReplaceWorkerLabels | WorkerChanged |
| worker.update_roles | GrantWorkerRoles | WorkerChanged |
| worker.remove_roles | RemoveWorkerRoles | WorkerChanged |
| worker.update_slots | ChangeWorkerSlots | WorkerChanged |
| worker.pause | PauseWorker | WorkerChanged |
| worker.resume | ResumeWorker | WorkerChanged |
| session.revoke | RevokeSession | Done |
| platform.shutdown | Shutdown | Done |
"""

from mitosis.contract.commands.files import (
    AbortUpload,
    BeginArtifact,
    BeginAttachment,
    CompleteArtifact,
    CompleteAttachment,
    DeleteArtifact,
    DeleteAttachment,
    GetParts,
    PartUrls,
    UploadBegun,
    UploadedArtifact,
    UploadedAttachment,
)
from mitosis.contract.commands.groups import (
    ChangeGroupState,
    ChangeMembers,
    ChangeStorageQuota,
    CreateGroup,
)
from mitosis.contract.commands.platform import (
    Shutdown,
)
from mitosis.contract.commands.results import (
    Done,
    NewQuota,
)
from mitosis.contract.commands.tasks import (
    Cancelled,
    CancelTask,
    Changed,
    ChangedLimits,
    ChangedRetry,
    ChangeTask,
    EraseSecrets,
    ReplaceTaskLabels,
    SubmitMany,
    SubmitResult,
    SubmitTask,
    Submitted,
    SubmittedMany,
    WatchWanted,
)
from mitosis.contract.commands.users import (
    ChangeAdmin,
    ChangeGroupQuota,
    ChangePassword,
    ChangeUserState,
    CreateUser,
    ResetPassword,
    RevokeSession,
)
from mitosis.contract.commands.workers import (
    ChangeWorkerSlots,
    DrainWorker,
    GrantWorkerRoles,
    PauseWorker,
    Registered,
    RegisterWorker,
    RemoveWorkerRoles,
    ReplaceWorkerLabels,
    ReplaceWorkerTags,
    ResumeWorker,
    WorkerChanged,
)

__all__ = [
    "AbortUpload",
    "BeginArtifact",
    "BeginAttachment",
    "CancelTask",
    "Cancelled",
    "ChangeAdmin",
    "ChangeGroupQuota",
    "ChangeGroupState",
    "ChangeMembers",
    "ChangePassword",
    "ChangeStorageQuota",
    "ChangeTask",
    "ChangeUserState",
    "ChangeWorkerSlots",
    "Changed",
    "ChangedLimits",
    "ChangedRetry",
    "CompleteArtifact",
    "CompleteAttachment",
    "CreateGroup",
    "CreateUser",
    "DeleteArtifact",
    "DeleteAttachment",
    "Done",
    "DrainWorker",
    "EraseSecrets",
    "GetParts",
    "GrantWorkerRoles",
    "NewQuota",
    "PartUrls",
    "PauseWorker",
    "RegisterWorker",
    "Registered",
    "RemoveWorkerRoles",
    "ReplaceTaskLabels",
    "ReplaceWorkerLabels",
    "ReplaceWorkerTags",
    "ResetPassword",
    "ResumeWorker",
    "RevokeSession",
    "Shutdown",
    "SubmitMany",
    "SubmitResult",
    "SubmitTask",
    "Submitted",
    "SubmittedMany",
    "UploadBegun",
    "UploadedArtifact",
    "UploadedAttachment",
    "WatchWanted",
    "WorkerChanged",
]
