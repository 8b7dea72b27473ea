"""Subjects: the only place that builds or takes apart a subject. A contract (docs/events.md).

mito.login.<verb>                        what a guest may do
mito.cmd.<user>.<noun>.<verb>            commands of a user
mito.query.<user>.<noun>.<verb>          reads of a user
mito.worker.<worker>.<verb>              what a worker tells and asks
mito.work.<group>.<worker>               assignments, pushed
mito.control.<worker>                    cancel, drain, changed settings
mito.events.<aggregate>...               stored commits
mito.live.<same tail>                    the same, republished after they are stored
mito.output.<group>.<task>.<worker>      output of a running task, while followed
mito.svc.<noun>.<verb>                   what the services ask each other
"""

import base64

from mitosis.errors import CorruptData

ROOT = "mito"
EVENTS = f"{ROOT}.events"
LIVE = f"{ROOT}.live"
EVENTS_STREAM = "MITO_EVENTS"

LOGIN_ALL = f"{ROOT}.login.>"
COMMANDS_ALL = f"{ROOT}.cmd.>"
QUERIES_ALL = f"{ROOT}.query.>"
WORKERS_ALL = f"{ROOT}.worker.>"
SERVICES_ALL = f"{ROOT}.svc.>"

GUEST_INBOX = "_INBOX.guest"
USER_INBOX = "_INBOX.user"
WORKER_INBOX = "_INBOX.worker"


def login(verb: str) -> str:
    """Subject of a login request."""
    return f"{ROOT}.login.{verb}"


def command(user: str, noun: str, verb: str) -> str:
    """Subject of a command of a user."""
    return f"{ROOT}.cmd.{user}.{noun}.{verb}"


def query(user: str, noun: str, verb: str) -> str:
    """Subject of a read of a user."""
    return f"{ROOT}.query.{user}.{noun}.{verb}"


def service(noun: str, verb: str) -> str:
    """Subject on which the services ask each other; nobody else may."""
    return f"{ROOT}.svc.{noun}.{verb}"


def from_worker(worker: str, verb: str) -> str:
    """Subject on which a worker talks to the coordinator."""
    return f"{ROOT}.worker.{worker}.{verb}"


def work(group: str, worker: str) -> str:
    """Subject on which a worker gets assignments of a group."""
    return f"{ROOT}.work.{group}.{worker}"


def control(worker: str) -> str:
    """Subject on which a worker is told to cancel, drain or change."""
    return f"{ROOT}.control.{worker}"


def output(group: str, task: str, worker: str) -> str:
    """Subject of the live output of a task; `*` as the worker for whoever runs it."""
    return f"{ROOT}.output.{group}.{task}.{worker}"


def inbox(kind: str, owner: str) -> str:
    """Inbox prefix of a guest, a user or a worker (`GUEST_INBOX`, `USER_INBOX`, `WORKER_INBOX`)."""
    return f"{kind}.{owner}"


def parse_request(subject: str) -> tuple[str, str]:
    """Take `mito.cmd.<user>.<noun>.<verb>` apart.

    Returns:
        The user and `<noun>.<verb>`. Works for queries and, with a verb alone, for workers.
    """
    _, _, owner, verb = subject.split(".", 3)
    return owner, verb


def key_token(key: str) -> str:
    """One subject token for any text (keys of attachments have dots and slashes)."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def key_of_token(token: str) -> str:
    """Return the text of which `key_token` made a token.

    Raises:
        CorruptData: It was not made so.
    """
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except ValueError as error:
        raise CorruptData(f"{token!r} in a subject names no key", token=token) from error


def user_tail(name: str) -> str:
    """Tail of the aggregate of a user."""
    return f"user.{name}"


def group_tail(name: str) -> str:
    """Tail of the aggregate of a group."""
    return f"group.{name}"


def worker_tail(worker: str) -> str:
    """Tail of the aggregate of a worker."""
    return f"worker.{worker}"


def task_tail(group: str, task: str) -> str:
    """Tail of the aggregate of a task."""
    return f"task.{group}.{task}"


def attachment_tail(group: str, key: str) -> str:
    """Tail of the aggregate of an attachment."""
    return f"attachment.{group}.{key_token(key)}"


def secret_tail(group: str, secret: str) -> str:
    """Tail of the aggregate of the sealed secret variables of a task."""
    return f"secret.{group}.{secret}"


PLATFORM_TAIL = "platform"


def events(tail: str) -> str:
    """Subject under which the commits of an aggregate are stored."""
    return f"{EVENTS}.{tail}"


def live(tail: str) -> str:
    """Subject under which stored commits of an aggregate are shown live."""
    return f"{LIVE}.{tail}"


def tail_of(subject: str) -> str:
    """Return the aggregate's tail of a stored or live subject.

    Raises:
        CorruptData: The subject is neither.
    """
    for prefix in (EVENTS, LIVE):
        if subject.startswith(f"{prefix}."):
            return subject[len(prefix) + 1 :]
    raise CorruptData(f"subject {subject!r} is not one of stored events", subject=subject)


def place_of(tail: str) -> tuple[str, str, str]:
    """Return kind, group and name of an aggregate; the group is empty when it lies in none.

    Raises:
        CorruptData: The tail of an attachment with a key that cannot be.
    """
    kind, _, rest = tail.partition(".")
    group, dot, name = rest.partition(".")
    if not dot:
        return kind, "", rest
    return kind, group, key_of_token(name) if kind == "attachment" else name


def aggregate_kind(tail: str) -> str:
    """Return `task`, `user` and so on for the tail of an aggregate."""
    return tail.partition(".")[0]
