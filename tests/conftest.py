"""Real servers, each started once a session when a test asks for it first."""

from collections.abc import Callable, Iterator

import pytest

from mitosis.testing.servers import (
    NatsServer,
    PostgresServer,
    S3Server,
    open_nats,
    open_postgres,
    open_s3,
    outside_of_loops,
)

pytest_plugins = ["mitosis.testing.parity", "pytester"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`: what `just test-all` runs."""
    parser.addoption("--full", action="store_true", help="run the long cases at full size")


@pytest.fixture
def scaled(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Say how large a long case is: the first number usually, the second with `--full`."""
    full = request.config.getoption("--full")
    return lambda usual, at_full_size: at_full_size if full else usual


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """A nats-server with JetStream and two static users: name streams and subjects of your own."""
    with outside_of_loops(open_nats()) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A Postgres: use `database` unless the test needs the server itself."""
    with outside_of_loops(open_postgres()) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server: use a bucket for many tests and a prefix for each."""
    with outside_of_loops(open_s3()) as server:
        yield server


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty database that only this test uses."""
    with postgres_server.database() as url:
        yield url
