"""The demo does what its welcome text says: nothing is lost by a drain, a restart or the end."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port, free_ports_in_a_row
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120.0


class Demo:
    """The demo in a directory of its own, on ports of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.configs = directory / "configs"
        self.socket = directory / "run" / "control.sock"
        first = free_ports_in_a_row(2)
        self.ports = (first, first + 1, free_port())
        shutil.copytree(ROOT / "configs" / "demo", self.configs / "demo")
        text = (ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8")
        for old, new in (
            ("../../.venv/bin/python", sys.executable),
            ("8001 + index", f"{self.ports[0]} + index"),
            ("127.0.0.1:9911", f"127.0.0.1:{self.ports[2]}"),
            ("name: demo\n", f"name: demo\nruntime_directory: {directory}/run\n"),
        ):
            assert old in text
            text = text.replace(old, new)
        (self.configs / "demo.yaml").write_text(text, encoding="utf-8")
        self.log = (directory / "log").open("wb")
        self.daemon = subprocess.Popen(
            [sys.executable, "-m", "supervisor.cli.pitbossd", "run", str(self.configs / "demo.yaml")],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,
        )

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run pitbossctl against this daemon."""
        command = [sys.executable, "-m", "supervisor.cli.pitbossctl", "--socket", str(self.socket), *words]
        return subprocess.run(
            command, cwd=ROOT, text=True, capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )

    def pools(self) -> dict[str, Any]:
        """The pools by their names, or nothing while the daemon does not answer."""
        answer = self.ctl("--json", "status")
        if answer.returncode:
            return {}
        return {pool["name"]: pool for pool in json.loads(answer.stdout)["pools"]}

    def is_ready(self) -> bool:
        """Whether each pool is where the manifest wants it."""
        pools = self.pools()
        return bool(pools) and all(pool["status"] in {"healthy", "completed"} for pool in pools.values())

    def tally(self) -> dict[str, int]:
        """The numbers of the demo's own tally."""
        run = subprocess.run(
            [sys.executable, "tally.py"],
            cwd=self.configs / "demo",
            text=True,
            capture_output=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        words = [line.split() for line in run.stdout.splitlines()[:5]]
        return {name: int(number) for name, number, *_ in words}

    def end(self) -> int:
        """Ask the daemon to end, and wait for it; its exit code."""
        self.daemon.send_signal(signal.SIGTERM)
        return self.daemon.wait(PATIENCE_SECONDS)

    def clean_up(self) -> None:
        """Leave nothing behind, also after a failure."""
        if self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGQUIT)
            try:
                self.daemon.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        self.log.close()
        print((self.directory / "log").read_text(errors="replace")[-5000:])
        shutil.rmtree(self.directory)


@pytest.fixture
def demo() -> Iterator[Demo]:
    """The demo, up and working."""
    # Short, because a socket's path may have 107 bytes.
    running = Demo(Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp")))
    try:
        eventually(running.is_ready, within=PATIENCE_SECONDS)
        eventually(lambda: running.tally()["finished"] >= 3, within=PATIENCE_SECONDS)
        yield running
    finally:
        running.clean_up()


@pytest.mark.timeout(600)
def test_the_demo_loses_nothing(demo: Demo) -> None:
    """Drain, resume, restart under a request, end: each task is accounted for, and the request answered."""
    drained = demo.ctl("drain", "jobs")
    assert drained.returncode == 0, drained.stderr
    assert [one["phase"] for one in demo.pools()["jobs"]["instances"]] == ["stopped"] * 3
    tally = demo.tally()
    assert (tally["running"], tally["lost"]) == (0, 0)

    resumed = demo.ctl("resume", "jobs")
    assert resumed.returncode == 0, resumed.stderr
    eventually(lambda: demo.tally()["finished"] > tally["finished"], within=PATIENCE_SECONDS)

    answers: list[bytes] = []
    url = f"http://127.0.0.1:{demo.ports[0]}/slow?seconds=6"
    request = threading.Thread(
        target=lambda: answers.append(urllib.request.urlopen(url, timeout=PATIENCE_SECONDS).read())
    )
    request.start()
    eventually(lambda: in_flight(demo) > 0)
    restarted = demo.ctl("restart", "web")
    assert restarted.returncode == 0, restarted.stderr
    request.join(PATIENCE_SECONDS)
    assert answers
    assert b"still web/0 generation 1" in answers[0]
    assert [one["generation"] for one in demo.pools()["web"]["instances"]] == [2, 2]

    assert demo.end() == 0
    tally = demo.tally()
    assert (tally["running"], tally["lost"]) == (0, 0)
    assert tally["queued"] == tally["finished"] + tally["waiting"]


def in_flight(demo: Demo) -> int:
    """How many slow requests the first web process is in the middle of."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{demo.ports[0]}/idle", timeout=10) as answer:
            return int(answer.read().split()[0])
    except urllib.error.HTTPError as error:
        with error:
            return int(error.read().split()[0])


def test_the_welcome_text_shows_commands_that_exist() -> None:
    """Every path that the text tells people to type is there."""
    text = (ROOT / "configs" / "demo" / "welcome.txt").read_text(encoding="utf-8")
    assert "pitbossctl" in text
    for word in text.split():
        if word.startswith("configs/"):
            assert (ROOT / word).is_file()


def test_the_demo_needs_no_root() -> None:
    """Nothing in the demo's manifest asks for another user or a system directory."""
    text = (ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8")
    assert "user:" not in text
    assert not any(f" {folder}/" in text for folder in ("/var", "/run", "/etc"))
