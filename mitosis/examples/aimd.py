"""Simulate one TCP-like flow over a link that loses packets at random.

Run as a script, also from a copy outside the package (Python 3.11 or newer, nothing else):

    python aimd.py --loss 0.01 --rtt-ms 50 --seed 3

The sender keeps a congestion window (RFC 5681): it starts with slow start, adds one packet per
round trip afterwards, and halves the window once per window of data in which a packet was lost.
Lost packets are sent again (each sending is a packet with a fate of its own, decided by one draw).
When nothing is left in flight that could reveal a loss, the retransmission timer (RFC 6298) ends
the silence. The link never reorders and has ample bandwidth, so the round trip time is constant and
the first acknowledgement after a gap proves the loss.

Two files are written into `MITO_RESULT_DIR`, else into the current folder, or into `--out`:
`result.json`, what was measured after the warm-up, and `cwnd.csv`, the window over time from the
first packet on. Equal parameters give equal bytes on every machine: the only source of chance is
`random.Random` with a seed, and the arithmetic is addition, multiplication and division.

Exit status: 0 done, 1 the results cannot be written, 2 a parameter is wrong.
"""

import argparse
import json
import math
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

MSS_BYTES = 1460
"""Payload of one packet: Ethernet's 1500 bytes less the headers of IPv4 and TCP."""

INITIAL_WINDOW = 10.0  # RFC 6928
SMALLEST_HALF = 2.0  # RFC 5681, equation 4
RTO_FLOOR_SECONDS = 1.0  # RFC 6298, rule 2.4
RTO_CEILING_SECONDS = 60.0  # RFC 6298, rule 2.5

# The first cycles still remember slow start, which ends far above the usual window.
WARM_UP_EPOCHS = 20
# A run is long enough when it has seen both; its goodput then varies by about 3 % with the seed.
MEASURED_EPOCHS = 250
MEASURED_PACKETS = 100_000

SERIES_ROWS = 500


