"""Services and people that tests of several sections share."""

from collections.abc import Iterator

import pytest

from mitosis import SyncMitoClient
from mitosis.testing.servers import PostgresServer, S3Server

from ..conftest import Platform
from .composed import Defaults, composed
from .coordinators import Lab, lab, serve_by_file, serve_by_options
from .machines import Owner


@pytest.fixture(scope="session")
def by_file(postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[Lab]:
    """A coordinator whose settings all come from its file."""
    with lab(postgres_server, s3_server) as made:
        serve_by_file(made)
        yield made


@pytest.fixture(scope="session")
def by_options(postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[Lab]:
    """A coordinator whose settings all come from options, against wrong ones elsewhere."""
    with lab(postgres_server, s3_server) as made:
        serve_by_options(made)
        yield made


@pytest.fixture(scope="module")
def owner(
    platform: Platform, admin: SyncMitoClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Owner]:
    """A user of all tests of one file."""
    made = Owner(platform, admin, tmp_path_factory.mktemp("owner"))
    yield made
    made.client.close()


@pytest.fixture(scope="session")
def defaults() -> Iterator[Defaults]:
    """A coordinator with an empty settings file, the services as docker-compose.yml has them."""
    with composed() as said:
        yield said


@pytest.fixture(scope="session")
def seed_group(admin: SyncMitoClient) -> str:
    """The group of the seed's examples; the administrator is its Admin."""
    admin.create_group("test_group")
    return "test_group"
