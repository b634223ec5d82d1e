"""Fixtures for tests with real processes."""

import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.runtime.process_harness import Stand, containment_of


@pytest.fixture(params=["cgroup", "tags"])
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    """Processes, once with control groups and once without."""
    containment = containment_of(request.param)
    if containment is None:
        pytest.skip("no control groups may be made here")
    stand = Stand(containment)
    yield stand
    await stand.close()


@pytest.fixture
async def plain_stand() -> AsyncIterator[Stand]:
    """Processes without control groups."""
    containment = containment_of("tags")
    assert containment is not None
    stand = Stand(containment)
    yield stand
    await stand.close()


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A child of the test itself, in a session of its own, that nobody may touch; ask for it first."""
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    assert process.poll() is None, "the bystander was touched"
    process.kill()
    process.wait()
