"""Adopt what loses its parent below this process, and reap it when it ends.

This process has become the parent of every orphan among its descendants (`subreaper`). They are found
by comparing its list of children with those it started, and each is watched through a pidfd.
`containment` says whose they are; what an end means for a generation is decided in `processes`.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

from supervisor.runtime.children import unreaped
from supervisor.runtime.containment import Containment, Tree
from supervisor.runtime.procfs import Stat, children_of, read_stat
from supervisor.runtime.sight import BlindError

log = logging.getLogger(__name__)

SWEEP_DELAY_SECONDS = 0.25
"""How long after the death of a child that nobody watched the list of children is compared. The wait
lets many deaths share one look; a zombie harms nobody meanwhile."""

LOOKS = 16
"""Looks in one sweep, at most: something may be forking and ending faster than it can be listed."""


@dataclass(slots=True)
class _Orphan:
    """An adopted process. A `tree` of None is a stray: nothing says whose it was."""

    pid: int
    pidfd: int
    tree: Tree | None


class Descendants:
    """The orphans of all trees. `on_end` is called when one of a tree has ended and is reaped.

    Children that this process has at the start and those in its own process group are not ours to
    touch: something else of this program started them.
    """

    def __init__(self, containment: Containment, on_end: Callable[[Tree], None]) -> None:
        self._containment = containment
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._orphans: dict[int, _Orphan] = {}
        self._unwatched: set[int] = set()
        self._own = os.getpid()
        self._own_group = os.getpgid(0)
        self._is_fresh = False
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        present = children_of(self._own)
        self._foreign = {pid: stat.started for pid in present if (stat := read_stat(pid)) is not None}
        self._former_handler = signal.getsignal(signal.SIGCHLD)
        self._listen()

    def sweep(self) -> None:
        """Adopt every orphan there is, and reap those that have ended. Raises BlindError.

        All that ask in one turn of the loop share one look: what the loop reported in this turn had
        happened before it.
        """
        if self._is_fresh:
            return
        self._is_fresh = True
        self._loop.call_soon(self._grow_stale)
        try:
            self._look_until_quiet()
        except BlindError:
            self._is_fresh = False
            self._sweep_later()
            raise

    def _look_until_quiet(self) -> None:
        # One that ends between the listing and its turn leaves its own children to us unlisted.
        for _ in range(LOOKS):
            if not self._look():
                return

    def _look(self) -> bool:
        """Adopt what is new; whether something had ended already, so that another look is due."""
        children, ended = set(children_of(self._own)), False
        self._foreign = {pid: started for pid, started in self._foreign.items() if pid in children}
        for pid in children - unreaped() - self._orphans.keys():
            stat = read_stat(pid)
            if stat is not None and stat.parent == self._own and self._foreign.get(pid) != stat.started:
                ended |= self._adopt(stat)
        return ended

    def sweep_again(self) -> None:
        """As `sweep`, but look now even if somebody looked in this turn already."""
        self._is_fresh = False
        self.sweep()

    def release(self, pid: int) -> None:
        """Somebody else watches and reaps this process from now on."""
        orphan = self._orphans.pop(pid, None)
        if orphan is not None:
            self._drop(orphan)

    def stray_count(self) -> int:
        """How many adopted processes belong to no generation."""
        return sum(orphan.tree is None for orphan in self._orphans.values())

    def close(self) -> None:
        """Kill the strays, which nobody will ever ask for again, and watch no more."""
        signal.signal(signal.SIGCHLD, self._former_handler)
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        with suppress(BlindError):
            self.sweep_again()
        for orphan in list(self._orphans.values()):
            if orphan.tree is None:
                log.warning("process %d is of no generation any more: it is killed", orphan.pid)
                with suppress(OSError):
                    signal.pidfd_send_signal(orphan.pidfd, signal.SIGKILL)
                    os.waitid(os.P_PIDFD, orphan.pidfd, os.WEXITED | os.WNOHANG)
            self.release(orphan.pid)

    def _grow_stale(self) -> None:
        self._is_fresh = False

    def _listen(self) -> None:
        signal.signal(signal.SIGCHLD, self._child_ended)

    def _child_ended(self, _number: int, _frame: FrameType | None) -> None:
        # Once is enough until the next sweep. Each further signal would put a byte into the pipe by which
        # the loop hears of signals; a thousand ends at once would fill it, and SIGTERM would be lost.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._loop.call_soon_threadsafe(self._sweep_later)

    def _sweep_later(self) -> None:
        if self._timer is None and not self._is_closed:
            self._timer = self._loop.call_later(SWEEP_DELAY_SECONDS, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._listen()
        with suppress(BlindError):
            self.sweep()

    def _adopt(self, stat: Stat) -> bool:
        tree = self._containment.tree_of_orphan(stat)
        if tree is None and stat.group == self._own_group:
            return False
        try:
            pidfd = os.pidfd_open(stat.pid, os.O_NONBLOCK)
        except OSError as error:
            if stat.pid not in self._unwatched:
                log.warning("cannot watch process %d: %s; trying again", stat.pid, error)
            # It belongs to its tree nevertheless: who is not watched is not gone.
            self._unwatched.add(stat.pid)
            if tree is not None:
                tree.orphans.add(stat.pid)
            self._sweep_later()
            return False
        self._unwatched.discard(stat.pid)
        # It is a child, and only this module reaps it: the pid is still the process that was looked at.
        if os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG) is not None:
            os.close(pidfd)
            if tree is not None:
                tree.orphans.discard(stat.pid)
            return True
        orphan = _Orphan(stat.pid, pidfd, tree)
        self._orphans[stat.pid] = orphan
        self._loop.add_reader(pidfd, self._ended, orphan)
        if tree is not None:
            tree.orphans.add(stat.pid)
        elif self._containment.is_late(stat.pid):
            log.warning("process %d outlived the generation it belonged to: it is killed", stat.pid)
            with suppress(OSError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return False

    def _ended(self, orphan: _Orphan) -> None:
        with suppress(ChildProcessError):
            if os.waitid(os.P_PIDFD, orphan.pidfd, os.WEXITED | os.WNOHANG) is None:
                return
        self._orphans.pop(orphan.pid, None)
        self._drop(orphan)
        # Its own children have come to this process by now.
        with suppress(BlindError):
            self.sweep()
        if orphan.tree is not None:
            self._on_end(orphan.tree)

    def _drop(self, orphan: _Orphan) -> None:
        self._loop.remove_reader(orphan.pidfd)
        os.close(orphan.pidfd)
        if orphan.tree is not None:
            orphan.tree.orphans.discard(orphan.pid)
