"""Which processes belong to which generation: the evidence, and the tree that it adds up to.

A generation is a tree of processes that may leave their group and session, change their user, lose
their parent and clean their environment. What ties them together here, strongest first: a control
group where there is one; the tag that every descendant inherits (see `tags`); descent from the
main process; the marker in the environment; the group or session of the leader; having been seen
in the tree before. This module only looks; it starts, signals and reaps nothing.
"""

import logging
import os
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from supervisor.core.identity import InstanceId
from supervisor.runtime.cgroups import Cgroup, Cgroups, find_cgroups
from supervisor.runtime.procfs import (
    Stat,
    ancestors_of,
    children_of,
    read_cgroup,
    read_stat,
    read_variable,
)
from supervisor.runtime.sight import BlindError
from supervisor.runtime.tags import family_of, make_tag, new_family, read_tag

log = logging.getLogger(__name__)

MARKER = "PITBOSS_TREE"
"""The variable of the environment that names the tree: FAMILY-INSTANCE-GENERATION."""


@dataclass(slots=True, eq=False)
class Tree:
    """The processes of one generation. `known` maps pids that were seen in it to their start time.

    `orphans` are those whose parent died, so that they became children of this process; whoever
    reaps them keeps the set. `leader` is the pid of the first process, 0 before it exists. `moving`
    means that it is on its way into the control group, and `sealed` that nothing has escaped from it.
    """

    instance: InstanceId
    generation: int
    tag: int
    marker: str
    cgroup: Cgroup | None
    leader: int = 0
    known: dict[int, int] = field(default_factory=dict)
    orphans: set[int] = field(default_factory=set)
    moving: bool = False
    sealed: bool = False


