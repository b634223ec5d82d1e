"""What `Processes` posts about a generation, and what it gives to a worker."""

import errno
import logging
import os
import signal
from pathlib import Path

import pytest

from supervisor.core.events import Exited, Spawned, SpawnFailed
from supervisor.core.exits import ExitStatus
from supervisor.core.identity import InstanceId
from supervisor.core.plan import Target
from supervisor.runtime.cgroups import Cgroup
from supervisor.runtime.children import reap, start_child
from supervisor.runtime.containment import MARKER, Containment
from supervisor.runtime.procfs import read_variable
from tests.proc import is_alive
from tests.runtime.process_harness import ME, Stand, containment_of, launch_of, reaped, worker
from tests.waiting import async_eventually, eventually


async def test_a_spawn_is_posted_at_once(stand: Stand) -> None:
    """`Spawned` with the pid is there when the performer returns; the instance then has a main process."""
    pid = stand.spawn(launch_of("sleep", "1000"))
    assert stand.events == [Spawned(ME, 1, pid)]
    assert is_alive(pid)
    assert stand.processes.main_pids() == {ME: pid}


async def test_an_exit_comes_with_the_last_words(stand: Stand) -> None:
    """What a worker wrote just before its end is read before the exit is posted: the last twenty lines."""
    exited = await stand.run(launch_of("sh", "-c", "seq 1 30; exit 3"))
    assert exited == Exited(ME, 1, ExitStatus(code=3), 0, tuple(str(number) for number in range(11, 31)))
    assert stand.processes.main_pids() == {}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("code", 0), ExitStatus(code=0)),
        (("code", 78), ExitStatus(code=78)),
        (("signal", "SIGABRT"), ExitStatus(signal="SIGABRT")),
    ],
)
async def test_crashes_are_read(stand: Stand, arguments: tuple[str, object], status: ExitStatus) -> None:
    """The status is the kernel's, and the output that came with it is kept."""
    exited = await stand.run(launch_of(*worker("crasher.py", *arguments)))
    assert exited.status == status
    assert exited.last_lines == ("last words",)


