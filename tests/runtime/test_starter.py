"""The process that makes recruits: what it costs to lose it is time, and never a worker."""

import errno
import fcntl
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.launch import Launch
from supervisor.runtime import starter as module
from supervisor.runtime.children import Child, SpawnError, reap, signal_child, start_child, unreaped
from supervisor.runtime.procfs import children_of, read_stat
from supervisor.runtime.starter import Recruit, Starter
from supervisor.runtime.tags import make_tag, read_tag
from tests.proc import is_alive, open_descriptors
from tests.runtime.process_harness import Stand, containment_of, launch_of
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
LIMITED = launch_of("sleep", "1000", limits={"CORE": (0, 0)})


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of `one`."""
    return Clock()


@pytest.fixture
def one(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    """A starter of this test alone; afterwards nothing of it is left."""
    monkeypatch.setattr(module, "WAIT_SECONDS", 30.0)
    before, held = set(children_of(os.getpid())), open_descriptors()
    made = Starter(clock=clock)
    # What the program that started the daemon left open, below and above the starter's own.
    low = fcntl.fcntl(0, fcntl.F_DUPFD, 3)
    high = fcntl.fcntl(0, fcntl.F_DUPFD, 500)
    made.begin()
    for left_open in (low, high):
        os.close(left_open)
    made.settle(30)
    assert made.is_ready
    yield made
    made.close()

    def is_over() -> bool:
        made.close()
        for pid in set(children_of(os.getpid())) - before:
            # Recruits without a plan end by themselves; in a daemon they are adopted orphans.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        return set(children_of(os.getpid())) <= before and open_descriptors() == held

    eventually(is_over, what="nothing is left of the starter")


def pid_of(starter: Starter) -> int:
    """The process that makes recruits."""
    text = Path(f"/proc/self/fdinfo/{starter._pidfd}").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pid:"))


def command_line(child: Child) -> str:
    """What runs as the child, once it runs."""
    path = Path(f"/proc/{child.pid}/cmdline")
    return eventually(lambda: text if (text := path.read_text()).startswith("sleep") else "")


def finish(child: Child) -> None:
    """End a child."""
    signal_child(child, "SIGKILL")
    select.select([child], [], [], 30)
    reap(child)


def is_recruit(child: Child) -> bool:
    """Whether it came from the starter: its report is a socket."""
    assert child.report is not None
    return os.readlink(f"/proc/self/fd/{child.report}").startswith("socket:")


def start(one: Starter, launch: Launch = LIMITED, tag: int | None = None) -> bool:
    """Start a worker and end it; whether it was a recruit."""
    child = start_child(launch, tag=tag, starter=one)
    found = is_recruit(child)
    assert "sleep" in command_line(child)
    assert read_tag(child.pid) == tag or tag is None
    finish(child)
    return found


def test_a_recruit_is_a_young_child_of_ours(one: Starter) -> None:
    """Our child and not the starter's, in its own group at once, tagged, and not older than the wish."""
    ticks = os.sysconf("SC_CLK_TCK")
    before = int(float(Path("/proc/uptime").read_text().split()[0]) * ticks) - 1
    child = start_child(LIMITED, tag=make_tag(7, 8), starter=one)
    assert is_recruit(child)
    assert child.report is not None and not os.get_inheritable(child.report)
    stat = read_stat(child.pid)
    assert stat is not None
    assert (stat.parent, stat.group) == (os.getpid(), child.pid)
    assert stat.started >= before
    command_line(child)
    assert read_tag(child.pid) == make_tag(7, 8)
    finish(child)
    assert not unreaped()


def test_it_holds_nothing_of_ours_and_ends_by_no_signal_to_a_group(one: Starter) -> None:
    """It has four descriptors, stays in our group, has a name, and lives through what a terminal sends."""
    assert start(one)
    pid = pid_of(one)
    assert len(os.listdir(f"/proc/{pid}/fd")) == 4
    assert os.getpgid(pid) == os.getpgid(0)
    assert Path(f"/proc/{pid}/comm").read_text() == "pitboss-starter\n"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGTSTP):
        os.kill(pid, number)
    assert start(one)
    assert pid_of(one) == pid


def test_one_that_was_killed_is_followed_by_another(one: Starter, caplog: pytest.LogCaptureFixture) -> None:
    """The next worker starts all the same, the loss is told once, and then recruits come again."""
    assert start(one)
    pid = pid_of(one)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    assert not start(one)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "has ended; another is started" in caplog.text
    one.settle(30)
    assert start(one)
    assert pid_of(one) != pid


def test_one_that_stands_still_is_waited_for_once_and_then_replaced(
    one: Starter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers start without it; what it makes too late is sent away; after five seconds it is ended."""
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.02)
    pid = pid_of(one)
    os.kill(pid, signal.SIGSTOP)
    assert not start(one)
    assert not start(one)
    clock.now += module.STALE_SECONDS + 0.1
    os.kill(pid, signal.SIGCONT)
    monkeypatch.setattr(module, "WAIT_SECONDS", 30.0)
    assert one._control is not None
    select.select([one._control], [], [], 30)
    # What was asked for long ago is there, and not taken.
    assert start(one)
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.02)
    assert not start(one)
    clock.now += module.HUNG_SECONDS + 0.1
    assert not start(one)
    assert not is_alive(pid)
    one.settle(30)
    monkeypatch.setattr(module, "WAIT_SECONDS", 30.0)
    assert start(one)


def test_a_recruit_is_made_while_its_plan_is(one: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for before is not waited for, and serves one worker."""
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.0)
    assert one._control is not None
    one.ask()
    one.ask()
    select.select([one._control], [], [], 30)
    assert start(one)
    assert one._asked_at is None
    assert select.select([one._control], [], [], 0)[0] == [], "one was asked for, not two"


