"""The kernel's word during a storm: which of those that wrote a line still live, and how the daemon is.

A thread reads the record of the workers as it grows, takes a handle (pidfd) of every process that says it
has begun, and writes down when the kernel calls it gone.
"""

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.record import Deed, Line, parse
from tests.proc import children_of, descriptor_count, stat_fields

PAUSE_MILLISECONDS = 20
SAMPLE_SECONDS = 0.5


@dataclass(slots=True)
class Living:
    """One process that lives, with its handle."""

    line: Line
    handle: int
    ready: bool = False
    held: bool = False

    @property
    def key(self) -> tuple[str, int, int]:
        """Which process it is."""
        return self.line.instance, self.line.generation, self.line.pid

    def facts(self) -> dict[str, object]:
        """What a deed says of it."""
        line = self.line
        return {
            "instance": line.instance,
            "generation": line.generation,
            "pid": line.pid,
            "role": line.role,
        }


def _started(pid: int) -> float:
    """When the kernel began a process, seconds since boot."""
    return int(stat_fields(pid)[19]) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Looks on until it is closed. `write` takes what it sees."""

    def __init__(self, record: Path, daemon: Callable[[], int | None], write: Callable[[Deed], None]) -> None:
        self.record, self.daemon, self.write = record, daemon, write
        self.lock = threading.Lock()
        self.living: dict[tuple[str, int, int], Living] = {}
        self.lines = 0
        self.calm = False
        self._by_handle: dict[int, tuple[str, int, int]] = {}
        self._poll = select.poll()
        self._offset, self._rest = 0, b""
        self._zombies: dict[int, float] = {}
        self._sampled = 0.0
        self._waited, self._looked = 0.0, time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="watch")
        self._thread.start()

    def mains(self) -> dict[str, Living]:
        """The main process of each instance that has one."""
        with self.lock:
            return {one.line.instance: one for one in self.living.values() if one.line.role == "main"}

    def all(self) -> list[Living]:
        """Every process that lives, in an order that does not depend on when it began."""
        with self.lock:
            return sorted(self.living.values(), key=lambda one: (one.line.instance, one.line.role))

    def signal(self, one: Living, number: signal.Signals) -> bool:
        """Signal this process and nobody else; false if it is gone."""
        with self.lock:
            # Under the lock its handle cannot be closed, and its number not be another's.
            if self.living.get(one.key) is not one:
                return False
            try:
                signal.pidfd_send_signal(one.handle, number)
            except ProcessLookupError:
                return False
            return True

    def close(self) -> None:
        """Take in what was written last, and stop looking."""
        self._closing.set()
        self._thread.join()
        self._read()
        self._see_ends(0)
        for one in self.living.values():
            os.close(one.handle)

    def _look_on(self) -> None:
        while not self._closing.is_set():
            self._read()
            self._see_ends(PAUSE_MILLISECONDS)
            if time.monotonic() - self._sampled > SAMPLE_SECONDS:
                self._sampled = time.monotonic()
                self._sample()

    def _read(self) -> None:
        if not self.record.exists():
            return
        with self.record.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        self._offset += len(fresh)
        *whole, self._rest = (self._rest + fresh).split(b"\n")
        for text in whole:
            self.lines += 1
            self._hear(parse(text.decode()))

    def _hear(self, line: Line) -> None:
        key = (line.instance, line.generation, line.pid)
        if line.what == "began":
            try:
                handle = os.pidfd_open(line.pid)
                asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
                same = abs(_started(line.pid) - asleep - float(line.facts["spawned"])) < 0.05
            except (ProcessLookupError, FileNotFoundError):
                handle, same = -1, False
            if not same:
                if handle >= 0:
                    os.close(handle)
                self._tell_gone(key)
                return
            with self.lock:
                self.living[key] = Living(line, handle)
            self._by_handle[handle] = key
            self._poll.register(handle, select.POLLIN)
        elif line.what == "ready" and key in self.living:
            self.living[key].ready = True

    def _see_ends(self, milliseconds: int) -> None:
        for handle, _ in self._poll.poll(milliseconds):
            self._poll.unregister(handle)
            key = self._by_handle.pop(handle)
            self._tell_gone(key)
            with self.lock:
                del self.living[key]
                os.close(handle)

    def _tell_gone(self, key: tuple[str, int, int]) -> None:
        now = time.monotonic()
        self.write(Deed(now, now, "gone", dict(zip(("instance", "generation", "pid"), key, strict=True))))

    def _sample(self) -> None:
        daemon = self.daemon()
        if daemon is None:
            self._zombies.clear()
            return
        now = time.monotonic()
        try:
            zombies = {pid for pid in children_of(daemon) if _is_zombie(pid)}
            pages = int(Path(f"/proc/{daemon}/statm").read_text().split()[1])
            descriptors = descriptor_count(daemon)
            waited = int(Path(f"/proc/{daemon}/schedstat").read_text().split()[1]) / 1e9
        except OSError:
            return
        for pid in self._zombies.keys() - zombies:
            since = self._zombies.pop(pid)
            if now - since > 2:
                self.write(Deed(since, now, "zombie", {"pid": pid}))
        for pid in zombies:
            self._zombies.setdefault(pid, now)
        # What the machine made it wait for a processor since the last look (schedstat: run_delay).
        facts = {"waited": waited - self._waited, "calm": self.calm, "descriptors": descriptors}
        size = pages * os.sysconf("SC_PAGE_SIZE")
        self.write(Deed(self._looked, now, "sample", {**facts, "bytes": size}))
        self._waited, self._looked = waited, now


def _is_zombie(pid: int) -> bool:
    try:
        return stat_fields(pid)[0] == "Z"
    except OSError:
        return False


def survivors(root: Path) -> list[tuple[int, str]]:
    """The processes, zombies apart, whose command or environment names this storm's directory."""
    marker = str(root).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            if b"stranger.py" in command:
                continue
            if marker in command or marker in (entry / "environ").read_bytes():
                found.append((int(entry.name), command.replace(b"\0", b" ").decode(errors="replace")[:200]))
        except OSError:
            continue
    return found
