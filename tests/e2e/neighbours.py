"""Three good pools that live beside whatever a test does, and the facts by which they were not harmed.

`quiet` is asked over HTTP, `victim` is killed and must be back, `teller` is asked by a command and writes
numbered lines of which none may be missing.
"""

import os
import re
import signal
from pathlib import Path
from typing import Any

from tests.e2e.commands import FAST_BACKOFF, pool, script
from tests.e2e.daemon import Daemon
from tests.e2e.scrape import metric
from tests.ports import free_port
from tests.waiting import eventually

QUIET = (
    "import http.server, os, signal, socket, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "class Answers(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        os.write(1, b'asked\\n')\n"
    "        self.send_response(204)\n"
    "        self.end_headers()\n"
    "    def log_message(self, *_):\n"
    "        pass\n"
    "server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Answers)\n"
    "with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:\n"
    "    notify.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n"
    "server.serve_forever()\n"
)
VICTIM = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "print('victim', os.environ['PITBOSS_GENERATION'], flush=True)\n"
    "while True: signal.pause()\n"
)
TELLER = (
    "import os, signal, sys, threading\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "n = 0\n"
    "while True:\n"
    "    n += 1\n"
    "    os.write(1, b'line %d of %s\\n' % (n, os.environb[b'PITBOSS_GENERATION']))\n"
    "    threading.Event().wait(0.005)\n"
)


def victim(**more: Any) -> dict[str, Any]:
    """A pool that is back soon when it is killed."""
    return pool(script(VICTIM), restart={"backoff": FAST_BACKOFF}, **more)


def neighbours(**more: Any) -> dict[str, Any]:
    """Their part of a manifest. A probe may be late on a busy machine, but its answer is never no."""
    port = free_port()
    rules = {"period": "3s", "timeout": "3s", "failure_threshold": 1}
    quiet = pool(
        [*script(QUIET), str(port)],
        readiness={"notify": True},
        liveness={"http": f"http://127.0.0.1:{port}/", **rules},
        **more,
    )
    return {
        "quiet": quiet,
        "victim": victim(**more),
        "teller": pool(script(TELLER), liveness={"exec": ["true"], **rules}, **more),
    }


def told(one: Daemon) -> list[int]:
    """The numbers of the teller's whole lines, in the order of its log."""
    return [int(number) for number in re.findall(r"^line (\d+) of 1\n", one.output("teller/0"), re.MULTILINE)]


def kill_and_wait(one: Daemon, name: str = "victim/0") -> None:
    """Kill an instance and wait until its next generation is ready and its output is in its log."""
    before = one.instance(name)
    os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        now = one.instance(name)
        return bool(now["generation"] > before["generation"] and now["ready"])

    eventually(back, 60, f"{name} is back; log:\n{one.log()[-2000:]}")
    generation = one.instance(name)["generation"]
    eventually(lambda: f"victim {generation}\n" in one.output(name), 60, "its own lines arrive in its log")


def assert_unharmed(one: Daemon) -> None:
    """The victim is back when killed, lines go on and none is missing, and no probe said no."""
    kill_and_wait(one)
    last, asked = told(one)[-1], one.output("quiet/0").count("asked")
    eventually(lambda: told(one)[-1] > last + 10, 60, "lines go on")
    eventually(lambda: one.output("quiet/0").count("asked") > asked, 60, "probes go on")
    numbers = told(one)
    assert numbers == list(range(1, len(numbers) + 1))
    for name in ("quiet", "teller"):
        shown = one.instance(f"{name}/0")
        assert (shown["generation"], shown["ready"]) == (1, True), shown
        assert metric(one, f'pitboss_probe_failures_total{{pool="{name}",check="liveness"}}') == 0
    assert metric(one, 'pitboss_log_dropped_total{pool="teller"}') == 0
    assert metric(one, "pitboss_core_faults_total") == 0
    assert "Traceback" not in one.log(), one.log()[-6000:]


def memory_bytes(pid: int) -> int:
    """Resident memory of a process that is its own: shared pages of files do not count."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) * 1024 for size in re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE))
