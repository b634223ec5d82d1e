"""Five hundred workers on one daemon: counted, not timed."""

import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.e2e.daemon import Daemon
from tests.e2e.scrape import metric
from tests.proc import children_of, descriptor_targets
from tests.waiting import eventually

Make = Callable[..., Daemon]

INSTANCES = 500

PER_INSTANCE = 3
"""A handle of the process, the pipe of its output, its notify socket."""

CONSTANT = 100
"""What a daemon has without any instance. Log files are opened with the first line, and these write none."""

SOFT_LIMIT = 777
"""Not a limit that anybody else would set, and too low for the daemon's own descriptors."""

SLEEP = ["/bin/sleep", "100000"]


def soft_nofile(pid: int) -> int:
    """The soft limit of descriptors that a process lives under."""
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def left(pids: set[int]) -> list[int]:
    """Those that still run; a number given out anew since is somebody else."""
    command = "\0".join([*SLEEP, ""])
    found = []
    for pid in pids:
        path = Path(f"/proc/{pid}/cmdline")
        with suppress(FileNotFoundError, ProcessLookupError):
            if path.read_text(errors="replace") == command:
                found.append(pid)
    return found


def test_five_hundred_workers(daemon: Make) -> None:
    """All become ready within three descriptors each, none inherits any, and a stop leaves nobody."""
    many = {
        "command": SLEEP,
        "instances": INSTANCES,
        "startup": {"min_uptime": "100ms"},
        "stop": {"stages": [{"signal": "SIGTERM", "target": "main", "grace": "2m"}]},
    }
    one = daemon({"shutdown": {"deadline": "5m"}, "pools": {"many": many}}, start=False)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_LIMIT, before[1]))
    try:
        one.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    one.wait_ready(within=180)
    pool = one.pool("many")
    pids = {shown["pid"] for shown in pool["instances"]}
    assert len(pids) == INSTANCES
    assert {shown["generation"] for shown in pool["instances"]} == {1}
    assert set(children_of(one.pid)) == pids

    assert len(descriptor_targets(one.pid)) <= PER_INSTANCE * INSTANCES + CONSTANT
    assert metric(one, "process_max_fds") > SOFT_LIMIT
    for pid in pids:
        assert set(descriptor_targets(pid)) == {0, 1, 2}
        assert soft_nofile(pid) == SOFT_LIMIT

    # One more generation each keeps the count: nothing of the last one is held.
    done = one.ctl("signal", "SIGKILL", "many", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    eventually(
        lambda: all(shown["generation"] == 2 for shown in one.pool("many")["instances"]), 180, "all killed"
    )
    one.wait_ready(within=180)
    assert len(descriptor_targets(one.pid)) <= PER_INSTANCE * INSTANCES + CONSTANT
    again = {shown["pid"] for shown in one.pool("many")["instances"]}
    assert set(children_of(one.pid)) == again

    done = one.ctl("stop", "many", "--timeout", "180s", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {shown["phase"] for shown in one.pool("many")["instances"]} == {"stopped"}
    assert left(pids | again) == []
    assert children_of(one.pid) == [], "no zombie is left"
    assert metric(one, "pitboss_core_faults_total") == 0
    assert metric(one, 'pitboss_leftovers_total{pool="many"}') == 0


def test_a_host_of_five_hundred_ends_with_none(daemon: Make) -> None:
    """The end of the daemon takes all of them down, and the exit code says that it was clean."""
    many = {"command": SLEEP, "instances": INSTANCES, "startup": {"min_uptime": "100ms"}}
    one = daemon({"pools": {"many": many}})
    one.wait_ready(within=180)
    pids = {shown["pid"] for shown in one.pool("many")["instances"]}
    assert len(left(pids)) == INSTANCES
    one.signal(signal.SIGTERM)
    assert one.wait_end(within=240) == 0
    assert left(pids) == []
