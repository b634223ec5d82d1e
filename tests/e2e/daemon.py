"""A real `pitbossd` as a subprocess, driven only as a user would: ctl, HTTP, signals."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
WORKERS = Path(__file__).resolve().parent.parent / "workers"


def public_python() -> tuple[str, dict[str, str]]:
    """A Python that every user can run, and the environment that lets it see this installation.

    The interpreter of the virtual environment may lie below a home directory that is closed to others.
    """
    real = Path(sys.executable).resolve()
    if all(parent.stat().st_mode & 0o005 == 0o005 for parent in real.parents):
        return sys.executable, {}
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry.endswith("site-packages"))])
    return f"/usr/bin/python3.{sys.version_info.minor}", {"PYTHONPATH": path}


class Daemon:
    """One daemon in a directory of its own; end it with `close`, which leaves no process behind.

    `manifest` is merged over the directories of this test. Socket paths must stay under 108 bytes, so
    the directory is made directly in /tmp.
    """

    def __init__(
        self, manifest: Mapping[str, Any], *, user: int | None = None, env: Mapping[str, str] = {}
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pb-", dir="/tmp"))
        if user is not None:
            os.chown(self.directory, user, user)
        self.user = user
        self.env = dict(env)
        self.manifest_path = self.directory / "pitboss.yaml"
        self.socket = self.directory / "run" / "control.sock"
        self.log_path = self.directory / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.write_manifest(manifest)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Replace the manifest on disk."""
        whole = {
            "version": 1,
            "name": "test",
            "state_directory": str(self.directory / "state"),
            "runtime_directory": str(self.directory / "run"),
            **manifest,
        }
        self.manifest_path.write_text(yaml.safe_dump(whole, sort_keys=False))

    def start(self, *, wait: bool = True) -> "Daemon":
        """Start it, and wait until it answers."""
        environment = {**os.environ, **self.env}
        environment.pop("NOTIFY_SOCKET", None)
        command = [str(BIN / "pitbossd")]
        if self.user is not None:
            python, seen = public_python()
            # By env, after the change of user: a library to preload must not run as root first.
            environment = {name: value for name, value in environment.items() if name not in self.env}
            named = [f"{name}={value}" for name, value in (seen | self.env).items()]
            identity = [f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
            command = ["setpriv", *identity, "env", *named, python, "-m", "supervisor.cli.pitbossd"]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "run", str(self.manifest_path), "--log-format", "json"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.directory,
                start_new_session=True,
            )
        if wait:
            eventually(self._answers, 60, f"pitbossd answers; its log:\n{self.log()}")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"pitbossd ended with {self.process.returncode}:\n{self.log()}")
        # httpx leaves a socket open when it cannot connect, so whether somebody listens is asked first.
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(self.socket)) != 0:
                return False
        return self.get("/livez").status_code == 200

    # ── what a user does ─────────────────────────────────────────────────────────────────────────

    def client(self, timeout: float = 60.0) -> httpx.Client:
        """An HTTP client on the control socket."""
        transport = httpx.HTTPTransport(uds=str(self.socket))
        return httpx.Client(transport=transport, base_url="http://pitboss", timeout=timeout)

    def get(self, path: str) -> httpx.Response:
        """GET over the control socket."""
        with self.client() as client:
            return client.get(path)

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """POST over the control socket."""
        with self.client() as client:
            return client.post(path, json=dict(body or {}), headers=dict(headers or {}))

    def ctl(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run pitbossctl against this daemon, output captured (so: as in a pipe)."""
        return subprocess.run(
            [str(BIN / "pitbossctl"), "--socket", str(self.socket), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=self.directory,
        )

    def status(self) -> dict[str, Any]:
        """The whole status."""
        document: dict[str, Any] = self.get("/v1/status").json()
        return document

    def pool(self, name: str) -> dict[str, Any]:
        """One pool of the status."""
        document: dict[str, Any] = self.get(f"/v1/pools/{name}").json()
        return document

    def instance(self, name: str) -> dict[str, Any]:
        """One instance ("web/0")."""
        pool, _, index = name.partition("/")
        document: dict[str, Any] = self.get(f"/v1/pools/{pool}/instances/{index}").json()
        return document

    def wait_ready(self, *pools: str, within: float = 60.0) -> None:
        """Wait until these pools (default: all) have every wanted instance ready."""

        def ready() -> bool:
            shown = [pool for pool in self.status()["pools"] if not pools or pool["name"] in pools]
            return all(pool["ready"] == pool["wanted"] for pool in shown)

        eventually(ready, within, f"{pools or 'all pools'} ready; log:\n{self.log()[-3000:]}")

    def wait_phase(self, name: str, phase: str, within: float = 60.0) -> dict[str, Any]:
        """Wait until an instance is in a phase."""
        return eventually(
            lambda: (shown := self.instance(name)) and shown["phase"] == phase and shown,
            within,
            f"{name} is {phase}; now {self.instance(name)}",
        )

    def operation(self, operation: str) -> dict[str, Any]:
        """Wait until an operation is final, and return it."""

        def final() -> dict[str, Any]:
            shown: dict[str, Any] = self.get(f"/v1/operations/{operation}?wait=10").json()
            return shown if shown["state"] in {"succeeded", "failed", "aborted"} else {}

        return eventually(final, 120, f"operation {operation} ends")

    # ── evidence ─────────────────────────────────────────────────────────────────────────────────

    def log(self) -> str:
        """The daemon's own log so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def logged(self, event: str) -> dict[str, Any]:
        """The first line about such an event; what it tells can be seen a moment before it is written."""
        found = eventually(
            lambda: [one for one in self.log_records() if one.get("event") == event], 60, event
        )
        return dict(found[0])

    def log_records(self) -> list[dict[str, Any]]:
        """The daemon's own log, parsed."""
        records = []
        for line in self.log().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def output(self, name: str) -> str:
        """What an instance has written ("web/0")."""
        path = self.directory / "state" / "logs" / f"{name.replace('/', '-')}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        """The daemon's pid."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Signal the daemon."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait_end(self, within: float = 120.0) -> int:
        """Wait until the daemon has ended; its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"pitbossd still runs after {within} s:\n{self.log()[-4000:]}") from None

    def close(self) -> None:
        """End it at once, workers included, and remove its directory."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)
        shutil.rmtree(self.directory, ignore_errors=True)
