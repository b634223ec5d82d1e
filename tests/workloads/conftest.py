"""A server for the queues, and workloads that end with their test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.workloads.harness import Workload
from tests.workloads.redis_server import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """An empty Redis server."""
    one = RedisServer()
    yield one
    one.close()


@pytest.fixture
def workload(server: RedisServer) -> Iterator[Callable[..., Workload]]:
    """Make and start workloads on that server."""
    made: list[Workload] = []

    def make(*programs: str, **options: Any) -> Workload:
        one = Workload(server, *programs, **options)
        made.append(one)
        return one.start()

    yield make
    for one in made:
        one.close()