async def test_the_environment_is_that_of_the_launch_and_what_is_added(tmp_path: Path) -> None:
    """The launch, what the runtime adds, and the marker of the tree; no watchdog pid that could be wrong."""
    containment = containment_of("tags")
    assert containment is not None
    stand = Stand(containment, {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"})
    try:
        exited = await stand.run(launch_of("env", environment={"PATH": "/usr/bin", "A": "b"}))
        marker = f"{containment.family:x}-emails/0-1"
        assert set(exited.last_lines) == {
            "PATH=/usr/bin",
            "A=b",
            "NOTIFY_SOCKET=/run/x",
            "WATCHDOG_USEC=5",
            f"{MARKER}={marker}",
        }
    finally:
        await stand.close()


async def test_a_stubborn_worker_outlives_all_but_the_kill(stand: Stand) -> None:
    """TERM to main and to all change nothing; a kill ends it, and that is the status."""
    pid = stand.spawn(launch_of(*worker("stubborn.py")))
    await stand.output_has("up")
    stand.signal("SIGTERM")
    stand.signal("SIGINT", Target.ALL)
    assert is_alive(pid)
    stand.kill()
    exited = await stand.until(Exited)
    assert exited.status == ExitStatus(signal="SIGKILL")
    assert exited.leftovers == 0


async def test_trouble_with_the_output_is_a_failed_spawn(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no pipe can be made nothing is started, and the reason is told."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(stand.output, "writer", fail)
    assert stand.spawn(launch_of("true")) == 0
    failure = stand.posted(SpawnFailed)
    assert failure is not None
    assert failure.reason.startswith("cannot prepare emails/0: ")
    assert not stand.processes._lives


async def test_a_helper_that_is_killed_is_an_exit(stand: Stand) -> None:
    """A stop that comes before the program runs ends the generation like any other."""
    stand.spawn(launch_of("sleep", "1000", oom_score_adjust=1))
    stand.kill()
    assert (await stand.until(Exited)).status == ExitStatus(signal="SIGKILL")


async def test_memory_kills_are_told_apart(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end for want of memory, as the control group counts it, is marked; without a group it cannot be."""
    monkeypatch.setattr(Cgroup, "out_of_memory_kills", lambda _: 1)
    exited = await stand.run(launch_of("sh", "-c", "kill -KILL $$"))
    assert exited.status.signal == "SIGKILL"
    assert exited.status.out_of_memory == stand.containment.description.startswith("control groups")


async def test_children_of_others_are_left_to_them(stand: Stand) -> None:
    """A child that was started beside, as a probe is, is neither adopted nor reaped nor signalled."""
    child = start_child(launch_of("sh", "-c", "sleep 0.2; exit 9"))
    stand.spawn(launch_of("sh", "-c", "sleep 0 & exit 0"))
    await stand.until(Exited)
    stand.processes._descendants.sweep_again()
    await async_eventually(lambda: not is_alive(child.pid))
    stand.processes._descendants.sweep_again()
    assert reap(child) == ExitStatus(code=9)


async def test_closing_touches_no_living_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the watch ends the workers go on, and so do the orphans of their trees."""
    stand = Stand(Containment(None))
    pidfile = tmp_path / "pid"
    pid = stand.spawn(launch_of(*worker("forker.py", "daemon", pidfile, "wait")))
    await async_eventually(pidfile.exists)
    orphan = int(pidfile.read_text())
    stand.processes._descendants.sweep_again()
    assert orphan in stand.processes._lives[ME, 1].tree.orphans
    sent: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(signal, "pidfd_send_signal", lambda *what: sent.append(what))
        stand.processes.close()
    stand.output.close()
    try:
        assert not sent
        assert is_alive(pid)
        assert is_alive(orphan)
        assert read_variable(pid, MARKER) is not None
    finally:
        for one in (pid, orphan):
            os.kill(one, signal.SIGKILL)
            await reaped(one)


async def test_many_at_once(stand: Stand) -> None:
    """Fifty instances that end in the same moment are all reported, each once."""
    instances = [InstanceId("many", index) for index in range(50)]
    for instance in instances:
        stand.spawn(launch_of("sleep", "1000"), instance)
    for instance in instances:
        stand.kill(instance)
    for instance in instances:
        assert (await stand.until(Exited, instance)).status == ExitStatus(signal="SIGKILL")
    assert sum(isinstance(event, Exited) for event in stand.events) == 50


async def test_who_is_being_killed_holds_up_no_deadline(stand: Stand) -> None:
    """An end of which nobody was told yet is waited for, but not where a kill made it."""

    def ended(pid: int) -> None:
        eventually(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None)

    first, second = (stand.spawn(launch_of("sleep", "1000"), ME, generation) for generation in (1, 2))
    trees = [life.tree for life in stand.processes._lives.values()]
    await async_eventually(lambda: not any(tree.moving for tree in trees), what="both have arrived")
    stand.kill(ME, 1)
    ended(first)
    assert not stand.processes.is_behind()
    os.kill(second, signal.SIGKILL)
    ended(second)
    assert stand.processes.is_behind()


async def test_forgetting_changes_nothing_for_the_living(stand: Stand) -> None:
    """A generation that the core has given up is watched until its tree is gone."""
    stand.spawn(launch_of(*worker("stubborn.py")))
    stand.forget()
    await stand.output_has("up")
    stand.kill()
    await stand.until(Exited)


async def test_a_signal_that_is_not_permitted_is_logged(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the right to signal a worker of another user the log says what is missing."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    stand.spawn(launch_of("sleep", "1000"))
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("supervisor.runtime.tree_signals.signal.pidfd_send_signal", refuse)
        stand.signal("SIGTERM")
    assert "pitbossd needs CAP_KILL" in caplog.text


def test_containment_describes_itself() -> None:
    """For people it says how trees are held together."""
    assert "no control groups" in Containment(None).description
    other = containment_of("cgroup")
    if other is not None:
        assert "control groups below" in other.description
