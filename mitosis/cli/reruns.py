"""`rerun`: tasks once more, as they were or with edits."""

import secrets
import shlex
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli.exit_codes import DONE, FAILED
from mitosis.cli.invocation import UsageError
from mitosis.cli.output.screen import can_ask, complain, note, on_terminal, show
from mitosis.cli.parameters import (
    CountLimit,
    Flag,
    Group,
    Labels,
    OptionalDuration,
    OptionalNumber,
    Retries,
    RetryOn,
    SizeLimit,
    StopSignal,
    Tags,
    TimeLimit,
    converter,
    read_pairs,
    several,
)
from mitosis.cli.running import with_client
from mitosis.cli.secrets import SecretEnvs, secret_values
from mitosis.cli.tasks import (
    Creators,
    Outcomes,
    States,
    Watch,
    WatchTimeout,
    as_map,
    one,
    read_exit_status,
    watch_args,
)
from mitosis.config.client import GetTasksArgs, RerunArgs
from mitosis.domain.task import TaskState

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient
    from mitosis.client.reruns import RerunResult, Selection

ENDED = (TaskState.FINISHED, TaskState.CANCELLED)


def read_command(texts: list[str]) -> tuple[str, ...]:
    """Read a command as a shell would part it; no shell runs it.

    Raises:
        UsageError: A quotation mark without its second one, or nothing.
    """
    try:
        words = tuple(shlex.split(texts[-1]))
    except ValueError as error:
        raise UsageError(f"{texts[-1][:80]!r} is no command: {error}") from None
    if not words:
        raise UsageError("the command is empty")
    return words


Command = Annotated[
    tuple[str, ...] | None,
    Parameter(name="--command", converter=converter(read_command), n_tokens=1, metavar="COMMAND"),
]
NewLabels = Annotated[tuple[str, ...] | None, several("--new-labels")]
NewTags = Annotated[tuple[str, ...] | None, several("--new-tags")]
NewGroup = Annotated[str, Parameter(name="--new-group", metavar="GROUP")]
Envs = Annotated[tuple[str, ...], several("--envs", "--env", "-e", read=read_pairs)]
Unset = Annotated[tuple[str, ...], several("--unset-envs", "--unset-env")]


