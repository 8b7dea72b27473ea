"""`just bench`: the whole platform beside its peers and the floors of the machine.

Without sections all are measured, with --peers or --full the peers too: 10 to 25 minutes. Every
campaign ends with a look at each task's outcome in the read model. Ends with status 1 when a
section failed.
"""

import argparse
import asyncio
import inspect
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import msgspec

from bench.machine import Machine, this_machine
from bench.output import as_json, tables
from bench.platform import Up, platform
from bench.rows import Results
from bench.sections import SECTIONS, Section
from bench.sizes import FULL, QUICK, USUAL, Bench, Sizes
from bench.targets import verdicts


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    given, began = _parser().parse_args(arguments), time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing that was started is left
    sizes = QUICK if given.quick else FULL if given.full else USUAL
    bench = Bench(sizes=_sized(sizes, given), results=Results(), peers=given.peers)
    machine, failed = this_machine(given.peers), []
    file = given.json if given.json != Path("-") else None
    for name, succeeded in _measured(bench, list(_wanted(given))):
        failed += [] if succeeded else [name]
        if file is not None:  # after each section: a run that is broken off has its figures
            file.write_bytes(_json(machine, bench))
    judged = verdicts(bench.results)
    if given.quick or given.sections:
        judged = [verdict for verdict in judged if verdict.found is not None]
    print("\n" + tables(machine, bench.results, judged))
    print(f"\n{time.monotonic() - began:.0f} s")
    if given.json and file is None:
        print(_json(machine, bench).decode())
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _json(machine: Machine, bench: Bench) -> bytes:
    settings = msgspec.to_builtins(bench.sizes) | {"peers": bench.peers is not None}
    return as_json(machine, settings, bench.results, verdicts(bench.results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    names = list(dict.fromkeys(section.name for section in SECTIONS))
    parser.add_argument("sections", nargs="*", choices=[[], *names], metavar="SECTION",
                        help=f"any of {', '.join(names)}")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="small sizes, a minute")
    parser.add_argument("--full", action="store_true", help="with a history of 1,000,000 tasks")
    parser.add_argument("--peers", type=Path, metavar="VENV",
                        help="the peers' virtual environment, as by just bench-peers")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", nargs="?", const=Path("-"),
                        help="write all figures to a file, or print them")  # fmt: skip
    parser.add_argument("--tasks", type=int, help="of most campaigns, instead")
    parser.add_argument("--rounds", type=int, help="of `true`, instead")
    parser.add_argument("--trips", type=int, help="round trips, instead")
    return parser


def _sized(sizes: Sizes, given: argparse.Namespace) -> Sizes:
    """Return the sizes with what is given instead."""
    if given.tasks:
        sizes = msgspec.structs.replace(
            sizes,
            true=(sizes.true[0]._replace(tasks=given.tasks),),
            simulated=sizes.simulated._replace(tasks=given.tasks),
            batch=sizes.batch._replace(tasks=given.tasks),
            engine=given.tasks,
        )
    if given.rounds:
        true = tuple(one._replace(rounds=given.rounds) for one in sizes.true)
        sizes = msgspec.structs.replace(sizes, true=true)
    if given.trips:
        sizes = msgspec.structs.replace(sizes, trips=given.trips, peer_trips=given.trips)
    return sizes


def _wanted(given: argparse.Namespace) -> Iterator[Section]:
    """Yield what is to be measured; the quick form leaves out what is slow and was not named."""
    short = {section.name for section in SECTIONS if section.quick}
    for section in SECTIONS:
        named = section.name in given.sections and section.name not in short
        if given.sections and section.name not in given.sections:
            continue
        if section.name == "peers" and not (given.peers or given.full or named):
            continue  # a run without them measures ours and the floors; a full one fails
        if section.quick or not given.quick or named or section.name == "peers":
            yield section


def _measured(bench: Bench, sections: list[Section]) -> Iterator[tuple[str, bool]]:
    """Measure; yield the name of each section, and whether it succeeded."""
    for shape, group in groupby(sections, key=lambda section: section.shape):
        with ExitStack() as stack:
            up: Up | None = None
            for section in group:
                began, succeeded = time.monotonic(), True
                print(f"{section.name}:", flush=True)
                try:
                    if shape is not None and up is None:
                        up = stack.enter_context(platform(**shape._asdict()))
                    _run(section, bench, up)
                except (Exception, SystemExit) as error:  # noqa: BLE001  the others go on
                    traceback.print_exc()
                    bench.results.fail(section.name, section.name, str(error) or repr(error))
                    succeeded = False
                print(f"  [{time.monotonic() - began:.0f} s]", flush=True)
                yield section.name, succeeded


def _run(section: Section, bench: Bench, up: Up | None) -> None:
    if up is None:
        section.measure(bench)
        return
    done = section.measure(bench, up)
    if inspect.iscoroutine(done):
        asyncio.run(done)


if __name__ == "__main__":
    main()
