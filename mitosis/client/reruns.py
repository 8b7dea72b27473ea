"""Reruns: tasks once more, as they were or with edits, linked to those that they repeat."""

import secrets
from collections.abc import Iterable, Sized

import msgspec
from msgspec.structs import replace

from mitosis.client.session import Session
from mitosis.client.submits import to_edits
from mitosis.client.tasks import Tasks, submit_all
from mitosis.client.watching import named_views
from mitosis.config.client import GetTasksArgs, RerunArgs
from mitosis.contract.commands import ChangeTask, SubmitTask, Submitted, WatchWanted
from mitosis.contract.queries import TaskView
from mitosis.contract.wire import ErrorBody, error_body
from mitosis.domain.limits import (
    MAX_KEY_BYTES,
    check_command,
    check_several,
    check_tags,
    check_text,
)
from mitosis.domain.names import check_name, task_uuid
from mitosis.domain.secret import check_secrets
from mitosis.domain.task import Outcome, TaskSpec, TaskState
from mitosis.errors import InvalidInput, TooLarge

MAX_RERUNS = 10_000
MAX_GIVEN_KEY_BYTES = MAX_KEY_BYTES - 37  # a colon and the UUID of the original follow
PAGE = 200  # views may be large; of each only what is needed is kept


class Origin(msgspec.Struct, frozen=True):
    """A task that is to be run once more, as it is now."""

    uuid: str
    number: int
    group: str
    creator: str
    state: TaskState
    outcome: Outcome | None
    spec: TaskSpec
    labels: tuple[str, ...]
    rerun_of: str | None
    reruns: int


class Selection(msgspec.Struct, frozen=True):
    """What filters have found to run once more.

    Attributes:
        origins: Oldest first.
        rerun_already: How many more match, but were run once more already.
    """

    origins: tuple[Origin, ...]
    rerun_already: int = 0


class RerunResult(msgspec.Struct, frozen=True):
    """What became of one rerun: either `submitted` or `error` is there."""

    rerun_of: str
    submitted: Submitted | None = None
    error: ErrorBody | None = None


class Reran(msgspec.Struct, frozen=True):
    """What was run once more.

    Attributes:
        key: With `--key` and this, the same command again submits nothing twice.
        dry_run: Nothing was submitted.
        rerun_already: How many more match the filters, but were run once more already.
        tasks: What became of each.
    """

    key: str
    dry_run: bool
    rerun_already: int
    tasks: list[RerunResult]


