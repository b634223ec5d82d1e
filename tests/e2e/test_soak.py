"""A thousand requests, rotations and new generations: the daemon watches what it holds, and rests again."""

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.e2e.commands import FAST_BACKOFF, pool, script, worker
from tests.e2e.daemon import Daemon
from tests.e2e.scrape import metric
from tests.proc import descriptor_targets
from tests.waiting import eventually

Make = Callable[..., Daemon]

REQUESTS = 1000
GENERATIONS = 50

TALKS = (
    "import os, threading\n"
    "while True:\n"
    "    for _ in range(64): os.write(1, b'x' * 127 + b'\\n')\n"
    "    threading.Event().wait(1000 if os.path.exists(os.environ['QUIET']) else 0.02)\n"
)


def held(pid: int) -> dict[int, str]:
    """The open descriptors of a process and what they are; log files, which come and go, left out."""
    log = re.compile(r"\.log(\.\d+)?( \(deleted\))?$")
    return {number: target for number, target in descriptor_targets(pid).items() if not log.search(target)}


def watched(pid: int) -> dict[int, list[tuple[int, int]]]:
    """For each epoll instance of a process: the descriptors and inodes registered with it."""
    found = {}
    for number, target in held(pid).items():
        if target == "anon_inode:[eventpoll]":
            text = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
            lines = re.findall(r"^tfd:\s*(\d+) .*? ino:(\w+)", text, re.MULTILINE)
            found[number] = [(int(descriptor), int(inode, 16)) for descriptor, inode in lines]
    return found


def kinds(pid: int) -> Counter[str]:
    """How many descriptors of each kind a process holds."""
    return Counter(re.sub(r"\d+", "N", target) for target in held(pid).values())


def computed(pid: int) -> int:
    """The nanoseconds that a process has computed in its life."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def kill(client: httpx.Client, instance: str) -> None:
    """Kill the process of an instance, as soon as it has one."""
    eventually(lambda: client.get(instance).json()["pid"])
    assert client.post(f"{instance}/signal", json={"signal": "KILL"}).status_code == 202


def rests(one: Daemon) -> bool:
    """Whether the daemon, left alone for forty looks, computes nothing at all: it has no clock that ticks."""
    seen: list[int] = []

    def looked_often_enough() -> bool:
        seen.append(computed(one.pid))
        return len(seen) > 40

    eventually(looked_often_enough)
    return seen[-1] == seen[0]


def test_what_is_watched_is_what_is_held(daemon: Make, tmp_path: Path) -> None:
    """No registration without its descriptor, none too many of either, and no work left to do."""
    quiet = tmp_path / "quiet"
    talks = pool(
        script(TALKS),
        instances=2,
        environment={"QUIET": str(quiet)},
        logs={"max_bytes": "64KiB", "keep": 2},
    )
    rules = {"backoff": FAST_BACKOFF}
    one = daemon(
        {
            "pools": {
                "talks": talks,
                "dies": pool(worker("obedient"), instances=4, restart=rules),
                "probed": pool(
                    worker("obedient"), readiness={"exec": ["/bin/true"], "period": "100ms"}, restart=rules
                ),
            }
        }
    )
    one.wait_ready()
    before = kinds(one.pid)
    with one.client() as client:
        for number in range(REQUESTS):
            path = ("/v1/status", "/v1/pools/dies", "/readyz", "/metrics", "/nothing")[number % 5]
            assert client.get(path).status_code < 500 or path == "/readyz"
            if number % 20 == 0:
                assert one.get("/livez").status_code == 200, "on a connection of its own"
            if number % (REQUESTS // GENERATIONS) == 0:
                kill(client, f"/v1/pools/dies/instances/{number // (REQUESTS // GENERATIONS) % 4}")
    for _ in range(5):
        assert one.ctl("status").returncode in {0, 1}
    os.kill(one.instance("talks/0")["pid"], signal.SIGKILL)
    eventually(lambda: one.instance("talks/0")["generation"] > 1)
    assert metric(one, 'pitboss_restarts_total{pool="dies"}') > GENERATIONS / 2
    assert (one.directory / "state" / "logs" / "talks-0.log.2").exists(), "it was rotated"
    quiet.touch()
    assert one.ctl("stop", "probed").returncode == 0
    one.wait_ready("talks", "dies")

    def settled() -> bool:
        return kinds(one.pid) <= before

    eventually(settled, 30, f"{kinds(one.pid)} is no more than {before}")
    open_now = held(one.pid)
    for number, registered in watched(one.pid).items():
        for descriptor, inode in registered:
            assert descriptor in open_now, f"epoll {number} watches {descriptor}, which is closed"
            assert os.stat(f"/proc/{one.pid}/fd/{descriptor}").st_ino == inode, open_now[descriptor]
    eventually(lambda: rests(one), 60, "the daemon comes to rest")
    assert metric(one, "pitboss_core_faults_total") == 0
    assert "Traceback" not in one.log()
