"""Views as lines of text, with the labels of the original (parity V-040 to V-049)."""

import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from mitosis.cli.output.screen import printable
from mitosis.contract.queries import (
    ArtifactView,
    FormerAttempt,
    GroupView,
    TaskView,
    WorkerView,
)
from mitosis.domain.durations import format_duration, format_size
from mitosis.domain.limits import DEFAULT_MAX_LOSSES
from mitosis.domain.resources import (
    DEFAULT_GRACE_SECONDS,
    DEFAULT_STOP_SIGNAL,
    NO_LIMITS,
    Limits,
)
from mitosis.domain.retry import MAX_RETRIES
from mitosis.domain.roles import Role
from mitosis.domain.task import Exit, ExitKind, Outcome, TaskSpec, Usage
from mitosis.domain.watch import Watch


def task_lines(task: TaskView, *, artifacts: bool = True) -> list[str]:
    """Return everything about a task."""
    spec = task.spec
    ended = f" ({task.outcome.value})" if task.outcome else ""
    lines = [
        f"Task UUID: {task.uuid}",
        f"State: {task.state.value}{ended}",
        f"Created by {task.creator} as #{task.number} in group {task.group}",
        f"Tags: {listed(spec.tags)}",
        f"Labels: {listed(task.labels)}",
        f"Timeout: {format_duration(spec.timeout_seconds)}, Priority: {spec.priority}",
        f"Created: {moment(task.created_at)}, Updated: {moment(task.updated_at)}",
        f"Task Spec: {command_line(spec.argv)}",
    ]
    if spec.env:
        pairs = (shlex.quote(f"{name}={value}") for name, value in sorted(spec.env.items()))
        lines.append(f"Environment: {printable(' '.join(pairs))}")
    if spec.secrets:
        lines.append(f"Secrets: {' '.join(f'{name}=***' for name in spec.secrets)}")
    lines += ["Terminal: collected"] if spec.terminal else []
    lines += [f"Watch: {watch_text(spec.watch)}"] if spec.watch else []
    lines += [f"Rerun Of: {task.rerun_of}"] if task.rerun_of else []
    lines += [f"Reruns: {listed(task.reruns)}"] if task.reruns else []
    lines += limit_lines(spec)
    lines += retry_lines(task)
    lines += [f"Reason: {printable(task.reason)}"] if task.reason else []
    lines += [former_line(former) for former in task.former_attempts]
    lines += [f"Attempt: {task.attempt}"] if task.attempt else []
    lines += [f"Worker: {task.worker}"] if task.worker else []
    lines += [f"Execution State: {task.steps[-1].state}"] if task.steps else []
    lines += [f"Warning: {printable(text)}" for text in task.warnings]
    lines.append(f"Task Result: {exit_line(task.exit)}")
    if task.exit is not None and task.exit.kind is not ExitKind.NOT_STARTED:
        lines.append(usage_line(task.exit.usage))
    if artifacts:
        lines += tail_lines(task)
        lines += [artifact_line(a) for a in task.artifacts] or ["Artifacts: None"]
    return lines


def limit_lines(spec: TaskSpec) -> list[str]:
    """Say what a task may use, and how it is stopped if that is not as usual."""
    lines = [f"Limits: {limits_text(spec.limits)}"] if spec.limits != NO_LIMITS else []
    if (spec.stop_signal, spec.grace_seconds) != (DEFAULT_STOP_SIGNAL, DEFAULT_GRACE_SECONDS):
        grace = format_duration(spec.grace_seconds)
        lines.append(f"Stop Signal: SIG{spec.stop_signal}, Grace: {grace}")
    return lines


def retry_lines(task: TaskView) -> list[str]:
    """Say how often a task is tried, as far as that is not as usual."""
    retry, lines = task.spec.retry, []
    if retry.times:
        longest = retry.wait_seconds(MAX_RETRIES)
        lines.append(
            f"Retries: {task.retries} of {retry.times}, after {listed(retry.causes)}, waiting "
            f"{format_duration(retry.delay_seconds)} to {format_duration(longest)}"
        )
    if task.losses or task.spec.max_losses != DEFAULT_MAX_LOSSES:
        lines.append(f"Losses: {task.losses} of {task.spec.max_losses}")
    if task.retry_at is not None:
        lines.append(f"Runs Again: {moment(task.retry_at)}")
    return lines


def former_line(former: FormerAttempt) -> str:
    """Say how an attempt ended after which the task went on."""
    began = moment(former.started_at) if former.started_at else "not started"
    where = f", worker {former.worker}" if former.worker else ""
    return (
        f"Attempt {former.attempt}: {former.end.value} ({printable(former.reason)}), "
        f"{began} to {moment(former.ended_at)}{where}"
    )


def limits_text(limits: Limits) -> str:
    """Return `memory 2GiB, open files 100`."""
    return listed(f"{noun} {value}" for noun, value in limits.texts().items())


