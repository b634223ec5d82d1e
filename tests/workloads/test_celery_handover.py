"""A Celery worker that is asked to end while a task is on its way to a process of its pool.

The main process has handed the task over, and the pool process has not yet said to have begun it: a moment
that a busy machine makes long, and that is made as long as needed here by stopping the pool processes.
"""

import fcntl
import os
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.waiting import eventually
from tests.workloads.harness import PATIENCE_SECONDS, Workload
from tests.workloads.programs import celery_left

Make = Callable[..., Workload]

TASK = 2
STEP = 'app.steps["consumer"].add(FinishFirst)'
"""The line of the example that is under test."""


class Pool:
    """The processes of the pool of one worker; they stand still until `go_on`."""

    def __init__(self, main: int) -> None:
        self._processes = psutil.Process(main).children()
        assert self._processes, "the worker has a pool"
        for process in self._processes:
            process.suspend()

    def unread(self) -> int:
        """The bytes that lie in the pipes from which the processes take their tasks."""
        pipes: dict[str, int] = {}
        for process in self._processes:
            pipes |= _unread(Path(f"/proc/{process.pid}/fd"))
        return sum(pipes.values())

    def go_on(self) -> None:
        """Let them run again."""
        for process in self._processes:
            process.resume()


def _unread(descriptors: Path) -> dict[str, int]:
    """The bytes in each of the pipes of a process that it can only read, whoever else has them too."""
    unread: dict[str, int] = {}
    for path in descriptors.iterdir():
        pipe = os.readlink(path)
        # The mode of the link says what the descriptor is open for (proc(5)).
        if pipe.startswith("pipe:") and path.lstat().st_mode & 0o700 == 0o500:
            with path.open("rb", buffering=0) as opened:
                answer = fcntl.ioctl(opened, termios.FIONREAD, bytes(4))
            unread[pipe] = int.from_bytes(answer, sys.byteorder)
    return unread


def with_a_task_on_its_way(one: Workload) -> Pool:
    """The pool of the only instance, when the task is in the pipe of one of its processes."""
    one.enqueue("celery", 1, "--seconds=0")
    one.wait_done({1})
    eventually(lambda: celery_left(one) == 0, PATIENCE_SECONDS, "the first task is acknowledged")
    pool = Pool(one.daemon.instance("celery/0")["pid"])
    assert pool.unread() == 0
    one.enqueue("celery", 1, f"--first={TASK}", "--seconds=0.2")
    eventually(pool.unread, PATIENCE_SECONDS, "the task is in the pipe of a process")
    return pool


def test_a_task_that_is_being_handed_over_is_done_once(workload: Make) -> None:
    """The example: the worker keeps its pool until the task is done and acknowledged."""
    one = workload("celery", overrides={"pools": {"celery": {"instances": 1}}})
    pool = with_a_task_on_its_way(one)
    one.daemon.ctl("stop", "celery", "--no-wait")
    # It has heard of the stop: it says what it waits for.
    eventually(
        lambda: one.daemon.instance("celery/0")["in_flight"] == 1,
        PATIENCE_SECONDS,
        f"one is in flight: {one.daemon.instance('celery/0')}",
    )
    pool.go_on()
    one.daemon.wait_phase("celery/0", "stopped", within=PATIENCE_SECONDS)
    assert celery_left(one) == 0
    exit_ = one.daemon.instance("celery/0")["last_exit"]
    assert (exit_["rung"], exit_["class"]) == ("stage-1", "clean")
    verdict = one.account({1, TASK})
    assert verdict.complaints == []
    assert verdict.done_once == [1, TASK]


def test_without_that_step_celery_does_it_twice(workload: Make) -> None:
    """Celery by itself forgets the task when it closes its pool: it is done, and another worker gets it."""
    one = workload("celery", overrides={"pools": {"celery": {"instances": 2}}}, without=STEP)
    one.ctl("stop", "celery/1")
    pool = with_a_task_on_its_way(one)
    handed = pool.unread()
    one.daemon.ctl("stop", "celery/0", "--no-wait")
    # The processes are told to end: there is more in the pipes than the task now.
    eventually(lambda: pool.unread() > handed, PATIENCE_SECONDS, "the pool is closed")
    pool.go_on()
    one.wait_done({1, TASK})
    one.ctl("start", "celery/1")
    # Nobody was killed, and to acknowledge it there were all the seconds of the visibility time-out.
    eventually(lambda: _times_done(one) == 2, PATIENCE_SECONDS, "it is done again")
    assert one.account({1, TASK}).repeated == {TASK: [("celery/0", 1), ("celery/1", 2)]}


def _times_done(one: Workload) -> int:
    return sum((row.task, row.what) == (TASK, "end") for row in one.rows())
