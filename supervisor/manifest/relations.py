"""How pools hang together: circles among them, and how long the host may take to stop.

Pure functions over names. Decides nothing about a single pool.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from supervisor.core.plan import HostPlan

Graph = Mapping[str, Iterable[str]]


def circles(graph: Graph) -> Iterator[list[str]]:
    """For each knot of pools that wait for each other the shortest circle, as `[a, b, a]`."""
    for knot in _knots(graph):
        first = knot[0]
        members = set(knot)
        if len(knot) > 1 or first in graph[first]:
            yield _shortest(graph, first, members)


def _shortest(graph: Graph, start: str, members: set[str]) -> list[str]:
    came_from: dict[str, str] = {}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for other in graph[here]:
            if other == start:
                back = [start, here]
                while back[-1] != start:
                    back.append(came_from[back[-1]])
                return back[::-1] if here != start else [start, start]
            if other in members and other not in came_from:
                came_from[other] = here
                queue.append(other)
    return [start, start]


def _knots(graph: Graph) -> list[list[str]]:
    """The strongly connected components, each in the order of the graph (Kosaraju, without recursion)."""
    order: list[str] = []
    seen: set[str] = set()
    for root in graph:
        stack = [(root, iter(graph[root]))] if root not in seen else []
        seen.add(root)
        while stack:
            name, others = stack[-1]
            other = next((one for one in others if one in graph and one not in seen), None)
            if other is None:
                order.append(name)
                stack.pop()
            else:
                seen.add(other)
                stack.append((other, iter(graph[other])))
    backward: dict[str, list[str]] = {name: [] for name in graph}
    for name, others_of in graph.items():
        for other in others_of:
            if other in backward:
                backward[other].append(name)
    position = {name: number for number, name in enumerate(graph)}
    knots: list[list[str]] = []
    taken: set[str] = set()
    for root in reversed(order):
        if root in taken:
            continue
        taken.add(root)
        knot, queue = [], [root]
        while queue:
            name = queue.pop()
            knot.append(name)
            fresh = [other for other in backward[name] if other not in taken]
            taken.update(fresh)
            queue.extend(fresh)
        knots.append(sorted(knot, key=position.__getitem__))
    return sorted(knots, key=lambda knot: position[knot[0]])


def worst_case_shutdown_seconds(plan: HostPlan) -> float:
    """How long the host may take to stop without extensions, seconds.

    All pools drain at the same time; the stages of a pool begin when its own drain is over and every
    pool that depends on it is gone. The worst is a worker that was just started, whose main process ends
    in its last window, and whose children outlive every signal but SIGKILL.
    """
    dependents: dict[str, list[str]] = {name: [] for name in plan.pools}
    for name, pool in plan.pools.items():
        for other in pool.depends_on:
            dependents[other].append(name)
    ends: dict[str, float] = {}
    waiting = {name: len(above) for name, above in dependents.items()}
    queue = deque(name for name, count in waiting.items() if count == 0)
    while queue:
        name = queue.popleft()
        pool = plan.pools[name]
        above_gone = max([0.0, *(ends[above] for above in dependents[name])])
        ladder = pool.stop.worst_case_seconds
        ends[name] = max(pool.before_stages_seconds, above_gone) + ladder if pool.instances else above_gone
        for other in pool.depends_on:
            waiting[other] -= 1
            if waiting[other] == 0:
                queue.append(other)
    return max(ends.values(), default=0.0)
