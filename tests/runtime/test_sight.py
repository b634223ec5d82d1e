"""Looking without a descriptor to spare: what is kept back serves, and who cannot be seen is not gone."""

import os
import resource
from collections.abc import Iterator

import pytest

from supervisor.runtime import sight
from supervisor.runtime.cgroups import Cgroup
from supervisor.runtime.procfs import children_of, has_children, last_pid, read_stat, read_variable
from supervisor.runtime.sight import SPARES, BlindError, hold, read, sighted
from supervisor.runtime.tags import read_tag
from tests.proc import descriptor_count


@pytest.fixture(autouse=True)
def held() -> Iterator[None]:
    """The spares are held, and given back afterwards."""
    hold()
    yield
    while sight._held:
        os.close(sight._held.pop())


@pytest.fixture
def no_room(held: None) -> Iterator[None]:
    """This process may open nothing more."""
    lowest = os.open("/", os.O_RDONLY)
    os.close(lowest)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    with pytest.raises(OSError, match="Too many open files"):
        os.close(os.open("/", os.O_RDONLY))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_is_kept_back_is_enough_to_look(no_room: None) -> None:
    """Stat, children, environment, tag and the last pid are read, and the spares are back afterwards."""
    own = os.getpid()
    stat = read_stat(own)
    assert stat is not None and stat.parent == os.getppid()
    assert own in children_of(os.getppid())
    assert read_variable(own, "PATH") == os.environ["PATH"]
    assert read_tag(own) is None
    assert has_children(os.getppid())
    assert last_pid() > 0
    assert len(sight._held) == SPARES


def test_a_handle_and_a_look_at_once(no_room: None) -> None:
    """As a signal needs it: the process is opened, and compared while it is open."""
    own = os.getpid()

    def compare() -> int:
        handle = os.pidfd_open(own)
        try:
            stat = read_stat(own)
            assert stat is not None
            return stat.pid
        finally:
            os.close(handle)

    assert sighted(compare) == own


def test_without_them_nothing_is_said(no_room: None) -> None:
    """No answer is no answer: neither that a process is gone nor that a group is empty."""
    while sight._held:
        os.close(sight._held.pop())
    taken = [os.open("/", os.O_RDONLY) for _ in range(SPARES)]
    try:
        for look in (
            lambda: read_stat(os.getpid()),
            lambda: children_of(os.getpid()),
            lambda: Cgroup("/sys/fs/cgroup", "/").is_populated(),
            lambda: Cgroup("/sys/fs/cgroup", "/").members(),
        ):
            with pytest.raises(BlindError, match="Too many open files"):
                look()
    finally:
        for descriptor in taken:
            os.close(descriptor)


def test_other_errors_are_what_they_are() -> None:
    """Gone is gone, and costs no spare."""
    before = descriptor_count(os.getpid())
    with pytest.raises(FileNotFoundError):
        read("/proc/0/stat")
    assert read_stat(0) is None
    assert descriptor_count(os.getpid()) == before