def usage_line(usage: Usage) -> str:
    """Say what a program used with all that it started."""
    return (
        f"Usage: wall {usage.wall_seconds:.3g} s, user {usage.user_seconds:.3g} s, "
        f"system {usage.system_seconds:.3g} s, peak memory {format_size(usage.max_rss_bytes)}, "
        f"stdout {format_size(usage.stdout_bytes)}, stderr {format_size(usage.stderr_bytes)}"
    )


def tail_lines(task: TaskView) -> list[str]:
    """Return the last words of a program that did not succeed: most often they say why."""
    if task.exit is None or task.outcome in {None, Outcome.SUCCEEDED}:
        return []
    lines: list[str] = []
    for name, tail, size in (
        ("stderr", task.exit.stderr_tail, task.exit.usage.stderr_bytes),
        ("stdout", task.exit.stdout_tail, task.exit.usage.stdout_bytes),
    ):
        if tail:
            lines.append(f"End of {name} ({format_size(size)} in all):")
            words = tail.removesuffix("\n").expandtabs().split("\n")
            lines += [f"  {printable(line)}" for line in words]
    return lines


def watch_text(watch: Watch) -> str:
    """Return `UUID,STATE`, and how long it is waited for."""
    limit = f" within {format_duration(watch.timeout_seconds)}" if watch.timeout_seconds else ""
    return f"{watch.task},{watch.state}{limit}"


def exit_line(ended: Exit | None) -> str:
    """Say how a program ended."""
    if ended is None:
        return "None"
    match ended.kind:
        case ExitKind.CODE:
            how = f"exit code {ended.number}"
        case ExitKind.SIGNAL:
            how = f"killed by signal {ended.number}"
        case _:
            how = f"not started (errno {ended.number})"
    why = f", {printable(ended.reason)}" if ended.reason else ""
    return f"{how} after {ended.usage.wall_seconds:.3g} s{why}"


def artifact_line(artifact: ArtifactView) -> str:
    """Return the line of one stored output."""
    return (
        f"Artifacts: {artifact.kind.filename}, {artifact.size_bytes} B, "
        f"Created: {moment(artifact.created_at)}, Updated: {moment(artifact.updated_at)}"
    )


def worker_lines(worker: WorkerView) -> list[str]:
    """Return everything about a worker."""
    reason = f" ({printable(worker.reason)})" if worker.reason else ""
    heard = worker.last_heartbeat_at
    return [
        f"Worker UUID: {worker.uuid}",
        f"Tags: {listed(worker.tags)}",
        f"Labels: {listed(worker.labels)}",
        f"State: {worker.state}{reason}",
        f"Accessible Groups: {roles_text(worker.roles)}",
        f"Created by {worker.owner}",
        f"Host: {printable(worker.host) or 'None'}, Slots: {worker.slots}",
        f"Created: {moment(worker.created_at)}, Updated: {moment(worker.updated_at)}",
        f"Last Heartbeat: {moment(heard) if heard else 'unknown'}",
        f"Assigned Task: {listed(worker.tasks)}",
        f"Default Limits: {limits_text(worker.default_limits)}",
        f"Ceilings: {limits_text(worker.ceilings)}",
        *(f"Guarantee: {printable(sentence)}" for sentence in worker.guarantees),
    ]


def group_lines(group: GroupView) -> list[str]:
    """Return everything about a group; its members only for its Admins."""
    used, quota = format_size(group.storage_used_bytes), format_size(group.storage_quota_bytes)
    lines = [
        f"Group Name: {group.name}",
        f"Created by {group.creator}",
        f"Created: {moment(group.created_at)}, Updated: {moment(group.updated_at)}",
        f"State: {group.state}",
        f"Task Count: {group.task_count}",
        f"Storage (used/total): {used} / {quota}",
        f"Worker Count: {group.worker_count}",
        f"Your Role: {group.role.label}",
    ]
    if group.members is not None:
        lines += ["Members:"]
        lines += [f" > {name} = {role.label}" for name, role in sorted(group.members.items())]
    return lines


def roles_text(roles: Mapping[str, Role]) -> str:
    """Return `g1 = Write, g2 = Admin`."""
    return listed([f"{name} = {role.label}" for name, role in sorted(roles.items())])


def command_line(argv: Iterable[str]) -> str:
    """Return a command as one would type it."""
    return printable(shlex.join(argv))


def listed(items: Iterable[str]) -> str:
    """Return items with commas, or None."""
    return printable(", ".join(items)) or "None"


def moment(at: datetime) -> str:
    """Return a time in UTC to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(at: datetime, now: datetime) -> str:
    """Return how long ago something was, in its largest unit."""
    return f"{_largest_unit((now - at).total_seconds())} ago"


def ahead(at: datetime, now: datetime) -> str:
    """Return how far ahead something is, in its largest unit."""
    return f"in {_largest_unit((at - now).total_seconds())}"


def _largest_unit(seconds: float) -> str:
    whole = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def counts_text(total: int, shown: int, counts: Mapping[str, int]) -> str:
    """Return `12 tasks (10 shown): 2 ready, 10 finished`."""
    parts = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    some = f" ({shown} shown)" if shown != total else ""
    return f"{total} task{'' if total == 1 else 's'}{some}" + (f": {parts}" if parts else "")
