"""A booted system to try things in, whatever it runs on: commands go in, answers come out."""

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.waiting import eventually

KINDS = tuple(os.environ.get("PITBOSS_GUESTS", "bookworm,testing").split(","))
"""Which guests are booted: releases of Debian, in containers, and `machine` for the emulated ones."""

IN_FULL = "machine" in KINDS

UNIT = "pitbossd"
DROP_IN = f"/etc/systemd/system/{UNIT}.service.d/test.conf"
WORKERS = "/src/tests/workers"
MANIFEST = "/etc/pitboss/pitboss.yaml"


@dataclass(frozen=True)
class Answer:
    """How a command in the guest ended."""

    code: int
    out: str
    err: str


class Guest:
    """One booted guest. `patience` multiplies every time-out: an emulated machine is slow.

    `systemd` is the version of its systemd; `has_memory` says whether it has the memory controller.
    """

    def __init__(self, channel: socket.socket, patience: float, console: Path) -> None:
        self._channel = channel
        self._stream = channel.makefile("rw", encoding="utf-8")
        self._console = console
        self.patience = patience
        self._since = ""

    def greet(self) -> None:
        """Wait until the guest has booted, and learn what it is."""
        self._channel.settimeout(60 * self.patience)
        try:
            hello = self._stream.readline()
        except OSError as error:
            raise AssertionError(f"the guest does not boot: {error}\n{self.console()}") from error
        assert hello.startswith("{"), f"the guest does not boot: {hello!r}\n{self.console()}"
        # Until the queue of the boot is empty, everything that is started waits.
        self.run("systemctl", "is-system-running", "--wait", check=False)
        self.systemd = int(self.run("systemctl", "--version").split()[1])
        self.has_memory = "memory" in self.run("cat", "/sys/fs/cgroup/cgroup.controllers").split()

    def console(self) -> str:
        """The last of what the guest wrote to its console."""
        return self._console.read_text(errors="replace")[-4000:] if self._console.exists() else ""

    def ask(
        self,
        *argv: str,
        seconds: float = 60.0,
        stdin: str = "",
        environment: Mapping[str, str] = {},
    ) -> Answer:
        """Run a command to its end, as root in /."""
        patience = seconds * self.patience
        self._channel.settimeout(patience + 30)
        request = {"argv": argv, "input": stdin, "seconds": patience, "environment": dict(environment)}
        self._stream.write(json.dumps(request) + "\n")
        self._stream.flush()
        line = self._stream.readline()
        assert line, f"the guest is gone while it ran {argv}\n{self.console()}"
        answer = json.loads(line)
        assert answer["code"] is not None, f"{argv} does not end: {answer['out']}{answer['err']}"
        return Answer(answer["code"], answer["out"], answer["err"])

    def run(self, *argv: str, check: bool = True, seconds: float = 60.0, **more: Any) -> str:
        """The output of a command; with `check` it must succeed."""
        answer = self.ask(*argv, seconds=seconds, **more)
        if check and answer.code != 0:
            raise AssertionError(
                f"{argv} ended with {answer.code}:\n{answer.out}{answer.err}\n{self.journal()}"
            )
        return answer.out

    def eventually(self, condition: Callable[[], Any], what: str = "", within: float = 30.0) -> Any:
        """As in `tests.waiting`, with the patience that this guest needs."""
        try:
            return eventually(condition, within * self.patience, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.journal()}") from error

    # ── files ────────────────────────────────────────────────────────────────────────────────────

    def write(self, path: str, text: str) -> None:
        """Write a file, its directory included."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path, stdin=text)

    def read(self, path: str) -> str:
        """A file, or nothing if there is none."""
        return self.ask("cat", path).out

    # ── the daemon ───────────────────────────────────────────────────────────────────────────────

    def configure(self, pools: Mapping[str, Any], drop_in: str = "", **more: Any) -> None:
        """Write the manifest, and what of the unit is to differ in this test."""
        self.write(MANIFEST, yaml.safe_dump({"version": 1, "name": "guest", **more, "pools": dict(pools)}))
        self.write(DROP_IN, f"[Service]\n{drop_in}\n")
        self.run("systemctl", "daemon-reload")

    def start(self) -> None:
        """Start the unit; this returns when it is ready."""
        self.run("systemctl", "start", UNIT, seconds=90)

    def stop(self) -> float:
        """Stop the unit; the seconds that it took."""
        began = time.monotonic()
        self.run("systemctl", "stop", UNIT, seconds=120)
        return time.monotonic() - began

    def reset(self) -> None:
        """As it was after the installation: nothing runs, nothing is remembered."""
        self.ask("systemctl", "kill", "--signal=KILL", UNIT)
        self.ask("systemctl", "stop", UNIT)
        self.ask("systemctl", "reset-failed", UNIT)
        self.run("sh", "-c", f"rm -rf /var/lib/pitboss/* /var/lib/test {DROP_IN}")
        self.run("sh", "-c", "mkdir -p /var/lib/test && chmod 1777 /var/lib/test")
        self.run("cp", "/src/configs/first.yaml", MANIFEST)
        self.run("systemctl", "daemon-reload")
        self.run("journalctl", "--sync")
        self._since = self.run("journalctl", "--lines", "0", "--show-cursor").partition("cursor: ")[2].strip()

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.run("systemctl", "show", "--value", "--property", name, UNIT).strip()

    def ctl(self, *arguments: str, seconds: float = 60.0) -> Answer:
        """Run pitbossctl."""
        return self.ask("pitbossctl", *arguments, seconds=seconds)

    def instance(self, name: str) -> dict[str, Any]:
        """An instance as the status page shows it."""
        pool, _, index = name.partition("/")
        status = json.loads(self.ctl("status", "--json").out)
        (found,) = [one for one in status["pools"] if one["name"] == pool]
        instance: dict[str, Any] = found["instances"][int(index)]
        return instance

    def journal(self, *more: str) -> str:
        """What the unit has logged since the last `reset`."""
        words = ["journalctl", "--unit", UNIT, "--no-pager", "--output", "cat", "--lines", "300"]
        since = [f"--after-cursor={self._since}"] if self._since else []
        return self.ask(*words, *since, *more).out

    def processes(self, user: str) -> list[int]:
        """The processes of a user."""
        return [int(pid) for pid in self.ask("pgrep", "--euid", user).out.split()]
