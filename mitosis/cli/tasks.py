"""`submit`, `get task`, `get tasks`, `manage task`."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from msgspec.structs import replace

from mitosis.cli.exit_codes import DONE
from mitosis.cli.invocation import UsageError, current
from mitosis.cli.output.screen import complain, note, on_terminal, show
from mitosis.cli.parameters import (
    CountLimit,
    Duration,
    Envs,
    Flag,
    Group,
    Labels,
    Moment,
    Number,
    OptionalDuration,
    OptionalNumber,
    Retries,
    RetryOn,
    SizeLimit,
    StopSignal,
    Tags,
    TimeLimit,
    VerboseFlag,
    choices,
    converter,
    read_duration,
    read_list,
    read_pairs,
    read_signal,
    read_watch,
    several,
)
from mitosis.cli.running import with_client
from mitosis.cli.secrets import SecretEnvs, secret_values
from mitosis.client.submits import read_limits, to_request
from mitosis.config.client import (
    DEFAULT_PAGE,
    NO_WATCH,
    ChangeTaskArgs,
    GetTasksArgs,
    SubmitTaskArgs,
    WatchArgs,
)
from mitosis.domain.comparison import parse_comparison
from mitosis.domain.limits import DEFAULT_MAX_LOSSES
from mitosis.domain.resources import DEFAULT_GRACE_SECONDS, DEFAULT_STOP_SIGNAL, NO_LIMITS
from mitosis.domain.retry import ALL_CAUSES, DEFAULT_DELAY_SECONDS
from mitosis.domain.task import DEFAULT_TIMEOUT_SECONDS, Outcome, check_state

if TYPE_CHECKING:
    from mitosis.contract.commands import Submitted
    from mitosis.contract.queries import TaskPage


def read_states(texts: list[str]) -> tuple[str, ...]:
    """Read states to filter by, also `unknown`, which fits nothing.

    Raises:
        InvalidInput: No such state.
    """
    return tuple(check_state(text.lower()) for text in read_list(texts))


def read_exit_status(texts: list[str]) -> str:
    """Read a condition on the exit status.

    Raises:
        InvalidInput: Another form.
    """
    parse_comparison(texts[-1], "the exit status")
    return texts[-1]


def read_priority(texts: list[str]) -> str:
    """Read a condition on the priority.

    Raises:
        InvalidInput: Another form.
    """
    parse_comparison(texts[-1], "the priority")
    return texts[-1]


def one(read: Callable[[list[str]], Any], *names: str, metavar: str | None = None) -> Parameter:
    """Return the description of an option with one value that is read by us."""
    return Parameter(name=list(names), converter=converter(read), n_tokens=1, metavar=metavar)


DEFAULT_TIMEOUT = timedelta(seconds=DEFAULT_TIMEOUT_SECONDS)
Creators = Annotated[tuple[str, ...], several("--creators", "--creator", "-c")]
States = Annotated[tuple[str, ...], several("--state", "-s", read=read_states)]
Watch = Annotated[WatchArgs | None, one(read_watch, "--watch", metavar="TASK,STATE")]
WatchTimeout = Annotated[
    timedelta | None, one(read_duration, "--watch-timeout", metavar="DURATION")
]
CancelSignal = Annotated[str | None, one(read_signal, "--signal", metavar="SIGNAL")]
Outcomes = Annotated[tuple[Outcome, ...], several("--outcome", read=choices(Outcome, "outcome"))]


def submit(
    *command: str,
    group: Group = "",
    tags: Tags = (),
    labels: Labels = (),
    timeout: Duration = DEFAULT_TIMEOUT,
    priority: Annotated[Number, Parameter(name=["--priority", "-p"])] = 0,
    envs: Envs = (),
    terminal: Flag = False,
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
    max_losses: Number = DEFAULT_MAX_LOSSES,
    secret_env: SecretEnvs = None,
    key: str = "",
    follow: Flag = False,
    wait: Flag = False,
) -> int:
    r"""Submit a task.

    Args:
        command: The command to run.
        group: The name of the group this task is submitted to; default: the user's own.
        tags: The tags of the task, used to filter workers to execute the task.
        labels: The labels of the task, used for querying tasks.
        timeout: The timeout of the task.
        priority: The priority of the task.
        envs: The environment variables to set, as NAME=VALUE; a comma in a value is written \,.
        terminal: Whether to collect the terminal standard output and error of the executed task.
        watch: Run only after another task has reached a state, such as UUID,ExecSpawned.
        watch_timeout: How long to wait for it; default: as long as it takes.
        memory: The most memory of all its processes together, such as 2GiB; default: what the
            worker lets tasks have, as for the other limits.
        cpu_time: The most CPU time of all its processes together, such as 10min.
        processes: The most processes and threads at a time.
        open_files: The most open files of each process.
        file_size: The largest file that it may write, such as 1GB.
        stop_signal: What asks it to stop at a timeout or cancel, such as INT; default: TERM.
        grace: The time between the stop signal and the kill; default: 10s.
        retries: How often it runs again after it has failed; default: 0, it runs only once.
        retry_on: After which failures, of exit (a code other than 0), timeout and signal; default:
            all.
        retry_delay: The wait before the first retry, which doubles each time; default: 1s.
        retry_max_delay: The longest wait between retries; default: 5m.
        max_losses: How many attempts may be lost with their workers before it ends as lost.
        secret_env: Variables that only the running program sees, as NAME (from the environment,
            else asked for), NAME@FILE (- is standard input), or NAME=VALUE, which others on this
            machine may read.
        key: Idempotency key: submitting again with the same key is the same task.
        follow: Show what it writes, and end with its exit status; implies --terminal. Its UUID
            goes to standard error.
        wait: Wait for its end, and end with its exit status.
    """
    if not command:
        raise UsageError("there is no command to run: give it after --, as in submit -- echo hello")
    if follow and wait:
        raise UsageError("--follow waits, too: leave --wait out")
    if follow and current.get().json:
        raise UsageError("--follow with --json: use submit --json, and follow --json for the task")
    args = SubmitTaskArgs(
        command=command,
        group=group,
        tags=tags,
        labels=labels,
        timeout=timeout,
        priority=priority,
        envs=as_map(envs),
        terminal=terminal or follow,  # it may have ended before anybody can follow it
        watch=watch_args(watch, watch_timeout),
        key=key,
        memory=memory,
        cpu_time=cpu_time,
        processes=processes,
        open_files=open_files,
        file_size=file_size,
        stop_signal=stop_signal or DEFAULT_STOP_SIGNAL,
        grace=timedelta(seconds=DEFAULT_GRACE_SECONDS) if grace is None else grace,
        retries=retries or 0,
        retry_on=ALL_CAUSES if retry_on is None else retry_on,
        retry_delay=retry_delay or timedelta(seconds=DEFAULT_DELAY_SECONDS),
        retry_max_delay=retry_max_delay,
        max_losses=max_losses,
        secret_envs=secret_values(secret_env or ()),
    )
    if not retries and (retry_on is not None or retry_delay or retry_max_delay):
        raise UsageError("--retry-on and --retry-delay need --retries: without it a task runs once")
    to_request(replace(args, watch=None))  # what is wrong here need not be asked for
    submitted = with_client(lambda client: client.submit_task(args))
    if follow:
        from mitosis.cli.follow import BOTH, follow_to_end

        note(f"Task {submitted.task} is {submitted.group}#{submitted.number}")
        _warn_if_it_cannot_run(submitted, args)
        return follow_to_end((submitted.task,), BOTH, None)
    if wait:
        from mitosis.cli.wait import wait_for_submitted

        return wait_for_submitted(submitted, lambda: _warn_if_it_cannot_run(submitted, args))
    from mitosis.cli.output.waited import submitted_task

    show(submitted_task(submitted), lambda: [submitted.task])
    _warn_if_it_cannot_run(submitted, args)
    _say_what_is_next(submitted)
    return DONE


def get_task(task: str, /, *, as_of: Moment = None) -> None:
    """Get the info of a task.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        as_of: Show what it was at a time or a position, such as '2h ago', yesterday, '2026-11-20
            14:05', 2026-11-20T14:05:00Z or 4711; default: now.
    """
    from mitosis.cli.output.texts import task_lines

    view = with_client(lambda client: client.get_task(task, as_of))
    show(view, lambda: task_lines(view))


def get_tasks(
    *,
    creators: Creators = (),
    group: Group = "",
    tags: Tags = (),
    labels: Labels = (),
    state: States = (),
    outcome: Outcomes = (),
    exit_status: Annotated[str, one(read_exit_status, "--exit-status", "-e")] = "",
    priority: Annotated[str, one(read_priority, "--priority", "-p")] = "",
    limit: Number = DEFAULT_PAGE,
    offset: Number = 0,
    before: Number = 0,
    count: Flag = False,
    as_of: Moment = None,
    verbose: VerboseFlag = False,
) -> None:
    """Query a list of tasks subject to the filter, newest last.

    Args:
        creators: The username of the creator, or several.
        group: The group of the tasks; default: the user's own.
        tags: Tags that the tasks have, all of them.
        labels: Labels that the tasks have, all of them.
        state: One or more of pending, ready, running, finished, cancelled, unknown.
        outcome: One or more of succeeded, failed, timed_out, lost, cancelled, error.
        exit_status: A condition on the exit code, such as 3, '!=0' or '>=2'.
        priority: A condition on the priority, such as 5 or '<0'.
        limit: How many at most.
        offset: How many of the newest to leave out.
        before: Only tasks with a smaller number, to go on before the first one of a list.
        count: Only say how many there are.
        as_of: Show what it was at a time or a position, such as '2h ago', yesterday, '2026-11-20
            14:05', 2026-11-20T14:05:00Z or 4711; default: now.
        verbose: Everything about each of them.
    """
    from mitosis.cli.output.texts import counts_text, task_lines

    args = GetTasksArgs(
        group=group,
        creators=creators,
        tags=tags,
        labels=labels,
        states=state,
        outcomes=outcome,
        exit_status=exit_status,
        priority=priority,
        before=before,
        limit=limit,
        offset=offset,
        count_only=count,
        as_of=as_of,
    )
    page = with_client(lambda client: client.get_tasks(args))
    if count:
        show(page, lambda: [str(page.total)])
        return
    if on_terminal() and not verbose:
        _print_table(page)
    else:
        show(
            page,
            lambda: [
                line
                for task in page.tasks
                for line in (task_lines(task, artifacts=False) if verbose else [task.uuid])
            ],
        )
    note(counts_text(page.total, len(page.tasks), page.counts))


def cancel_task(
    task: str,
    /,
    *,
    reason: str = "",
    signal: CancelSignal = None,
    grace: OptionalDuration = None,
) -> None:
    """Cancel a task; a running one is stopped.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        reason: Why, for its record.
        signal: What asks it to stop, such as INT, or KILL; default: as it was submitted.
        grace: The time between that and the kill; default: as it was submitted.
    """
    done = with_client(
        lambda client: client.cancel_task(task, reason, stop_signal=signal, grace=grace)
    )
    show(
        done,
        lambda: [f"Task {done.task} is {'cancelled' if done.ended else 'being stopped'}"],
    )


def update_labels(task: str, /, *labels: str) -> None:
    """Replace the labels of a task, also after it has ended.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        labels: All labels that it is to have; none: it has none any more.
    """
    wanted = read_list(list(labels))
    done = with_client(lambda client: client.update_task_labels(task, wanted))
    show(done, lambda: [f"Task {done.task} has the labels {', '.join(sorted(wanted)) or 'None'}"])


def change_task(
    task: str,
    /,
    *command: str,
    tags: Annotated[tuple[str, ...] | None, several("--tags", "-t")] = None,
    timeout: OptionalDuration = None,
    priority: Annotated[OptionalNumber, Parameter(name=["--priority", "-p"])] = None,
    envs: Annotated[tuple[str, ...] | None, several("--envs", "-e", read=read_pairs)] = None,
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
    secret_env: SecretEnvs = None,
) -> None:
    """Change a task that has not started; what is not given stays as it is.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        command: The command to run.
        tags: All tags of the task; no value: it has none any more.
        timeout: The timeout of the task.
        priority: The priority of the task.
        envs: All environment variables to set, as NAME=VALUE; no value: none any more.
        terminal: Whether to collect the terminal standard output and error of the executed task.
        watch: Run only after another task has reached a state, such as UUID,ExecSpawned; none:
            wait for nothing.
        watch_timeout: How long to wait for it; default: as long as it takes.
        memory: The most memory of all its processes together, such as 2GiB; none: no limit of its
            own any more, as for the other limits.
        cpu_time: The most CPU time of all its processes together, such as 10min.
        processes: The most processes and threads at a time.
        open_files: The most open files of each process.
        file_size: The largest file that it may write, such as 1GB.
        stop_signal: What asks it to stop at a timeout or cancel, such as INT.
        grace: The time between the stop signal and the kill.
        retries: How often it runs again after it has failed; 0: never.
        retry_on: After which failures, of exit (a code other than 0), timeout and signal.
        retry_delay: The wait before the first retry, which doubles each time.
        retry_max_delay: The longest wait between retries.
        max_losses: How many attempts may be lost with their workers before it ends as lost.
        secret_env: All secret variables, as of submit; no value: none any more.
    """
    args = ChangeTaskArgs(
        task=task,
        command=command or None,
        tags=tags,
        timeout=timeout,
        priority=priority,
        envs=None if envs is None else as_map(envs),
        terminal=terminal,
        watch=watch_args(watch, watch_timeout),
        memory=memory,
        cpu_time=cpu_time,
        processes=processes,
        open_files=open_files,
        file_size=file_size,
        stop_signal=stop_signal,
        grace=grace,
        retries=retries,
        retry_on=retry_on,
        retry_delay=retry_delay,
        retry_max_delay=retry_max_delay,
        max_losses=max_losses,
        secret_envs=None if secret_env is None else secret_values(secret_env),
    )
    done = with_client(lambda client: client.change_task(args))
    show(done, lambda: [f"Task {done.task} is {'changed' if done.changed else 'so already'}"])
    if not done.runnable:
        complain(f"no registered worker can run {done.task} now: check its group, tags and limits")


def as_map(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return NAME=VALUE parts as a map; only the first = parts them."""
    return dict(pair.split("=", 1) for pair in pairs)


