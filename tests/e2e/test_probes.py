"""Who says that a worker is ready, alive or drained, and what follows from each answer."""

import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import FAST_BACKOFF, pool, script, worker
from tests.e2e.daemon import Daemon
from tests.e2e.record import Record
from tests.ports import free_port
from tests.proc import is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]

OFTEN = {"period": "500ms", "timeout": "500ms"}
"""A probe that asks often, and gives a busy machine what time it can."""


class Site:
    """An HTTP server whose answers the test chooses, path by path; it keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.asked: list[tuple[str, str, float]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                site.asked.append((self.command, self.path, time.monotonic()))
                self.send_response(site.answers.get(self.path, 200))
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

            def log_message(self, *_: object) -> None:
                """Nothing: `asked` is the log."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def count(self, method: str, path: str) -> int:
        """How often this was asked."""
        return sum((method, path) == (verb, where) for verb, where, _ in self.asked)

    def close(self) -> None:
        """Stop answering."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    """A server for one test."""
    one = Site()
    yield one
    one.close()


class Silence:
    """A listener that accepts and never says a word; it counts who is connected at the same time."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.seen = self.most = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    def _listen(self) -> None:
        connected: set[socket.socket] = set()
        with selectors.DefaultSelector() as selector, self.listener:
            selector.register(self.listener, selectors.EVENT_READ)
            while not self.over.is_set():
                ready = {key.fileobj for key, _ in selector.select(0.05)}
                # A client hangs up before it calls again, so those who left are counted out first.
                for client in [one for one in connected if one in ready and not one.recv(4096)]:
                    selector.unregister(client)
                    connected.remove(client)
                    client.close()
                if self.listener in ready:
                    client, _ = self.listener.accept()
                    selector.register(client, selectors.EVENT_READ)
                    connected.add(client)
                    self.seen += 1
                    self.most = max(self.most, len(connected))
        for client in connected:
            client.close()

    def close(self) -> None:
        """Hang up."""
        self.over.set()
        self.thread.join()


@pytest.fixture
def silence() -> Iterator[Silence]:
    """A silent listener for one test."""
    one = Silence()
    yield one
    one.close()


def probe_failures(one: Daemon, name: str, check: str) -> float:
    """How many negative answers the metrics count."""
    found = re.search(
        rf'pitboss_probe_failures_total{{pool="{name}",check="{check}"}} (\S+)', one.get("/metrics").text
    )
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("how", ["http", "tcp", "exec", "notify"])
def test_a_worker_is_ready_when_it_says_or_shows_so(daemon: Make, tmp_path: Path, how: str) -> None:
    """Until then it is starting, whatever its uptime; its deadline is the startup timeout."""
    gate, port = tmp_path / "gate", free_port()
    waits = (
        "import pathlib, threading\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): threading.Event().wait(0.02)\n"
    )
    serves = {
        "http": (
            "from http.server import HTTPServer, SimpleHTTPRequestHandler\n"
            f"HTTPServer(('127.0.0.1', {port}), SimpleHTTPRequestHandler).serve_forever()"
        ),
        "tcp": f"import signal, socket\ns = socket.create_server(('127.0.0.1', {port}))\nsignal.pause()",
        "exec": "import signal\nsignal.pause()",
        "notify": (
            "import os, signal, socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
            "s.sendto(b'READY=1\\nSTATUS=open', os.environ['NOTIFY_SOCKET'])\nsignal.pause()"
        ),
    }
    readiness: dict[str, dict[str, Any]] = {
        "http": {"http": f"http://127.0.0.1:{port}/", **OFTEN},
        "tcp": {"tcp": f"127.0.0.1:{port}", **OFTEN},
        "exec": {"exec": ["test", "-e", str(gate)], **OFTEN},
        "notify": {"notify": True},
    }
    web = pool(
        script(waits + serves[how]), readiness=readiness[how], startup={"min_uptime": "0s", "timeout": "5m"}
    )
    one = daemon({"pools": {"web": web}})
    if how != "notify":
        eventually(lambda: probe_failures(one, "web", "readiness") >= 2)
    shown = one.instance("web/0")
    assert (shown["phase"], shown["ready"]) == ("starting", False)
    assert 60 < shown["deadline_seconds"] <= 300
    assert shown["waiting_for"] or shown["unready_reason"]
    gate.touch()
    one.wait_ready("web")
    shown = one.instance("web/0")
    assert shown["phase"] == "running"
    assert (shown["generation"], shown["deadline_seconds"], shown["unready_reason"]) == (1, None, None)
    if how == "notify":
        assert shown["status_text"] == "open"


