"""After every kind of end nothing of the tree is left, and nothing else is touched."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.core.events import Exited, Spawned, TreeGone
from supervisor.core.exits import ExitStatus
from supervisor.core.identity import InstanceId
from supervisor.core.plan import Target
from supervisor.runtime.children import reap, start_child, unreaped, wait_status
from supervisor.runtime.containment import Containment, Tree
from supervisor.runtime.procfs import children_of, read_stat
from supervisor.runtime.tree_signals import TreeSignals
from tests.proc import is_alive
from tests.runtime.process_harness import ME, PYTHON, Stand, launch_of, reaped, worker
from tests.waiting import async_eventually, eventually

FORMS = ["same-group", "new-group", "new-session", "daemon"]
ROOT = Path(__file__).resolve().parent.parent.parent


async def _grandchild(stand: Stand, form: str, end: str, pidfile: Path) -> int:
    assert stand.spawn(launch_of(*worker("forker.py", form, pidfile, end))), stand.events
    await async_eventually(pidfile.exists, what="the grandchild is at work")
    return _pid_in(pidfile)


def _pid_in(file: Path) -> int:
    return int(file.read_text())


async def _is_reaped(pid: int) -> None:
    assert not is_alive(pid)
    await async_eventually(lambda: not Path(f"/proc/{pid}").exists(), what="it is reaped")


@pytest.mark.parametrize("form", FORMS)
async def test_a_clean_stop_leaves_nothing(
    bystander: subprocess.Popen[bytes], stand: Stand, form: str, tmp_path: Path
) -> None:
    """A TERM to the main process ends it; what it left is counted, survives a TERM to all, and is killed."""
    grandchild = await _grandchild(stand, form, "wait", tmp_path / "pid")
    stand.signal("SIGTERM")
    exited = await stand.until(Exited)
    assert exited.status == ExitStatus(code=0)
    assert exited.leftovers == 1
    stand.signal("SIGTERM", Target.ALL)
    assert is_alive(grandchild)
    assert stand.posted(TreeGone) is None
    stand.kill()
    await stand.until(TreeGone)
    assert not is_alive(grandchild)
    await _is_reaped(grandchild)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("end", "status"), [("exit", ExitStatus(code=0)), ("crash", ExitStatus(signal="SIGKILL"))]
)
async def test_an_end_of_its_own_leaves_nothing(
    bystander: subprocess.Popen[bytes],
    stand: Stand,
    form: str,
    end: str,
    status: ExitStatus,
    tmp_path: Path,
) -> None:
    """A worker that ends without being asked leaves one process: counted, and killed when told to."""
    grandchild = await _grandchild(stand, form, end, tmp_path / "pid")
    exited = await stand.until(Exited)
    assert exited.status == status
    assert exited.leftovers == 1
    assert is_alive(grandchild)
    stand.kill()
    await stand.until(TreeGone)
    await _is_reaped(grandchild)


@pytest.mark.parametrize("form", FORMS)
async def test_kill_takes_the_whole_tree_at_once(stand: Stand, form: str, tmp_path: Path) -> None:
    """A kill while the main process lives takes its descendants in all forms with it."""
    grandchild = await _grandchild(stand, form, "wait", tmp_path / "pid")
    stand.kill()
    exited = await stand.until(Exited)
    assert exited.status == ExitStatus(signal="SIGKILL")
    await async_eventually(lambda: not stand.processes._lives)
    await _is_reaped(grandchild)


async def test_leftovers_that_end_by_themselves_are_reported(stand: Stand) -> None:
    """The tree is gone when the last of it has ended, without any kill, and its chain of children counts."""
    script = "(trap '' HUP; sh -c 'sleep 0.3 & wait' & exec sleep 0.1) & exit 3"
    exited = await stand.run(launch_of("sh", "-c", script))
    assert exited.status == ExitStatus(code=3)
    assert exited.leftovers >= 1
    await stand.until(TreeGone)


async def test_a_fork_bomb_is_killed(stand: Stand, tmp_path: Path) -> None:
    """Fifty processes that fork while they are being killed, half of them in their own sessions, all end."""
    bomb = launch_of(*worker("bomb.py", 50, tmp_path))
    assert stand.spawn(bomb)
    await async_eventually(lambda: len(os.listdir(tmp_path)) >= 10)
    stand.kill()
    await stand.until(Exited)
    await async_eventually(lambda: not stand.processes._lives, what="the bomb is gone")
    assert not [name for name in os.listdir(tmp_path) if is_alive(int(name))]


async def test_a_full_grown_bomb_is_counted_and_killed(stand: Stand, tmp_path: Path) -> None:
    """When the main process of a large tree crashes all the rest are counted, and then killed."""
    pid = stand.spawn(launch_of(*worker("bomb.py", 50, tmp_path)))
    await async_eventually(lambda: len(os.listdir(tmp_path)) >= 50)
    os.kill(pid, signal.SIGKILL)
    exited = await stand.until(Exited)
    assert exited.leftovers >= 30
    stand.kill()
    await stand.until(TreeGone)
    assert not [name for name in os.listdir(tmp_path) if is_alive(int(name))]


async def test_two_trees_are_told_apart(stand: Stand, tmp_path: Path) -> None:
    """Killing one instance leaves a daemonised process of another alone."""
    other = InstanceId("emails", 1)
    stand.spawn(launch_of(*worker("forker.py", "daemon", tmp_path / "b", "exit")), other)
    await stand.until(Exited, other)
    survivor = int((tmp_path / "b").read_text())
    mine = await _grandchild(stand, "daemon", "exit", tmp_path / "a")
    assert (await stand.until(Exited)).leftovers == 1
    stand.kill()
    await stand.until(TreeGone)
    assert not is_alive(mine)
    assert is_alive(survivor)
    assert stand.posted(TreeGone, other) is None


async def test_orphans_are_reaped_while_the_worker_lives(stand: Stand) -> None:
    """A worker that leaves orphans behind all the time leaves no zombies to this process."""
    script = "for i in 1 2 3 4 5; do (true & true & exit 0); done; echo done; exec sleep 1000"
    pid = stand.spawn(launch_of("sh", "-c", script))
    await stand.output_has("done")
    await async_eventually(lambda: set(children_of(os.getpid())) <= {pid} | _elsewhere(stand))


def _elsewhere(stand: Stand) -> set[int]:
    return set(stand.processes._descendants._foreign)


async def test_many_ends_at_once_drown_no_other_signal(plain_stand: Stand) -> None:
    """While hundreds of children end in one turn of the loop a signal to this process is still heard."""
    heard: list[bool] = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, heard.append, True)
    for index in range(400):
        plain_stand.spawn(launch_of("true"), InstanceId("many", index))
    lives = plain_stand.processes._lives.values()
    eventually(lambda: all(wait_status(life.leader) for life in lives))
    os.kill(os.getpid(), signal.SIGUSR1)
    await async_eventually(lambda: bool(heard))
    loop.remove_signal_handler(signal.SIGUSR1)
    await async_eventually(lambda: not plain_stand.processes._lives)


async def test_a_process_of_nobody_is_killed_at_the_end(tmp_path: Path) -> None:
    """An orphan without any trace of its origin is watched as a stray, and killed at the close."""
    stand = Stand(Containment(None))
    pidfile = tmp_path / "pid"
    script = (
        "import os, resource, sys\n"
        "resource.setrlimit(10, (resource.RLIM_INFINITY,) * 2)\n"
        f"os.execv(sys.executable, [sys.executable, '-I', '-S', {worker('forker.py')[3]!r}, "
        f"'daemon', {str(pidfile)!r}, 'exit'])\n"
    )
    exited = await stand.run(launch_of(PYTHON, "-I", "-S", "-c", script))
    assert exited.leftovers == 0
    stray = _pid_in(pidfile)
    descendants = stand.processes._descendants
    await async_eventually(lambda: descendants.stray_count() == 1)
    assert is_alive(stray)
    await stand.close()
    await reaped(stray)


async def test_what_outlived_its_generation_is_killed(plain_stand: Stand, tmp_path: Path) -> None:
    """A process that carries the tag of a tree that is over is killed as soon as it is found."""
    tree = plain_stand.containment.admit(InstanceId("gone", 0), 1)
    plain_stand.containment.dismiss(tree)
    pidfile = tmp_path / "pid"
    child = start_child(launch_of(*worker("forker.py", "daemon", pidfile, "exit")), tag=tree.tag)
    await async_eventually(lambda: wait_status(child) is not None)
    reap(child)
    late = _pid_in(pidfile)
    await async_eventually(lambda: not Path(f"/proc/{late}").exists())


async def test_a_stopped_process_hears_term(stand: Stand) -> None:
    """A TERM to a stopped worker ends it: it is continued."""
    pid = stand.spawn(launch_of(*worker("obedient.py")))
    await stand.output_has("up")
    os.kill(pid, signal.SIGSTOP)
    stand.signal("SIGTERM")
    assert (await stand.until(Exited)).status == ExitStatus(code=0)


async def test_a_signal_to_all_reaches_each_once(stand: Stand, tmp_path: Path) -> None:
    """Main and children in the same and in another group get a signal to all exactly once each."""
    script = (
        "import os, signal, sys\n"
        "os.fork(); os.fork() or os.setsid()\n"
        "log = open(sys.argv[1], 'a', buffering=1)\n"
        "signal.signal(signal.SIGUSR1, lambda *_: log.write(f'got {os.getpid()}\\n'))\n"
        "log.write('up\\n')\n"
        "while True: signal.pause()\n"
    )
    log = tmp_path / "log"
    log.touch()
    stand.spawn(launch_of(PYTHON, "-I", "-S", "-c", script, str(log)))
    await async_eventually(lambda: log.read_text().count("up") == 4)
    stand.signal("SIGUSR1", Target.ALL)
    await async_eventually(lambda: log.read_text().count("got") >= 4)
    lines = [line for line in log.read_text().splitlines() if line.startswith("got")]
    assert len(lines) == len(set(lines)) == 4


async def test_a_generation_that_is_over_is_not_signalled(stand: Stand) -> None:
    """After its end nothing that is asked for a generation reaches anybody, though the next one lives."""
    await stand.run(launch_of("true"))
    pid = stand.spawn(launch_of("sleep", "1000"), generation=2)
    stand.signal("SIGKILL", generation=1)
    stand.signal("SIGKILL", Target.ALL, generation=1)
    stand.kill(generation=1)
    stand.forget(generation=1)
    assert not stand.processes.owns(ME, 1, pid)
    await asyncio.sleep(0)
    assert is_alive(pid)
    assert stand.posted(Exited, generation=2) is None


async def test_a_kill_is_repeated_until_nothing_is_left(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the first blow misses, another one follows without being asked for."""
    kill_tree, blows = TreeSignals.kill_tree, []

    def miss_twice(self: TreeSignals, tree: Tree, look: Callable[[], None], *, again: bool = False) -> None:
        blows.append(again)
        if len(blows) > 2:
            kill_tree(self, tree, look, again=again)

    monkeypatch.setattr(TreeSignals, "kill_tree", miss_twice)
    stand.spawn(launch_of(*worker("stubborn.py")))
    await stand.output_has("up")
    stand.kill()
    await stand.until(Exited)
    assert len(blows) >= 3
    assert blows[:3] == [False, True, True]


