"""The machine fails the daemon: it says so, keeps its promises meanwhile, and recovers by itself."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import FAST_BACKOFF, pool, script
from tests.e2e.daemon import Daemon
from tests.e2e.neighbours import assert_unharmed, kill_and_wait, neighbours
from tests.e2e.scrape import metric
from tests.ports import free_port
from tests.proc import descriptor_count, is_alive, lowest_at_rest, pidfd_of
from tests.waiting import eventually

Make = Callable[..., Daemon]

long_only = pytest.mark.skipif(not os.environ.get("FUZZ_REQUESTS"), reason="runs with make fuzz")
needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None and not os.environ.get("CI"), reason="needs the package strace"
)


def settled(one: Daemon) -> int:
    """How many descriptors the daemon holds while nobody asks it anything, or 0 if that changes now."""
    first, second = descriptor_count(one.pid), descriptor_count(one.pid)
    return first if first == second else 0


def spawn_errors(one: Daemon) -> float:
    """How many starts of the victim have failed."""
    return metric(one, 'pitboss_exits_total{pool="victim",class="spawn-error"}')


def test_out_of_descriptors(daemon: Make) -> None:
    """Nobody healthy is stopped, the operator gets in and reads why, and all is well with room again."""
    one = daemon({"pools": neighbours()})
    one.wait_ready()
    assert_unharmed(one)
    before = eventually(lambda: settled(one))
    limit = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
    victim = one.instance("victim/0")["pid"]
    # What is open stays open; the next number would be the lowest free one, and that is too high now. So is
    # that of the handle of who dies: a replacement needs no more than one.
    lowest = min(lowest_at_rest(one.pid), pidfd_of(one.pid, victim))
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (lowest, limit[1]))
    os.kill(victim, signal.SIGKILL)
    asked = metric(one, "pitboss_checks_not_asked_total")
    eventually(lambda: metric(one, "pitboss_checks_not_asked_total") > asked + 1, 60)
    eventually(lambda: spawn_errors(one) > 0, 60)
    shown = one.instance("victim/0")
    assert "the daemon has no descriptor left" in shown["last_exit"]["detail"]
    assert one.ctl("explain", "victim/0").returncode == 0
    for name in ("quiet", "teller"):
        shown = one.instance(f"{name}/0")
        assert (shown["generation"], shown["ready"]) == (1, True), shown
    # Whatever was open for a moment when the limit was found, three more are too many.
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(one.socket))
        eventually(lambda: "cannot accept clients" in one.log())
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, limit)
    one.wait_ready()
    assert_unharmed(one)
    eventually(lambda: descriptor_count(one.pid) <= before, 60, "no descriptor was lost on the way")
    assert "cannot ask for the" in one.log()
    assert len(one.log()) < 200_000, "it says so, but not without end"


@contextmanager
def forking_fails(pid: int, error: str) -> Iterator[None]:
    """Let the system calls fail with which a process makes another one."""
    calls = "vfork,clone,clone3,fork"
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    command = ["strace", "-p", str(pid), "-o", "/dev/null", *inject]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        try:
            line = tracer.stderr.readline()
            assert "attached" in line, line
            yield
        finally:
            tracer.terminate()
            tracer.wait(30)


@needs_strace
@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("EAGAIN", "limit of processes"),
        pytest.param("ENOMEM", "not enough memory", marks=long_only),
    ],
)
def test_processes_cannot_be_made(daemon: Make, error: str, says: str) -> None:
    """Starts fail with the reason, the living are left alone, and the next start after it succeeds."""
    one = daemon({"pools": neighbours()})
    one.wait_ready()
    before = eventually(lambda: settled(one))
    victim = one.instance("victim/0")["pid"]
    with forking_fails(one.pid, error):
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: spawn_errors(one) > 2, 60)
        assert says in one.instance("victim/0")["last_exit"]["detail"]
        eventually(lambda: metric(one, "pitboss_checks_not_asked_total") > 1, 60)
        for name in ("quiet", "teller"):
            shown = one.instance(f"{name}/0")
            assert (shown["generation"], shown["ready"]) == (1, True), shown
    one.wait_ready()
    assert_unharmed(one)
    eventually(lambda: descriptor_count(one.pid) <= before + 1, 60, "no descriptor was lost on the way")


BEATS = (
    "import os, signal, sys, threading, time\n"
    "told = []\n"
    "def note(word):\n"
    "    line = '%s %.4f\\n' % (word, time.monotonic())\n"
    "    os.write(record, line.encode())\n"
    "record = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
    "signal.signal(signal.SIGTERM, lambda *_: note('TERM'))\n"
    "note('begin')\n"
    "while True:\n"
    "    note('beat')\n"
    "    threading.Event().wait(0.02)\n"
)
"""Ignores SIGTERM and writes down when it came; the last beat is when it was killed."""

GRACE_SECONDS = 2.0


def life(record: Path) -> tuple[list[float], float]:
    """When SIGTERM came, and the last sign of life."""
    lines = [line.split() for line in record.read_text().splitlines()]
    return [float(at) for word, at in lines if word == "TERM"], float(lines[-1][1])


@contextmanager
def stopped(one: Daemon, seconds: float) -> Iterator[None]:
    """The daemon stands still, as on a machine that is suspended or overloaded, for so long from now."""
    pause = "import threading, sys; threading.Event().wait(float(sys.argv[1]))"
    one.signal(signal.SIGSTOP)
    try:
        with subprocess.Popen([sys.executable, "-c", pause, str(seconds)]) as clock:
            yield
            clock.wait(60)
    finally:
        one.signal(signal.SIGCONT)


@contextmanager
def busy() -> Iterator[None]:
    """Every core has twice as much to do as it can; the burners end by themselves after a minute."""
    burn = "import time\nuntil = time.monotonic() + 60\nwhile time.monotonic() < until: pass\n"
    burners = [subprocess.Popen([sys.executable, "-c", burn]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@pytest.mark.parametrize("trouble", ["stopped", "busy"])
def test_no_window_is_cut_short_by_a_late_loop(daemon: Make, tmp_path: Path, trouble: str) -> None:
    """A loop that was late to the end of one window gives the next its whole time, and the stop ends."""
    record = tmp_path / "record"
    rung = {"signal": "SIGTERM", "target": "main", "grace": f"{GRACE_SECONDS:g}s"}
    ignores = pool([*script(BEATS), str(record)], stop={"stages": [rung, rung]})
    one = daemon({"pools": {"ignores": ignores}})
    one.wait_ready()
    pid = one.instance("ignores/0")["pid"]
    operation = one.post("/v1/pools/ignores/stop").json()["id"]
    eventually(lambda: life(record)[0], 60)
    with busy() if trouble == "busy" else stopped(one, GRACE_SECONDS + 1.5):
        assert is_alive(pid)
        if trouble == "busy":
            eventually(lambda: not is_alive(pid), 120)
    eventually(lambda: not is_alive(pid), 120)
    terms, last = life(record)
    assert len(terms) == 2
    for began, ended in [(terms[0], terms[1]), (terms[1], last)]:
        # A beat may be up to two pauses before the kill; on a busy machine the worker is late as well.
        assert ended - began > GRACE_SECONDS - (0.5 if trouble == "busy" else 0.1)
    assert one.operation(operation)["state"] == "succeeded"
    assert metric(one, "pitboss_core_faults_total") == 0
    if trouble == "stopped":
        assert "the loop stood still for" in one.log()
        lag = metric(one, "pitboss_daemon_loop_lag_seconds")
        assert lag > 0.5, lag


SLOW = (
    "import http.server, signal, sys, threading\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "class Answers(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        threading.Event().wait(0.5)\n"
    "        self.send_response(204)\n"
    "        self.end_headers()\n"
    "    def log_message(self, *_):\n"
    "        pass\n"
    "http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Answers).serve_forever()\n"
)


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(3.0, marks=long_only), 8.0],
    ids=["past-the-timeout", "past-the-last-hope"],
)
def test_a_late_loop_fails_no_probe(daemon: Make, seconds: float) -> None:
    """An answer that came while the loop stood still was in time, however late it is read."""
    pools: dict[str, Any] = {}
    for name, every in (("first", 600), ("second", 800), ("third", 1000)):
        port = free_port()
        rules = {"period": f"{every}ms", "timeout": f"{every}ms", "failure_threshold": 1}
        asks = {"http": f"http://127.0.0.1:{port}/", **rules}
        pools[name] = pool([*script(SLOW), str(port)], readiness=asks, liveness=asks)
    one = daemon({"pools": pools})
    one.wait_ready()
    failed = r'^pitboss_probe_failures_total\{pool="\w+",check="(?:readiness|liveness)"\} (\d+)$'

    def failures() -> int:
        return sum(map(int, re.findall(failed, one.get("/metrics").text, re.MULTILINE)))

    before = failures()
    with stopped(one, seconds):
        pass
    eventually(lambda: "the loop stood still" in one.log())
    assert one.get("/readyz").status_code == 200
    for name in pools:
        shown = one.instance(f"{name}/0")
        assert (shown["generation"], shown["ready"]) == (1, True), (shown, one.log()[-3000:])
    assert failures() == before


def test_a_worker_is_back_on_a_busy_machine(daemon: Make) -> None:
    """Every core overloaded: respawn, probes and log lines go on."""
    one = daemon({"pools": neighbours()})
    one.wait_ready()
    with busy():
        assert_unharmed(one)
    kill_and_wait(one)


def test_a_crash_loop_beside_them_hurts_nobody(daemon: Make) -> None:
    """A worker that ends at once, again and again without delay, takes nothing from its neighbours."""
    loops = pool(["true"], instances=4, restart={"backoff": FAST_BACKOFF}, critical=False)
    one = daemon({"pools": {**neighbours(), "loops": loops}})
    one.wait_ready("quiet", "victim", "teller")
    assert_unharmed(one)
    before = descriptor_count(one.pid)
    generation = one.instance("loops/0")["generation"]
    eventually(lambda: one.instance("loops/0")["generation"] > generation + 20, 60)
    assert_unharmed(one)
    assert one.ctl("stop", "loops").returncode == 0
    eventually(lambda: descriptor_count(one.pid) <= before, 60)
