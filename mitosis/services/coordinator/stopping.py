"""The order to a worker to stop what its owner has cancelled; repeated until it has ended."""

from mitosis.contract import subjects, wire, work
from mitosis.domain.task import Task
from mitosis.services.coordinator.core import Core


def order_stop(core: Core, state: Task) -> None:
    """Tell the worker of a running task to stop it, in the way that was asked for."""
    order = work.CancelAttempt(
        state.task, state.attempt, state.cancel_grace_seconds, state.cancel_signal
    )
    core.publish(subjects.control(state.worker), wire.encode(order))
