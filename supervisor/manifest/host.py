"""What must hold between pools, and for the host as a whole.

Decides which dependencies make sense, how many instances fit, and what is odd enough for a warning.
"""

import os
import shutil
from collections.abc import Mapping as Map

from supervisor.core.plan import HostPlan
from supervisor.manifest.addresses import is_loopback
from supervisor.manifest.draft import Draft, PoolDraft
from supervisor.manifest.launcher import Launcher
from supervisor.manifest.nodes import key_place_of, place_of
from supervisor.manifest.problems import Problems, dotted, quoted, quoted_path
from supervisor.manifest.relations import circles, worst_case_shutdown_seconds
from supervisor.manifest.units import said

MOST_INSTANCES = 5000
"""Instances of all pools together."""


def check_relations(draft: Draft, problems: Problems) -> None:
    """Add what makes no sense between pools."""
    for pool in draft.pools.values():
        if "depends_on" not in pool.broken:
            _check_dependencies(pool, draft, problems)
    graph = {
        name: [other for other in pool.settings.depends_on if other in draft.pools]
        for name, pool in draft.pools.items()
    }
    for circle in circles(graph):
        first = draft.pools[circle[0]]
        path = ("depends_on", circle[1])
        found = " -> ".join(circle)
        message = f"expected pools that do not wait for each other, found {found}"
        problems.add(first.place_of(*path), dotted(("pools", first.name, *path)), message)
    total = sum(pool.settings.instances for pool in draft.pools.values())
    if total > MOST_INSTANCES:
        message = f"expected at most {MOST_INSTANCES} instances in all, found {total}"
        problems.add(place_of(draft.root, ("pools",)), "pools", message)


def _check_dependencies(pool: PoolDraft, draft: Draft, problems: Problems) -> None:
    for other, condition in pool.settings.depends_on.items():
        path = ("depends_on", other)
        key = dotted(("pools", pool.name, *path))
        if other not in draft.named:
            if draft.whole:
                hint = problems.suggest(other, draft.named)
                place = key_place_of(pool.node, path)
                problems.add(place, key, f"expected the name of a pool, found {quoted(other)}{hint}")
        elif condition == "completed" and other in draft.pools:
            target = draft.pools[other]
            if "kind" not in target.broken and target.settings.kind != "task":
                message = (
                    f"expected started or ready, found completed ({other} is a service and never completes)"
                )
                problems.add(pool.place_of(*path), key, message)


def warn(draft: Draft, plan: HostPlan, launchers: Map[str, Launcher], problems: Problems) -> None:
    """Add what is odd but may be meant, or may be put right before anything starts."""
    worst = worst_case_shutdown_seconds(plan)
    if worst > plan.shutdown_deadline_seconds:
        found = f"found windows that add up to {said(worst)} (they are scaled to fit)"
        message = f"expected at least as long as the pools may take, {found}"
        problems.warn(place_of(draft.root, ("shutdown", "deadline")), "shutdown.deadline", message)
    http = draft.head.control.http
    if http is not None and not is_loopback(http[0]):
        message = f"expected an address of this machine only, found {quoted(http[0])} (others can read it)"
        problems.warn(place_of(draft.root, ("control", "http")), "control.http", message)
    for name, launcher in launchers.items():
        if draft.pools[name].settings.instances:
            _warn_of_missing(draft.pools[name], launcher, problems)


def _warn_of_missing(pool: PoolDraft, launcher: Launcher, problems: Problems) -> None:
    first = launcher.launch(0, 1)
    directory, program = first.working_directory, first.argv[0]
    if not os.path.isdir(directory):
        missing = f"expected a directory, found none at {quoted_path(directory)}"
        what = f"{missing} (it must be there when the pool starts)"
        problems.warn(
            pool.place_of("working_directory"), dotted(("pools", pool.name, "working_directory")), what
        )
        if "/" in program and not program.startswith("/"):
            return
    if "/" in program:
        path = os.path.join(directory, program)
        found = os.path.isfile(path) and os.access(path, os.X_OK)
        where = ""
    else:
        found = shutil.which(program, path=first.environment.get("PATH", "")) is not None
        where = " on the PATH of the worker"
    if not found:
        what = f"expected a program{where}, found none called {quoted(program)}"
        place = pool.place_of("command", 0)
        message = f"{what} (it must be there when the pool starts)"
        problems.warn(place, dotted(("pools", pool.name, "command")), message)
