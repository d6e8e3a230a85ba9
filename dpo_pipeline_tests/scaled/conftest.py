"""One Postgres for all tests of a worker; each has a database of its own in it."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import sqlalchemy as sa

from dpo_pipeline.stores.database import engine_of
from dpo_pipeline_tests.postgres import Postgres, postgres

# What these tests need is no part of the usual installation: see `make test-scaled`.
collect_ignore_glob = [] if find_spec("psycopg") else ["test_*.py"]


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def database(server: Postgres) -> Iterator[str]:
    """Its address."""
    url = server.new_database()
    yield url
    engine_of(url).dispose()


@pytest.fixture
def engine(database: str) -> sa.Engine:
    return engine_of(database)
