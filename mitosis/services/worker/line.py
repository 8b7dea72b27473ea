"""How much is lined up: given to the runner of a slot before the program that runs there has ended.

Between the end of a program and the start of the next one lie two hand-overs, runner to worker and
worker to runner, as long as a short program takes. While programs are short and leave nothing in
the slot's folder, its runner goes from one to the next by itself. Whatever is lined up can be had
back until it has begun, so nothing of what is promised of a waiting task changes.
"""

from mitosis.processes.runs import RunResult

#: In front of each slot there is work for so long.
LINED_UP_SECONDS = 0.02
MOST_LINED_UP = 8
#: A program that runs for longer than this keeps nobody back: what is behind it is recalled.
LINE_PATIENCE_SECONDS = 0.03
_LEAST_SECONDS = 0.001
_NEWS = 1 / 8  # the weight of the last program in the mean


class Pace:
    """How long the programs of this worker take lately."""

    def __init__(self) -> None:
        self._usual_seconds: float | None = None

    def learn(self, result: RunResult) -> None:
        """Take in how long a program took; one that left something starts the count anew."""
        usual, took = self._usual_seconds, result.wall_seconds
        if not result.left_nothing:
            self._usual_seconds = None
        elif usual is None:
            self._usual_seconds = took
        else:
            self._usual_seconds = usual + (took - usual) * _NEWS

    def most_lined_up(self) -> int:
        """How many attempts may be lined up in one slot; 0 unless programs are short."""
        if self._usual_seconds is None:
            return 0
        return min(MOST_LINED_UP, int(LINED_UP_SECONDS / max(self._usual_seconds, _LEAST_SECONDS)))
