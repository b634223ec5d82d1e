"""What the first signal of a stop reaches, and what may follow a kill: judged by the workers themselves."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.commands import FAST_BACKOFF, pool, script, worker
from tests.e2e.daemon import Daemon
from tests.e2e.scrape import metric
from tests.proc import is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]

FAMILY = (
    "import os, signal, sys, threading\n"
    "def note(word):\n"
    "    descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
    "    os.write(descriptor, (word + '\\n').encode()); os.close(descriptor)\n"
    "told = threading.Event()\n"
    "signal.signal(signal.SIGTERM, lambda *_: (note('main told'), told.set()))\n"
    "child = os.fork()\n"
    "if child == 0:\n"
    "    signal.signal(signal.SIGTERM, lambda *_: (note('child told'), os._exit(1)))\n"
    "    note('child up')\n"
    "    while not os.path.exists(sys.argv[2]): threading.Event().wait(0.01)\n"
    "    note('child done'); os._exit(0)\n"
    "told.wait(); os.waitpid(child, 0); note('main done')\n"
)
"""As Celery's prefork: main waits for the job of its child, and a TERM to the child loses it. RECORD GATE."""


@pytest.mark.parametrize("how", ["stop", "restart", "shutdown"])
def test_only_the_main_process_is_told_first_and_once(daemon: Make, tmp_path: Path, how: str) -> None:
    """By the ladder of a manifest that says nothing about it: a job in a child of the group is finished."""
    record, gate = tmp_path / "record", tmp_path / "gate"
    jobs = {"command": [*script(FAMILY), str(record), str(gate)], "startup": {"min_uptime": "100ms"}}
    one = daemon({"pools": {"jobs": jobs}})
    one.wait_ready()
    eventually(lambda: record.exists() and "child up" in record.read_text())
    if how == "shutdown":
        one.signal(signal.SIGTERM)
    else:
        assert one.post(f"/v1/pools/jobs/{how}").status_code == 202
        # The wish again, as a hurried operator would: for RQ a second TERM means kill.
        assert one.post(f"/v1/pools/jobs/{how}").status_code == 202
    eventually(lambda: "main told" in record.read_text())
    gate.touch()
    eventually(lambda: "main done" in record.read_text())
    if how == "shutdown":
        assert one.wait_end() == 0
    else:
        eventually(lambda: one.instance("jobs/0")["last_exit"])
        assert one.instance("jobs/0")["last_exit"]["rung"] == "stage-1"
    words = [line for line in record.read_text().splitlines() if line != "child up"]
    assert words[:3] == ["main told", "child done", "main done"]
    assert "child told" not in words[:3]


SERVES = (
    "import os, signal, socket, sys\n"
    "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
    "s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(8)\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "for _ in range(2):\n"
    "    if os.fork() == 0: os.setpgid(0, 0); break\n"
    "while True:\n"
    "    c, _ = s.accept(); c.sendall(os.environ['PITBOSS_GENERATION'].encode()); c.close()\n"
)
"""As gunicorn: children hold the listening socket and outlive a main process that was killed. PORT."""


def test_after_a_kill_the_port_is_free_again(daemon: Make) -> None:
    """The main process is killed from outside: what it left is swept before the next one binds, at once."""
    with socket.socket() as one_socket:
        one_socket.bind(("127.0.0.1", 0))
        port = one_socket.getsockname()[1]
    web = pool(
        [*script(SERVES), str(port)],
        readiness={"tcp": f"127.0.0.1:{port}"},
        restart={"backoff": FAST_BACKOFF},
    )
    one = daemon({"pools": {"web": web}})
    one.wait_ready()
    os.kill(one.instance("web/0")["pid"], signal.SIGKILL)
    eventually(lambda: (now := one.instance("web/0"))["generation"] == 2 and now["ready"], 60)
    for _ in range(6):
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            assert client.recv(10) == b"2", "nobody of the first generation answers"
    assert metric(one, 'pitboss_exits_total{pool="web",class="failure"}') == 0, "it bound at the first try"
    assert metric(one, 'pitboss_leftovers_total{pool="web"}') == 2


def test_a_helper_that_goes_a_moment_later_is_no_leftover(daemon: Make, tmp_path: Path) -> None:
    """As uvicorn's: it ends by itself just after main. The stop is clean, and nothing was left behind."""
    gone = tmp_path / "gone"
    text = (
        "import os, signal, sys, threading\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "reading, writing = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN); os.close(writing); os.read(reading, 1)\n"
        f"    threading.Event().wait(0.15); open({str(gone)!r}, 'w').close(); os._exit(0)\n"
        "while True: signal.pause()\n"
    )
    one = daemon({"pools": {"web": {"command": script(text), "startup": {"min_uptime": "200ms"}}}})
    one.wait_ready()
    assert one.ctl("stop", "web").returncode == 0
    assert gone.exists(), "it had its moment"
    assert metric(one, 'pitboss_leftovers_total{pool="web"}') == 0
    assert metric(one, 'pitboss_stops_total{pool="web",outcome="clean"}') == 1


def test_what_an_operator_stopped_is_not_brought_back_by_its_crash_loop(daemon: Make) -> None:
    """Stopped between two tries of a loop: no further try, whatever the backoff was about to do."""
    one = daemon(
        {
            "pools": {
                "loop": pool(worker("crasher", "code", "3"), restart={"backoff": FAST_BACKOFF}),
                "pace": pool(worker("obedient"), rollout={"min_ready": "500ms"}),
            }
        }
    )
    one.wait_ready("pace")
    eventually(lambda: one.instance("loop/0")["generation"] > 3)
    assert one.ctl("stop", "loop").returncode == 0
    stopped = one.instance("loop/0")
    assert stopped["phase"] == "stopped"
    # A whole restart of a neighbour goes by, longer than every backoff of this pool.
    assert one.ctl("restart", "pace").returncode == 0
    still = one.instance("loop/0")
    assert (still["phase"], still["generation"]) == ("stopped", stopped["generation"])
    assert one.ctl("start", "loop", "--no-wait").returncode == 0
    eventually(lambda: one.instance("loop/0")["generation"] > stopped["generation"] + 1)


def test_a_hundred_wrong_commands_cost_no_more_than_their_backoff(daemon: Make) -> None:
    """No try comes before its time, and a neighbour dies and comes back meanwhile."""
    rules = {"backoff": {"initial": "300ms", "factor": 2, "max": "1h", "jitter": "none"}}
    one = daemon(
        {
            "pools": {
                "wrong": pool(["/no/such/program"], instances=100, restart=rules),
                "good": pool(worker("obedient"), restart={"backoff": FAST_BACKOFF}),
            }
        }
    )
    one.wait_ready("good")
    eventually(lambda: one.instance("wrong/99")["generation"] >= 3)
    victim = one.instance("good/0")
    os.kill(victim["pid"], signal.SIGKILL)
    eventually(lambda: (now := one.instance("good/0"))["ready"] and now["generation"] == 2)
    uptime = one.status()["uptime_seconds"]
    tries = metric(one, 'pitboss_exits_total{pool="wrong",class="spawn-error"}')
    # The n-th try comes 0.3 * (2**(n-1) - 1) seconds after the first.
    most = next(n for n in range(1, 99) if 0.3 * (2**n - 1) > uptime + 5)
    assert 300 <= tries <= 100 * most
    assert not is_alive(victim["pid"])
    assert metric(one, "pitboss_core_faults_total") == 0
