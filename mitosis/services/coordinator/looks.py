"""Looks at uploaded outputs: whoever asks is answered soon, also while the store is silent.

A worker's report must not wait for a store that is silent. What the store has not said in time is
not known just now; the look goes on, and the worker's next try finds it, or what came of it: a
store that only takes long (parts of a large output are put together) is not asked anew each time.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, NamedTuple

from mitosis.errors import MitosisError, ObjectsUnavailable
from mitosis.services.coordinator.uploads import Output

log = logging.getLogger(__name__)

# Much less than the ten seconds that a worker waits for an answer, or it would hear none.
LOOK_SECONDS = 5.0
KEPT_SECONDS = 60.0  # much more than a worker's longest pause between two tries

Look = Callable[[str], Coroutine[Any, Any, int | None]]
"""(name of an object) -> its real size, or None when there is no such object."""


class _UnderWay(NamedTuple):
    object_name: str
    task: "asyncio.Task[int | None]"


class Looks:
    """At most one look at each output of a live attempt, whoever asks and however often."""

    def __init__(self) -> None:
        self._of: dict[Output, _UnderWay] = {}

    async def sizes(self, wanted: Mapping[Output, str], look: Look) -> dict[str, int | None]:
        """Return the sizes of those objects of which the store says it in time.

        Args:
            wanted: Names of objects by the output that they are.
            look: Asks the store about one of them; all are asked at once.
        """
        found: dict[str, int | None] = {}
        if not wanted:
            return found
        looks = {output: self._join(output, name, look) for output, name in wanted.items()}
        await asyncio.wait({one.task for one in looks.values()}, timeout=LOOK_SECONDS)
        late = {output: one for output, one in looks.items() if not one.task.done()}
        for output, one in looks.items():
            if output in late:
                one.task.add_done_callback(partial(self._late, output, one))
            else:
                self._forget(output, one)
        if late:
            name = next(iter(late.values())).object_name
            log.warning("the S3 store has not answered yet about %d outputs: %s", len(late), name)
        for output in looks.keys() - late.keys():
            name, task = looks[output]
            if task.cancelled():  # another object was named as this output
                continue
            try:
                found[name] = task.result()
            except MitosisError as error:
                log.warning("%s could not be looked at: %s", name, error)
        return found

    def _join(self, output: Output, object_name: str, look: Look) -> _UnderWay:
        known = self._of.get(output)
        if known is not None and known.object_name == object_name:
            return known
        if known is not None:
            known.task.cancel()
        one = _UnderWay(object_name, asyncio.create_task(look(object_name), name="look"))
        self._of[output] = one
        return one

    def _late(self, output: Output, one: _UnderWay, task: "asyncio.Task[int | None]") -> None:
        """Keep a size for a while, for the next who asks; what went wrong is tried anew."""
        if task.cancelled() or task.exception() is not None:
            self._forget(output, one)
        else:
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, output, one)

    def _forget(self, output: Output, one: _UnderWay) -> None:
        if self._of.get(output) is one:
            del self._of[output]


@contextlib.asynccontextmanager
async def answered_soon() -> AsyncIterator[None]:
    """Bound what else is asked of the store before a worker is answered.

    Raises:
        ObjectsUnavailable: The store has not answered in time.
    """
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            yield
    except TimeoutError as error:
        text = f"the S3 store has not answered within {LOOK_SECONDS:g} s"
        raise ObjectsUnavailable(text) from error
