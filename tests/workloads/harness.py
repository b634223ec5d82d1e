"""An example manifest of `configs/` under a real daemon, its queue on a real server, and tasks that flow."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
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

    `instances` is what the example says, `slots` how many tasks each does at a time, `left` how many tasks
    the broker still has, waiting or handed out and not yet acknowledged. `outlive` says that the workers of a
    killed main process finish their tasks when the supervisor tells them to go.
    """

    name: str
    instances: int
    slots: int
    per_second: float
    left: Callable[["Workload"], int]
    outlive: bool = False


class Feeder:
    """The process that enqueues the tasks of an example."""

    def __init__(self, directory: Path, env: Mapping[str, str], program: str, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "enqueue.py", program, *options],
            cwd=directory,
            env=env,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def feed(self, count: int) -> None:
        """So many tasks more; does not wait until they are sent."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n".encode())
        self._process.stdin.flush()

    def end(self) -> None:
        """Wait until all are sent."""
        self._process.communicate(timeout=PATIENCE_SECONDS)
        assert self._process.returncode == 0

    def close(self) -> None:
        """End it, wherever it is."""
        self._process.kill()
        self._process.communicate(timeout=30)


def _take_out(words: str, path: Path) -> bool:
    before = path.read_text()
    path.write_text(before.replace(words, ""))
    return words in before


class Workload:
    """One or more examples in a directory of their own, under one daemon; end it with `close`.

    `overrides` is laid over the examples as a later file of the manifest; `without` is taken out of the
    applications that have it.
    """

    def __init__(
        self,
        server: RedisServer,
        *programs: str,
        overrides: Mapping[str, Any] = {},
        env: Mapping[str, str] = {},
        without: str | None = None,
    ) -> None:
        includes = [*(f"{program}.yaml" for program in programs), "overrides.yaml"]
        path = os.pathsep.join([str(BIN), os.environ["PATH"]])
        self.daemon = Daemon({"include": includes}, env={"PATH": path})
        directory = self.daemon.directory
        self.server = server
        self.ledger = directory / "ledger.db"
        self.env = {"REDIS_URL": server.url, "RQ_REDIS_URL": server.url, "LEDGER": str(self.ledger), **env}
        for program in programs:
            shutil.copy(ROOT / "configs" / f"{program}.yaml", directory)
        shutil.copytree(
            ROOT / "configs" / "queues", directory / "queues", ignore=shutil.ignore_patterns("__pycache__")
        )
        if without is not None:
            taken = [_take_out(without, path) for path in (directory / "queues").glob("*_app.py")]
            assert any(taken), f"no example has {without!r}"
        lines = (f"{name}={value}\n" for name, value in self.env.items())
        (directory / "queues" / "env").write_text("".join(lines))
        (directory / "overrides.yaml").write_text(yaml.safe_dump({"version": 1, **overrides}))
        self._feeders: list[Feeder] = []
        self._rows: list[Row] = []
        self.killed: dict[Generation, float] = {}
        self._began, self._epoch = time.monotonic(), time.time()

    def start(self) -> "Workload":
        """Start the daemon, and wait until every worker is ready."""
        self.daemon.start()
        self.daemon.wait_ready(within=PATIENCE_SECONDS)
        return self

    # ── tasks ────────────────────────────────────────────────────────────────────────────────────

    def feeder(self, program: str, *options: str) -> "Feeder":
        """A process that enqueues, at an even pace, as many tasks as it is told."""
        feeder = Feeder(self.daemon.directory / "queues", {**os.environ, **self.env}, program, *options)
        self._feeders.append(feeder)
        return feeder

    def enqueue(self, program: str, count: int, *options: str) -> None:
        """Enqueue some tasks, at once."""
        feeder = self.feeder(program, "--per-second=1000", *options)
        feeder.feed(count)
        feeder.end()

    def rows(self) -> list[Row]:
        """What the tasks have written so far."""
        self._rows += accounting.read(self.ledger, after=len(self._rows))
        return self._rows

    def held(self) -> dict[Generation, list[Row]]:
        """The tasks in hand at this moment; what was killed holds nothing any more."""
        held = accounting.in_hand(self.rows())
        return {by: rows for by, rows in held.items() if by not in self.killed}

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

    def kill_busy_instance(self, program: Program, long: range) -> None:
        """SIGKILL the main process of an instance that has just begun `long` tasks in all its slots.

        Where its children would finish them, SIGKILL them as well, as when a machine runs out of memory.
        """
        self.enqueue(program.name, len(long), f"--first={long.start}", "--seconds=3.5")

        def busy() -> tuple[Generation, int] | None:
            for generation, rows in self.held().items():
                young = [row for row in rows if row.task in long and time.time() - row.at < 1.5]
                if len(young) == program.slots:
                    shown = self.daemon.instance(generation[0])
                    return (generation, shown["pid"]) if shown["generation"] == generation[1] else None
            return None

        found = eventually(busy, PATIENCE_SECONDS, f"an instance holds {program.slots} of {long}")
        assert found is not None
        (name, number), pid = found
        children = psutil.Process(pid).children(recursive=True) if program.outlive else []
        os.kill(pid, signal.SIGKILL)
        for child in children:
            child.kill()
        self.killed[name, number] = time.time()
        self.note(f"SIGKILL to {name} generation {number}, {program.slots} in hand")

    def note(self, line: str) -> None:
        """Say what was done, and when."""
        print(f"{time.monotonic() - self._began:5.1f} s  {line}")

    # ── the end ──────────────────────────────────────────────────────────────────────────────────

    def account(self, tasks: set[int]) -> Account:
        """Judge what has become of these tasks, and print it."""
        rows = self.rows()
        verdict = accounting.account(rows, tasks, self.killed)
        print(verdict.table())
        for row in rows:
            if row.task not in verdict.done_once:
                name, number = row.generation
                print(f"{row.at - self._epoch:5.1f} s  task {row.task} {row.what} {name} generation {number}")
        return verdict

    def close(self) -> None:
        """End everything that was started."""
        for feeder in self._feeders:
            feeder.close()
        self.daemon.close()
