"""An entry in the list of services, and a link that comes and goes."""

from collections.abc import Callable

import msgspec
import pytest
from nats.errors import ConnectionClosedError

from mitosis.errors import Unavailable
from mitosis.nats.discovery import Discovery


class Lost:
    """A connection whose link was lost a moment ago."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.listeners: list[Callable[..., object]] = []

    @property
    def raw(self) -> object:
        raise self.error

    def add_listener(self, *, on_reconnect: Callable[..., object]) -> None:
        self.listeners.append(on_reconnect)


@pytest.mark.parametrize("error", [ConnectionClosedError(), Unavailable("the link was lost")])
async def test_a_service_that_starts_as_its_link_is_lost_enters_the_list_with_the_next_one(
    error: Exception,
) -> None:
    connection = Lost(error)
    discovery = Discovery(connection, "mito-test", "1.0.0", "", msgspec.Struct)  # type: ignore[arg-type]
    await discovery.start()
    (enter,) = connection.listeners
    await enter()  # and is there again when it fails once more
    assert connection.listeners == [enter]
