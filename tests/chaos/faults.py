"""The deeds of the storm: what is done to workers, to the daemon and to the machine, and taken back."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.chaos.operators import Operators
from tests.chaos.pools import SHAPES, Places
from tests.chaos.record import Deed
from tests.chaos.schedule import Hand
from tests.chaos.strangers import Strangers
from tests.chaos.watch import Living, Watch
from tests.e2e.clock import Clock
from tests.e2e.commands import PYTHON
from tests.e2e.daemon import Daemon
from tests.e2e.disk import Disk
from tests.proc import children_of
from tests.waiting import eventually

WISHED = tuple(shape for shape in SHAPES if not shape.quiet)
HOUR_SECONDS = 3600


class Faults:
    """Everything that can be done, by the names of the schedule; each is written down."""

    def __init__(
        self,
        daemon: Daemon,
        places: Places,
        watch: Watch,
        operators: Operators,
        write: Callable[[Deed], None],
        *,
        strangers: Strangers,
        clock: Clock | None,
        disk: Disk | None,
    ) -> None:
        self.daemon, self.places, self.watch, self.operators = daemon, places, watch, operators
        self.write, self.strangers, self.clock, self.disk = write, strangers, clock, disk
        self.over = threading.Event()
        """Set when the round is over: whatever lasts is taken back at once."""
        self._one_at_a_time = {
            name: threading.Lock()
            for name in ("freeze-daemon", "starve", "fill-disk", "step-clock", "host-wide")
        }
        self._breaking = {shape.name: threading.Lock() for shape in SHAPES}

    def do(self, kind: str, hand: Hand) -> None:
        """Do one thing, and take it back after its time."""
        act: Callable[[Hand], None] = getattr(self, kind.replace("-", "_"))
        lock = self._one_at_a_time.get(kind)
        if lock is None:
            act(hand)
        elif lock.acquire(blocking=False):
            try:
                act(hand)
            finally:
                lock.release()

    def _last(self, seconds: float) -> None:
        self.over.wait(seconds)

    def _wrote(self, at: float, kind: str, **facts: object) -> None:
        self.write(Deed(at, time.monotonic(), kind, facts))

    # ── workers ──────────────────────────────────────────────────────────────────────────────────

    def _kill(self, living: list[Living], hand: Hand) -> None:
        if not living:
            return
        one = hand.one_of(living)
        at = time.monotonic()
        if not self.watch.signal(one, signal.SIGKILL):
            return
        self._wrote(at, "kill", **one.facts())
        if one.line.role == "main" and hand.share() < 0.3:
            about = f"{one.line.instance} generation {one.line.generation}"
            until = time.monotonic() + 2
            eventually(
                lambda: self.strangers.impersonate(one.line.pid, about) or time.monotonic() > until, within=10
            )

    def kill(self, hand: Hand) -> None:
        """SIGKILL to a main process."""
        self._kill([one for one in self.watch.all() if one.line.role == "main"], hand)

    def kill_child(self, hand: Hand) -> None:
        """SIGKILL to a child or grandchild."""
        self._kill([one for one in self.watch.all() if one.line.role != "main"], hand)

    def hold(self, hand: Hand) -> None:
        """SIGSTOP to a worker, and SIGCONT after a while, if it still lives."""
        living = [one for one in self.watch.all() if not one.held]
        if not living:
            return
        one = hand.one_of(living)
        at = time.monotonic()
        if self.watch.signal(one, signal.SIGSTOP):
            one.held = True
            self._last(hand.between(0.3, 7.0))
            self.watch.signal(one, signal.SIGCONT)
            one.held = False
            self._wrote(at, "hold", **one.facts())

    # ── the daemon and its machine ───────────────────────────────────────────────────────────────

    def freeze_daemon(self, hand: Hand) -> None:
        """SIGSTOP to the daemon, for less than three seconds."""
        at = time.monotonic()
        self.daemon.signal(signal.SIGSTOP)
        self._last(hand.between(0.2, 2.5))
        self.daemon.signal(signal.SIGCONT)
        self._wrote(at, "freeze-daemon")

    def strike_starter(self, hand: Hand) -> None:
        """SIGKILL to the process that begins workers with limits, or SIGSTOP and no SIGCONT."""
        number = hand.one_of((signal.SIGKILL, signal.SIGSTOP))
        at = time.monotonic()
        for child in children_of(self.daemon.pid):
            with suppress(FileNotFoundError, ProcessLookupError):
                held = os.pidfd_open(child)
                try:
                    if Path(f"/proc/{child}/comm").read_text().strip() == "pitboss-starter":
                        signal.pidfd_send_signal(held, number)
                finally:
                    os.close(held)
        self._wrote(at, "strike-starter", signal=number.name)

    def break_command(self, hand: Hand) -> None:
        """The program of a pool is missing, not executable, or no program at all."""
        shape = hand.one_of(WISHED)
        link = self.places.program(shape.name)
        with self._breaking[shape.name]:
            at = time.monotonic()
            how = hand.one_of(("missing", "not executable", "nonsense"))
            link.unlink()
            if how != "missing":
                link.write_bytes(b"\x7fELF nonsense" * 20)
                link.chmod(0o755 if how == "nonsense" else 0o644)
            self._last(hand.between(0.5, 4.0))
            link.unlink(missing_ok=True)
            link.symlink_to(Path(PYTHON[0]).resolve())
            self._wrote(at, "break-command", pool=shape.name, how=how)

    def starve(self, hand: Hand) -> None:
        """The daemon may open nothing more; or, where it is not root, have no more processes."""
        what, row, low = "processes", "Max processes", 1
        if self.daemon.user is None or hand.share() < 0.5:
            what, row = "descriptors", "Max open files"
            low = len(os.listdir(f"/proc/{self.daemon.pid}/fd")) + int(hand.between(0, 4))
        limits = Path(f"/proc/{self.daemon.pid}/limits").read_text().splitlines()
        soft = next(line for line in limits if line.startswith(row))[len(row) :].split()[0]
        at = time.monotonic()
        self._limit(what, str(low))
        self._last(hand.between(0.3, 2.5))
        self._limit(what, soft)
        self._wrote(at, "starve", what=what)

    def _limit(self, what: str, soft: str) -> None:
        """Set a soft limit of the daemon, as its own user: only that is allowed everywhere."""
        option = {"processes": "--nproc", "descriptors": "--nofile"}[what]
        command = ["prlimit", f"--pid={self.daemon.pid}", f"{option}={soft}:"]
        if self.daemon.user is not None:
            identity = [f"--reuid={self.daemon.user}", f"--regid={self.daemon.user}", "--clear-groups"]
            command = ["setpriv", *identity, *command]
        subprocess.run(command, check=True)

    def fill_disk(self, hand: Hand) -> None:
        """No room for the logs of the workers."""
        if self.disk is None:
            return
        at = time.monotonic()
        self.disk.fill()
        self._last(hand.between(2.0, 8.0))
        self.disk.free()
        self._wrote(at, "fill-disk")

    def step_clock(self, hand: Hand) -> None:
        """The daemon's wall clock jumps, to and fro."""
        if self.clock is None:
            return
        at = time.monotonic()
        seconds = int(hand.between(-30 * HOUR_SECONDS, 30 * HOUR_SECONDS))
        self.clock.step(seconds)
        self._last(hand.between(0.0, 3.0))
        self.clock.step(-self.clock.offset_seconds if hand.share() < 0.5 else -seconds)
        self._wrote(at, "step-clock", seconds=seconds)

    # ── operators ────────────────────────────────────────────────────────────────────────────────

    def _target(self, hand: Hand) -> tuple[str, int | None]:
        shape = hand.one_of(WISHED)
        return shape.name, None if hand.share() < 0.4 else int(hand.share() * shape.instances)

    def drain(self, hand: Hand) -> None:
        """Drain something, and bring it back before or after it is gone."""
        pool, index = self._target(hand)
        if hand.share() < 0.2:
            self.operators.by_ctl("drain", pool, index)
        else:
            self.operators.wish("drain", pool, index)
        self._last(hand.between(0.0, 6.0))
        self.operators.wish("resume", pool, index)

    def stop(self, hand: Hand) -> None:
        """Stop something, slowly or quickly, and start it again."""
        pool, index = self._target(hand)
        urgency = hand.one_of(("normal", "normal", "now", "kill"))
        if hand.share() < 0.2:
            options = () if urgency == "normal" else (f"--{urgency}",)
            self.operators.by_ctl("stop", pool, index, *options)
        else:
            self.operators.wish("stop", pool, index, urgency=urgency)
        if hand.share() < 0.2:
            self._last(hand.between(0.0, 1.0))
            self.operators.wish("stop", pool, index, urgency="now")
        self._last(hand.between(0.0, 6.0))
        self.operators.wish("start", pool, index)

    def start(self, hand: Hand) -> None:
        """Start what may run, wait, or have failed."""
        self.operators.wish("start", *self._target(hand))

    def restart(self, hand: Hand) -> None:
        """Restart a pool or one of it; the pool that crashes by itself is left to do so."""
        shape = hand.one_of([shape for shape in WISHED if not shape.crash_prone])
        index = None if hand.share() < 0.7 else int(hand.share() * shape.instances)
        if hand.share() < 0.15:
            self.operators.by_ctl("restart", shape.name, index)
        else:
            self.operators.wish("restart", shape.name, index)

    def signal(self, hand: Hand) -> None:
        """A signal that no ladder uses."""
        self.operators.wish("signal", *self._target(hand), signal="SIGHUP")

    def steer(self, hand: Hand) -> None:
        """Pause a rollout and go on with it, or abort it."""
        if hand.share() < 0.4:
            self.operators.steer("abort", hand.share())
            return
        operation = self.operators.steer("pause", hand.share())
        if operation is not None:
            self._last(hand.between(0.0, 4.0))
            self.operators.steer_one("resume", operation)

    def repeat(self, hand: Hand) -> None:
        """The same wish twice at once, and what takes it back."""
        pool = hand.one_of(WISHED).name
        verb = hand.one_of(("drain", "stop", "start"))
        self.operators.twice(verb, pool, f"storm-{time.monotonic_ns()}" if hand.share() < 0.5 else "")
        if verb != "start":
            self._last(hand.between(0.0, 3.0))
            self.operators.wish("resume", pool)

    def look(self, hand: Hand) -> None:
        """Long polls, several at a time."""
        self.operators.look(int(hand.between(1, 6)))

    def host_wide(self, hand: Hand) -> None:
        """Everything at once."""
        verb = hand.one_of(("drain", "stop", "restart"))
        self.operators.wish(verb, None)
        self._last(hand.between(0.5, 8.0))
        if verb != "restart":
            self.operators.wish("resume", None)