@dataclass(frozen=True, slots=True)
class Parameters:
    """What one run simulates; `duration_seconds` is simulated time after the warm-up.

    Without a duration the run ends after a number of loss epochs and packets, so that every loss
    rate is measured about equally well. Without a `max_window` (packets) only losses bound the
    window.
    """

    loss: float
    rtt_ms: float
    seed: int
    duration_seconds: float | None = None
    max_window: int | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters at one moment; the measurement is the difference between two of them.

    A loss epoch is one reaction to loss: a halving or a timeout.
    """

    seconds: float
    packets_sent: int
    packets_lost: int
    loss_epochs: int
    timeouts: int

    def since(self, start: "Totals") -> "Totals":
        """Return what happened between `start` and this moment."""
        return Totals(
            self.seconds - start.seconds,
            self.packets_sent - start.packets_sent,
            self.packets_lost - start.packets_lost,
            self.loss_epochs - start.loss_epochs,
            self.timeouts - start.timeouts,
        )


class Flow:
    """A sender, its link, and the packets in flight.

    Packets are numbered in the order of sending, which is also the order of arrival. Those of one
    round trip arrive together; each acknowledgement may release packets for the next round trip.
    """

    def __init__(self, parameters: Parameters, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._loss = parameters.loss
        self._rtt_seconds = parameters.rtt_ms / 1000.0
        self._limit = float(parameters.max_window or math.inf)
        self._first_rto_seconds = max(RTO_FLOOR_SECONDS, 2.0 * self._rtt_seconds)
        self._rto_seconds = self._first_rto_seconds
        self._threshold = math.inf  # slow start below it
        self._settled = 0  # packets whose fate is known
        self._lost = 0
        self._newest_lost = -1
        self._gap = False  # a loss that no later acknowledgement has revealed yet
        self._recovery_end = 0  # first packet that was sent after the last reaction
        self._epochs = 0
        self._timeouts = 0
        self._seconds = 0.0
        self.window = min(INITIAL_WINDOW, self._limit)
        """Congestion window in packets."""
        self._sent = int(self.window)

    def totals(self) -> Totals:
        """Return the counters; a packet counts as sent once its fate is known."""
        return Totals(self._seconds, self._settled, self._lost, self._epochs, self._timeouts)

    def round_trip(self) -> None:
        """Let every packet in flight arrive or vanish, and send what is released by that."""
        draw, loss, limit, threshold = self._draw, self._loss, self._limit, self._threshold
        window, sent, gap = self.window, self._sent, self._gap
        newest_lost, recovery_end = self._newest_lost, self._recovery_end
        acknowledged = 0
        first = self._settled
        last = sent
        for packet in range(first, last):
            if draw() < loss:
                gap = True
                newest_lost = packet
                continue
            acknowledged += 1
            if gap:
                gap = False
                if newest_lost >= recovery_end:
                    window = threshold = self._halved(window)
                    recovery_end = sent
                    self._epochs += 1
            elif packet >= recovery_end and window < limit:
                window += 1.0 / window if window >= threshold else 1.0
            released = int(window) - (sent - packet - 1)
            if released > 0:
                sent += released
        self.window, self._threshold, self._sent, self._gap = window, threshold, sent, gap
        self._newest_lost, self._recovery_end = newest_lost, recovery_end
        self._settled = last
        self._lost += last - first - acknowledged
        self._seconds += self._rtt_seconds
        if acknowledged:
            self._rto_seconds = self._first_rto_seconds
        if sent == last:
            self._time_out()

    def _halved(self, window: float) -> float:
        return min(self._limit, max(SMALLEST_HALF, window / 2.0))

    def _time_out(self) -> None:
        """Wait for the timer, which was started one round trip ago, and start again with one."""
        self._seconds += self._rto_seconds - self._rtt_seconds
        self._rto_seconds = min(
            2.0 * self._rto_seconds, max(RTO_CEILING_SECONDS, self._first_rto_seconds)
        )
        self._threshold = self._halved(self.window)
        self.window = 1.0
        self._gap = False
        self._recovery_end = self._sent
        self._sent += 1
        self._epochs += 1
        self._timeouts += 1


@dataclass(slots=True)
class Series:
    """The window over time in at most `SERIES_ROWS` rows, evenly spaced in round trips.

    The length of a run is not known before its end, so the spacing doubles whenever rows run out.
    """

    rows: list[tuple[float, float]] = field(default_factory=list)
    _spacing: int = 1
    _skipped: int = 0

    def add(self, seconds: float, window: float) -> None:
        """Offer the state after one more round trip."""
        if self._skipped:
            self._skipped -= 1
            return
        if len(self.rows) == SERIES_ROWS:
            del self.rows[1::2]
            self._spacing *= 2
        self.rows.append((seconds, window))
        self._skipped = self._spacing - 1

    def text(self) -> str:
        """Return the series as CSV with a header."""
        lines = [f"{seconds:.6f},{window:.6f}\n" for seconds, window in self.rows]
        return "seconds,cwnd_packets\n" + "".join(lines)


def simulate(parameters: Parameters) -> tuple[Totals, Series]:
    """Run one flow; return what was measured after the warm-up, and the whole time series."""
    # A text as seed (hashed by SHA-512, the same everywhere) gives each cell draws of its own. The
    # window's limit is left out: with and without it the same packets are lost.
    chance = random.Random(f"{parameters.loss!r} {parameters.rtt_ms!r} {parameters.seed}")  # noqa: S311 - no secret
    flow = Flow(parameters, chance.random)
    series = Series()
    series.add(0.0, flow.window)

    def advance_until(reached: Callable[[Totals], bool]) -> Totals:
        while not reached(totals := flow.totals()):
            flow.round_trip()
            series.add(flow.totals().seconds, flow.window)
        return totals

    start = advance_until(lambda now: now.loss_epochs >= WARM_UP_EPOCHS)
    duration = parameters.duration_seconds
    if duration is None:
        end = advance_until(
            lambda now: (
                now.loss_epochs >= start.loss_epochs + MEASURED_EPOCHS
                and now.packets_sent >= start.packets_sent + MEASURED_PACKETS
            )
        )
    else:
        end = advance_until(lambda now: now.seconds >= start.seconds + duration)
    return end.since(start), series


def result_text(parameters: Parameters, measured: Totals) -> str:
    """Return the result as JSON: sorted keys, parameters as given, measurements to six digits."""
    delivered = measured.packets_sent - measured.packets_lost
    packets_per_second = delivered / measured.seconds
    values = {
        "duration_seconds": json.dumps(parameters.duration_seconds),
        "goodput_bits_per_second": f"{packets_per_second * MSS_BYTES * 8:.6f}",
        "goodput_packets_per_second": f"{packets_per_second:.6f}",
        "loss": json.dumps(parameters.loss),
        "loss_epochs": str(measured.loss_epochs),
        "max_window": json.dumps(parameters.max_window),
        "mss_bytes": str(MSS_BYTES),
        "packets_delivered": str(delivered),
        "packets_lost": str(measured.packets_lost),
        "packets_sent": str(measured.packets_sent),
        "rtt_ms": json.dumps(parameters.rtt_ms),
        "seed": str(parameters.seed),
        "simulated_seconds": f"{measured.seconds:.6f}",
        "timeouts": str(measured.timeouts),
    }
    return "{\n" + ",\n".join(f'  "{key}": {values[key]}' for key in sorted(values)) + "\n}\n"


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """End the program with status 2."""
        self.exit(2, f"{self.prog}: {message}; --help shows the options\n")


def number_between(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of decimal numbers in [low, high]; nan and inf are not among them."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return parse


def integer_between(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers in [low, high]."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return parse


def parser() -> Parser:
    """Return the command line; a run costs the time of its packets, about 0.3 s for a million."""
    options = Parser(
        prog="aimd.py",
        description="Simulate one TCP-like flow (AIMD) over a link with random loss.",
        allow_abbrev=False,
    )
    options.add_argument(
        "--loss",
        type=number_between(1e-5, 0.5),
        required=True,
        help="probability that a packet is lost, 0.00001 to 0.5",
    )
    options.add_argument(
        "--rtt-ms",
        type=number_between(0.1, 10_000),
        required=True,
        help="round trip time in milliseconds, 0.1 to 10000",
    )
    options.add_argument(
        "--seed",
        type=integer_between(0, 2**63 - 1),
        required=True,
        help="equal seeds give equal results",
    )
    options.add_argument(
        "--duration",
        type=number_between(0.1, 100_000),
        metavar="SECONDS",
        help="simulated seconds after the warm-up (default: as many as a good mean needs)",
    )
    options.add_argument(
        "--max-window",
        type=integer_between(1, 1_000_000),
        metavar="PACKETS",
        help="the window never exceeds this (default: no limit)",
    )
    options.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where the results go (default: $MITO_RESULT_DIR, else the current folder)",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status; a wrong parameter raises SystemExit(2)."""
    options = parser().parse_args(arguments)
    parameters = Parameters(
        options.loss, options.rtt_ms, options.seed, options.duration, options.max_window
    )
    folder = options.out or Path(os.environ.get("MITO_RESULT_DIR") or ".")
    measured, series = simulate(parameters)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_bytes(result_text(parameters, measured).encode())
        (folder / "cwnd.csv").write_bytes(series.text().encode())
    except OSError as error:
        sys.stderr.write(f"aimd.py: cannot write the results into {folder}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
