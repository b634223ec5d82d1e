"""An example manifest of `configs/` with a real server, under a real daemon, and clients that ask it."""

import os
import shutil
import time
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from tests.e2e.daemon import BIN, ROOT, Daemon
from tests.waiting import eventually
from tests.workloads.http_load import Load

PATIENCE_SECONDS = 120.0
"""How long a thing may take on a machine that is busy with something else."""


def need(program: str, package: str) -> str:
    """The path of a program; skips where it is not installed, and fails where everything must be."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is not None:
        return found
    message = f"{program} is not installed (Debian: apt install {package})"
    if os.environ.get("CI"):
        raise AssertionError(message)
    pytest.skip(message)


class Site:
    """One example in a directory of its own, under one daemon, with clients; end it with `close`.

    `folder` of `configs/` goes with it; `overrides` is laid over the example as a later file.
    """

    def __init__(
        self, example: str, folder: str, overrides: Mapping[str, Any], env: Mapping[str, str] = {}
    ) -> None:
        path = os.pathsep.join([str(BIN), os.environ["PATH"], "/usr/sbin"])
        self.daemon = Daemon({"include": [f"{example}.yaml", "overrides.yaml"]}, env={"PATH": path, **env})
        directory = self.daemon.directory
        shutil.copy(ROOT / "configs" / f"{example}.yaml", directory)
        shutil.copytree(
            ROOT / "configs" / folder, directory / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
        self.override(overrides)
        self._loads: list[Load] = []
        self._began = time.monotonic()

    def override(self, overrides: Mapping[str, Any]) -> None:
        """Write what is laid over the example."""
        (self.daemon.directory / "overrides.yaml").write_text(yaml.safe_dump({"version": 1, **overrides}))

    def start(self) -> "Site":
        """Start the daemon, and wait until every worker is ready."""
        self.daemon.start()
        self.daemon.wait_ready(within=PATIENCE_SECONDS)
        return self

    def load(self, port: int, **options: Any) -> Load:
        """Clients on a port; returns when they are well under way."""
        one = Load(port, **options)
        self._loads.append(one)
        self.wait_more(one)
        return one

    def wait_more(self, load: Load, count: int = 30) -> None:
        """Wait until so many more requests were answered, and slow ones are being answered."""
        before = load.total
        eventually(
            lambda: load.total >= before + count and load.in_flight() > 0,
            PATIENCE_SECONDS,
            f"{count} more answers; {load.summary()}; log:\n{self.daemon.log()[-3000:]}",
        )

    def ctl(self, load: Load, *words: str) -> None:
        """Ask for something with pitbossctl while requests are in flight, and note what it took."""
        eventually(lambda: load.in_flight() > 0, PATIENCE_SECONDS, "a request in flight")
        began, before, failed, held = time.monotonic(), load.total, len(load.failures), load.in_flight()
        done = self.daemon.ctl(*words, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.daemon.log()[-5000:]}"
        took, answered = time.monotonic() - began, load.total - before
        counts = f"{held} in flight when asked, {answered} answered meanwhile"
        self.note(f"{' '.join(words):20} {took:5.1f} s, {counts}, {len(load.failures) - failed} failed")

    def note(self, line: str) -> None:
        """Say what was done, and when."""
        print(f"{time.monotonic() - self._began:5.1f} s  {line}")

    def settle(self, load: Load) -> None:
        """End the clients, and print the count."""
        load.close()
        self.note(load.summary())

    def close(self) -> None:
        """End everything that was started."""
        self.daemon.close()
        for load in self._loads:
            load.close()
