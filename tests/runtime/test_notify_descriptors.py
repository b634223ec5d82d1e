"""Descriptors that come with datagrams: barriers are held and let go, everything else is closed."""

import os
import resource

import pytest

from supervisor.core.effects import ReleaseBarrier
from supervisor.core.events import BarrierReached, Told
from supervisor.runtime.notify import MAX_BARRIERS_HELD
from tests.proc import open_descriptors
from tests.runtime.ears import EMAILS, Ear, send


async def test_offered_descriptors_are_closed_and_the_rest_is_heard(ear: Ear) -> None:
    """There is no descriptor store: FDSTORE=1 is ignored, even with as many as one message can carry."""
    path = ear.sockets.path(EMAILS, None)
    before = open_descriptors()
    null = os.open("/dev/null", os.O_RDONLY)
    send(path, b"READY=1\nFDSTORE=1\nFDNAME=cache", descriptors=(null,) * 253)
    os.close(null)
    ear.sockets.poll()
    assert ear.events == [Told(EMAILS, 3, ready=True)]
    assert open_descriptors() == before


async def test_descriptors_that_find_no_room_are_closed(ear: Ear) -> None:
    """At the limit the kernel delivers some of them and says so; the message is dropped, nothing is kept."""
    path = ear.sockets.path(EMAILS, None)
    before = open_descriptors()
    null = os.open("/dev/null", os.O_RDONLY)
    send(path, b"READY=1", descriptors=(null,) * 20)
    os.close(null)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [number for number in range(soft) if number not in before]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[5], hard))
    try:
        ear.sockets.poll()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ear.events == []
    assert ear.sockets.drops()[EMAILS] == 1
    assert open_descriptors() == before


def ask_barrier(path: str) -> int:
    """Send a barrier; the returned end of a pipe hangs up when it is released."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    send(path, b"BARRIER=1", descriptors=(writer,))
    os.close(writer)
    return reader


def is_released(reader: int) -> bool:
    """Whether the other end is closed everywhere."""
    try:
        return os.read(reader, 1) == b""
    except BlockingIOError:
        return False


async def test_a_barrier_comes_after_everything_before_it(ear: Ear) -> None:
    """It is reported in its place among the messages, and holds until it is released."""
    path = ear.sockets.path(EMAILS, None)
    send(path, b"STATUS=one", b"STATUS=two", b"READY=1")
    reader = ask_barrier(path)
    send(path, b"STATUS=three")
    ear.sockets.poll()
    (token,) = ear.barriers()
    assert [type(one) for one in ear.events] == [Told, Told, BarrierReached, Told]
    assert [one.status for one in ear.told()] == ["two", None, "three"]
    assert not is_released(reader)
    ear.sockets.release_barrier(ReleaseBarrier(token))
    assert is_released(reader)
    ear.sockets.release_barrier(ReleaseBarrier(token))
    os.close(reader)


@pytest.mark.parametrize("number", [0, 2])
async def test_a_barrier_brings_exactly_one_descriptor(ear: Ear, number: int) -> None:
    """Otherwise it is a mistake: nothing is reported, and the descriptors are closed."""
    before = open_descriptors()
    reader, writer = os.pipe2(os.O_NONBLOCK)
    send(ear.sockets.path(EMAILS, None), b"BARRIER=1", descriptors=(writer,) * number)
    os.close(writer)
    ear.sockets.poll()
    assert ear.events == []
    assert is_released(reader)
    os.close(reader)
    assert open_descriptors() - before == set(ear.sockets.descriptors().values())


async def test_barriers_are_not_hoarded(ear: Ear) -> None:
    """A worker cannot make the daemon hold more than a few descriptors; those beyond are let go at once."""
    path = ear.sockets.path(EMAILS, None)
    readers = []
    for _ in range(MAX_BARRIERS_HELD + 3):
        readers.append(ask_barrier(path))
        ear.sockets.poll()
    assert [is_released(one) for one in readers] == [False] * MAX_BARRIERS_HELD + [True] * 3
    for token in ear.barriers():
        ear.sockets.release_barrier(ReleaseBarrier(token))
    readers.append(ask_barrier(path))
    ear.sockets.poll()
    assert len(ear.barriers()) == MAX_BARRIERS_HELD + 1
    ear.sockets.close()
    assert all(is_released(one) for one in readers)
    for one in readers:
        os.close(one)


async def test_a_stranger_s_barrier_is_let_go(ear: Ear) -> None:
    """Whoever does not count is not made to wait either."""
    path = ear.sockets.path(EMAILS, None)
    ear.tree[EMAILS] = set()
    reader = ask_barrier(path)
    ear.sockets.poll()
    assert ear.events == []
    assert is_released(reader)
    os.close(reader)
