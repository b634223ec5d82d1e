"""On the way into the control group: nobody waits, nobody escapes, and nobody is reaped too early."""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from supervisor.core.events import Exited
from supervisor.core.exits import ExitStatus
from supervisor.core.identity import InstanceId
from supervisor.runtime import cgroups as cgroups_module
from supervisor.runtime import enclosing as enclosing_module
from supervisor.runtime import sideline as sideline_module
from supervisor.runtime.cgroups import Cgroup, Cgroups, find_cgroups
from supervisor.runtime.containment import Containment, Tree
from supervisor.runtime.enclosing import Enclosing
from supervisor.runtime.procfs import children_of, read_stat
from supervisor.runtime.sight import BlindError
from tests.proc import is_alive
from tests.runtime.process_harness import PYTHON, Stand, containment_of, launch_of
from tests.waiting import async_eventually, eventually


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is not set, whoever writes to `cgroup.procs` waits, as the kernel may let it."""
    opened = threading.Event()
    enter = cgroups_module._enter

    def patient(descriptor: int, pid: int) -> OSError | None:
        assert threading.current_thread() is not threading.main_thread()
        assert opened.wait(60)
        return enter(descriptor, pid)

    monkeypatch.setattr(cgroups_module, "_enter", patient)
    yield opened
    opened.set()


@pytest.fixture
async def stand(gate: threading.Event) -> AsyncIterator[Stand]:
    """`Processes` whose workers are held on their way."""
    containment = containment_of("cgroups")
    if containment is None:
        pytest.skip("no control groups may be made here")
    made = Stand(containment)
    yield made
    gate.set()
    await made.close()


OTHER = InstanceId("emails", 1)


def start(*argv: str) -> subprocess.Popen[bytes]:
    """A process that is a child of this one."""
    return subprocess.Popen(argv)


class Mover:
    """An `Enclosing` alone, with the trees that arrived."""

    def __init__(self, containment: Containment, sweep: Callable[[], None] = lambda: None) -> None:
        self.arrived: list[Tree] = []
        self.containment = containment
        self.enclosing = Enclosing(containment, sweep, self.arrived.append)

    async def move(self, tree: Tree, leader: int) -> None:
        """Bring a tree into its group."""
        self.containment.begin(tree, leader)
        self.enclosing.begin(tree)
        await async_eventually(lambda: self.arrived == [tree], what="the tree has arrived")
        assert not tree.moving


async def test_a_group_that_cannot_be_fails_softly(caplog: pytest.LogCaptureFixture) -> None:
    """Questions to a group that could not be made have quiet answers, and its tree does without."""
    mover = Mover(Containment(Cgroups("/proc/none/below", "/below")))
    tree = mover.containment.admit(InstanceId("pool", 0), 1)
    assert tree.cgroup is not None
    process = start("sleep", "1000")
    try:
        await mover.move(tree, process.pid)
        assert "cannot move pool/0 into its control group" in caplog.text
        assert not tree.sealed
        assert not mover.containment.is_surely_empty(tree)
        assert not tree.cgroup.is_populated()
        assert not tree.cgroup.kill()
        assert mover.containment.members(tree).keys() == {process.pid}
        assert is_alive(process.pid)
    finally:
        process.kill()
        process.wait()
    mover.containment.dismiss(tree)
    mover.enclosing.close()
    mover.containment.close()


def test_without_a_thread_there_are_no_groups(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that gives no thread is found out before the first worker starts."""
    before = find_cgroups("before")
    if before is None:
        pytest.skip("no control groups may be made here")
    before.close()

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    assert find_cgroups("without") is None
    assert "can't start new thread; process groups and tags are used" in caplog.text


async def assert_moved_with_children(cgroups: Cgroups, process: subprocess.Popen[bytes]) -> None:
    """A worker that will have two children is moved with them; then its group is sealed."""
    mover = Mover(Containment(cgroups))
    tree = mover.containment.admit(InstanceId("pool", 0), 1)
    try:
        eventually(lambda: len(children_of(process.pid)) == 2)
        await mover.move(tree, process.pid)
        assert tree.cgroup is not None
        assert len(tree.cgroup.members()) == 3
        assert tree.sealed
        tree.cgroup.kill()
    finally:
        process.kill()
        process.wait()
        mover.containment.dismiss(tree)
        mover.enclosing.close()
    eventually(lambda: tree.cgroup is not None and tree.cgroup.remove())


async def test_early_children_are_moved_too(cgroups: Cgroups) -> None:
    """The worker may have forked before it was moved."""
    await assert_moved_with_children(cgroups, start("sh", "-c", "sleep 1000 & sleep 1000 & wait"))


