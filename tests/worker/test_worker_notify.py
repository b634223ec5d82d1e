"""The worker's library, heard by the real notify sockets of the runtime."""

import ast
import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from supervisor.core.effects import ReleaseBarrier
from supervisor.core.events import BarrierReached, Event, Told
from supervisor.core.identity import InstanceId
from supervisor.runtime.notify import NotifySockets
from supervisor.worker import notify
from tests.waiting import async_eventually, eventually

EMAILS = InstanceId("emails", 0)
ROOT = Path(__file__).resolve().parents[2]
QUEUE = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
"""How many datagrams wait in a socket of this machine."""


@pytest.fixture(autouse=True)
def _fresh_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins with nothing in flight, and with patience enough for a busy machine."""
    monkeypatch.setattr(notify, "SEND_SECONDS", 30.0)
    notify._new_process()
    notify._Patience.seconds = notify.SEND_SECONDS
    yield
    notify._Patience.seconds = notify.SEND_SECONDS


class Ear:
    """Real notify sockets that take every process for a part of the tree."""

    def __init__(self, directory: Path) -> None:
        self.events: list[Event] = []
        self.sockets = NotifySockets(
            post=self.take,
            directory=directory,
            generation_of=lambda _: 1,
            owns=lambda *_: True,
            adopt_main=lambda *_: True,
        )
        self.path = self.sockets.path(EMAILS, None)

    def take(self, event: Event) -> None:
        """Keep an event; a barrier is released at once."""
        self.events.append(event)
        if isinstance(event, BarrierReached):
            self.sockets.release_barrier(ReleaseBarrier(event.token))

    def told(self) -> list[Told]:
        """What was said."""
        return [one for one in self.events if isinstance(one, Told)]

    def total(self, name: str) -> int:
        """The sum of one of the counts."""
        return sum(getattr(one, name) for one in self.told())


@pytest.fixture
async def ear(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ear]:
    """A supervisor that listens to this process."""
    directory = tempfile.mkdtemp(dir="/tmp")
    made = Ear(Path(directory, "n"))
    monkeypatch.setenv("NOTIFY_SOCKET", made.path)
    yield made
    assert made.sockets.drops() == {EMAILS: 0}
    made.sockets.close()
    shutil.rmtree(directory)


CALLS: list[tuple[Callable[[], bool], dict[str, object]]] = [
    (notify.ready, {"ready": True}),
    (lambda: notify.ready("at work"), {"ready": True, "status": "at work"}),
    (notify.reloading, {"reloading": True}),
    (notify.stopping, {"stopping": True}),
    (notify.drained, {"drained": True}),
    (notify.watchdog, {"watchdog": True}),
    (lambda: notify.status("Grüße\nof two\0 lines"), {"status": "Grüße of two  lines"}),
    (lambda: notify.status("\U0001f600" * 4000), {"status": "\U0001f600" * 512}),
    (lambda: notify.status("odd \udcff surrogate"), {"status": "odd ? surrogate"}),
    (lambda: notify.extend(2.5), {"extend_seconds": 2.5}),
    (lambda: notify.extend(1e12), {"extend_seconds": 86400.0}),
    (lambda: notify.in_flight(3), {"in_flight": 3}),
    (lambda: notify.in_flight(10**12), {"in_flight": 10**9}),
    (lambda: notify.queue_depth(0), {"queue_depth": 0}),
    (
        lambda: notify.tasks(2, failed=1, cancelled=3, seconds=[0.5, 1e9]),
        {"tasks_completed": 2, "tasks_failed": 1, "tasks_cancelled": 3, "task_seconds": (0.5, 1e7)},
    ),
]


@pytest.mark.parametrize(("call", "facts"), CALLS)
async def test_what_is_said_is_heard(ear: Ear, call: Callable[[], bool], facts: dict[str, object]) -> None:
    """Each call becomes the fact it stands for, inside the bounds of the supervisor."""
    assert call() is True
    ear.sockets.poll()
    assert ear.events == [Told(EMAILS, 1, **facts)]  # type: ignore[arg-type]


@pytest.mark.parametrize("address", [None, "", "relative", "@", "vsock:2:1", "/nowhere/at/all"])
def test_without_a_supervisor_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    """Every call returns False, and the worker goes on."""
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert [call() for call, _ in CALLS] == [False] * len(CALLS)
    assert notify.barrier(0.1) is False
    with notify.task():
        pass


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another supervisor may use one (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(f"\0pitboss-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@pitboss-test-{os.getpid()}")
        assert notify.ready()
        assert other.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    "call",
    [
        lambda: notify.in_flight(-1),
        lambda: notify.queue_depth(-1),
        lambda: notify.tasks(-1),
        lambda: notify.tasks(seconds=[-1.0]),
        lambda: notify.tasks(seconds=[float("nan")]),
        lambda: notify.extend(0),
        lambda: notify.extend(float("inf")),
    ],
)
def test_what_could_never_be_right_is_refused(call: Callable[[], bool]) -> None:
    """A mistake of the worker shows on the developer's machine too, where nobody listens."""
    with pytest.raises(ValueError, match="cannot"):
        call()


async def test_a_task_is_in_flight_and_then_counted(ear: Ear) -> None:
    """Nested or beside each other: the number in flight follows, and the outcome comes with the end."""
    with notify.task():
        ear.sockets.poll()
        assert ear.told()[-1].in_flight == 1
        with notify.task():
            ear.sockets.poll()
            assert ear.told()[-1].in_flight == 2
    with pytest.raises(ZeroDivisionError), notify.task():
        raise ZeroDivisionError
    for cancelled in (asyncio.CancelledError, KeyboardInterrupt):
        with pytest.raises(cancelled), notify.task():
            raise cancelled
    ear.sockets.poll()
    assert ear.told()[-1].in_flight == 0
    assert [ear.total(f"tasks_{name}") for name in ("completed", "failed", "cancelled")] == [2, 1, 2]
    assert sum(len(one.task_seconds) for one in ear.told()) == 5


