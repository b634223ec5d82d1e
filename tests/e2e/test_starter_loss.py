"""The process that starts workers with limits is lost: workers are not, and it is back by itself."""

import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.e2e.commands import FAST_BACKOFF, pool, worker
from tests.e2e.daemon import Daemon
from tests.proc import children_of, is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]


def starter_of(one: Daemon) -> int:
    """The pid of the process that starts the daemon's workers, 0 if there is none now."""
    for child in children_of(one.pid):
        # One may be reaped between the list and the look.
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{child}/comm").read_text().strip() == "pitboss-starter" and is_alive(child):
                return child
    return 0


def test_a_lost_starter_costs_no_worker(daemon: Make) -> None:
    """Killed or stopped, it takes nobody along; who ends meanwhile is replaced, with its limits, as ever."""
    limited = pool(worker("obedient"), restart={"backoff": FAST_BACKOFF}, limits={"fsize": "333MiB"})
    one = daemon({"pools": {"limited": {**limited, "instances": 3}}})
    one.wait_ready()
    for blow in (signal.SIGKILL, signal.SIGSTOP):
        starter = eventually(lambda: starter_of(one))
        lives = {name: one.instance(name) for name in ("limited/0", "limited/1", "limited/2")}
        os.kill(starter, blow)
        after = killed(one)
        limits = Path(f"/proc/{after}/limits").read_text()
        assert limits.partition("Max file size")[2].split()[0] == str(333 * 2**20), limits
        for name in ("limited/1", "limited/2"):
            shown = one.instance(name)
            assert (shown["pid"], shown["ready"]) == (lives[name]["pid"], True), shown
    # One that stands still is noticed by who asks it for a worker, and followed by another.
    eventually(lambda: replaced(one, starter), 60, "the stopped one is replaced")
    log = one.log()
    assert "the process that starts workers with limits, a user or sockets has ended" in log
    assert "has not answered for" in log
    assert "Traceback" not in log
    last = starter_of(one)
    one.signal(signal.SIGTERM)
    assert one.wait_end() == 0
    eventually(lambda: not Path(f"/proc/{last}").exists(), what="it ends with the daemon")


def test_it_is_buried_and_followed_without_anybody_asking(daemon: Make) -> None:
    """No zombie waits for the next worker that wants a recruit, and that worker need not wait either."""
    one = daemon({"pools": {"limited": pool(worker("obedient"), limits={"fsize": "333MiB"})}})
    one.wait_ready()
    starter = eventually(lambda: starter_of(one))
    os.kill(starter, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{starter}").exists(), 60, "it is reaped")
    second = eventually(lambda: starter_of(one), 60, "another one is there")
    # One that has made nobody yet is not followed until somebody asks: it may be of no use at all.
    os.kill(second, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{second}").exists(), 60, "it is reaped")
    assert one.instance("limited/0")["generation"] == 1
    assert "Traceback" not in one.log()


def killed(one: Daemon) -> int:
    """Kill the first worker; the pid of its successor."""
    before = one.instance("limited/0")
    os.kill(before["pid"], signal.SIGKILL)
    return eventually(lambda: back(one, before["generation"]), 60)


def back(one: Daemon, generation: int) -> int:
    """The pid of a ready successor of that generation, or 0."""
    shown = one.instance("limited/0")
    return int(shown["pid"]) if shown["ready"] and shown["generation"] > generation else 0


def replaced(one: Daemon, starter: int) -> bool:
    """Whether another starter is there; a worker is ended each time, for nobody else asks for one."""
    killed(one)
    return starter_of(one) not in {0, starter}


def successor(one: Daemon, former: int) -> int:
    """The pid of the ready worker, 0 while it is the former one."""
    shown = one.instance("limited/0")
    return shown["pid"] if shown["ready"] and shown["pid"] != former else 0


def test_limits_that_can_be_lent_need_nobody(daemon: Make) -> None:
    """A soft limit of descriptors is there from the start and after each restart, and no starter is."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    one = daemon({"pools": {"limited": pool(worker("obedient"), limits={"nofile": f"444:{hard}"})}})
    one.wait_ready()
    before = Path(f"/proc/{one.pid}/limits").read_text()
    pid = 0
    for _ in range(3):
        pid = eventually(partial(successor, one, pid))
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert limits.partition("Max open files")[2].split()[:2] == ["444", str(hard)], limits
        os.kill(pid, signal.SIGKILL)
    assert starter_of(one) == 0
    assert Path(f"/proc/{one.pid}/limits").read_text() == before
