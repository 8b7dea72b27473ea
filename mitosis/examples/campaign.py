"""The campaign of `mito demo`: a sweep of `aimd` over loss, round trip time and seed.

Pure: cells and their command lines, the bytes of a result to a `Result`, and the judgement. The
simulator does not know the formula that is used here to judge it.

The formula is that of M. Mathis, J. Semke, J. Mahdavi and T. Ott, "The Macroscopic Behavior of the
TCP Congestion Avoidance Algorithm", ACM SIGCOMM CCR 27(3), 1997, with every packet acknowledged.
It assumes losses at equal distances, no packet-sized steps and no time spent in recovery. Random
losses raise the mean at small loss rates (6 % above at 0.0005), steps and recovery lower it at
large ones (8 % below at 0.02); `TOLERANCE` covers both.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from mitosis.errors import InvalidInput

LOSSES = (0.0005, 0.002, 0.005, 0.02)
RTTS_MS = (20.0, 80.0)
SEEDS = (1, 2, 3, 4, 5)

TOLERANCE = 0.15
"""Largest accepted distance between a mean and its prediction, as a part of the prediction."""

FEWEST_SEEDS = 5
"""A mean over fewer seeds is not judged."""

PROGRAM = Path(__file__).with_name("aimd.py")
"""The simulator, a file that needs nothing beside it."""

RESULT_FILE = "result.json"
SERIES_FILE = "cwnd.csv"

Verdict = Literal["agrees", "too slow", "too fast", "too few seeds"]


class Cell(msgspec.Struct, frozen=True, order=True):
    """One task of the sweep."""

    loss: float
    rtt_ms: float
    seed: int

    def argv(self, python: str, program: str = str(PROGRAM)) -> tuple[str, ...]:
        """Return the command: an interpreter and the simulator's path as the worker sees them."""
        options = f"--loss {self.loss} --rtt-ms {self.rtt_ms:g} --seed {self.seed}"
        return (python, program, *options.split())


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `result.json`; all measurements are of the time after the warm-up."""

    loss: float
    rtt_ms: float
    seed: int
    duration_seconds: float | None
    max_window: int | None
    mss_bytes: int
    simulated_seconds: float
    packets_sent: int
    packets_lost: int
    packets_delivered: int
    loss_epochs: int
    timeouts: int
    goodput_packets_per_second: float
    goodput_bits_per_second: float

    @property
    def cell(self) -> Cell:
        """The cell that this is the result of."""
        return Cell(self.loss, self.rtt_ms, self.seed)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of one pair of loss and round trip time; rates are in packets per second.

    Without any result, `measured` and `ratio` (measured to predicted) are None.
    """

    loss: float
    rtt_ms: float
    seeds: int
    measured: float | None
    predicted: float
    ratio: float | None
    verdict: Verdict

    @property
    def agrees(self) -> bool:
        """True if enough seeds were there and their mean is near enough to the prediction."""
        return self.verdict == "agrees"


def cells() -> tuple[Cell, ...]:
    """Return the tasks of the campaign in the order of submission."""
    return tuple(
        Cell(loss, rtt_ms, seed) for loss in LOSSES for rtt_ms in RTTS_MS for seed in SEEDS
    )


def decode_result(content: bytes) -> Result:
    """Return the result in the bytes of a `result.json`.

    Raises:
        InvalidInput: The bytes are not such a result; the message says where.
    """
    try:
        return msgspec.json.decode(content, type=Result)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"not a result of aimd.py: {error}") from error


def predicted_packets_per_second(loss: float, rtt_seconds: float) -> float:
    """Return the goodput by the square-root formula (Mathis, Semke, Mahdavi, Ott 1997).

    Raises:
        ValueError: A loss outside (0, 1], or a round trip time that is not positive.
    """
    if not (0.0 < loss <= 1.0 and rtt_seconds > 0.0):
        raise ValueError(f"no prediction for loss {loss!r} and round trip {rtt_seconds!r} s")
    return math.sqrt(1.5) / (rtt_seconds * math.sqrt(loss))


def check(results: Iterable[Result], expected: Sequence[Cell] | None = None) -> list[Row]:
    """Judge the means over the seeds, one row per loss and round trip time of `expected`.

    `expected` is the whole campaign (`cells()`) unless given; results that are missing show as too
    few seeds. The campaign is right if every row agrees.

    Raises:
        ValueError: Two results of one cell, or a result of a cell that was not expected.
    """
    wanted = cells() if expected is None else expected
    goodputs: dict[Cell, float] = {}
    for result in results:
        if result.cell in goodputs:
            raise ValueError(f"two results of {result.cell}")
        goodputs[result.cell] = result.goodput_packets_per_second
    if strange := goodputs.keys() - set(wanted):
        raise ValueError(f"a result of {min(strange)}, which is not part of the campaign")
    groups: dict[tuple[float, float], list[float]] = {}
    for cell in dict.fromkeys(wanted):
        group = groups.setdefault((cell.loss, cell.rtt_ms), [])
        if cell in goodputs:
            group.append(goodputs[cell])
    return [_judge(loss, rtt_ms, group) for (loss, rtt_ms), group in groups.items()]


def _judge(loss: float, rtt_ms: float, goodputs: Sequence[float]) -> Row:
    predicted = predicted_packets_per_second(loss, rtt_ms / 1000.0)
    measured = math.fsum(goodputs) / len(goodputs) if goodputs else None
    ratio = None if measured is None else measured / predicted
    return Row(
        loss=loss,
        rtt_ms=rtt_ms,
        seeds=len(goodputs),
        measured=measured,
        predicted=predicted,
        ratio=ratio,
        verdict=_verdict(len(goodputs), ratio),
    )


def _verdict(seeds: int, ratio: float | None) -> Verdict:
    if ratio is None or seeds < FEWEST_SEEDS:
        return "too few seeds"
    if ratio < 1.0 - TOLERANCE:
        return "too slow"
    if ratio > 1.0 + TOLERANCE:
        return "too fast"
    # Not a number fails both comparisons above; it must not pass for that.
    return "agrees" if math.isfinite(ratio) else "too slow"
