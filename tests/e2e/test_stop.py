"""Stopping: the ladder as an operator sees it, and nothing left of the tree."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import PYTHON, QUICK, read_pid, worker
from tests.e2e.daemon import Daemon
from tests.proc import is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]
NOBODY = 65534


@pytest.mark.parametrize("user", [None, NOBODY], ids=["control-groups", "without-root"])
@pytest.mark.parametrize("form", ["same-group", "new-group", "new-session", "daemon"])
@pytest.mark.parametrize("end", ["wait", "exit", "crash"])
def test_a_stubborn_grandchild_is_gone_after_the_stop(
    daemon: Make, form: str, end: str, user: int | None
) -> None:
    """Wherever it hides, and however its parent ended: after a stop, or before the next start, it is gone."""
    pidfile = Path("/tmp") / f"pb-{form}-{end}-{user}-{id(daemon):x}"
    pool = {
        "command": worker("forker", form, str(pidfile), end),
        "restart": {"policy": "never"},
        "startup": {"min_uptime": "100ms"},
        "stop": {"stages": QUICK},
    }
    one = daemon({"pools": {"tree": pool}}, user=user)
    try:
        grandchild = read_pid(pidfile)
        assert one.ctl("stop", "tree", "--timeout", "60s").returncode == 0
        assert not is_alive(grandchild)
        assert one.instance("tree/0")["phase"] == "stopped"
        metrics = one.get("/metrics").text
        assert 'pitboss_leftovers_total{pool="tree"} 1' in metrics
    finally:
        pidfile.unlink(missing_ok=True)


@pytest.mark.parametrize("user", [None, NOBODY], ids=["control-groups", "without-root"])
def test_the_kill_rung_reaches_a_work_horse_in_a_group_of_its_own(
    daemon: Make, tmp_path: Path, user: int | None
) -> None:
    """As RQ's: a kill of the process group would miss it."""
    tmp_path.chmod(0o777)
    pidfile = Path("/tmp") / f"pb-horse-{user}-{id(daemon):x}"
    pool = {"command": worker("horse", str(pidfile)), "stop": {"stages": QUICK}}
    one = daemon({"pools": {"rq": pool}}, user=user)
    try:
        horse = read_pid(pidfile)
        one.wait_ready()
        main = one.instance("rq/0")["pid"]
        done = one.ctl("stop", "rq", "--timeout", "60s")
        assert done.returncode == 0, done.stdout + done.stderr
        assert not is_alive(horse)
        assert not is_alive(main)
        assert one.instance("rq/0")["last_exit"]["rung"] == "kill"
        assert 'pitboss_stops_total{pool="rq",outcome="killed"} 1' in one.get("/metrics").text
    finally:
        pidfile.unlink(missing_ok=True)


def test_the_ladder_is_visible_at_every_moment(daemon: Make, tmp_path: Path) -> None:
    """On which rung, since when, until when, waiting for what: in the API, for each rung of a long stop."""
    pool = {
        "command": worker("stubborn"),
        "drain": {"notify": True, "settle": "1500ms", "window": "1500ms"},
        "stop": {
            "stages": [
                {"signal": "SIGTERM", "target": "main", "grace": "1500ms"},
                {"signal": "SIGINT", "target": "all", "grace": "1500ms"},
            ]
        },
    }
    one = daemon({"pools": {"slow": pool}})
    one.wait_ready()
    seen: dict[str, dict[str, Any]] = {}
    scraped: set[str] = set()
    operation = one.post("/v1/pools/slow/stop").json()["id"]
    revision = 0

    def look() -> bool:
        nonlocal revision
        shown = one.get(f"/v1/pools/slow/instances/0?after={revision}&wait=5").json()
        revision = shown["revision"]
        if shown["stage"] is not None:
            seen.setdefault(shown["stage"], shown)
            scraped.update(
                re.findall(r'pitboss_stage_remaining_seconds{.*stage="(.*)"}', one.get("/metrics").text)
            )
        return bool(shown["phase"] == "stopped")

    eventually(look, 60)
    assert one.operation(operation)["state"] == "succeeded"
    assert [name for name in seen if name != "kill"] == ["settle", "drain", "stage-1", "stage-2"]
    assert "kill" not in seen or list(seen)[-1] == "kill"
    assert scraped
    assert scraped <= {"settle", "drain", "stage-1", "stage-2", "kill"}
    for name in ("settle", "drain", "stage-1", "stage-2"):
        shown = seen[name]
        assert 0 < shown["deadline_seconds"] <= 1.5
        assert 0 <= shown["stage_since_seconds"] < 1.5
        assert shown["waiting_for"]
        assert not shown["ready"]
    assert [seen[name]["phase"] for name in ("settle", "drain", "stage-1")] == [
        "draining",
        "draining",
        "stopping",
    ]
    assert seen["stage-1"]["stage_signal"] == "SIGTERM"
    assert seen["stage-2"]["stage_target"] == "all"
    last = one.instance("slow/0")["last_exit"]
    assert (last["class"], last["rung"]) == ("clean", "kill")
    metrics = one.get("/metrics").text
    for rung in ("settle", "drain", "stage-1", "stage-2"):
        assert (
            f'pitboss_stop_stage_seconds_count{{pool="slow",stage="{rung}",outcome="window-closed"}} 1'
            in metrics
        )