def test_a_flapping_worker_is_unready_and_lives_on(daemon: Make, site: Site) -> None:
    """Unready with the probe's reason, phase running, the same process; ready again by itself."""
    web = pool(worker("obedient"), readiness={"http": f"{site.url}/healthz", "failure_threshold": 3, **OFTEN})
    one = daemon({"pools": {"web": web}})
    one.wait_ready("web")
    before = one.instance("web/0")

    def unready() -> dict[str, Any]:
        shown = one.instance("web/0")
        return {} if shown["ready"] else shown

    for status in (503, 404):
        site.answers["/healthz"] = status
        shown = eventually(unready)
        assert shown["phase"] == "running"
        assert str(status) in shown["unready_reason"]
        answer = one.get("/readyz")
        assert answer.status_code == 503
        assert str(status) in answer.text
        assert one.pool("web")["ready"] == 0
        site.answers["/healthz"] = 200
        one.wait_ready("web")
        eventually(lambda: one.get("/readyz").status_code == 200)
    after = one.instance("web/0")
    assert (after["pid"], after["generation"]) == (before["pid"], 1)
    assert after["unready_reason"] is None


def test_a_worker_that_is_not_alive_is_stopped_in_stages_and_restarted(
    daemon: Make, tmp_path: Path, site: Site
) -> None:
    """Failing in a row, not once; told by its TERM and given its window, then a new one comes up."""
    record = Record(tmp_path)
    web = record.recorder(
        liveness={"http": f"{site.url}/ping", "failure_threshold": 3, **OFTEN},
        restart={"backoff": FAST_BACKOFF},
    )
    one = daemon({"pools": {"web": web}})
    one.wait_ready("web")
    eventually(lambda: site.count("GET", "/ping") >= 3)
    assert one.instance("web/0")["generation"] == 1
    site.answers["/ping"] = 500
    eventually(lambda: record.moments("SIGTERM", "web"))
    site.answers["/ping"] = 200
    shown = eventually(lambda: (now := one.instance("web/0"))["generation"] == 2 and now["ready"] and now, 60)
    assert shown["last_exit"]["class"] == "probe"
    assert shown["last_exit"]["rung"] == "stage-1"
    assert shown["restarts"] == 1
    assert [word for word, *_ in record.lines()][:6] == ["begin", "ready", "SIGTERM", "end", "begin", "ready"]
    assert 'pitboss_exits_total{pool="web",class="probe"} 1' in one.get("/metrics").text
    assert probe_failures(one, "web", "liveness") >= 3


def test_a_start_that_takes_too_long_ends_on_the_ladder(daemon: Make) -> None:
    """A worker that is never ready and ignores TERM: every window, then SIGKILL, then the backoff."""
    web = pool(
        worker("stubborn"),
        readiness={"notify": True},
        startup={"timeout": "2s"},
        restart={"backoff": {"initial": "1h", "max": "1h", "jitter": "none"}},
    )
    one = daemon({"pools": {"web": web}})
    shown = one.wait_phase("web/0", "backoff")
    assert shown["last_exit"]["class"] == "startup-timeout"
    assert shown["last_exit"]["rung"] == "kill"
    assert shown["last_exit"]["uptime_seconds"] >= 4.0, "the time-out and two windows of a second"
    assert shown["failures"] == 1
    ended = one.logged("stop-ended")
    assert ended["outcome"] == "killed"


def test_questions_to_a_silent_server_do_not_pile_up(daemon: Make, silence: Silence) -> None:
    """Asked again the moment it timed out: one connection at a time for each instance."""
    web = pool(
        worker("obedient"),
        instances=2,
        readiness={"http": f"http://127.0.0.1:{silence.port}/", "period": "300ms", "timeout": "300ms"},
        startup={"timeout": "10m"},
    )
    one = daemon({"pools": {"web": web}})
    eventually(lambda: silence.seen >= 8)
    assert silence.most <= 2
    shown = eventually(lambda: (now := one.instance("web/0"))["unready_reason"] and now)
    assert "0.3" in shown["unready_reason"]
    assert shown["phase"] == "starting"


def test_commands_that_hang_do_not_pile_up(daemon: Make, tmp_path: Path) -> None:
    """Each is killed at its time-out, with what it started, before the next one is run."""
    pids = tmp_path / "pids"
    hangs = f'echo $$ >>"{pids}"; sleep 1000 & echo $! >>"{pids}"; wait'
    web = pool(
        worker("obedient"),
        readiness={"exec": ["sh", "-c", hangs], "period": "300ms", "timeout": "300ms"},
        startup={"timeout": "10m"},
    )
    one = daemon({"pools": {"web": web}})

    def started() -> list[int]:
        return [int(pid) for pid in pids.read_text().split()] if pids.exists() else []

    most = 0

    def enough() -> bool:
        nonlocal most
        known = started()
        most = max(most, sum(is_alive(pid) for pid in known))
        return len(known) >= 8

    eventually(enough)
    assert most <= 2, "a shell and its sleep"
    assert one.ctl("stop", "web").returncode == 0
    eventually(lambda: not any(is_alive(pid) for pid in started()))


