"""Commands of a user: `mito.cmd.<user>.<noun>.<verb>`, and their results.

| noun.verb | body | result |
|---|---|---|
| user.create | CreateUser | Done |
| group.create | CreateGroup | Done |
| task.submit | SubmitTask | Submitted |
| task.submit_many | SubmitMany | SubmittedMany |
| task.cancel | CancelTask | Cancelled |
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
"""

from mitosis.contract.commands.groups import (
    CreateGroup,
)
from mitosis.contract.commands.results import (
    Done,
)
from mitosis.contract.commands.tasks import (
    Cancelled,
    CancelTask,
    SubmitMany,
    SubmitResult,
    SubmitTask,
    Submitted,
    SubmittedMany,
)
from mitosis.contract.commands.users import (
    CreateUser,
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
    "CancelTask",
    "Cancelled",
    "ChangeWorkerSlots",
    "CreateGroup",
    "CreateUser",
    "Done",
    "DrainWorker",
    "GrantWorkerRoles",
    "PauseWorker",
    "RegisterWorker",
    "Registered",
    "RemoveWorkerRoles",
    "ReplaceWorkerLabels",
    "ReplaceWorkerTags",
    "ResumeWorker",
    "RevokeSession",
    "SubmitMany",
    "SubmitResult",
    "SubmitTask",
    "Submitted",
    "SubmittedMany",
    "WorkerChanged",
]
