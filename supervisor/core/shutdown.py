"""Fitting stops into a deadline of the host: one factor for all windows, one last moment for each pool.

Drains run at once in all pools; stages run dependents first. The kill rung keeps its full window.
"""

from collections.abc import Iterable
from typing import NamedTuple

from supervisor.core.plan import KILL_SECONDS, HostPlan, PoolPlan


class Fit(NamedTuple):
    """What every window is multiplied by, and when each pool's stop must go to its last rung."""

    scale: float
    stop_by: dict[str, float]


def fit(plan: HostPlan, pools: Iterable[str], now: float, deadline: float) -> Fit:
    """Fit the stop of these pools (closed under dependents or not) into what is left until `deadline`."""
    meant = set(pools)
    chosen = [name for name in plan.pools if name in meant]
    after = _dependents(plan, chosen)
    order = _dependents_first(after)
    windows: dict[str, float] = {}
    levels: dict[str, int] = {}
    for name in order:
        drained = plan.pools[name].before_stages_seconds
        windows[name] = max([drained, *(windows[other] for other in after[name])]) + _stage_seconds(
            plan.pools[name]
        )
        levels[name] = 1 + max((levels[other] for other in after[name]), default=0)
    longest = max(windows.values(), default=0.0)
    kills = KILL_SECONDS * max(levels.values(), default=0)
    left = max(0.0, deadline - now - kills)
    scale = 1.0 if longest <= left else left / longest
    stop_by: dict[str, float] = {}
    for name in reversed(order):
        # Those it depends on are terminated after it: their stages and kills lie behind its own end.
        behind = [
            deadline - stop_by[needed] + scale * _stage_seconds(plan.pools[needed])
            for needed in plan.pools[name].depends_on
            if needed in stop_by
        ]
        stop_by[name] = deadline - KILL_SECONDS - max(behind, default=0.0)
    return Fit(scale, stop_by)


def _stage_seconds(pool: PoolPlan) -> float:
    return sum(stage.grace_seconds for stage in pool.stop.stages)


def _dependents(plan: HostPlan, chosen: list[str]) -> dict[str, list[str]]:
    """For each of these pools, those among them that depend on it directly."""
    dependents: dict[str, list[str]] = {name: [] for name in chosen}
    for name in chosen:
        for needed in plan.pools[name].depends_on:
            if needed in dependents:
                dependents[needed].append(name)
    return dependents


def _dependents_first(dependents: dict[str, list[str]]) -> list[str]:
    """The pools in an order in which each comes after all that depend on it."""
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in order:
            for other in dependents[name]:
                visit(other)
            order[name] = None

    for name in dependents:
        visit(name)
    return list(order)