def test_a_drain_by_http_lasts_until_it_is_idle(daemon: Make, tmp_path: Path, site: Site) -> None:
    """The request is repeated until it is accepted, then the worker keeps running until it holds nothing."""
    record = Record(tmp_path)
    site.answers |= {"/drain": 503, "/idle": 503}
    web = record.recorder(
        drain={"http": f"{site.url}/drain", "until": {"http": f"{site.url}/idle"}, "window": "5m"}
    )
    one = daemon({"pools": {"web": web}})
    one.wait_ready("web")
    operation = one.post("/v1/pools/web/drain").json()["id"]
    eventually(lambda: site.count("POST", "/drain") >= 2)
    assert site.count("GET", "/idle") == 0, "nobody asks for the end of a drain that was not accepted"
    assert "accepted" in one.instance("web/0")["waiting_for"]
    site.answers["/drain"] = 200
    eventually(lambda: site.count("GET", "/idle") >= 2)
    asked = site.count("POST", "/drain")
    shown = one.instance("web/0")
    assert (shown["phase"], shown["stage"], shown["ready"]) == ("draining", "drain", False)
    assert shown["waiting_for"] == "its work to finish"
    assert not record.moments("SIGTERM", "web")
    idle_at = time.monotonic()
    site.answers["/idle"] = 204
    assert one.operation(operation)["state"] == "succeeded"
    assert site.count("POST", "/drain") == asked, "accepted once is enough"
    assert record.first("SIGTERM", "web") > idle_at
    assert one.pool("web")["status"] == "drained"
    assert one.instance("web/0")["last_exit"]["rung"] == "stage-1"


@pytest.mark.parametrize("how", ["exec", "signal"])
def test_a_drain_by_a_command_or_a_signal(daemon: Make, tmp_path: Path, how: str) -> None:
    """The worker is told once, and terminated only when the end is told; by a command, or by itself."""
    record, idle, told, asked = Record(tmp_path), *(tmp_path / name for name in ("idle", "told", "asked"))
    command = {"exec": ["sh", "-c", f'echo "$PITBOSS_INSTANCE" >>"{told}"']}
    ask = command if how == "exec" else {"signal": "SIGUSR1"}
    web = record.recorder(
        drain={**ask, "until": {"exec": ["sh", "-c", f'echo >>"{asked}"; test -e "{idle}"']}, "window": "5m"}
    )
    one = daemon({"pools": {"web": web}})
    one.wait_ready("web")
    operation = one.post("/v1/pools/web/stop").json()["id"]
    eventually(lambda: told.exists() if how == "exec" else record.moments("SIGUSR1", "web"))
    eventually(lambda: asked.exists() and len(asked.read_text().splitlines()) >= 2)
    assert one.instance("web/0")["stage"] == "drain"
    assert not record.moments("SIGTERM", "web")
    idle_at = time.monotonic()
    idle.touch()
    assert one.operation(operation)["state"] == "succeeded"
    assert record.first("SIGTERM", "web") > idle_at
    if how == "exec":
        assert told.read_text() == "web/0\n"
    else:
        assert len(record.moments("SIGUSR1", "web")) == 1


def test_load_balancers_learn_first(daemon: Make, tmp_path: Path) -> None:
    """While it settles the instance and /readyz say no, and the worker has not been told anything."""
    record = Record(tmp_path)
    web = record.recorder(
        drain={"signal": "SIGUSR1", "settle": "3s", "window": "5m"}, environment={"DRAINS": "1"}
    )
    one = daemon({"pools": {"web": web}})
    one.wait_ready("web")
    assert one.get("/readyz").status_code == 200
    asked_at = time.monotonic()
    operation = one.post("/v1/pools/web/drain").json()["id"]
    shown = one.instance("web/0")
    answer = one.get("/readyz")
    seen_at = time.monotonic()
    assert (shown["phase"], shown["stage"], shown["ready"]) == ("draining", "settle", False)
    assert shown["waiting_for"] == "load balancers to notice"
    assert answer.status_code == 503
    assert one.operation(operation)["state"] == "succeeded"
    assert seen_at < record.first("SIGUSR1", "web") < record.first("SIGTERM", "web")
    assert record.first("SIGUSR1", "web") - asked_at >= 3.0 - 0.05
    assert [word for word, *_ in record.lines()] == ["begin", "ready", "SIGUSR1", "SIGTERM", "end"]
