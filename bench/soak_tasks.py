"""The mixed tasks of the soak test, and what each must leave: in the ledger and on the platform."""

import errno
from collections import Counter
from pathlib import Path

import msgspec

from mitosis.config.client import SubmitTaskArgs
from mitosis.contract.queries import TaskView
from mitosis.domain.task import ArtifactKind, ExitKind, Outcome

FLOOD_BYTES, FLOOD_ERROR_BYTES = 300_000, 200_000
#: What stays behind when a task forks; looked for by this text afterwards.
LEFT_BEHIND = "86399.5"


class Kind(msgspec.Struct, frozen=True):
    """One kind of task.

    Attributes:
        name: Shown.
        share: Of a hundred tasks.
        script: For sh, behind the line that writes the ledger; empty: the program is missing.
        outcome: As the platform has to report it.
        exit: Kind and number.
        written: Bytes on both streams.
        artifacts: Which outputs there must be.
        timeout: Of the task.
    """

    name: str
    share: int
    script: str
    outcome: Outcome
    exit: tuple[ExitKind, int]
    written: tuple[int, int] = (0, 0)
    artifacts: frozenset[ArtifactKind] = frozenset()
    timeout: str = "10min"

    def task(self, number: int, group: str, ledger: Path) -> SubmitTaskArgs:
        """The task with this number."""
        script = f'echo {number} >> "$LEDGER"\n{self.script}'
        return SubmitTaskArgs(
            command=("sh", "-c", script) if self.script else ("no-such-program", str(number)),
            group=group,
            envs={"LEDGER": str(ledger)},
            timeout=self.timeout,
            terminal=ArtifactKind.STD_LOG in self.artifacts,
            key=f"soak-{number}",
        )

    def complaints(self, view: TaskView) -> list[str]:
        """What the platform reports of a task and should not."""
        end = view.exit
        if end is None:
            return [f"{self.name}, task {view.uuid}: no end is reported"]
        found: list[tuple[str, object, object]] = [
            ("outcome", view.outcome, self.outcome),
            ("exit", (end.kind, end.number), self.exit),
            ("bytes of output", (end.usage.stdout_bytes, end.usage.stderr_bytes), self.written),
            ("artifacts", {one.kind for one in view.artifacts}, set(self.artifacts)),
            ("attempts", view.attempt, 1),
            ("warnings", view.warnings, []),
        ]
        return [
            f"{self.name}, task {view.uuid}: {what} {is_!r}, not {should!r}"
            for what, is_, should in found
            if is_ != should
        ]


_FLOOD = f"head -c {FLOOD_BYTES} /dev/zero; head -c {FLOOD_ERROR_BYTES} /dev/zero >&2"
_FORK = f"for i in 1 2 3; do setsid sleep {LEFT_BEHIND} & done; echo forked"
_STD_LOG, _RESULT = ArtifactKind.STD_LOG, ArtifactKind.RESULT

KINDS = (
    Kind("true", 38, "true", Outcome.SUCCEEDED, (ExitKind.CODE, 0)),
    Kind("failure", 14, "echo why >&2; exit 3", Outcome.FAILED, (ExitKind.CODE, 3), (0, 4)),
    Kind("signal", 5, "kill -9 $$", Outcome.FAILED, (ExitKind.SIGNAL, 9)),
    Kind("timeout", 3, "echo on; exec sleep 600", Outcome.TIMED_OUT, (ExitKind.SIGNAL, 15),
         (3, 0), timeout="300ms"),
    Kind("fork", 10, _FORK, Outcome.SUCCEEDED, (ExitKind.CODE, 0), (7, 0)),
    Kind("flood", 8, _FLOOD, Outcome.SUCCEEDED, (ExitKind.CODE, 0),
         (FLOOD_BYTES, FLOOD_ERROR_BYTES)),
    Kind("flood, kept", 4, _FLOOD, Outcome.SUCCEEDED, (ExitKind.CODE, 0),
         (FLOOD_BYTES, FLOOD_ERROR_BYTES), frozenset({_STD_LOG})),
    Kind("missing program", 10, "", Outcome.ERROR, (ExitKind.NOT_STARTED, errno.ENOENT)),
    Kind("result", 8, 'mkdir d; echo x > d/y; cp -r d "$MITO_RESULT_DIR"', Outcome.SUCCEEDED,
         (ExitKind.CODE, 0), artifacts=frozenset({_RESULT})),
)  # fmt: skip

_BY_PLACE = [kind for kind in KINDS for _ in range(kind.share)]


def kind_of(number: int) -> Kind:
    """The kind of the task with this number: mixed, and the same in each run."""
    return _BY_PLACE[number * 37 % len(_BY_PLACE)]


def ledger_complaints(count: int, ledger: Path) -> list[str]:
    """Compare what the tasks wrote with what they had to write: each its number, once."""
    lines = Counter(ledger.read_text().splitlines() if ledger.exists() else [])
    wanted = {str(number) for number in range(count) if kind_of(number).script}
    found = {
        "wrote nothing into the ledger": wanted - set(lines),
        "wrote what nobody wanted": set(lines) - wanted,
        "ran more than once": {line for line, times in lines.items() if times > 1},
    }
    return [f"{len(which)} {what}: {sorted(which)[:10]}" for what, which in found.items() if which]
