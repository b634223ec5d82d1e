"""One storm: lives of a daemon, each of rounds of faults and calm, and what the checkers make of it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from tests.chaos.checkers import check
from tests.chaos.evidence import Finding
from tests.chaos.faults import Faults
from tests.chaos.operators import Operators
from tests.chaos.pools import SHAPES, Places, manifest
from tests.chaos.record import Deed, Story, read_deeds, read_lines, write_deed
from tests.chaos.schedule import Hand, Planned, plan
from tests.chaos.strangers import Strangers
from tests.chaos.watch import Watch, survivors
from tests.e2e.clock import LIBRARIES, Clock
from tests.e2e.daemon import Daemon
from tests.e2e.disk import Disk, mount

ROUND_SECONDS = 35.0
LIFE_SECONDS = 200.0
CALM_SECONDS = 90.0
"""How long after the last fault every goal must be reached, on a machine that others load too."""

USER = 60123
PROGRESS_SECONDS = 10.0

Say = Callable[[str], None]


class Storm:
    """Everything that a storm needs, in one directory."""

    def __init__(self, seed: int, seconds: float, say: Say) -> None:
        self.seed, self.seconds, self.say = seed, seconds, say
        self.random = Random(f"storm {seed}")
        self.root = Path(tempfile.mkdtemp(prefix="pb-chaos-", dir="/tmp"))
        self.root.chmod(0o755)
        self.user = USER if os.geteuid() == 0 and self.random.random() < 0.5 else None
        mounted = mount(self._made("logs"), mebibytes=16, mode="0777") if os.geteuid() == 0 else "not root"
        self.disk: Disk | None = None if isinstance(mounted, str) else mounted
        self.clock = Clock(self._made("clock")) if LIBRARIES else None
        if self.disk is None or self.clock is None:
            self.say(
                f"without a full disk ({mounted})" if self.disk is None else "without steps of the clock"
            )
        self.daemon = Daemon({"pools": {}}, user=self.user, env=self._clock_env())
        self.began_at = time.monotonic()
        self.counts: dict[str, int] = {}
        self.kept_down: tuple[str, ...] = ()

    def _made(self, name: str) -> Path:
        made = self.root / name
        made.mkdir()
        made.chmod(0o777)
        return made

    def _clock_env(self) -> dict[str, str]:
        """As the clock says, but looked up less often: the daemon asks for the time all the time."""
        if self.clock is None:
            return {}
        kept = {name: value for name, value in self.clock.env.items() if name != "FAKETIME_NO_CACHE"}
        return {**kept, "FAKETIME_CACHE_DURATION": "1"}

    def run(self) -> list[Finding]:
        """All lives, one after the other; the first with findings is the last."""
        lives = max(1, round(self.seconds / LIFE_SECONDS))
        try:
            for number in range(1, lives + 1):
                until = self.began_at + self.seconds * number / lives
                life = Life(self, number, until, last=number == lives)
                findings = life.run()
                if findings:
                    return findings
            return []
        finally:
            shutil.copy(self.daemon.log_path, self.root / "daemon.log")
            self.daemon.close()
            if self.disk is not None:
                self.disk.close()

    def forget(self) -> None:
        """The records are not needed any more."""
        shutil.rmtree(self.root, ignore_errors=True)


class Life:
    """From the start of a daemon to its end."""

    def __init__(self, storm: Storm, number: int, until: float, *, last: bool) -> None:
        self.storm, self.number, self.until, self.last = storm, number, until, last
        self.daemon = storm.daemon
        self.places = Places(storm._made(f"life-{number}"))
        self.deeds_path = self.places.root / "deeds.record"
        self.random = Random(f"life {storm.seed} {number}")
        self._lock = threading.Lock()
        self._log_from = self.daemon.log_path.stat().st_size if self.daemon.log_path.exists() else 0
        logs = storm.disk.path if storm.disk is not None else self.places.folder("logs")
        self.daemon.write_manifest(manifest(self.places, storm.seed, logs))
        self.operators = Operators(self.daemon, self.write)
        self.round = 0

    def write(self, deed: Deed) -> None:
        """Note what was done or seen."""
        with self._lock:
            write_deed(self.deeds_path, deed)
            self.storm.counts[deed.kind] = self.storm.counts.get(deed.kind, 0) + 1

    def wrote(self, at: float, kind: str, **facts: object) -> None:
        """As `write`, until now."""
        self.write(Deed(at, time.monotonic(), kind, facts))

    def run(self) -> list[Finding]:
        """Live it, and judge it."""
        began_at = time.monotonic()
        self.strangers = Strangers(self.places.root, self.storm.user)
        self.watch = Watch(self.places.record, self._pid, self.write)
        try:
            self.daemon.start()
            self._boot(began_at)
            while True:
                self.round += 1
                left = self.until - time.monotonic() - ROUND_SECONDS * 0.4
                in_the_storm = left < ROUND_SECONDS * 1.7 and self.random.random() < 0.4
                self._round(min(ROUND_SECONDS, max(left, 8.0)), shut_down=in_the_storm and self.last)
                if self.daemon.process is None or self.daemon.process.poll() is not None:
                    break
                if self.until - time.monotonic() < ROUND_SECONDS * 0.6:
                    self._end()
                    break
        finally:
            self.watch.close()
            self.operators.close()
            for deed in self.strangers.close():
                self.write(deed)
        return self._judge()

    def _pid(self) -> int | None:
        process = self.daemon.process
        return process.pid if process is not None and process.poll() is None else None

    # ── its parts ────────────────────────────────────────────────────────────────────────────────

    def _boot(self, began_at: float) -> None:
        """Everybody is up, but those that were down when the daemon before this one ended."""
        kept = self.storm.kept_down
        self.wrote(began_at, "calm", missing=",".join(self._await_all(kept)))
        for name in kept:
            self.wrote(began_at, "kept-down", pool=name)
        for name in kept:
            self.operators.wish("resume", name)
        self.storm.kept_down = ()

    def _round(self, seconds: float, *, shut_down: bool) -> None:
        faults = Faults(
            self.daemon,
            self.places,
            self.watch,
            self.operators,
            self.write,
            strangers=self.strangers,
            clock=self.storm.clock,
            disk=self.storm.disk,
        )
        self.places.calm().unlink(missing_ok=True)
        self.watch.calm = False
        began_at = time.monotonic()
        with ThreadPoolExecutor(32, thread_name_prefix="storm") as pool:
            done = [
                pool.submit(faults.do, planned.kind, Hand(planned.dice))
                for planned in plan(f"{self.storm.seed} {self.number} {self.round}", seconds)
                if self._comes(planned, began_at)
            ]
            if shut_down:
                self._shut_down()
            faults.over.set()
        for one in done:
            # With the daemon gone, what was being done to it cannot but fail.
            gone = (OSError, subprocess.CalledProcessError)
            with contextlib.suppress(*gone) if shut_down else contextlib.nullcontext():
                one.result()
        if not shut_down:
            self._calm()

    def _comes(self, planned: Planned, began_at: float) -> bool:
        """Wait until it is time for this deed, and show progress meanwhile."""
        while (left := began_at + planned.at - time.monotonic()) > 0:
            threading.Event().wait(min(left, 1.0))
            self._show()
        return True

    _shown_at = 0.0

    def _show(self) -> None:
        now = time.monotonic()
        if now - Life._shown_at < PROGRESS_SECONDS:
            return
        Life._shown_at = now
        counts = self.storm.counts
        shown = ", ".join(
            f"{counts.get(kind, 0)} {word}"
            for kind, word in {
                "gone": "ends",
                "kill": "kills",
                "hold": "holds",
                "freeze-daemon": "freezes",
                "break-command": "broken commands",
                "starve": "shortages",
                "strike-starter": "strikes at the starter",
                "fill-disk": "full disks",
                "step-clock": "clock steps",
                "wish": "wishes",
            }.items()
        )
        spent = now - self.storm.began_at
        alive = len(self.watch.mains())
        self.storm.say(
            f"{spent:4.0f} s  life {self.number} round {self.round}: "
            f"{alive} alive, {self.watch.lines} lines; {shown}"
        )

    def _calm(self) -> None:
        """No fault any more: everything is asked back, and must come."""
        at = time.monotonic()
        self.places.calm().touch()
        self.operators.unpause_all()
        self.operators.wish("resume", None)
        self.operators.wish("start", None)

        self.wrote(at, "calm", missing=",".join(self._await_all(())))
        faults = self.daemon.get("/metrics").text.partition("\npitboss_core_faults_total ")[2].split("\n")[0]
        if faults != "0":
            self.wrote(at, "alarming", line=f"pitboss_core_faults_total is {faults}")
        self.watch.calm = True
        threading.Event().wait(1.0)

    def _await_all(self, kept: tuple[str, ...]) -> list[str]:
        """Wait until nobody is missing, or for as long as that may take; who is missing then."""
        until = time.monotonic() + CALM_SECONDS
        while (missing := self._missing(kept)) and time.monotonic() < until:
            self._show()
            # Seldom: the answer is the whole host.
            threading.Event().wait(0.5)
        return missing

    def _missing(self, kept: tuple[str, ...]) -> list[str]:
        """Who is not up and ready by the record, or is another by the daemon's word."""
        mains = self.watch.mains()
        shown = {
            one["name"]: one
            for pool in self.operators.get("/v1/status").get("pools", [])
            for one in pool["instances"]
        }
        found = []
        for shape in SHAPES:
            for index in range(shape.instances):
                name = f"{shape.name}/{index}"
                said = shown.get(name, {})
                if shape.task:
                    if said.get("phase") != "stopped":
                        found.append(f"{name} ({said.get('phase')})")
                    continue
                if shape.name in kept:
                    continue
                living = mains.get(name)
                if living is None or not living.ready:
                    found.append(f"{name} ({said.get('phase')})")
                elif said.get("pid") != living.line.pid or not said.get("ready"):
                    found.append(
                        f"{name} (pid {living.line.pid}, shown {said.get('pid')} {said.get('phase')})"
                    )
        return found

    def _end(self) -> None:
        """The daemon is asked to end; some pools are down before, and must stay so."""
        if not self.last:
            names = self.random.sample(
                [shape.name for shape in SHAPES if not shape.quiet and not shape.task], 2
            )
            self.storm.kept_down = tuple(name for name in names if name != "db")
            for verb, name in zip(("drain", "stop"), self.storm.kept_down, strict=False):
                operation = self.operators.wish(verb, name)["id"]
                self.daemon.operation(operation)
        self._shut_down()

    def _shut_down(self) -> None:
        how = self.random.choice(("term", "term", "twice", "ctl", "interrupt", "quit"))
        urgency = {"term": "normal", "ctl": "normal", "quit": "kill"}.get(how, "now")
        at = time.monotonic()
        if how == "ctl":
            self.daemon.ctl("shutdown", "--no-wait")
        else:
            number = {"interrupt": signal.SIGINT, "quit": signal.SIGQUIT}.get(how, signal.SIGTERM)
            self.daemon.signal(number)
        if how == "twice":
            threading.Event().wait(0.5)
            self.daemon.signal(signal.SIGTERM)
        code = self.daemon.wait_end(90 + CALM_SECONDS)
        self.wrote(at, "shutdown", how=how, urgency=urgency)
        self.wrote(at, "ended", code=code)
        for pid, command in survivors(self.places.root):
            self.wrote(at, "survivor", pid=pid, command=command)

    def _judge(self) -> list[Finding]:
        with self.daemon.log_path.open("rb") as log:
            log.seek(self._log_from)
            for raw in log:
                if is_alarming(raw.decode(errors="replace")):
                    self.wrote(time.monotonic(), "alarming", line=raw.decode(errors="replace").strip())
        story = Story(read_lines(self.places.record), read_deeds(self.deeds_path), time.monotonic())
        return check(story)


def is_alarming(line: str) -> bool:
    """Whether a line of the daemon's log says that something is wrong with the daemon itself."""
    if "Traceback" in line or "invariant" in line:
        return True
    try:
        entry = json.loads(line)
    except ValueError:
        return bool(line.strip())
    return str(entry.get("message", "")).startswith(("cannot decide", "cannot perform", "cannot report"))
