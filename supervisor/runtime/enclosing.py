"""Bring each new tree into its control group, off the loop, and find out whether anything stayed outside.

A write to `cgroup.procs` takes a lock against every fork of the machine, and the first one in a while
waits an RCU grace period of the kernel for it: some ten milliseconds, where those that follow at once
take a tenth of one (cgroup_attach_lock, percpu_down_write). So one thread writes, and the worker runs
meanwhile. What it forks before it has arrived is moved after it. Which processes are of a tree is the
business of `containment`; what an end means, that of `processes`.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from supervisor.runtime.cgroups import Cgroup
from supervisor.runtime.containment import Containment, Tree
from supervisor.runtime.procfs import last_pid
from supervisor.runtime.sight import BlindError

log = logging.getLogger(__name__)

ROUNDS = 8
"""How often the early children of a worker are looked for while it is moved. One that forks faster than it
can be moved stays partly outside, and its group is not trusted to be complete."""


class Enclosing:
    """Moves trees. `sweep` finds orphans, and raises BlindError; `on_arrival` is called in the loop.

    A tree is `moving` from `begin` until its arrival, and must not be reaped meanwhile: that keeps its pid
    its own. Make it in the running loop.
    """

    def __init__(
        self, containment: Containment, sweep: Callable[[], None], on_arrival: Callable[[Tree], None]
    ) -> None:
        self._containment = containment
        self._sweep = sweep
        self._on_arrival = on_arrival
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mover")
        self._is_closed = False
        self._warned = False

    def begin(self, tree: Tree) -> None:
        """Move the leader of a tree, if it has a control group. Where that cannot be, it does without."""
        if tree.cgroup is not None:
            self._move(tree, tree.cgroup, [tree.leader], ROUNDS)

    def close(self) -> None:
        """Move nobody any more, and wait for what is being written."""
        self._is_closed = True
        self._thread.shutdown(cancel_futures=True)

    def _move(self, tree: Tree, group: Cgroup, pids: Collection[int], rounds: int) -> None:
        tree.moving = True
        try:
            # Here, where descriptors are kept back for looking; the thread only writes.
            descriptor = group.open_procs()
        except (OSError, BlindError) as error:
            self._arrived(tree, group, rounds, error)
            return
        writing = self._thread.submit(_write, descriptor, pids)
        writing.add_done_callback(lambda done: self._written(tree, group, rounds, done))

    def _written(self, tree: Tree, group: Cgroup, rounds: int, done: "Future[OSError | None]") -> None:
        # In the thread, or where `close` gave it up.
        if not done.cancelled():
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._arrived, tree, group, rounds, done.result())

    def _arrived(self, tree: Tree, group: Cgroup, rounds: int, error: Exception | None) -> None:
        if self._is_closed:
            return
        is_first = rounds == ROUNDS
        # The usual reason is that it has ended already, and a zombie cannot be moved.
        if error is not None and is_first and not isinstance(error, ProcessLookupError):
            self._warn(tree, error)
        if error is None or not is_first:
            outside = self._outside(tree, group, is_first=is_first)
            if outside and rounds:
                self._move(tree, group, outside, rounds - 1)
                return
            tree.sealed = outside is not None and not outside
        tree.moving = False
        self._on_arrival(tree)

    def _outside(self, tree: Tree, group: Cgroup, *, is_first: bool) -> Collection[int] | None:
        """Who is of the tree and not in its group; None if that cannot be seen.

        A process outside is below the leader, or its parent is gone and it came to this one. Descent is
        looked at first: what leaves it afterwards is found among the orphans.
        """
        try:
            # Where nobody on this machine forked since, nobody can be outside.
            if is_first and last_pid() == tree.leader:
                return ()
            found = set(self._containment.descendants({tree.leader, *tree.orphans}))
            self._sweep()
            found.update(self._containment.descendants(tree.orphans - found))
            return found.difference(group.members())
        except BlindError:
            return None

    def _warn(self, tree: Tree, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            text = "cannot move %s into its control group: %s; its tree is held together without"
            log.warning(text, tree.instance, error)


def _write(descriptor: int, pids: Collection[int]) -> OSError | None:
    """Move processes one by one; why the first of them could not be moved."""
    errors: list[OSError | None] = []
    try:
        for pid in pids:
            try:
                os.write(descriptor, str(pid).encode())
                errors.append(None)
            except OSError as error:
                errors.append(error)
    finally:
        os.close(descriptor)
    return errors[0]
