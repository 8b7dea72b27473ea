"""Who may publish and subscribe what: the table of the contract, as pure functions.

| who | may publish | may subscribe |
|---|---|---|
| guest (10 s, 8 KiB) | `mito.login.>` | own inbox |
| user U | `mito.cmd.U.>`, `mito.query.U.>` | inbox of its session; `mito.live.task.G.>`,
  `mito.live.attachment.G.>`, `mito.output.G.>` of groups G with a role |
| administrator | and `$SRV.>` | and `mito.live.{task,group,worker,attachment}.>` |
| worker W | `mito.worker.W.>`, `mito.output.*.*.W` | `mito.work.*.W`, `mito.control.W`, own inbox |

Nobody here has rights on `$JS.API`, on `mito.events`, on `mito.live.user` or on `mito.live.secret`.
"""

from collections.abc import Iterable

from mitosis.contract.subjects import (
    GUEST_INBOX,
    LIVE,
    LOGIN_ALL,
    ROOT,
    USER_INBOX,
    WORKER_INBOX,
    inbox,
)
from mitosis.nats.callout import Grant

GUEST_SECONDS = 10
# The server applies no payload limit of a callout's user, so the login endpoint checks this one.
GUEST_PAYLOAD_BYTES = 8 * 1024
ADMIN_LIVE = ("task", "group", "worker", "attachment")
_WILD = frozenset("*>. \t\r\n")


def guest(nonce: str, now: int) -> Grant:
    """Rights of somebody who has not logged in; `nonce` names the inbox."""
    return Grant(
        name="guest",
        publish=(LOGIN_ALL,),
        subscribe=(f"{inbox(GUEST_INBOX, _token(nonce))}.>",),
        expires_at=now + GUEST_SECONDS,
    )


def user(
    name: str, groups: Iterable[str], expires_at: int, *, session: str = "", admin: bool = False
) -> Grant:
    """Rights of a user; `groups` are those in which it has any role.

    `session` empty: one that came by password alone, which may hear all answers to this user.
    """
    _token(name)
    own = inbox(USER_INBOX, name)
    publish = [f"{ROOT}.cmd.{name}.>", f"{ROOT}.query.{name}.>"]
    subscribe = [f"{own}.{_token(session)}.>" if session else f"{own}.>"]
    for group in sorted(groups):
        _token(group)
        subscribe.append(f"{ROOT}.output.{group}.>")
        if not admin:  # an administrator has all of these by one wildcard
            subscribe += [f"{LIVE}.task.{group}.>", f"{LIVE}.attachment.{group}.>"]
    if admin:
        publish.append("$SRV.>")
        subscribe += [f"{LIVE}.{kind}.>" for kind in ADMIN_LIVE]
    return Grant(user_label(name), tuple(publish), tuple(subscribe), expires_at)


def worker(uuid: str, expires_at: int) -> Grant:
    """Rights of a worker."""
    _token(uuid)
    return Grant(
        name=worker_label(uuid),
        publish=(f"{ROOT}.worker.{uuid}.>", f"{ROOT}.output.*.*.{uuid}"),
        subscribe=(
            f"{ROOT}.work.*.{uuid}",
            f"{ROOT}.control.{uuid}",
            f"{inbox(WORKER_INBOX, uuid)}.>",
        ),
        expires_at=expires_at,
    )


def user_label(name: str) -> str:
    """Name of a user's connections, as the server shows it."""
    return f"user:{name}"


def worker_label(uuid: str) -> str:
    """Name of a worker's connections, as the server shows it."""
    return f"worker:{uuid}"


def _token(text: str) -> str:
    """Names are checked long before; a wildcard in one would open everything, so check again."""
    if not text or _WILD.intersection(text):
        raise ValueError(f"{text!r} cannot be one token of a subject")
    return text