def test_what_was_asked_for_and_not_taken_is_sent_away(one: Starter, clock: Clock) -> None:
    """A worker that could not be started leaves a recruit, which is too old for who comes later."""
    before = set(children_of(os.getpid()))
    one.ask()
    assert one._control is not None
    select.select([one._control], [], [], 30)
    clock.now += module.STALE_SECONDS + 0.1
    assert start(one)
    assert len(set(children_of(os.getpid())) - before) == 1, "it ends by itself, and is to be reaped"


def test_an_answer_that_is_late_is_waited_for_once(one: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever takes it first, however early it was asked for."""
    waits: list[float] = []
    real = one._receive

    def receive(control: socket.socket, seconds: float) -> tuple[int, int | None] | None:
        waits.append(seconds)
        return real(control, seconds)

    monkeypatch.setattr(module, "WAIT_SECONDS", 0.02)
    monkeypatch.setattr(one, "_receive", receive)
    os.kill(pid_of(one), signal.SIGSTOP)
    one.ask()
    assert not start(one)
    one.ask()
    assert not start(one)
    assert waits == [0.02, 0.0]
    os.kill(pid_of(one), signal.SIGCONT)


def test_a_recruit_that_was_killed_is_replaced_by_a_script(
    one: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ends before it has its plan is no worker: the worker starts in the other way."""
    real = one.recruit
    made: list[Recruit] = []

    def killed(*, own_group: bool = True) -> Recruit | None:
        recruit = real(own_group=own_group)
        assert recruit is not None
        signal.pidfd_send_signal(recruit.pidfd, signal.SIGKILL)
        select.select([recruit.pidfd], [], [], 30)
        made.append(recruit)
        return recruit

    monkeypatch.setattr(one, "recruit", killed)
    assert not start(one)
    assert made


def test_one_that_is_of_no_use_is_not_started_for_every_worker(tmp_path: Path, clock: Clock) -> None:
    """It is tried again after pauses that double, and workers start meanwhile."""
    runs = tmp_path / "runs"
    script = tmp_path / "useless.py"
    script.write_text(f"open({str(runs)!r}, 'a').write('x')\n")
    useless = Starter(script=str(script), clock=clock)
    useless.begin()
    useless.settle(30)
    for pause in (1, 2, 4):
        for _ in range(3):
            assert not start(useless)
        clock.now += pause + 0.1
        useless.begin()
        useless.settle(30)
    assert runs.read_text() == "x" * 4

    def is_over() -> bool:
        useless.close()
        return not useless._dying

    eventually(is_over)


def test_a_system_call_that_is_refused(one: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel makes no copy for it, workers start in the other way."""
    one.close()
    monkeypatch.setattr(module, "CLONE", dict.fromkeys(module.CLONE, 9999))
    one.begin()
    one.settle(30)
    assert one.is_ready
    assert not start(one)
    monkeypatch.setattr(module, "CLONE", {})
    one.close()
    assert not start(one)
    assert not one.is_ready


def test_without_descriptors_the_failure_is_told_exactly(
    one: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a recruit cannot be watched it gets no plan, and the reason is that of every other start."""

    def fail(_pid: int, _flags: int = 0) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pidfd_open", fail)
        with pytest.raises(SpawnError, match="no descriptor left"):
            start_child(LIMITED, starter=one)
    assert not unreaped()
    assert start(one)


def test_a_long_plan_takes_the_other_way(one: Starter) -> None:
    """What does not fit into one message is still carried out."""
    environment = {"PATH": os.defpath, **{f"V{number}": "x" * 1000 for number in range(100)}}
    long = launch_of("sleep", "1000", environment=environment, limits={"CORE": (0, 0)})
    assert not start(one, long)
    assert start(one)


LOADS = """
import sys
sys.path.append({root!r})
from supervisor.runtime import become_worker, make_recruits
print(sorted({{"collections", "enum", "re", "typing"}} & sys.modules.keys()))
"""


def test_little_is_loaded_into_what_is_copied() -> None:
    """Nor by the script: each worker pays for it. The annotations alone would bring these four."""
    code = LOADS.format(root=str(ROOT))
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"[]\n"


ALONE = """
import os, select, signal, sys
from supervisor.runtime import starter as module
module.WAIT_SECONDS = 30.0
one = module.Starter()
one.begin()
one.settle(30)
recruit = one.recruit()
with open(f"/proc/self/fdinfo/{one._pidfd}") as file:
    print(next(line.split()[1] for line in file if line.startswith("Pid:")), recruit.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_outlives_the_daemon() -> None:
    """When the daemon is killed, the starter and a recruit without a plan end by themselves."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    left = [int(word) for word in done.stdout.split()]
    assert len(left) == 2
    eventually(lambda: not any(map(is_alive, left)), what=f"the processes {left} have ended")


@pytest.mark.parametrize(("launch", "asks"), [(LIMITED, ["ask", "output"]), (launch_of("true"), ["output"])])
async def test_it_is_asked_before_the_rest_is_prepared(
    one: Starter, launch: Launch, asks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it copies itself meanwhile; and not for who needs no recruit."""
    containment = containment_of("tags")
    assert containment is not None
    stand = Stand(containment, starter=one)
    did: list[str] = []

    def noting(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*words: Any, **more: Any) -> Any:
            did.append(what)
            return real(*words, **more)

        return noted

    monkeypatch.setattr(one, "ask", noting("ask", one.ask))
    monkeypatch.setattr(stand.output, "writer", noting("output", stand.output.writer))
    stand.spawn(launch)
    assert did == asks
    await stand.close()
