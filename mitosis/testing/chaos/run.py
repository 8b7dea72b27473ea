"""One run: a platform, a campaign and a nemesis side by side; then quiet, and the check."""

import asyncio
import logging
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import psycopg

from mitosis.domain.platform import TermStarted
from mitosis.domain.task import TaskCancelled, TaskCommitted, TaskRequeued
from mitosis.domain.worker import WorkerLost
from mitosis.errors import Unavailable
from mitosis.projections.commit import Commit
from mitosis.testing.chaos import collect
from mitosis.testing.chaos.campaign import Campaign
from mitosis.testing.chaos.checker import check
from mitosis.testing.chaos.evidence import Violation
from mitosis.testing.chaos.ledger import LEFT_BEHIND
from mitosis.testing.chaos.nemesis import Nemesis
from mitosis.testing.chaos.site import Shape, Site

CATCH_UP_SECONDS = 60.0
MOST_SHOWN = 20

log = logging.getLogger(__name__)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is run.

    Attributes:
        seed: Of operations and faults.
        seconds: How long operations and faults go on.
        shape: Of the platform.
        per_second: Operations; a submit of many counts as one.
        pause: Between two faults (from, to seconds).
        at_once: How many parts are broken at once.
        least_submits: It goes on until so many are acknowledged, for three times as long at most.
        settle_seconds: How long all that waits may take, on a platform that is whole again.
        short: Programs take milliseconds, so that workers line them up.
        keep: Leave the folder of the run when something was wrong.
    """

    seed: int
    seconds: float
    shape: Shape = Shape()
    per_second: float = 8.0
    pause: tuple[float, float] = (0.2, 1.0)
    at_once: int = 1
    least_submits: int = 0
    settle_seconds: float = 120.0
    short: bool = False
    keep: bool = False


class Result(msgspec.Struct, kw_only=True):
    """What came of it."""

    settings: Settings
    violations: list[Violation]
    operations: Counter[str]
    faults: Counter[str]
    tasks: int
    commits: int
    ledger_lines: int
    restarts: int
    happened: Counter[str]
    kept: Path | None = None

    def summary(self) -> str:
        """Return the report for people."""
        lines = [
            f"seed {self.settings.seed}, {self.settings.seconds:g} s, "
            f"{self.settings.shape.nats_nodes} NATS nodes, {self.settings.shape.workers} workers",
            f"tasks {self.tasks}, commits {self.commits}, lines of the ledger {self.ledger_lines}",
            f"operations {self.operations.total()}: {_listed(self.operations)}",
            f"faults {self.faults.total()}: {_listed(self.faults)}",
            f"in the stream: {_listed(self.happened)}",
            f"ends of services that nobody asked for: {self.restarts}",
            *(f"VIOLATION {violation}" for violation in self.violations[:MOST_SHOWN]),
            f"violations {len(self.violations)}",
        ]
        return "\n".join([*lines, *([f"kept in {self.kept}"] if self.kept else [])])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def run(settings: Settings, say: Callable[[str], None] = lambda _: None) -> Result:
    """Run once, from nothing to the result; nothing is left behind.

    Args:
        settings: What is run.
        say: Told how far it is.

    Raises:
        MitosisError: The platform does not even start.
    """
    folder = Path(tempfile.mkdtemp(prefix="mito-chaos-"))
    kept = False
    try:
        result = asyncio.run(_run(settings, folder / "site", say))
        kept = settings.keep and bool(result.violations)
        result.kept = folder if kept else None
        return result
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


async def _run(settings: Settings, root: Path, say: Callable[[str], None]) -> Result:
    async with Site(root, settings.shape) as site:
        campaign = Campaign(
            site, settings.seed, per_second=settings.per_second, short=settings.short
        )
        nemesis = Nemesis(
            site, settings.seed, campaign.next_acknowledgement,
            pause=settings.pause, at_once=settings.at_once,
        )  # fmt: skip
        try:
            say(f"seed {settings.seed}: starting")
            await campaign.prepare()
            await site.start_workers()
            say(f"operations and faults for {settings.seconds:g} s")
            await _side_by_side(campaign, nemesis, settings)
            say("quiet now")
            leftovers = await _settle(site, campaign, settings.settle_seconds)
        finally:
            await campaign.close()
        await _stop_services(site, campaign)
        evidence = await collect.gather(site, campaign.record, campaign.seen)
        restarts = sum(len(service.ends) for service in site.services)
    leftovers += await collect.still_running(str(root), root)
    evidence.leftovers = [*evidence.leftovers, *leftovers]
    say("checking")
    return Result(
        settings=settings,
        violations=check(evidence),
        operations=Counter(f"{one.kind} {one.answer}" for one in evidence.record),
        faults=nemesis.counts(),
        tasks=len({c.tail for c in evidence.commits if c.kind == "task"}),
        commits=len(evidence.commits),
        ledger_lines=len(evidence.ledger),
        restarts=restarts,
        happened=_happened(evidence.commits),
    )


def _happened(commits: Iterable[Commit]) -> Counter[str]:
    """Count what faults lead to: how workers are lost, tasks requeued, terms begun."""
    counts: Counter[str] = Counter()
    for event in (event for commit in commits for event in commit.events):
        match event:
            case WorkerLost(proof):
                counts["lost: lease" if "lease" in proof else f"lost: {proof}"] += 1
            case TaskRequeued():
                counts["requeued"] += 1
            case TaskCommitted(_, outcome) | TaskCancelled(outcome):
                counts[f"ended: {outcome}"] += 1
            case TermStarted():
                counts["terms"] += 1
            case _:
                pass
    return counts


async def _side_by_side(campaign: Campaign, nemesis: Nemesis, settings: Settings) -> None:
    operations = asyncio.create_task(campaign.run())
    faults = asyncio.create_task(nemesis.run())
    for _ in range(3):
        await asyncio.wait(
            {operations, faults}, timeout=settings.seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if campaign.acknowledged >= settings.least_submits:
            break
    nemesis.stop()
    await faults
    operations.cancel()
    try:
        await operations
    except asyncio.CancelledError:
        return


async def _settle(site: Site, campaign: Campaign, seconds: float) -> list[str]:
    """Make the platform whole and wait until nothing is to be done; what is still alive then."""
    await site.heal()
    deadline = asyncio.get_running_loop().time() + seconds
    for step in (campaign.finish, lambda: _until_ended(campaign, deadline)):
        while True:
            try:
                await step()
                break
            except Unavailable as error:
                if asyncio.get_running_loop().time() > deadline:
                    campaign.seen.append(Violation("it recovers", "platform", str(error)))
                    return []
                log.info("not quiet yet: %s", error)
                await asyncio.sleep(0.5)
    return await collect.still_running(LEFT_BEHIND, site.root)


async def _until_ended(campaign: Campaign, deadline: float) -> None:
    while await campaign.live_tasks():
        if asyncio.get_running_loop().time() > deadline:
            return  # the checker says which
        await asyncio.sleep(0.25)


async def _stop_services(site: Site, campaign: Campaign) -> None:
    """Stop who writes first; the read models shall have everything before the projector goes."""
    for kind in ("worker", "coordinator"):  # which signs what it has stored when it leaves
        await asyncio.gather(*(part.stop() for part in site.of_kind(kind)))
    last = len(await collect.read_stream(site))
    deadline = asyncio.get_running_loop().time() + CATCH_UP_SECONDS
    while await asyncio.to_thread(_applied, site.postgres.url) < last:
        if asyncio.get_running_loop().time() > deadline:
            text = f"the read models have not come to position {last}"
            campaign.seen.append(Violation("it recovers", "projector", text))
            break
        await asyncio.sleep(0.1)
    await asyncio.gather(*(part.stop() for part in site.of_kind("projector")))


def _applied(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT coalesce(max(position), 0) FROM views.position").fetchone()
    return int(row[0]) if row else 0


def say(line: str) -> None:
    """Say it to the terminal."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
