"""Looks at uploaded outputs: whoever asks is answered soon, also while the store is silent.

A worker's report must not wait for a store that is silent. What the store has not said in time is
not known just now; the look goes on, and the worker's next try finds it, or what came of it: a
store that only takes long (parts of a large output are put together) is not asked anew each time.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, NamedTuple

from mitosis.errors import MitosisError, ObjectsUnavailable
from mitosis.services.coordinator.uploads import Open, Output

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
            except Exception:  # an answer that makes no sense, which costs the others nothing
                log.exception("%s could not be looked at", name)
        return found

    def close(self) -> None:
        """End what is under way: a store that is silent keeps nobody from stopping."""
        for one in self._of.values():
            one.task.cancel()
        self._of.clear()

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


class Beginnings:
    """At most one begin of each upload in parts: one that takes long goes on, and is joined."""

    def __init__(self) -> None:
        self._of: dict[str, asyncio.Task[Open]] = {}

    def is_under_way(self, upload: str) -> bool:
        """Whether the place of an upload is still being made, or was when nobody waited."""
        return upload in self._of

    async def opened(self, upload: str, begin: Callable[[], Coroutine[Any, Any, Open]]) -> Open:
        """Return the place of an upload.

        Raises:
            ObjectsUnavailable: The store does not answer, or has not in time: ask again.
        """
        task = self._of.get(upload)
        if task is None:
            task = self._of[upload] = asyncio.create_task(begin(), name="begin")
        await asyncio.wait({task}, timeout=LOOK_SECONDS)
        if task.cancelled():  # another place was asked for meanwhile, or the term is over
            raise ObjectsUnavailable("this place is not made any more: ask again")
        if task.done():
            self._forget(upload, task)
            return task.result()
        task.add_done_callback(partial(self._late, upload))
        raise ObjectsUnavailable(f"the S3 store has not answered within {LOOK_SECONDS:g} s")

    def drop(self, upload: str) -> None:
        """Make no place for this upload any more."""
        task = self._of.pop(upload, None)
        if task is not None:
            task.cancel()

    def _late(self, upload: str, task: "asyncio.Task[Open]") -> None:
        """Keep a place for a while, for the next who asks; what went wrong is tried anew."""
        if task.cancelled() or task.exception() is not None:
            self._forget(upload, task)
        else:
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, upload, task)

    def _forget(self, upload: str, task: "asyncio.Task[Open]") -> None:
        if self._of.get(upload) is task:
            del self._of[upload]

    def close(self) -> None:
        """End what is under way."""
        for task in self._of.values():
            task.cancel()
        self._of.clear()