async def test_many_threads_count_together(ear: Ear) -> None:
    """No task is lost or counted twice, and in the end nothing is in flight."""

    def work() -> None:
        for _ in range(50):
            with notify.task():
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    await async_eventually(lambda: not any(one.is_alive() for one in threads))
    await async_eventually(lambda: ear.total("tasks_completed") == 400)
    assert ear.told()[-1].in_flight == 0


async def test_many_durations_go_out_in_parts(ear: Ear) -> None:
    """More than one message can hold are sent in several, each with its share."""
    assert notify.tasks(completed=150, seconds=[0.5] * 150)
    await async_eventually(lambda: sum(len(one.task_seconds) for one in ear.told()) == 150)
    assert ear.total("tasks_completed") == 150


async def test_a_supervisor_that_does_not_listen_costs_one_wait(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first message that finds no room waits; the next ones do not, until one gets through."""
    monkeypatch.setattr(notify, "SEND_SECONDS", 0.05)
    notify._Patience.seconds = 0.05
    assert [notify.watchdog() for _ in range(QUEUE + 2)].count(False) >= 1
    assert notify._Patience.seconds < 0.05
    assert notify.tasks(completed=3) is False
    assert notify.tasks(completed=4) is False
    while not notify.tasks(completed=1):
        ear.sockets.poll()
    assert notify._Patience.seconds == 0.05
    await async_eventually(lambda: ear.total("tasks_completed") >= 8)


async def test_a_barrier_waits_for_everything_before_it(ear: Ear) -> None:
    """It returns when the supervisor has taken in what was said, and not because time has passed."""
    outcome: list[bool] = []
    notify.status("before")
    waiter = threading.Thread(target=lambda: outcome.append(notify.barrier(60)))
    waiter.start()
    await async_eventually(lambda: outcome)
    waiter.join()
    assert outcome == [True]
    assert isinstance(ear.events[0], Told)
    assert isinstance(ear.events[1], BarrierReached)


async def test_a_barrier_gives_up_in_time(ear: Ear) -> None:
    """A supervisor that does not answer is not waited for longer than asked, and no descriptor stays."""
    before = len(os.listdir("/proc/self/fd"))
    assert notify.barrier(0.05) is False
    assert len(os.listdir("/proc/self/fd")) == before
    ear.sockets.poll()


def test_the_interval_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """WATCHDOG_USEC counts only for the process that WATCHDOG_PID names."""
    assert notify.watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", "1500000")
    assert notify.watchdog_seconds() == 1.5
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert notify.watchdog_seconds() == 1.5
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert notify.watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_PID", "x")
    assert notify.watchdog_seconds() is None


FORKER = """
import os
from supervisor.worker import notify
with notify.task():
    if os.fork() == 0:
        with notify.task():
            os._exit(notify._ledger._in_flight)
    _, status = os.wait()
    raise SystemExit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_holds_nothing_of_its_parent() -> None:
    """The child counts from zero, with a lock of its own."""
    assert subprocess.run([sys.executable, "-c", FORKER], cwd=ROOT, check=False).returncode == 1


def test_it_stands_alone() -> None:
    """The file can be copied away: it imports the standard library and nothing else."""
    tree = ast.parse(Path(notify.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


JOBS = """
import time

done = 0

def take():
    global done
    time.sleep(0.01)
    done += 1
    return done if done <= 3 else None

def handle(job):
    time.sleep(0.01)
"""


def example(tmp_path: Path, path: str) -> subprocess.Popen[bytes]:
    """The worker that the page shows, with jobs of a test."""
    page = (ROOT / "docs/how-to/write-a-worker.md").read_text()
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    lines = (line.removeprefix("   ") for line in found[1].splitlines())
    (tmp_path / "worker.py").write_text("\n".join(lines))
    (tmp_path / "jobs.py").write_text(JOBS)
    return subprocess.Popen(
        [sys.executable, "worker.py"],
        cwd=tmp_path,
        env={**os.environ, "NOTIFY_SOCKET": path, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
async def test_the_worker_of_the_page_works(ear: Ear, tmp_path: Path, number: signal.Signals) -> None:
    """It gets ready, works, says that it is alive, and leaves when it is asked to."""
    process = example(tmp_path, ear.path)
    try:
        await async_eventually(lambda: ear.total("tasks_completed") == 3)
        await async_eventually(lambda: any(one.watchdog for one in ear.told()[-1:]))
        process.send_signal(number)
        await async_eventually(lambda: process.poll() is not None)
        await async_eventually(lambda: any(one.drained for one in ear.told()))
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert ear.told()[0].ready
    assert ear.told()[0].status == "waiting for work"
    in_flight = [one.in_flight for one in ear.told() if one.in_flight is not None]
    assert in_flight[-1] == 0


def test_a_worker_does_not_hold_the_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When the supervisor is replaced, the next message finds the new one at the same path."""
    directory = tempfile.mkdtemp(dir="/tmp")
    path = f"{directory}/s"
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.bind(path)
            supervisor.setblocking(False)
            assert notify.ready()
            assert eventually(lambda: supervisor.recv(100)) == b"READY=1"
        assert notify.ready() is False
        os.unlink(path)
    shutil.rmtree(directory)
