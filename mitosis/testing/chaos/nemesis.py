"""Random faults, one after the other on each part, several parts at a time. Seeded."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from mitosis.testing.chaos.parts import Part
from mitosis.testing.chaos.proxy import Cut
from mitosis.testing.chaos.site import Site

log = logging.getLogger(__name__)

COORDINATORS = "coordinators"  # all of them at once
MOMENT_SECONDS = 3.0
TAKE_OVER_SECONDS = 6.0  # of a standby, after a fault
MOST_CUT_OFF_SECONDS = 12.0  # of a NATS node: longer than it takes until another one leads
LOOK_SECONDS = 0.1

Moment = Callable[[], Awaitable[None]]


class Fault(NamedTuple):
    """What was done, when (seconds after the begin), and for how long."""

    what: str
    target: str
    at: float
    seconds: float


class _Plan(NamedTuple):
    """A fault before it is one."""

    what: str
    target: str
    act: Callable[[float], Awaitable[None]]
    seconds: float
    undisturbed: bool = False

    @property
    def leads(self) -> bool:
        """Whether it may bring another coordinator into office."""
        return "coordinator" in self.target or "nats" in self.target


class Nemesis:
    """Breaks a site until it is told to stop.

    Args:
        site: What is broken.
        acknowledged: Waits until a client is told "ok", the worst moment for a coordinator to die.
        seed: Of the order of faults.
        pause: Seconds between the end of a fault and the next one (from, to).
        at_once: How many parts may be broken at once.

    Attributes:
        faults: What was done.
    """

    def __init__(
        self,
        site: Site,
        seed: int,
        acknowledged: Moment,
        *,
        pause: tuple[float, float] = (0.2, 1.0),
        at_once: int = 1,
    ) -> None:
        self._site, self._pause, self._at_once = site, pause, at_once
        self._acknowledged = acknowledged
        self._random = random.Random(f"faults-{seed}")
        self._busy: set[str] = set()
        self._undisturbed = 0  # faults during which the coordinator in office stays so
        self._leading = 0  # faults that last and may bring another one into office
        self._led_at = float("-inf")
        self._stopping = asyncio.Event()
        self.faults: list[Fault] = []

    async def run(self) -> None:
        """Break things until `stop`; a fault that was begun is ended."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._loop())

    def stop(self) -> None:
        """Begin no further fault, and end those that last."""
        self._stopping.set()

    def counts(self) -> Counter[str]:
        """Return how many faults there were of each kind."""
        return Counter(f"{one.what} {_kind(one.target)}" for one in self.faults)

    async def _loop(self) -> None:
        while not self._stopping.is_set():
            await self._sleep(self._random.uniform(*self._pause))
            plan = self._plan()
            if self._stopping.is_set() or self._is_busy(plan.target):
                continue
            if self._undisturbed and plan.leads:
                continue
            await self._carry_out(plan)

    def _is_busy(self, target: str) -> bool:
        kinds = {_kind(busy) + "s" for busy in self._busy}
        return target in self._busy or target in kinds or _kind(target) + "s" in self._busy

    async def _carry_out(self, plan: "_Plan") -> None:
        clock = asyncio.get_running_loop().time
        self._busy.add(plan.target)
        self._undisturbed += plan.undisturbed
        self._leading += plan.leads
        try:
            if plan.undisturbed:
                await self._until_nobody_takes_over()
            self.faults.append(Fault(plan.what, plan.target, clock(), plan.seconds))
            await plan.act(plan.seconds)
        finally:
            self._busy.discard(plan.target)
            self._undisturbed -= plan.undisturbed
            self._leading -= plan.leads
            if plan.leads:
                self._led_at = clock()

    async def _until_nobody_takes_over(self) -> None:
        """Wait until what was begun before has brought whom it will into office."""
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set() and (
            self._leading or clock() < self._led_at + TAKE_OVER_SECONDS
        ):
            await self._sleep(LOOK_SECONDS)

    def _plan(self) -> "_Plan":
        draw = self._random
        kinds = ("kill", "freeze", "restart", "cut", "moment", "cut off")
        what = draw.choices(kinds, (5, 4, 2, 4, 2, 2 if self._site.ways else 0))[0]
        if what == "moment":
            seconds = draw.uniform(0.0, 1.0)
            return _Plan("kill after an ok", COORDINATORS, self._kill_after_an_ok, seconds)
        if what == "cut":
            name = draw.choice(list(self._site.links))
            how = draw.choice(list(Cut))
            plan = _Plan(f"cut ({how})", f"link {name}", self._cut(name, how), draw.uniform(0.5, 5))
            return self._away(plan) if name.startswith("worker") else plan
        if what == "cut off":
            node, how = draw.randrange(len(self._site.nats)), draw.choice(list(Cut))
            act, seconds = self._cut_off(node, how), draw.uniform(0.5, MOST_CUT_OFF_SECONDS)
            return _Plan(f"cut off ({how})", f"nats{node + 1}", act, seconds)
        part = self._part()
        if what == "kill":
            return _Plan(what, part.name, self._kill(part), draw.uniform(0.0, 2.0))
        if what == "restart":
            return _Plan(what, part.name, self._restart(part), draw.uniform(0.0, 2.0))
        # A standby takes over from a coordinator that is silent for four seconds.
        most = 8.0 if part.kind == "coordinator" else 4.0
        plan = _Plan(what, part.name, self._freeze(part), draw.uniform(0.5, most))
        return self._away(plan) if part.kind == "worker" else plan

    def _away(self, plan: "_Plan") -> "_Plan":
        """Draw how long a worker is away: as often within its lease as beyond it.

        The beginning of a term counts every worker as heard. So while one is away beyond its lease,
        nobody else may begin a term, or the lease would hardly ever end.
        """
        lease = self._site.shape.lease_seconds
        if self._random.random() < 0.5:
            return plan._replace(seconds=self._random.uniform(0.5, lease))
        return plan._replace(seconds=self._random.uniform(lease + 2.5, lease + 6), undisturbed=True)

    def _part(self) -> Part:
        kinds = ("coordinator", "worker", "projector", "nats", "postgres", "s3")
        kind = self._random.choices(kinds, (6, 8, 2, 3, 1, 1))[0]
        return self._random.choice(self._site.of_kind(kind))

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _kill(self, part: Part) -> Callable[[float], Awaitable[None]]:
        async def act(seconds: float) -> None:
            await part.kill()
            await self._sleep(seconds)
            await part.start()

        return act

    async def _kill_after_an_ok(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._acknowledged(), MOMENT_SECONDS)
        except TimeoutError:
            log.info("nothing was acknowledged in %g s", MOMENT_SECONDS)
        coordinators = self._site.of_kind("coordinator")
        await asyncio.gather(*(part.kill() for part in coordinators))
        await self._sleep(seconds)
        await asyncio.gather(*(part.start() for part in coordinators))

    def _restart(self, part: Part) -> Callable[[float], Awaitable[None]]:
        async def act(seconds: float) -> None:
            await part.stop()
            await self._sleep(seconds)
            await part.start()

        return act

    def _freeze(self, part: Part) -> Callable[[float], Awaitable[None]]:
        async def act(seconds: float) -> None:
            part.freeze()
            await self._sleep(seconds)
            part.thaw()

        return act

    def _cut(self, name: str, how: Cut) -> Callable[[float], Awaitable[None]]:
        async def act(seconds: float) -> None:
            link = self._site.links[name]
            link.cut(how, self._random.uniform(0.02, 0.5))
            await self._sleep(seconds)
            link.heal()

        return act

    def _cut_off(self, node: int, how: Cut) -> Callable[[float], Awaitable[None]]:
        async def act(seconds: float) -> None:
            self._site.cut_off(node, how, self._random.uniform(0.02, 0.5))
            await self._sleep(seconds)
            self._site.join(node)

        return act


def _kind(target: str) -> str:
    return target if target == "s3" else target.rstrip("0123456789")