class Reruns:
    """Tasks that are run once more."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tasks = Tasks(session)

    async def named(self, tasks: Iterable[str | Submitted | Origin]) -> list[Origin]:
        """Return tasks, each once, as they are now.

        Raises:
            NotFound: No such task, or none that the asker may see.
        """
        wanted = check_several(tasks, "tasks")
        _check_number(wanted)
        origins = [one for one in wanted if isinstance(one, Origin)]
        if len(origins) < len(wanted):
            names = [one.uuid if isinstance(one, Origin) else one for one in wanted]
            origins = [_origin(view) for view in await named_views(self._session, names)]
        found = {origin.uuid: origin for origin in origins}
        _check_number(found)
        return list(found.values())

    async def select(
        self, wanted: GetTasksArgs, *, again: bool = False, key: str = ""
    ) -> Selection:
        """Return all tasks that match; `limit`, `offset` and `before` are not looked at.

        Args:
            wanted: The filters of `get_tasks`.
            again: Also those that were run once more already.
            key: Of a rerun that is repeated: what it has submitted already is not run once more.

        Raises:
            TooLarge: More than can be run once more with one command. And what `get_tasks` raises.
        """
        page = replace(wanted, before=0, offset=0, limit=PAGE, count_only=False)
        origins: list[Origin] = []
        already = 0
        while True:
            views = (await self._tasks.list(page)).tasks
            for view in reversed(views):
                if view.reruns and not again:
                    already += 1
                elif not (key and _made_by(key, view)):
                    origins.append(_origin(view))
            _check_number(origins)
            if len(views) < PAGE:
                return Selection(tuple(reversed(origins)), already)
            page = replace(page, before=views[0].number)

    async def rerun(
        self,
        tasks: Iterable[str | Submitted | Origin],
        edits: RerunArgs | None = None,
        *,
        key: str = "",
    ) -> list[RerunResult]:
        """Submit the same specifications again, with edits; results are in the order of `tasks`.

        Labels are the same too. What the originals waited for is not waited for again: it has
        happened, or never will. Each is decided by itself; so one is refused that has secret
        variables which `edits` do not give anew.

        Args:
            tasks: In any of the short forms, or what `submit` or `select` have returned.
            edits: What is to be different.
            key: With the same key a task is run once more only once, however often this is called;
                empty: a random one, which an error names when no answer came.

        Raises:
            InvalidInput: An edit that cannot be; nothing was submitted.
            NotFound: No such task, or none that the asker may see; nothing was submitted.
            OutcomeUnknown: No answer came; the same call with the key that it names is safe.

        Example:
            submitted = await client.submit_task(SubmitTaskArgs(command=("true",)))
            (done,) = await client.rerun_tasks([submitted], RerunArgs(priority=5))
            print(done.submitted.task)
        """
        key = check_key(key) or secrets.token_hex(16)
        edits = await self._tasks.with_watched(edits or RerunArgs())
        change = check_edits(edits)
        origins = await self.named(tasks)
        refused = {
            origin.uuid: RerunResult(origin.uuid, error=error_body(error))
            for origin in origins
            if (error := missing_secrets(origin, change)) is not None
        }
        able = [origin for origin in origins if origin.uuid not in refused]
        bodies = [to_rerun(origin, edits, change, key) for origin in able]
        results = await submit_all(self._session, bodies, key)
        decided = {
            origin.uuid: RerunResult(origin.uuid, result.submitted, result.error)
            for origin, result in zip(able, results, strict=True)
        }
        return [(refused | decided)[origin.uuid] for origin in origins]


def check_key(key: str) -> str:
    """Return the key of a rerun, which is a part of the key of each of its submits.

    Raises:
        TooLarge: Too long.
    """
    return check_text(key, "the key", MAX_GIVEN_KEY_BYTES)


def check_edits(edits: RerunArgs) -> ChangeTask:
    """Check what is to be different, as far as it can be here. The watched task has its UUID.

    Raises:
        InvalidInput: A value out of its bounds.
    """
    if edits.group:
        check_name(edits.group, "group")
    check_tags(edits.labels or (), "labels")
    if edits.set_envs:
        check_command(("-",), edits.set_envs)
    both = sorted(set(edits.set_envs) & set(check_several(edits.unset_envs, "unset_envs")))
    if both:
        raise InvalidInput(f"the variable {both[0]} is both set and left out", field="envs")
    check_secrets(edits.secret_envs or {}, edits.set_envs)
    return to_edits("", edits)


def missing_secrets(origin: Origin, change: ChangeTask) -> InvalidInput | None:
    """Return why a task cannot be run once more if a secret variable of it is not given anew.

    None: all are, or it is to have none.
    """
    if change.secret_env == {}:
        return None
    missing = sorted(set(origin.spec.secrets) - set(change.secret_env or ()))
    if not missing:
        return None
    return InvalidInput(
        f"its secret variables are not copied, and {', '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} not given anew: give each with --secret-env NAME "
        "(SDK: secret_envs), or --secret-env alone for a task without any",
        field="secret_env",
    )


def to_rerun(origin: Origin, edits: RerunArgs, change: ChangeTask, key: str) -> SubmitTask:
    """Return the submit that repeats a task; of secret variables it has those of the edits alone.

    Raises:
        InvalidInput: The edited specification cannot be.
    """
    spec = change.of(origin.spec)
    env = {name: value for name, value in spec.env.items() if name not in edits.unset_envs}
    env |= edits.set_envs
    check_command(spec.argv, env)
    known = set(SubmitTask.__struct_fields__) - {"env", "watch", "labels", "secret_env"}
    same = {name: getattr(spec, name) for name in spec.__struct_fields__ if name in known}
    return SubmitTask(
        **same,
        env=env,
        key=_key_for(key, origin.uuid),
        group=edits.group or origin.group,
        labels=origin.labels if edits.labels is None else check_tags(edits.labels, "labels"),
        watch=change.watch if isinstance(change.watch, WatchWanted) else None,
        rerun_of=origin.uuid,
        secret_env=change.secret_env or {},
    )


def _key_for(key: str, origin: str) -> str:
    return f"{key}:{origin}"


def _made_by(key: str, view: TaskView) -> bool:
    """Whether a task is a rerun that was submitted with this key."""
    origin = view.rerun_of
    return origin is not None and view.uuid == task_uuid(
        view.group, view.creator, _key_for(key, origin)
    )


def _origin(view: TaskView) -> Origin:
    return Origin(
        view.uuid, view.number, view.group, view.creator, view.state, view.outcome, view.spec,
        view.labels, view.rerun_of, len(view.reruns),
    )  # fmt: skip


def _check_number(tasks: Sized) -> None:
    if len(tasks) > MAX_RERUNS:
        raise TooLarge(
            f"more than {MAX_RERUNS} tasks to run once more: narrow the filters, do it in parts",
            size=len(tasks), limit=MAX_RERUNS,
        )  # fmt: skip