def watch_args(watch: WatchArgs | None, timeout: timedelta | None) -> WatchArgs | None:
    """Return what to wait for, and for how long.

    Raises:
        UsageError: A time without anything to wait for.
    """
    if timeout is None:
        return watch
    if watch is None or watch == NO_WATCH:
        raise UsageError("--watch-timeout needs --watch UUID,STATE")
    return replace(watch, timeout=timeout)


def _warn_if_it_cannot_run(submitted: "Submitted", args: SubmitTaskArgs) -> None:
    if not submitted.runnable:
        limits = read_limits(args).of(NO_LIMITS).texts()
        asked = ", ".join(f"{noun} {value}" for noun, value in limits.items())
        complain(
            f"no registered worker can run {submitted.task} now: it needs a worker that gives "
            f"group {submitted.group} Write, and whose tags are empty or all among the task's "
            f"({', '.join(args.tags) or 'it has none'})"
            + (f", and whose ceilings allow its limits ({asked})" if asked else "")
        )


def _say_what_is_next(submitted: "Submitted") -> None:
    if on_terminal():
        note(f"This is {submitted.group}#{submitted.number}. Next:")
        note(f"  mito client follow {submitted.task}")
        note(f"  mito client wait {submitted.task}")
        note(f"  mito client get task {submitted.task}")
        note(f"  mito client get artifact {submitted.task} result")
        note(f"  mito client manage task {submitted.task} cancel")


def _print_table(page: "TaskPage") -> None:
    from mitosis.cli.output.tables import print_table, short_ids
    from mitosis.cli.output.texts import age, command_line, listed

    now, ids = datetime.now(UTC), short_ids([task.uuid for task in page.tasks])
    print_table(
        ("#", "UUID", "STATE", "OUTCOME", "CREATED", "LABELS", "COMMAND"),
        [
            (
                str(task.number),
                short,
                task.state.value,
                task.outcome.value if task.outcome else "",
                age(task.created_at, now),
                listed(task.labels) if task.labels else "",
                command_line(task.spec.argv),
            )
            for task, short in zip(page.tasks, ids, strict=True)
        ],
        whole=("#", "UUID", "STATE"),
    )
