"""State machines over an aggregate: any sequence of commands must keep its promises.

A subclass gives commands by Hypothesis rules and adds the promises of its own aggregate. May be
imported by tests only; needs `hypothesis` (extra `test`).
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

import msgspec
from hypothesis.stateful import RuleBasedStateMachine

from mitosis.domain.event import Command, Event
from mitosis.errors import Rejection
from mitosis.events import catalogue


class AggregateMachine(RuleBasedStateMachine):
    """One aggregate under random commands.

    Attributes:
        aggregate: The module with `decide` and `evolve`.
        state_type: The state of the aggregate.
        news_each_time: Commands of which a repeat is another fact, not the same one.
        state: What is decided against; None before the first event.
        history: Every event so far.
    """

    aggregate: ClassVar[ModuleType]
    state_type: ClassVar[type[Command]]
    news_each_time: ClassVar[tuple[type[Command], ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.state: Any = None
        self.history: list[Event] = []

    def give(self, command: Command) -> list[Event] | Rejection:
        """Decide a command and apply what comes of it, with all general promises checked.

        Returns:
            The new events, or why there are none. Any other exception is a failure.
        """
        before = self.state
        try:
            events: list[Event] = self.aggregate.decide(before, command)
        except Rejection as rejection:
            return rejection
        for event in events:
            topic, body = catalogue.encode_event(event)
            assert catalogue.decode_event(topic, body) == event, "what is stored is what is read"
            self.check_event(event)
            self.state = self.aggregate.evolve(self.state, event)
            self.history.append(event)
        if not isinstance(command, self.news_each_time):
            self._check_repeat(command)
        return events

    def check_event(self, event: Event) -> None:
        """Look at an event before it is applied to `self.state`; for promises of a subclass."""

    def _check_repeat(self, command: Command) -> None:
        try:
            again = self.aggregate.decide(self.state, command)
        except Rejection:
            return
        assert again == [], f"a repeat of {command} made {again}"

    def teardown(self) -> None:
        """Check that state does not depend on where a fold was interrupted by a snapshot."""
        for cut in range(1, len(self.history) + 1):
            state = _fold(self.aggregate, None, self.history[:cut])
            restored = msgspec.json.decode(msgspec.json.encode(state), type=self.state_type)
            assert restored == state, "a snapshot is the state"
            assert _fold(self.aggregate, restored, self.history[cut:]) == self.state


def _fold(aggregate: ModuleType, state: Any, events: Sequence[Event]) -> Any:
    for event in events:
        state = aggregate.evolve(state, event)
    return state