def test_now_skips_the_drain_and_kill_goes_to_the_last_rung(daemon: Make) -> None:
    """A second wish only ever speeds a stop up, and the record says who skipped the windows."""
    pool = {
        "command": worker("stubborn"),
        "drain": {"notify": True, "window": "10m"},
        "stop": {"stages": [{"signal": "SIGTERM", "target": "main", "grace": "10m"}]},
    }
    one = daemon({"pools": {"slow": pool}})
    one.wait_ready()
    first = one.post("/v1/pools/slow/stop").json()["id"]
    assert one.instance("slow/0")["stage"] == "drain"
    assert one.post("/v1/pools/slow/stop", {"urgency": "now"}).json()["id"] == first
    assert one.instance("slow/0")["stage"] == "stage-1"
    assert one.post("/v1/pools/slow/stop", {}).json()["id"] == first
    assert one.instance("slow/0")["stage"] == "stage-1"
    assert one.post("/v1/pools/slow/stop", {"urgency": "kill"}).json()["id"] == first
    assert one.operation(first)["state"] == "succeeded"
    last = one.instance("slow/0")["last_exit"]
    assert last["rung"] == "kill"
    assert "operator" in last["detail"]


@pytest.mark.parametrize(
    ("script", "signal"),
    [
        ("import signal\nsignal.pause()", "SIGTERM"),
        (
            "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(143))\nsignal.pause()",
            "",
        ),
        (
            "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(0))\nsignal.pause()",
            "",
        ),
    ],
    ids=["by-the-signal", "143", "0"],
)
def test_an_end_by_our_signal_is_clean(daemon: Make, script: str, signal: str) -> None:
    """What uvicorn (re-raises TERM) and shells (128 + n) do when they are asked to end is a clean stop."""
    pool = {"command": [*PYTHON, "-c", script], "stop": {"stages": QUICK}, "startup": {"min_uptime": "500ms"}}
    one = daemon({"pools": {"web": pool}})
    one.wait_ready()
    assert one.ctl("stop", "web").returncode == 0
    last = one.instance("web/0")["last_exit"]
    assert last["class"] == "clean"
    assert last["rung"] == "stage-1"
    if signal:
        assert last["detail"] == signal


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("import os\nos.kill(os.getpid(), 15)", "signal"),
        ("import sys\nsys.exit(143)", "failure"),
    ],
)
def test_the_same_codes_unasked_are_crashes(daemon: Make, script: str, expected: str) -> None:
    """Nobody told it to end: that is a crash, whatever the code looks like."""
    pool = {"command": [*PYTHON, "-c", script], "restart": {"backoff": {"initial": "30s", "jitter": "none"}}}
    one = daemon({"pools": {"web": pool}})
    shown = one.wait_phase("web/0", "backoff")
    assert shown["last_exit"]["class"] == expected
    assert shown["last_exit"]["rung"] is None


def test_a_hung_worker_skips_the_drain_and_is_restarted(daemon: Make) -> None:
    """A missed watchdog means that nothing would be finished: straight to the stages, then a new start."""
    script = (
        "import os, socket, signal\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.sendto(b'READY=1\\nWATCHDOG=1', os.environ['NOTIFY_SOCKET'])\n"
        "signal.pause()\n"
    )
    pool = {
        "command": [*PYTHON, "-c", script],
        "readiness": {"notify": True},
        "watchdog": "1s",
        "drain": {"notify": True, "window": "10m"},
        "restart": {"backoff": {"initial": "50ms", "max": "100ms"}},
        "stop": {"stages": QUICK},
    }
    one = daemon({"pools": {"hung": pool}})
    shown = eventually(lambda: (now := one.instance("hung/0"))["generation"] > 1 and now, 60)
    assert shown["last_exit"]["class"] == "watchdog"
    assert 'pitboss_exits_total{pool="hung",class="watchdog"}' in one.get("/metrics").text


def test_a_worker_gets_more_time_up_to_the_ceiling(daemon: Make) -> None:
    """EXTEND_TIMEOUT_USEC is granted step by step and never beyond `extend.total`."""
    script = (
        "import os, socket, signal, threading\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "say = lambda text: s.sendto(text, os.environ['NOTIFY_SOCKET'])\n"
        "stop = threading.Event()\n"
        "signal.signal(15, lambda *_: stop.set())\n"
        "say(b'READY=1')\n"
        "stop.wait()\n"
        "while True:\n"
        "    say(b'EXTEND_TIMEOUT_USEC=100000000')\n"
        "    threading.Event().wait(0.2)\n"
    )
    pool = {
        "command": [*PYTHON, "-c", script],
        "readiness": {"notify": True},
        "stop": {
            "stages": [{"signal": "SIGTERM", "target": "main", "grace": "1s"}],
            "extend": {"step": "500ms", "total": "1s"},
        },
    }
    one = daemon({"pools": {"busy": pool}})
    one.wait_ready()
    operation = one.post("/v1/pools/busy/stop").json()["id"]
    assert one.operation(operation)["state"] == "succeeded"
    ended = one.logged("stop-ended")
    assert ended["outcome"] == "killed"
    assert 2.0 <= ended["seconds"] < 10
    granted = sum(record["seconds"] for record in one.log_records() if record.get("event") == "extended")
    assert granted == pytest.approx(1.0, abs=0.01)
