"""Send a signal to exactly the processes of a tree, each once, and to nobody else.

A pid alone is never trusted: a process is opened first, then compared with what was seen, then
signalled through the descriptor. A process group is signalled only while its leader is our
unreaped child, which reserves its number.
"""

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from supervisor.core.exits import SIGNAL_NUMBERS
from supervisor.core.identity import InstanceId
from supervisor.runtime.containment import Containment, Tree
from supervisor.runtime.procfs import read_stat
from supervisor.runtime.sight import BlindError, sighted

log = logging.getLogger(__name__)

KILL_ROUNDS = 8
"""Looks in one go while a tree is killed, as long as each finds processes that were not there before."""

SIGNAL_ROUNDS = 3
"""Looks for a signal to all: what was forked in between gets it too, and nothing gets it twice."""

CONTINUED = frozenset({"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGABRT"})
"""Signals that are followed by SIGCONT, since a stopped process would not see them before SIGKILL."""


class TreeSignals:
    """Signals to trees and to single processes of them."""

    def __init__(self, containment: Containment) -> None:
        self._containment = containment

    def signal_tree(self, tree: Tree, name: str, look_for_orphans: Callable[[], None]) -> None:
        """Send a signal to every living process of the tree, orphans that are found meanwhile included."""
        self._send_to_new_ones(tree, name, SIGNAL_ROUNDS, look_for_orphans)

    def kill_tree(self, tree: Tree, look_for_orphans: Callable[[], None], *, again: bool = False) -> None:
        """SIGKILL all there is. What is forked meanwhile is left for the next call, made with `again`.

        The tree's leader must not have been reaped. `look_for_orphans` is called before each look.
        """
        # At first nobody waits for the control group: each process can be had without it.
        waits = again or not self._containment.may_wait
        if tree.cgroup is not None and waits and tree.cgroup.kill() and tree.sealed and not tree.orphans:
            # Everything is in there, and the kernel has dealt with forks that were under way.
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(tree.leader, signal.SIGKILL)
        self._send_to_new_ones(tree, "SIGKILL", KILL_ROUNDS, look_for_orphans)

    def send(self, instance: InstanceId, pid: int, pidfd: int, name: str) -> None:
        """Send a signal to one process; nothing happens if it has ended."""
        try:
            signal.pidfd_send_signal(pidfd, SIGNAL_NUMBERS[name])
            if name in CONTINUED:
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        except ProcessLookupError:
            return
        except PermissionError:
            text = "cannot send %s to process %d of %s: it runs as another user; pitbossd needs CAP_KILL"
            log.warning(text, name, pid, instance)

    def _send_to_new_ones(self, tree: Tree, name: str, rounds: int, before: Callable[[], None]) -> None:
        seen: dict[int, int] = {}
        for _ in range(rounds):
            try:
                before()
                members = self._containment.members(tree)
            except BlindError as error:
                log.warning("cannot send %s to all of %s: %s", name, tree.instance, error)
                return
            fresh = {pid: started for pid, started in members.items() if seen.get(pid) != started}
            if not fresh:
                return
            for pid, started in fresh.items():
                self._send_to_member(tree, pid, started, name)
            seen |= fresh

    def _send_to_member(self, tree: Tree, pid: int, started: int, name: str) -> None:
        try:
            sighted(lambda: self._open_and_send(tree, pid, started, name))
        except ProcessLookupError:
            return
        except (OSError, BlindError) as error:
            log.warning("cannot send %s to process %d of %s: %s", name, pid, tree.instance, error)

    def _open_and_send(self, tree: Tree, pid: int, started: int, name: str) -> None:
        pidfd = os.pidfd_open(pid, os.O_NONBLOCK)
        try:
            stat = read_stat(pid)
            if stat is not None and stat.started == started:
                self.send(tree.instance, pid, pidfd, name)
        finally:
            os.close(pidfd)
