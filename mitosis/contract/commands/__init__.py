"""Commands of a user: `mito.cmd.<user>.<noun>.<verb>`, and their results.

| noun.verb | body | result |
|---|---|---|
| user.create | CreateUser | Done |
| group.create | CreateGroup | Done |
| task.submit | SubmitTask | Submitted |
| task.submit_many | SubmitMany | SubmittedMany |
| task.cancel | CancelTask | Cancelled |
| worker.register | RegisterWorker | Registered |
| worker.drain | DrainWorker | Done |
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
    DrainWorker,
    Registered,
    RegisterWorker,
)

__all__ = [
    "CancelTask",
    "Cancelled",
    "CreateGroup",
    "CreateUser",
    "Done",
    "DrainWorker",
    "RegisterWorker",
    "Registered",
    "RevokeSession",
    "SubmitMany",
    "SubmitResult",
    "SubmitTask",
    "Submitted",
    "SubmittedMany",
]