class Containment:
    """All living trees, and what is evidence for belonging to one.

    `cgroups` None does without control groups. `family` is the number that marks this daemon's
    trees; one that replaces itself by exec hands it on.
    """

    def __init__(self, cgroups: Cgroups | None = None, *, family: int | None = None) -> None:
        self.family = new_family() if family is None else family
        self.cgroups = cgroups
        self._serial = 0
        self._by_tag: dict[int, Tree] = {}
        self._by_marker: dict[str, Tree] = {}
        self._by_leader: dict[int, Tree] = {}
        self._by_cgroup: dict[str, Tree] = {}

    @property
    def may_wait(self) -> bool:
        """Whether what is asked of a control group now may take some ten milliseconds."""
        return self.cgroups is not None and self.cgroups.is_busy

    @property
    def description(self) -> str:
        """How trees are held together here, for people."""
        if self.cgroups is None:
            return "process groups, tags and adoption (no control groups)"
        return f"control groups below {self.cgroups.directory} ({self.cgroups.reason})"

    def admit(self, instance: InstanceId, generation: int) -> Tree:
        """A tree for a generation that is about to be started."""
        self._serial += 1
        marker = f"{self.family:x}-{instance}-{generation}"
        tree = Tree(instance, generation, make_tag(self.family, self._serial), marker, None)
        if self.cgroups is not None:
            tree.cgroup = self.cgroups.group(f"{instance.pool}.{instance.index}.{generation}")
        self._by_tag[tree.tag] = tree
        self._by_marker[marker] = tree
        if tree.cgroup is not None:
            self._by_cgroup[tree.cgroup.path] = tree
        return tree

    def begin(self, tree: Tree, leader: int) -> None:
        """The first process exists."""
        tree.leader = leader
        self._by_leader[leader] = tree

    def dismiss(self, tree: Tree) -> None:
        """The generation is over, or never began: forget its evidence and remove its control group."""
        self._by_tag.pop(tree.tag, None)
        self._by_marker.pop(tree.marker, None)
        self._by_leader.pop(tree.leader, None)
        if tree.cgroup is not None and self.cgroups is not None:
            self._by_cgroup.pop(tree.cgroup.path, None)
            self.cgroups.remove(tree.cgroup)

    def members(self, tree: Tree) -> dict[int, int]:
        """The living processes of a tree with their start times; they are known from now on.

        Raises BlindError where nothing can be seen; what was known is still known then.
        """
        seeds = {tree.leader, *tree.orphans}
        for pid, started in tree.known.items():
            stat = read_stat(pid)
            if stat is not None and stat.started == started:
                seeds.add(pid)
        found = self.descendants(seeds)
        if tree.cgroup is not None:
            for pid in tree.cgroup.members():
                if pid not in found:
                    stat = read_stat(pid)
                    # Asked after the start time was read: a pid that was used again is not in the group.
                    if stat is not None and stat.is_alive and self._is_inside(tree.cgroup, pid):
                        found[pid] = stat.started
        tree.known = found
        return dict(found)

    def is_surely_empty(self, tree: Tree) -> bool:
        """Whether a glance at the control group shows that nothing is left; never true without one."""
        return tree.cgroup is not None and tree.sealed and not tree.orphans and not tree.cgroup.is_populated()

    def tree_of_orphan(self, stat: Stat) -> Tree | None:
        """The tree that a process belonged to before its parent died and it came to this process."""
        tag = read_tag(stat.pid)
        found = self._by_tag.get(tag) if tag is not None else None
        if found is None and self._by_cgroup:
            found = self._tree_of_cgroup(stat.pid)
        if found is None:
            found = self._by_leader.get(stat.group) or self._by_leader.get(stat.session)
        if found is None:
            marker = read_variable(stat.pid, MARKER)
            found = self._by_marker.get(marker) if marker is not None else None
        if found is None:
            trees = self._by_tag.values()
            found = next((tree for tree in trees if tree.known.get(stat.pid) == stat.started), None)
        return found

    def is_late(self, pid: int) -> bool:
        """Whether a process carries a tag of this daemon whose tree is over."""
        tag = read_tag(pid)
        return tag is not None and family_of(tag) == self.family and tag not in self._by_tag

    def descends_from(self, pid: int, tree: Tree) -> bool:
        """Whether a process is in a tree by its control group or its ancestors.

        Tags and markers do not count here: a stranger could put them on. Nor does what cannot be seen.
        """
        try:
            return self._descends_from(pid, tree)
        except BlindError:
            return False

    def _descends_from(self, pid: int, tree: Tree) -> bool:
        if tree.cgroup is not None and self._is_inside(tree.cgroup, pid):
            return True
        own = os.getpid()
        for ancestor in ancestors_of(pid):
            if ancestor == tree.leader or ancestor in tree.orphans:
                return True
            if ancestor == own:
                break
        return False

    def close(self) -> None:
        """Remove the control groups that are empty."""
        if self.cgroups is not None:
            self.cgroups.close()

    @staticmethod
    def descendants(seeds: AbstractSet[int]) -> dict[int, int]:
        """Those of `seeds` that live, and all below them, with their start times. Raises BlindError."""
        found: dict[int, int] = {}
        parents = []
        for pid in seeds:
            stat = read_stat(pid)
            if stat is not None and stat.is_alive:
                found[pid] = stat.started
                parents.append(pid)
        while parents:
            parent = parents.pop()
            for pid in children_of(parent):
                stat = read_stat(pid)
                # The parent is compared because the pid may have been used again since it was listed.
                if pid not in found and stat is not None and stat.is_alive and stat.parent == parent:
                    found[pid] = stat.started
                    parents.append(pid)
        return found

    def _tree_of_cgroup(self, pid: int) -> Tree | None:
        path = read_cgroup(pid)
        while path is not None and len(path) > 1:
            if path in self._by_cgroup:
                return self._by_cgroup[path]
            path = os.path.dirname(path)
        return None

    @staticmethod
    def _is_inside(group: Cgroup, pid: int) -> bool:
        path = read_cgroup(pid)
        return path is not None and (path == group.path or path.startswith(group.path + "/"))


def choose_containment(*, family: int | None = None) -> Containment:
    """The strongest containment that this process may use."""
    family = new_family() if family is None else family
    return Containment(find_cgroups(f"{family:x}"), family=family)
