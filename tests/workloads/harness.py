"""An example manifest of `configs/` under a real daemon, its queue on a real server, and tasks that flow."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.e2e.daemon import BIN, ROOT, Daemon
from tests.waiting import eventually
from tests.workloads import accounting
from tests.workloads.accounting import Account, Generation, Row
from tests.workloads.redis_server import RedisServer

PATIENCE_SECONDS = 120.0
"""How long a thing may take on a machine that is busy with something else."""


@dataclass(frozen=True)
class Program:
    """One queue program: its example, and what must be known to wait for it.

    `slots` is how many tasks one instance does at a time, `left` how many tasks its broker still has,
    waiting or handed out and not yet acknowledged.
    """

    name: str
    slots: int
    per_second: float
    left: Callable[["Workload"], int]


class Workload:
    """One or more examples in a directory of their own, under one daemon; end it with `close`.

    `overrides` is laid over the examples as a later file of the manifest.
    """

    def __init__(
        self,
        server: RedisServer,
        *programs: str,
        overrides: Mapping[str, Any] = {},
        env: Mapping[str, str] = {},
    ) -> None:
        includes = [*(f"{program}.yaml" for program in programs), "overrides.yaml"]
        path = os.pathsep.join([str(BIN), os.environ["PATH"]])
        self.daemon = Daemon({"include": includes}, env={"PATH": path})
        directory = self.daemon.directory
        self.server = server
        self.ledger = directory / "ledger.db"
        self.env = {"REDIS_URL": server.url, "LEDGER": str(self.ledger), **env}
        for program in programs:
            shutil.copy(ROOT / "configs" / f"{program}.yaml", directory)
        shutil.copytree(
            ROOT / "configs" / "queues", directory / "queues", ignore=shutil.ignore_patterns("__pycache__")
        )
        lines = (f"{name}={value}\n" for name, value in self.env.items())
        (directory / "queues" / "env").write_text("".join(lines))
        (directory / "overrides.yaml").write_text(yaml.safe_dump({"version": 1, **overrides}))
        self._feeders: list[subprocess.Popen[bytes]] = []
        self._began = time.monotonic()

    def start(self) -> "Workload":
        """Start the daemon, and wait until every worker is ready."""
        self.daemon.start()
        self.daemon.wait_ready(within=PATIENCE_SECONDS)
        return self

    # ── tasks ────────────────────────────────────────────────────────────────────────────────────

    def feeder(self, program: str, count: int, *options: str) -> "subprocess.Popen[bytes]":
        """A process that enqueues so many tasks, at its own pace, and ends."""
        feeder = subprocess.Popen(
            [sys.executable, "enqueue.py", program, str(count), *options],
            cwd=self.daemon.directory / "queues",
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._feeders.append(feeder)
        return feeder

    def enqueue(self, program: str, count: int, *options: str) -> None:
        """Enqueue some tasks, at once."""
        assert self.feeder(program, count, "--per-second=1000", *options).wait(PATIENCE_SECONDS) == 0

    def rows(self) -> list[Row]:
        """What the tasks have written so far."""
        return accounting.read(self.ledger)

    def held(self) -> dict[Generation, list[Row]]:
        """The tasks in hand at this moment, of living generations only."""
        living = {
            (one["name"], one["generation"])
            for pool in self.daemon.status()["pools"]
            for one in pool["instances"]
        }
        return {key: rows for key, rows in accounting.in_hand(self.rows()).items() if key in living}

    def wait_held(self, count: int) -> dict[Generation, list[Row]]:
        """Wait until this many tasks are in hand, and return them."""

        def enough() -> dict[Generation, list[Row]]:
            held = self.held()
            return held if sum(map(len, held.values())) >= count else {}

        log = self.daemon.log()[-3000:]
        return eventually(enough, PATIENCE_SECONDS, f"{count} tasks in hand; log:\n{log}")

    def wait_done(self, tasks: set[int]) -> None:
        """Wait until each of these has been done at least once."""
        eventually(
            lambda: tasks <= accounting.ended(self.rows()),
            PATIENCE_SECONDS,
            f"all are done; missing: {sorted(tasks - accounting.ended(self.rows()))}",
        )

    # ── wishes ───────────────────────────────────────────────────────────────────────────────────

    def ctl(self, *words: str) -> None:
        """Ask for something with pitbossctl, wait for it, and note what it took."""
        began, before = time.monotonic(), len(accounting.ended(self.rows()))
        held = sum(map(len, self.held().values()))
        done = self.daemon.ctl(*words, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.daemon.log()[-5000:]}"
        after = len(accounting.ended(self.rows()))
        took = time.monotonic() - began
        self.note(
            f"{' '.join(words):16} {took:5.1f} s, {held} in hand when asked, {after - before} done meanwhile"
        )

    def kill_busy_instance(self, program: Program, long: range) -> tuple[Generation, float]:
        """SIGKILL the main process of an instance that has just begun `long` tasks in all its slots."""
        self.enqueue(program.name, len(long), f"--first={long.start}", "--seconds=1.5")

        def busy() -> tuple[Generation, int] | None:
            for generation, rows in self.held().items():
                young = [row for row in rows if row.task in long and time.time() - row.at < 0.7]
                shown = self.daemon.instance(generation[0])
                if len(young) == program.slots and shown["generation"] == generation[1]:
                    return generation, shown["pid"]
            return None

        found = eventually(busy, PATIENCE_SECONDS, f"an instance holds {program.slots} of {long}")
        assert found is not None
        os.kill(found[1], signal.SIGKILL)
        self.note(f"SIGKILL to {found[0][0]} generation {found[0][1]}, {program.slots} in hand")
        return found[0], time.time()

    def note(self, line: str) -> None:
        """Say what was done, and when."""
        print(f"{time.monotonic() - self._began:5.1f} s  {line}")

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def account(self, tasks: set[int], killed: Mapping[Generation, float] = {}) -> Account:
        """Judge what has become of these tasks, and print it."""
        verdict = accounting.account(self.rows(), tasks, killed)
        print(verdict.table())
        return verdict

    def close(self) -> None:
        """End everything that was started."""
        for feeder in self._feeders:
            feeder.kill()
            feeder.wait(30)
        self.daemon.close()
