"""The ends of processes: who is told, in which turn, and that a number used again is somebody else."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from supervisor.runtime import ends as ends_module
from supervisor.runtime.ends import Ends
from tests.waiting import async_eventually, eventually

Start = Callable[[], int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that stays; its pidfd. They are gone afterwards."""
    started: list[tuple[subprocess.Popen[bytes], int]] = []

    def one() -> int:
        process = subprocess.Popen(["sleep", "1000"])
        started.append((process, os.pidfd_open(process.pid, os.O_NONBLOCK)))
        return started[-1][1]

    yield one
    for process, pidfd in started:
        process.kill()
        process.wait()
        try:
            os.close(pidfd)
        except OSError:
            continue


@pytest.fixture
async def ends() -> Iterator[Ends]:  # type: ignore[misc]
    """Ends of which nobody hears any more afterwards."""
    made = Ends()
    yield made
    made.close()


def end(pidfd: int) -> None:
    """End a process, and wait until its handle says so."""
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    eventually(lambda: os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None)


async def test_who_ends_is_told_until_forgotten(ends: Ends, start: Start) -> None:
    """The one that ended is told about, the other is not; after `forget` there is silence."""
    told: list[str] = []
    first, second = start(), start()
    ends.watch(first, told.append, "first")
    ends.watch(second, told.append, "second")
    assert not ends.is_behind()
    end(first)
    assert ends.is_behind()
    await async_eventually(lambda: len(told) > 2)
    assert set(told) == {"first"}
    ends.forget(first)
    ends.forget(first)
    assert not ends.is_behind()
    told.clear()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not told


async def test_who_is_put_last_is_told_after_all_others(ends: Ends, start: Start) -> None:
    """However early it ended; nobody is behind with it meanwhile, and it can be put last twice."""
    told: list[str] = []
    first, second, third = start(), start(), start()

    def tell(name: str, pidfd: int) -> None:
        told.append(name)
        ends.forget(pidfd)

    for name, pidfd in (("first", first), ("second", second), ("third", third)):
        ends.watch(pidfd, partial(tell, name), pidfd)
    for _ in range(2):
        ends.put_last(first)
    end(first)
    assert not ends.is_behind()
    end(second)
    end(third)
    assert ends.is_behind()
    await async_eventually(lambda: len(told) == 3)
    assert told[2] == "first"
    ends.put_last(first, second)
    assert not ends.is_behind()


async def test_an_end_waits_for_what_is_more_urgent(start: Start) -> None:
    """Nobody is told while there is something more urgent, and it is not forgotten."""
    urgent, told = True, 0

    def take(about: None) -> None:
        nonlocal told
        told += 1

    ends = Ends(lambda: urgent)
    try:
        pidfd = start()
        ends.watch(pidfd, take, None)
        end(pidfd)
        for _ in range(20):
            await asyncio.sleep(0)
        assert told == 0
        assert ends.is_behind()
        urgent = False
        await async_eventually(lambda: told > 0)
    finally:
        ends.close()


async def test_many_ends_take_several_turns(
    ends: Ends, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is told in each turn where each takes long; the loop does other things in between."""
    monkeypatch.setattr(ends_module, "SLICE_SECONDS", -1)
    told: list[int] = []

    def take(pidfd: int) -> None:
        ends.forget(pidfd)
        told.append(pidfd)

    handles = [start() for _ in range(5)]
    for pidfd in handles:
        ends.watch(pidfd, take, pidfd)
        end(pidfd)
    counts: list[int] = []
    while len(told) < 5:
        await asyncio.sleep(0)
        counts.append(len(told))
    assert max(after - before for before, after in zip([0, *counts], counts, strict=False)) == 1
    assert sorted(told) == sorted(handles)


async def test_a_number_that_is_used_again(ends: Ends, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was closed while others are told is not told under its number, which is that of another now."""
    monkeypatch.setattr(ends_module, "SLICE_SECONDS", 60)
    told: list[str] = []
    first, second = start(), start()
    new = -1

    def replace(which: int) -> None:
        nonlocal new
        if new >= 0:
            return
        for pidfd in (first, second):
            ends.forget(pidfd)
        os.close(second if which == first else first)
        new = start()
        ends.watch(new, told.append, "new")

    ends.watch(first, replace, first)
    ends.watch(second, replace, second)
    end(first)
    end(second)
    await async_eventually(lambda: new >= 0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert new in {first, second}
    assert not told
