"""The processes of one subject, as /proc shows them: who descends from whom, and what they use.

Ends only what carries the mark of its life, and by pidfd.
"""

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


def _stat(pid: int) -> tuple[int, str] | None:
    """Parent and state; None if there is no such process any more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), fields[0]


def descendants(root: int) -> set[int]:
    """Every living process below this one, zombies left out."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (known := _stat(int(entry))) is not None and known[1] not in "ZX":
            children.setdefault(known[0], []).append(int(entry))
    found: set[int] = set()
    parents = [root]
    while parents:
        for child in children.get(parents.pop(), []):
            if child not in found:
                found.add(child)
                parents.append(child)
    return found


@dataclass(frozen=True)
class Use:
    """What a set of processes has used so far: CPU seconds, and how often they went to sleep."""

    cpu_seconds: float
    sleeps: int


def use(pids: Iterable[int]) -> Use:
    """Summed over all their threads. A sleep (voluntary context switch) ends with a wake-up."""
    nanoseconds = sleeps = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            nanoseconds += int((task / "schedstat").read_text().split()[0])
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    sleeps += int(line.split()[1])
    return Use(nanoseconds / 1e9, sleeps)


def memory_mib(pids: Iterable[int]) -> tuple[float, float]:
    """Resident and proportional set size in MiB, summed."""
    rss = pss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                rss += int(line.split()[1])
            elif line.startswith("Pss:"):
                pss += int(line.split()[1])
    return rss / 1024, pss / 1024


class Watch:
    """Sees processes end, and knows when each did."""

    def __init__(self) -> None:
        self._pidfds: dict[int, int] = {}
        self._by_pid: dict[int, int] = {}
        self._epoll = select.epoll()
        self.ended: dict[int, float] = {}

    def add(self, pids: Iterable[int]) -> None:
        """Watch these too."""
        for pid in pids:
            if pid in self._by_pid:
                continue
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            self._pidfds[pidfd] = pid
            self._by_pid[pid] = pidfd
            self._epoll.register(pidfd, select.EPOLLIN | select.EPOLLONESHOT)

    def kill(self, pid: int) -> float:
        """SIGKILL one that is watched; the time before (CLOCK_MONOTONIC)."""
        pidfd = self._by_pid[pid]
        before = time.monotonic()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return before

    def wait(self, within: float) -> bool:
        """Whether all have ended in time."""
        until = time.monotonic() + within
        while len(self.ended) < len(self._pidfds):
            left = until - time.monotonic()
            if left <= 0:
                return False
            found = self._epoll.poll(left, 64)
            now = time.monotonic()
            for pidfd, _ in found:
                self.ended[self._pidfds[pidfd]] = now
        return True

    def close(self) -> None:
        """Watch no more; what still lives stays alive."""
        self._epoll.close()
        for pidfd in self._pidfds:
            os.close(pidfd)
        self._pidfds.clear()


def sweep(mark: str) -> None:
    """End every process that has this text, a directory that only we know, in its words or environment.

    Not by descent: who runs this may have other children, and a supervisor's orphans descend from nobody.
    """
    while left := [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_marked(pid, mark)
    ]:
        for pid in left:
            with suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                try:
                    # The number may have become a stranger's before it was held: hence a second look.
                    if _is_marked(pid, mark):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                finally:
                    os.close(pidfd)


def _is_marked(pid: int, mark: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return pid != os.getpid() and mark.encode() in words
