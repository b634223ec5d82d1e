"""Samples of processes: read in slices, when somebody scrapes, and never of a stranger."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor.core.identity import InstanceId
from supervisor.telemetry.lag import WINDOW_SECONDS, Lag
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.process_samples import (
    PASS_SECONDS,
    SLICE,
    Sampler,
    own_figures,
    own_start_time,
    read_stat,
)
from tests.telemetry.scripted import ONE, TWO, Clock, make_host, scripted
from tests.waiting import async_eventually, eventually


def test_the_daemon_measures_itself() -> None:
    """The figures of this process are plausible and current."""
    figures = own_figures()
    assert figures["process_resident_memory_bytes"] > 5_000_000
    assert figures["process_virtual_memory_bytes"] > figures["process_resident_memory_bytes"]
    assert figures["process_cpu_seconds_total"] > 0
    assert figures["process_max_fds"] >= figures["process_open_fds"] > 2
    born = os.stat(f"/proc/{os.getpid()}").st_ctime
    assert own_start_time() == pytest.approx(born, abs=30)
    opened = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(50)]
    assert own_figures()["process_open_fds"] >= figures["process_open_fds"] + 50
    for descriptor in opened:
        os.close(descriptor)


def test_a_worker_is_measured(tmp_path: Path) -> None:
    """CPU and memory of the main process are those of the kernel, whatever it is called."""
    hostile = tmp_path / "a) 1 2 (c"
    hostile.symlink_to(shutil.which("sleep") or "/bin/sleep")
    child = subprocess.Popen([str(hostile), "1000"])
    comm = Path(f"/proc/{child.pid}/comm")
    try:
        eventually(lambda: comm.read_text().strip() == hostile.name)
        clock = Clock()
        sampler = Sampler(lambda: {ONE: child.pid, TWO: 2**30}, lambda _: None, clock)

        def size() -> int:
            clock.now += PASS_SECONDS
            sampler.scraped()
            assert list(sampler.samples) == [ONE]
            seconds, memory = sampler.samples[ONE]
            assert 0 <= seconds < 30
            return memory

        eventually(lambda: size() == int(read_stat(child.pid)[21]) * os.sysconf("SC_PAGE_SIZE") > 0)
    finally:
        child.kill()
        child.wait()


async def test_many_processes_are_read_in_slices() -> None:
    """One turn of the loop reads one slice; the figures change all at once when the pass is over."""
    pids = {InstanceId("many", index): os.getpid() for index in range(3 * SLICE + 1)}
    lags: list[float] = []
    clock = Clock()
    sampler = Sampler(lambda: pids, lags.append, clock)
    sampler.scraped()
    assert sampler.samples == {}
    assert len(sampler._fresh) == SLICE
    sampler.scraped()
    assert len(sampler._fresh) == SLICE
    await async_eventually(lambda: len(sampler.samples) == len(pids))
    assert len(lags) == 3 + 2, "each slice that waited, and each scrape"
    del pids[InstanceId("many", 0)]
    sampler.scraped()
    assert len(sampler.samples) == 3 * SLICE + 1, "a second scrape at once reads nothing"
    clock.now += PASS_SECONDS
    sampler.scraped()
    await async_eventually(lambda: len(sampler.samples) == 3 * SLICE)


async def test_nothing_is_read_when_nobody_scrapes() -> None:
    """Reports alone cause no look at /proc and leave nothing for the loop to do."""
    asked = 0

    def pids() -> Mapping[InstanceId, int]:
        nonlocal asked
        asked += 1
        return {}

    metrics = Metrics(version="1", main_pids=pids)
    metrics(scripted(), make_host(), 0.0)
    await asyncio.sleep(0)
    assert asked == 0
    metrics.render()
    assert asked == 1


def test_the_lag_is_forgotten_after_a_while() -> None:
    """The longest wait is shown for at least half a window and at most a whole one."""
    clock = Clock()
    lag = Lag(clock)
    lag.note(0.5)
    lag.note(0.2)
    clock.now += WINDOW_SECONDS / 2
    assert lag.longest() == 0.5
    lag.note(0.1)
    clock.now += WINDOW_SECONDS / 2
    assert lag.longest() == 0.1
    clock.now += WINDOW_SECONDS
    assert lag.longest() == 0.0