async def test_children_of_a_thread_are_moved_too(cgroups: Cgroups) -> None:
    """The worker's other threads may have forked too."""
    program = "import subprocess, threading; call = lambda: subprocess.run(['sleep', '1000'])"
    words = PYTHON, "-I", "-S", "-c", f"{program}; threading.Thread(target=call).start(); call()"
    await assert_moved_with_children(cgroups, start(*words))


async def test_who_is_alone_is_seen_to_be(cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group of a worker that has not forked is sealed without being read."""
    monkeypatch.setattr(Cgroup, "members", lambda _: pytest.fail("it was read"))
    monkeypatch.setattr(enclosing_module, "last_pid", lambda: 0)
    sweeps: list[None] = []
    mover = Mover(Containment(cgroups), lambda: sweeps.append(None))
    tree = mover.containment.admit(InstanceId("pool", 0), 1)
    process = start("sleep", "1000")
    try:
        await mover.move(tree, process.pid)
        assert tree.sealed
        assert len(sweeps) == 1
    finally:
        process.kill()
        process.wait()
        mover.containment.dismiss(tree)
        mover.enclosing.close()


async def test_all_that_arrive_together_share_a_look_at_orphans(
    cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lists all children of the daemon, of whom there may be a thousand, after the last arrival."""
    monkeypatch.setattr(enclosing_module, "last_pid", lambda: 0)
    monkeypatch.setattr(sideline_module, "SLICE_SECONDS", 60)
    monkeypatch.setattr(sideline_module, "GATHER_SECONDS", 60)
    looks: list[list[bool]] = []
    mover = Mover(Containment(cgroups), lambda: looks.append([tree.moving for tree in trees]))
    trees = [mover.containment.admit(InstanceId("pool", index), 1) for index in range(5)]
    processes = [start("sleep", "1000") for _ in trees]
    try:
        for tree, process in zip(trees, processes, strict=True):
            mover.containment.begin(tree, process.pid)
        for tree in trees:
            mover.enclosing.begin(tree)
        cgroups.settle()
        await async_eventually(lambda: mover.arrived == trees)
        assert looks == [[True] * 5]
        assert all(tree.sealed for tree in trees)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for tree in trees:
            mover.containment.dismiss(tree)
        mover.enclosing.close()


async def test_who_cannot_look_seals_nothing(cgroups: Cgroups, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a look at orphans a leader without children may still have lost one; and so it may unseen."""

    def blind(*_: object) -> None:
        raise BlindError("too many open files")

    for place in ("last_pid", "has_children"):
        monkeypatch.setattr(enclosing_module, place, lambda *_: 0)
    for step in ("sweep", "last_pid"):
        mover = Mover(Containment(cgroups), blind)
        tree = mover.containment.admit(InstanceId("pool", 0), 1)
        process = start("sleep", "1000")
        if step == "last_pid":
            monkeypatch.setattr(enclosing_module, step, blind)
        try:
            await mover.move(tree, process.pid)
            assert not tree.sealed
        finally:
            process.kill()
            process.wait()
            mover.containment.dismiss(tree)
            mover.enclosing.close()


async def test_one_that_died_on_the_way(cgroups: Cgroups, caplog: pytest.LogCaptureFixture) -> None:
    """Whether the kernel moves a zombie or refuses, it is no failure and nobody is warned."""
    mover = Mover(Containment(cgroups))
    tree = mover.containment.admit(InstanceId("pool", 0), 1)
    process = start("true")
    try:
        eventually(lambda: not is_alive(process.pid))
        await mover.move(tree, process.pid)
        assert not caplog.records
    finally:
        process.wait()
        mover.containment.dismiss(tree)
        mover.enclosing.close()


async def test_the_loop_goes_on_meanwhile(stand: Stand, gate: threading.Event) -> None:
    """A spawn returns while its move waits for the kernel; the worker runs, and others are started."""
    first = stand.spawn(launch_of("sleep", "1000"))
    second = stand.spawn(launch_of("sleep", "1000"), OTHER)
    trees = list(stand.processes._by_tree)
    assert [tree.moving for tree in trees] == [True, True]
    assert is_alive(first)
    assert is_alive(second)
    gate.set()
    await async_eventually(lambda: not any(tree.moving for tree in trees))
    assert [tree.cgroup is not None and tree.cgroup.members() for tree in trees] == [[first], [second]]


async def test_an_end_on_the_way_is_heard_after_it(stand: Stand, gate: threading.Event) -> None:
    """Until the move is over the dead leader stays a zombie, so that its pid is nobody else's."""
    pid = stand.spawn(launch_of("sleep", "1000"))
    os.kill(pid, signal.SIGKILL)
    await async_eventually(lambda: (stat := read_stat(pid)) is not None and stat.state == "Z")
    for _ in range(50):
        await asyncio.sleep(0)
    assert stand.posted(Exited) is None
    assert read_stat(pid) is not None
    gate.set()
    event = await stand.until(Exited)
    assert event.status == ExitStatus(signal="SIGKILL")
    assert read_stat(pid) is None


async def test_a_kill_on_the_way(stand: Stand, gate: threading.Event) -> None:
    """SIGKILL reaches a tree that is not in its group yet, its early children included."""
    stand.spawn(launch_of("sh", "-c", "setsid sleep 1000 & sleep 1000 & wait"))
    (tree,) = stand.processes._by_tree
    await async_eventually(lambda: len(stand.containment.members(tree)) == 3)
    members = list(stand.containment.members(tree))
    stand.kill()
    await async_eventually(lambda: not any(is_alive(pid) for pid in members))
    gate.set()
    await stand.until(Exited)


async def test_who_left_its_parent_on_the_way_is_moved(stand: Stand, gate: threading.Event) -> None:
    """A process that double-forked and took a session of its own before the move ends up in the group."""
    leader = stand.spawn(launch_of("sh", "-c", "(setsid sleep 1000 &) ; exec sleep 1001"))
    (tree,) = stand.processes._by_tree
    await async_eventually(
        lambda: leader and [_command(pid)[:5] for pid in children_of(os.getpid())].count(b"sleep") == 2,
        what="the double-forked one has come to this process",
    )
    gate.set()
    await async_eventually(lambda: not tree.moving)
    assert tree.cgroup is not None
    assert len(tree.cgroup.members()) == 2
    assert tree.sealed


async def test_the_end_of_the_daemon_waits_for_the_writer(stand: Stand, gate: threading.Event) -> None:
    """Who is on the way when everything is closed has arrived afterwards, and nobody is told."""
    pid = stand.spawn(launch_of("sleep", "1000"))
    (tree,) = stand.processes._by_tree
    gate.set()
    stand.processes._enclosing.close()
    assert tree.cgroup is not None
    assert tree.cgroup.members() == [pid]
    await asyncio.sleep(0)
    assert tree.moving
    stand.processes._tree_arrived(tree)
    tree.moving = False
    stand.processes._tree_arrived(tree)


async def test_nothing_that_takes_the_kernels_lock_happens_on_the_loop(
    stand: Stand, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups are made, joined and removed by the thread: whoever else did would wait with it."""
    gate.set()
    done: list[str] = []

    def elsewhere(name: str) -> Callable[[str], None]:
        real: Callable[[str], None] = getattr(os, name)

        def only(path: str) -> None:
            assert threading.current_thread() is not threading.main_thread()
            done.append(name)
            real(path)

        return only

    # At the very end, when nothing is supervised, the group of the daemon itself goes without it.
    with monkeypatch.context() as patch:
        for name in ("mkdir", "rmdir"):
            patch.setattr(f"supervisor.runtime.cgroups.os.{name}", elsewhere(name))
        pid = stand.spawn(launch_of("sleep", "1000"))
        (tree,) = stand.processes._by_tree
        await async_eventually(lambda: not tree.moving)
        os.kill(pid, signal.SIGKILL)
        await stand.until(Exited)
        await async_eventually(lambda: "rmdir" in done)
    assert "mkdir" in done


async def test_a_kill_does_not_wait_for_a_busy_thread(
    stand: Stand, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the kernel's lock may be held the processes are killed one by one, not through the group."""
    stand.spawn(launch_of("sleep", "1000"), OTHER)
    pid = stand.spawn(launch_of("sleep", "1000"))
    blows: list[Cgroup] = []
    with monkeypatch.context() as patch:
        patch.setattr(Cgroup, "kill", blows.append)
        stand.kill()
    assert not blows
    await async_eventually(lambda: not is_alive(pid))
    gate.set()
    await stand.until(Exited)


async def test_who_is_killed_on_the_way_is_heard_last(stand: Stand, gate: threading.Event) -> None:
    """Also where its end is watched only from its arrival on."""
    pid = stand.spawn(launch_of("sleep", "1000"))
    (tree,) = stand.processes._by_tree
    stand.kill()
    eventually(lambda: not is_alive(pid))
    stand.processes._ends._waits = lambda: True
    gate.set()
    await async_eventually(lambda: not tree.moving)
    assert not stand.processes.is_behind()
    stand.processes._ends._waits = lambda: False
    await stand.until(Exited)


async def test_a_look_before_the_arrival_does_not_count(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever swept earlier in the turn may have done so before a leader lost its child."""
    looks: list[None] = []
    monkeypatch.setattr(stand.processes._descendants, "_look_until_quiet", lambda: looks.append(None))
    stand.processes._descendants.sweep()
    stand.processes._enclosing._sweep()
    assert len(looks) == 2


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
