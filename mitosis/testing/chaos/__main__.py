"""`just chaos`: the fault suite from the command line."""

import argparse
import secrets
import sys
from collections.abc import Sequence

from msgspec.structs import replace

from mitosis.log import configure_log
from mitosis.testing.chaos import planted
from mitosis.testing.chaos.run import Settings, run, say
from mitosis.testing.chaos.site import Shape


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit status is 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="just chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="default: a random one, which is printed")
    parser.add_argument("--nats", type=int, choices=(1, 3), default=1, help="nodes")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--slots", type=int, default=3)
    parser.add_argument("--lease", type=float, default=5.0, help="seconds")
    parser.add_argument("--rate", type=float, default=8.0, help="operations a second")
    parser.add_argument("--pause", type=float, default=1.0, help="at most, between two faults, s")
    parser.add_argument("--at-once", type=int, default=2, help="parts that are broken at once")
    parser.add_argument("--short", action="store_true", help="programs of milliseconds, lined up")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a failed run")
    parser.add_argument(
        "--planted", nargs="*", metavar="NAME",
        help="run on broken copies of the code, each of which must be reported; default: all",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    configure_log({"": "error"})  # that services go away is what happens here
    settings = Settings(
        seed=secrets.randbelow(10**6) if given.seed is None else given.seed,
        seconds=given.minutes * 60,
        shape=Shape(
            nats_nodes=given.nats, workers=given.workers, slots=given.slots,
            lease_seconds=given.lease,
        ),
        per_second=given.rate,
        pause=(given.pause / 5, given.pause),
        at_once=given.at_once,
        short=given.short,
        keep=given.keep,
    )  # fmt: skip
    if given.planted is not None:
        say(f"seed {settings.seed}, {settings.seconds:g} s for each")
        return planted.main(given.planted, replace(settings, settle_seconds=40.0), say)
    result = run(settings, say)
    say(result.summary())
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
