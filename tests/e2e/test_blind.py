"""A daemon that cannot open a file still sees what lives: blindness is never taken for emptiness."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import FAST_BACKOFF, pool, worker
from tests.e2e.daemon import Daemon
from tests.e2e.scrape import metric
from tests.proc import is_alive, lowest_at_rest, pidfd_of
from tests.waiting import eventually

Make = Callable[..., Daemon]

WAYS = pytest.mark.parametrize("user", [None, 65534], ids=["control-groups", "without-root"])


def limit_of(one: Daemon, soft: int | None = None) -> int:
    """The number of descriptors that the daemon may have; with `soft`, from now on that many."""
    limits = Path(f"/proc/{one.pid}/limits").read_text()
    now, hard = map(int, limits.partition("Max open files")[2].split()[:2])
    if soft is not None:
        # prlimit(2): without CAP_SYS_RESOURCE only for a process of the same user.
        who = f"--reuid={one.user or 0}", f"--regid={one.user or 0}", "--clear-groups"
        what = f"--pid={one.pid}", f"--nofile={soft}:{hard}"
        subprocess.run(["setpriv", *who, "prlimit", *what], check=True)
    return now


@WAYS
def test_what_a_worker_left_is_found_without_a_descriptor_to_spare(daemon: Make, user: int | None) -> None:
    """Its main process is killed, a grandchild in another session is not: that goes before anybody starts."""
    one = daemon({}, user=user, start=False)
    left = one.directory / "left"
    left.mkdir(mode=0o777)
    left.chmod(0o777)
    forks: dict[str, Any] = pool(
        worker("forker", "daemon", f"{left}/{{{{ generation }}}}", "wait"),
        restart={"backoff": FAST_BACKOFF},
        stop={"stages": [{"signal": "TERM", "target": "all", "grace": "300ms"}]},
    )
    other = pool(worker("obedient"), restart={"backoff": FAST_BACKOFF})
    one.write_manifest({"pools": {"forks": forks, "other": other}})
    one.start()
    grandchild = int(eventually(lambda: written(left / "1")))
    one.wait_ready()
    # Another end makes the daemon look at its children, and find the one that came to it.
    os.kill(one.instance("other/0")["pid"], signal.SIGKILL)
    eventually(lambda: pidfd_of(one.pid, grandchild))
    one.wait_ready()
    main, limit = one.instance("forks/0")["pid"], limit_of(one)
    # Not even the handle of the one that dies is a descriptor for its successor.
    limit_of(one, min(lowest_at_rest(one.pid), pidfd_of(one.pid, main)))
    os.kill(main, signal.SIGKILL)
    eventually(lambda: metric(one, 'pitboss_exits_total{pool="forks",class="spawn-error"}') > 0, 60)
    assert not is_alive(grandchild), "nobody is started, not even in vain, while it lives"
    limit_of(one, limit)
    one.wait_ready()
    assert is_alive(int(eventually(lambda: written(left / str(one.instance("forks/0")["generation"])))))
    assert "Traceback" not in one.log()


def written(path: Path) -> str:
    """What a file says, once it is there."""
    return path.read_text() if path.exists() else ""
