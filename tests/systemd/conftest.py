"""One booted guest of each kind for all tests of a run; which kinds is said by PITBOSS_GUESTS.

By default a container of Debian 12, and one with the newest systemd and Python that Debian has. Where the
kernel does not let us boot one, the tests are skipped; where it would, but a program or the network is
missing, they are skipped by a developer and fail in CI.
"""

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from tests.systemd import container, machine
from tests.systemd.guest import IN_FULL, KINDS, Guest
from tests.systemd.privileges import forbidden, missing
from tests.systemd.trees import SUITES, CannotMakeError


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a run may have to wait until a whole Debian is fetched."""
    for item in items:
        if "tests/systemd/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(1800))


def _go_without(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"no guest can be booted, although the kernel would let us: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session", params=[kind for kind in KINDS if kind in SUITES])
def booted_container(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A container of a release, with what `make install` made in it."""
    yield from _boot(container.booted, request.param, "container")


@pytest.fixture(scope="session", params=("bookworm", "trixie"))
def booted_machine(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """An emulated machine of a release, with what `make install` made in it."""
    if not IN_FULL:
        pytest.skip("an emulated machine takes minutes: `make systemd` boots it")
    yield from _boot(machine.booted, request.param, "container", "machine")


@pytest.fixture
def guest(booted_container: Guest) -> Iterator[Guest]:
    """The container of the run, as it was after the installation."""
    booted_container.reset()
    yield booted_container
    booted_container.reset()


@pytest.fixture
def machine_guest(booted_machine: Guest) -> Iterator[Guest]:
    """The machine of the run, as it was after the installation."""
    booted_machine.reset()
    yield booted_machine
    booted_machine.reset()


def _boot(
    boot: Callable[[str], contextlib.AbstractContextManager[Guest]], suite: str, *needs: str
) -> Iterator[Guest]:
    reason = forbidden()
    if reason:
        pytest.skip(reason)
    for need in needs:
        if missing(need):
            _go_without(missing(need))
    with contextlib.ExitStack() as stack:
        try:
            guest = stack.enter_context(boot(suite))
        except CannotMakeError as error:
            if suite == "testing":
                pytest.skip(f"this day's testing cannot be fetched: {error}")
            _go_without(str(error))
        yield guest