def rerun(
    *tasks: str,
    group: Group = "",
    creators: Creators = (),
    tags: Tags = (),
    labels: Labels = (),
    state: States = (),
    outcome: Outcomes = (),
    exit_status: Annotated[str, one(read_exit_status, "--exit-status")] = "",
    again: Flag = False,
    command: Command = None,
    new_group: NewGroup = "",
    new_tags: NewTags = None,
    new_labels: NewLabels = None,
    timeout: OptionalDuration = None,
    priority: Annotated[OptionalNumber, Parameter(name=["--priority", "-p"])] = None,
    envs: Envs = (),
    unset_envs: Unset = (),
    secret_env: SecretEnvs = None,
    terminal: Annotated[bool | None, Parameter(negative="--no-terminal")] = None,
    watch: Watch = None,
    watch_timeout: WatchTimeout = None,
    memory: SizeLimit = None,
    cpu_time: TimeLimit = None,
    processes: CountLimit = None,
    open_files: CountLimit = None,
    file_size: SizeLimit = None,
    stop_signal: StopSignal = None,
    grace: OptionalDuration = None,
    retries: Retries = None,
    retry_on: RetryOn = None,
    retry_delay: OptionalDuration = None,
    retry_max_delay: OptionalDuration = None,
    max_losses: OptionalNumber = None,
    key: str = "",
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative=())] = False,
    dry_run: Flag = False,
) -> int:
    r"""Run tasks once more: the same specification and labels, with edits as options.

    Which tasks: those that are named, or all that match the filters of get tasks. What the original
    waited for is not waited for again. Each new task names the one that it repeats.

    Args:
        tasks: The UUIDs of the tasks, unique prefixes of them, `last`, or GROUP#NUMBER; several as
            GROUP#12-40.
        group: Filter: the group of the tasks; default: the user's own.
        creators: Filter: the username of the creator, or several.
        tags: Filter: tags that the tasks have, all of them.
        labels: Filter: labels that the tasks have, all of them.
        state: Filter: one or more states; default: finished, cancelled.
        outcome: Filter: one or more of succeeded, failed, timed_out, lost, cancelled, error.
        exit_status: Filter: a condition on the exit code, such as 3, '!=0' or '>=2'.
        again: By filters, also tasks that were run once more already.
        command: Edit: the command to run, quoted as one word, such as 'echo hello'.
        new_group: Edit: the group that they are submitted to; default: that of the original.
        new_tags: Edit: all tags of the new tasks; no value: none.
        new_labels: Edit: all labels of the new tasks; no value: none.
        timeout: Edit: the timeout.
        priority: Edit: the priority.
        envs: Edit: environment variables to set, as NAME=VALUE; the others stay.
        unset_envs: Edit: names of environment variables to leave out.
        secret_env: Edit: all secret variables, as of submit; no value: none any more. Those of the
            original are gone: a task that had some is refused without them.
        terminal: Edit: whether to collect the terminal standard output and error.
        watch: Edit: run only after another task has reached a state, such as UUID,ExecSpawned.
        watch_timeout: How long to wait for it; default: as long as it takes.
        memory: Edit: the most memory of all its processes together, such as 2GiB; none: no limit of
            its own any more, as for the other limits.
        cpu_time: Edit: the most CPU time of all its processes together, such as 10min.
        processes: Edit: the most processes and threads at a time.
        open_files: Edit: the most open files of each process.
        file_size: Edit: the largest file that it may write, such as 1GB.
        stop_signal: Edit: what asks it to stop at a timeout or cancel, such as INT.
        grace: Edit: the time between the stop signal and the kill.
        retries: Edit: how often it runs again after it has failed; 0: never.
        retry_on: Edit: after which failures, of exit (a code other than 0), timeout and signal.
        retry_delay: Edit: the wait before the first retry, which doubles each time.
        retry_max_delay: Edit: the longest wait between retries.
        max_losses: Edit: how many attempts may be lost with their workers.
        key: Idempotency key: the same command again with the same key submits nothing twice.
        yes: Do not ask, also where nobody can be asked.
        dry_run: Only show which tasks would be run once more.
    """
    from mitosis.client.reruns import RerunResult, Selection, check_edits, check_key

    wanted = GetTasksArgs(
        group=group, creators=creators, tags=tags, labels=labels, states=state or ENDED,
        outcomes=outcome, exit_status=exit_status,
    )  # fmt: skip
    filtered = wanted != GetTasksArgs(states=ENDED) or again
    if tasks and filtered:
        raise UsageError("name tasks or give filters, not both (to edit: --new-labels, --new-tags)")
    if not tasks and not filtered:
        raise UsageError("there is nothing to run: name tasks, or filter, as in --outcome failed")
    edits = RerunArgs(
        command=command, group=new_group, tags=new_tags, labels=new_labels, timeout=timeout,
        priority=priority, set_envs=as_map(envs), unset_envs=unset_envs,
        secret_envs=None if secret_env is None or dry_run else secret_values(secret_env),
        terminal=terminal,
        watch=watch_args(watch, watch_timeout), memory=memory, cpu_time=cpu_time,
        processes=processes, open_files=open_files, file_size=file_size, stop_signal=stop_signal,
        grace=grace, retries=retries, retry_on=retry_on, retry_delay=retry_delay,
        retry_max_delay=retry_max_delay, max_losses=max_losses,
    )  # fmt: skip
    if watch is None:
        check_edits(edits)  # what is wrong here need not be asked for
    asks = (filtered or len(tasks) > 1) and not yes and not dry_run
    if asks and not can_ask():
        raise UsageError(
            "nobody can be asked here: look with --dry-run what would be run, then give --yes"
        )
    key = check_key(key) or secrets.token_hex(16)

    async def select(client: "MitoClient") -> Selection:
        if tasks:
            return Selection(tuple(await client.reruns.named(tasks)))
        return await client.select_for_rerun(wanted, again=again, key=key)

    selection = with_client(select, on_loop=True)
    _say_how_many(selection)
    if dry_run or not selection.origins:
        return _show(key, [RerunResult(o.uuid) for o in selection.origins], selection, dry=dry_run)
    if asks and not _agreed(len(selection.origins)):
        note("Nothing was submitted.")
        return FAILED
    results = with_client(
        lambda client: client.rerun_tasks(selection.origins, edits, key=key), on_loop=True
    )
    return _show(key, results, selection)


def _say_how_many(selection: "Selection") -> None:
    count, already = len(selection.origins), selection.rerun_already
    left = f"; {already} more were run again already (--again takes them too)" if already else ""
    note(f"{_tasks(count)} to run once more{left}")


def _tasks(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"


def _agreed(count: int) -> bool:
    from mitosis.cli.terminal import ask_line

    return ask_line(f"Run {_tasks(count)} once more? [y/N] ").strip().lower() in {"y", "yes"}


def _show(
    key: str, results: "list[RerunResult]", selection: "Selection", *, dry: bool = False
) -> int:
    """Show what became of each, and return the exit status."""
    from mitosis.client.reruns import Reran

    show(
        Reran(key, dry, selection.rerun_already, results),
        lambda: [_line(result, dry=dry) for result in results if dry or result.submitted],
    )
    refused = [result for result in results if result.error is not None]
    for result in refused:
        if result.error is not None:
            complain(f"{result.rerun_of} was not run once more: {result.error.message}")
    if refused:
        note(f"{len(refused)} of {_tasks(len(results))} were refused. For these again: --key {key}")
    return FAILED if refused else DONE


def _line(result: "RerunResult", *, dry: bool) -> str:
    if dry or result.submitted is None:
        return result.rerun_of
    if on_terminal():
        return f"{result.submitted.task} repeats {result.rerun_of}"
    return result.submitted.task
