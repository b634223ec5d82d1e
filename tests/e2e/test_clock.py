"""The wall clock is stepped by a day while things are under way: nothing ends early, nothing sticks."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clock import LIBRARIES, Clock
from tests.e2e.commands import pool, script, worker
from tests.e2e.daemon import Daemon
from tests.e2e.record import Record
from tests.proc import is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]

DAY_SECONDS = 86400

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="needs the package faketime")

WATCHED = script(
    "import os, socket, threading\n"
    "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    "s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n"
    "while True:\n"
    "    s.sendto(b'WATCHDOG=1', os.environ['NOTIFY_SOCKET'])\n"
    "    threading.Event().wait(0.3)\n"
)


def now_of(one: Daemon) -> str:
    """A time that the daemon has just written: that of an operation begun for the purpose."""
    started: str = one.post("/v1/pools/anchor/start").json()["started_at"]
    return started


def assert_ages_are_sane(one: Daemon) -> None:
    """No age and no time left that a day was added to or taken from."""
    status = one.status()
    shown = [instance for each in status["pools"] for instance in each["instances"]]
    for instance in shown:
        for key in ("since_seconds", "uptime_seconds", "deadline_seconds", "stage_since_seconds"):
            assert instance[key] is None or 0 <= instance[key] < 3600, (instance["name"], key)
        last = instance["last_exit"]
        assert last is None or 0 <= last["ago_seconds"] < 3600
        assert last is None or 0 <= last["uptime_seconds"] < 3600
    assert 0 <= status["uptime_seconds"] < 3600


def test_no_start_and_no_backoff_sticks(daemon: Make, tmp_path: Path) -> None:
    """A minimum uptime, a startup timeout, a probe's period, a watchdog and a backoff all take their time."""
    clock = Clock(tmp_path)
    go, gate = tmp_path / "go", tmp_path / "gate"
    waits = (
        "import pathlib, threading\n"
        f"while not pathlib.Path({str(go)!r}).exists(): threading.Event().wait(0.02)"
    )
    rules = {"backoff": {"initial": "3s", "max": "3s", "jitter": "none"}}
    after = {"depends_on": {"go": "completed"}, "restart": rules}
    one = daemon(
        {
            "pools": {
                "anchor": pool(worker("obedient")),
                "go": pool(script(waits), kind="task"),
                "slow": pool(worker("obedient"), **{**after, "startup": {"min_uptime": "4s"}}),
                "never": pool(
                    worker("obedient"), readiness={"notify": True}, **{**after, "startup": {"timeout": "6s"}}
                ),
                "crash": pool(worker("crasher", "code", "3"), **after),
                "probed": pool(
                    worker("obedient"),
                    readiness={"exec": ["test", "-e", str(gate)], "period": "1s", "timeout": "1s"},
                ),
                "watched": pool(WATCHED, readiness={"notify": True}, watchdog="15s"),
            }
        },
        env=clock.env,
    )
    one.wait_ready("anchor", "watched")
    assert clock.shows(now_of(one))
    go.touch()
    eventually(lambda: {one.instance(f"{name}/0")["phase"] for name in ("slow", "never")} == {"starting"})
    clock.step(DAY_SECONDS)
    assert_ages_are_sane(one)
    one.wait_phase("crash/0", "backoff")
    clock.step(-DAY_SECONDS)
    assert_ages_are_sane(one)
    clock.step(DAY_SECONDS)
    assert clock.shows(now_of(one)), "the daemon sees the stepped clock"
    gate.touch()
    one.wait_ready("slow", "probed")
    generation = one.instance("crash/0")["generation"]
    eventually(lambda: one.instance("crash/0")["generation"] >= generation + 1)
    eventually(lambda: one.instance("never/0")["generation"] >= 2)
    assert one.instance("never/0")["last_exit"]["class"] == "startup-timeout"
    assert 6.0 <= one.instance("never/0")["last_exit"]["uptime_seconds"] < 60
    clock.step(-DAY_SECONDS)
    generation = one.instance("crash/0")["generation"]
    eventually(lambda: one.instance("crash/0")["generation"] >= generation + 2)
    shown = one.instance("watched/0")
    assert (shown["ready"], shown["restarts"]) == (True, 0)
    assert_ages_are_sane(one)
    assert "pitboss_core_faults_total 0" in one.get("/metrics").text


@pytest.mark.parametrize("seconds", [DAY_SECONDS, 30 * 366 * DAY_SECONDS], ids=["day", "thirty-years"])
def test_no_stop_sticks_and_no_window_closes_early(daemon: Make, tmp_path: Path, seconds: int) -> None:
    """Stepped to and fro all through a stop, and once more while the whole host goes down."""
    clock, record = Clock(tmp_path), Record(tmp_path)
    ladder: dict[str, Any] = {
        "drain": {"notify": True, "settle": "1500ms", "window": "1500ms"},
        "stop": {"stages": [{"signal": "SIGTERM", "target": "main", "grace": "1500ms"}]},
    }
    one = daemon(
        {
            "pools": {
                "anchor": pool(worker("obedient")),
                "slow": pool(worker("stubborn"), **ladder),
                "web": record.recorder(depends_on=["db"]),
                "db": record.recorder(drain={"notify": True, "window": "2s"}),
                "last": pool(worker("stubborn"), **ladder),
            }
        },
        env=clock.env,
    )
    one.wait_ready()
    operation = one.post("/v1/pools/slow/stop").json()["id"]
    steps = 0

    def stepped_until_stopped() -> bool:
        nonlocal steps
        assert_ages_are_sane(one)
        clock.step(-seconds if steps % 2 else seconds)
        steps += 1
        return bool(one.instance("slow/0")["phase"] == "stopped")

    eventually(stepped_until_stopped, 60)
    assert one.operation(operation)["state"] == "succeeded"
    one.logged("operation-ended")
    climbed = {
        entry["from"]: entry["seconds"]
        for entry in one.log_records()
        if entry.get("event") == "climbed" and entry["instance"] == "slow/0"
    }
    assert list(climbed) == ["settle", "drain", "stage-1", "kill"]
    for rung in ("settle", "drain", "stage-1"):
        assert 1.5 <= climbed[rung] < 60, "the whole window, and no step more"
    assert clock.shows(now_of(one))
    pids = [instance["pid"] for each in one.status()["pools"] for instance in each["instances"]]
    one.signal(signal.SIGTERM)
    eventually(lambda: one.instance("last/0")["stage"])
    clock.step(seconds)
    assert one.wait_end() == 0
    assert not any(is_alive(pid) for pid in pids if pid)
    assert record.first("SIGTERM", "db") >= record.last("end", "web")
