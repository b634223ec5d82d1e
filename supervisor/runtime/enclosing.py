"""Bring each new tree into its control group, and find out whether anything stayed outside.

The worker runs while it is moved (see `cgroups`, which does it on a thread). What it forks before it has
arrived is moved after it. Which processes are of a tree is the business of `containment`; what an end
means, that of `processes`.
"""

import logging
from collections.abc import Callable, Collection

from supervisor.runtime.cgroups import Cgroup, Cgroups
from supervisor.runtime.containment import Containment, Tree
from supervisor.runtime.procfs import has_children, last_pid
from supervisor.runtime.sight import BlindError

log = logging.getLogger(__name__)

ROUNDS = 8
"""How often the early children of a worker are looked for while it is moved. One that forks faster than it
can be moved stays partly outside, and its group is not trusted to be complete."""


class Enclosing:
    """Moves trees. `sweep` looks for orphans now, and raises BlindError; `on_arrival` is called in the loop.

    A tree is `moving` from `begin` until its arrival, and must not be reaped meanwhile: that keeps its pid
    its own.
    """

    def __init__(
        self, containment: Containment, sweep: Callable[[], None], on_arrival: Callable[[Tree], None]
    ) -> None:
        self._containment = containment
        self._cgroups = containment.cgroups
        self._sweep = sweep
        self._on_arrival = on_arrival
        if self._cgroups is not None:
            self._cgroups.when_told(self._look)
        self._childless: list[tuple[Cgroups, Tree, Cgroup]] = []
        self._is_closed = False
        self._warned = False

    def begin(self, tree: Tree) -> None:
        """Move the leader of a tree, if it has a control group. Where that cannot be, it does without."""
        if tree.cgroup is not None and self._cgroups is not None:
            tree.moving = True
            self._move(self._cgroups, tree, tree.cgroup, [tree.leader], ROUNDS)

    def close(self) -> None:
        """Move nobody any more, and wait for who is on the way."""
        self._is_closed = True
        if self._cgroups is not None:
            self._cgroups.settle()

    def _move(self, cgroups: Cgroups, tree: Tree, group: Cgroup, pids: Collection[int], rounds: int) -> None:
        cgroups.move(group, pids, lambda error: self._arrived(cgroups, tree, group, rounds, error))

    def _arrived(
        self, cgroups: Cgroups, tree: Tree, group: Cgroup, rounds: int, error: OSError | None
    ) -> None:
        if self._is_closed:
            return
        if rounds == ROUNDS:
            self._arrived_first(cgroups, tree, group, error)
        else:
            self._fetch(cgroups, tree, group, rounds)

    def _arrived_first(self, cgroups: Cgroups, tree: Tree, group: Cgroup, error: OSError | None) -> None:
        """The leader is in the group, or could not be moved; who of its tree is not is found out now."""
        if error is not None:
            # The usual reason is that it has ended already, and a zombie cannot be moved.
            if not isinstance(error, ProcessLookupError):
                self._warn(tree, error)
            self._settle(tree, sealed=False)
            return
        try:
            # Where nobody on this machine forked since, nobody can be there.
            if last_pid() == tree.leader:
                self._settle(tree, sealed=True)
            elif tree.orphans or has_children(tree.leader):
                self._fetch(cgroups, tree, group, ROUNDS)
            else:
                self._childless.append((cgroups, tree, group))
        except BlindError:
            self._settle(tree, sealed=False)

    def _look(self) -> None:
        """Whom a leader without children forked before, and lost by now, has come to this process.

        All that arrive in a turn of the loop share one look: it asks for every child there is.
        """
        arrivals, self._childless = self._childless, []
        if self._is_closed or not arrivals:
            return
        try:
            self._sweep()
        except BlindError:
            for _, tree, _ in arrivals:
                self._settle(tree, sealed=False)
            return
        for cgroups, tree, group in arrivals:
            if tree.orphans:
                self._fetch(cgroups, tree, group, ROUNDS)
            else:
                self._settle(tree, sealed=True)

    def _fetch(self, cgroups: Cgroups, tree: Tree, group: Cgroup, rounds: int) -> None:
        """Move who is outside, as often as that finds somebody."""
        outside = self._outside(tree, group)
        if outside and rounds:
            self._move(cgroups, tree, group, outside, rounds - 1)
        else:
            self._settle(tree, sealed=outside is not None and not outside)

    def _settle(self, tree: Tree, *, sealed: bool) -> None:
        tree.sealed, tree.moving = sealed, False
        self._on_arrival(tree)

    def _outside(self, tree: Tree, group: Cgroup) -> Collection[int] | None:
        """Who is of the tree and not in its group; None if that cannot be seen.

        A process outside is below the leader, or its parent is gone and it came to this one. Descent is
        looked at first: what leaves it afterwards is found among the orphans.
        """
        try:
            found = set(self._containment.descendants({tree.leader, *tree.orphans}))
            self._sweep()
            found.update(self._containment.descendants(tree.orphans - found))
            return found.difference(group.members())
        except BlindError:
            return None

    def _warn(self, tree: Tree, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            text = "cannot move %s into its control group: %s; its tree is held together without"
            log.warning(text, tree.instance, error)
