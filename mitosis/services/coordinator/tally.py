"""Counts of what the coordinator has answered: plain numbers, since every command passes here."""

import logging
import time
from bisect import bisect_left

from mitosis.errors import MitosisError
from mitosis.nats.rpc import Caller

BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OK = "ok"
REPEATED = "repeated"
INTERNAL = "internal"
ANY = "any"

log = logging.getLogger(__name__)


class Latency:
    """How long the answers to one verb took, from the arrival of the command."""

    __slots__ = ("buckets", "total_seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.total_seconds = 0.0


class Tally:
    """Answers by verb and result, for the life of the process.

    Verbs are those that have a handler, or `any` where nobody has looked; results are the codes of
    our errors: both are few.

    Attributes:
        results: Number of answers by verb and result (`ok`, `repeated`, or the code of an error).
        latencies: By verb.
    """

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], int] = {}
        self.latencies: dict[str, Latency] = {}

    def count(self, caller: Caller, result: str = OK) -> None:
        """Note an answer."""
        key = (caller.verb, result)
        self.results[key] = self.results.get(key, 0) + 1
        latency = self.latencies.get(caller.verb)
        if latency is None:
            latency = self.latencies[caller.verb] = Latency()
        seconds = time.monotonic() - caller.received
        latency.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        latency.total_seconds += seconds
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "%s by %s: %s after %.4f s", caller.verb, caller.owner or "a guest", result, seconds
            )

    def refused(self, caller: Caller, error: MitosisError) -> None:
        """Note an answer that was an error."""
        self.count(caller, error.code)

    def turned_away(self, _: Caller, error: MitosisError) -> None:
        """Note a command that was refused before it was looked at, so that its verb may be any."""
        key = (ANY, error.code)
        self.results[key] = self.results.get(key, 0) + 1