async def test_a_pid_that_was_used_again_is_not_signalled(
    bystander: subprocess.Popen[bytes], stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that took the pid of a member since it was seen gets nothing: its start time differs."""
    stand.spawn(launch_of("sleep", "1000"))
    seen = read_stat(bystander.pid)
    assert seen is not None
    with monkeypatch.context() as patch:
        patch.setattr(stand.containment, "members", lambda _: {bystander.pid: seen.started - 1})
        stand.signal("SIGKILL", Target.ALL)
        stand.kill()
    await stand.until(Exited)
    assert is_alive(bystander.pid)


async def test_owns_only_its_own(stand: Stand, tmp_path: Path) -> None:
    """A grandchild in a session of its own belongs to its instance; strangers and other instances do not."""
    grandchild = await _grandchild(stand, "daemon", "wait", tmp_path / "pid")
    other = InstanceId("emails", 1)
    pid = stand.spawn(launch_of("sleep", "1000"), other)
    main = stand.posted(Spawned)
    assert main is not None
    owns = stand.processes.owns
    assert owns(ME, 1, main.pid)
    assert owns(ME, 1, grandchild)
    assert owns(other, 1, pid)
    for stranger in (pid, os.getpid(), 1, 0, -1, 2**22):
        assert not owns(ME, 1, stranger), stranger
    assert not owns(ME, 2, main.pid)


async def test_another_main_process(stand: Stand, tmp_path: Path) -> None:
    """After MAINPID the end of the named process is the end, with its status; the first one is left over."""
    script = (
        "import os, signal, sys, time\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "    open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
        "    os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "else: os.waitpid(child, 0)\n"
        "while True: signal.pause()\n"
    )
    pidfile = tmp_path / "pid"
    first = stand.spawn(launch_of(PYTHON, "-I", "-S", "-c", script, str(pidfile)))
    await async_eventually(pidfile.exists)
    second = int(pidfile.read_text())
    assert not stand.processes.adopt_main(ME, 1, os.getpid())
    assert stand.processes.adopt_main(ME, 1, second)
    assert stand.processes.main_pids() == {ME: second}
    stand.signal("SIGTERM")
    exited = await stand.until(Exited)
    assert exited.status == ExitStatus(code=7)
    assert exited.leftovers == 1
    assert is_alive(first)
    stand.kill()
    await stand.until(TreeGone)
    assert not is_alive(first)


async def test_the_first_process_may_end_after_the_main_one_moved(stand: Stand, tmp_path: Path) -> None:
    """A worker that forks into the background and names the new process lives on as that."""
    grandchild = await _grandchild(stand, "new-session", "wait", tmp_path / "pid")
    first = stand.posted(Spawned)
    assert first is not None
    assert stand.processes.adopt_main(ME, 1, grandchild)
    os.kill(first.pid, signal.SIGTERM)
    await async_eventually(lambda: not is_alive(first.pid))
    assert stand.posted(Exited) is None
    stand.signal("SIGKILL")
    exited = await stand.until(Exited)
    assert exited.status == ExitStatus(signal="SIGKILL")
    assert exited.leftovers == 0
    assert not stand.processes._lives


async def test_cycles_leave_no_zombies_and_no_descriptors(stand: Stand) -> None:
    """Two hundred workers that start and end leave the lists of children and descriptors as they were."""
    await stand.run(launch_of("true"))
    descriptors = len(os.listdir("/proc/self/fd"))
    for generation in range(2, 202):
        launch = launch_of("sh", "-c", "sleep 0 & exit 1") if generation % 10 == 0 else launch_of("true")
        exited = await stand.run(launch, generation=generation)
        if exited.leftovers:
            await stand.until(TreeGone, generation=generation)
    await async_eventually(lambda: set(children_of(os.getpid())) <= _elsewhere(stand))
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert not unreaped()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user itself")
def test_all_of_this_without_root() -> None:
    """The whole of this file also holds for a daemon that is nobody and has no control groups."""
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    pytest_ = (sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o777)
        what = (str(Path(__file__)), "-k", "not cgroup", "--basetemp", f"{directory}/run")
        result = subprocess.run(
            [*nobody, *pytest_, *what],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": directory, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "passed" in result.stdout
