"""Is a pool well, is the host ready, and the sentence that says why not.

Reads counts first and looks at single instances only where something is wrong, so that a healthy
host of any size answers at once. Decides nothing about what happens next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from supervisor.core.instance import Instance
from supervisor.core.phases import Goal, Phase
from supervisor.core.state import Census, Host

REASONS_SHOWN = 5
"""Reasons named one by one; the rest are counted. A thousand failing instances have one page to fit on."""


class Status(StrEnum):
    """The word for a pool's health."""

    HEALTHY = "healthy"
    STARTING = "starting"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    DRAINED = "drained"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """How a pool stands. `ok` is what `/readyz` asks of a critical pool: at its goal, and that is up."""

    status: Status
    ok: bool
    wanted: int
    ready: int
    reasons: tuple[str, ...]


def pool_health(host: Host, name: str) -> PoolHealth:
    """The health of one pool, judged by those of its instances that are wanted up."""
    pool, census = host.pools[name], host.census[name]
    wanted, ready = census.wanted, census.ready + census.surge_ready
    if census.declared and not wanted:
        status = _status_of_unwanted(census)
        why = "an operator asked for it" if host.shutdown is None else "the host is shutting down"
        asked = f"{name} is {status}: {why}"
        if census.phases[Phase.STUCK]:
            # It never gets there: who only reads that somebody asked for it would wait for ever.
            trouble = [one for one in host.instances_of(name) if _is_trouble(one)]
            return PoolHealth(Status.UNHEALTHY, False, wanted, ready, (*_reasons(trouble), asked))
        return PoolHealth(status, False, wanted, ready, (asked,))
    if census.wanted_at_goal == wanted and not census.phases[Phase.STUCK]:
        if census.looping:
            return PoolHealth(Status.DEGRADED, True, wanted, ready, _why_looping(host, name))
        status = Status.COMPLETED if wanted and census.finished >= wanted else Status.HEALTHY
        return PoolHealth(status, True, wanted, ready, ())
    turning = set(pool.rollout.turns) if pool.rollout else set()
    trouble = [one for one in host.members_of(name) if _is_trouble(one) and one.id not in turning]
    reasons = _reasons(trouble)
    if not trouble:
        return PoolHealth(Status.HEALTHY, True, wanted, ready, ())
    bad = any(one.phase in _TROUBLE or one.failures for one in trouble)
    if not bad and all(one.phase in {Phase.PENDING, Phase.STARTING} for one in trouble):
        status = Status.STARTING
    else:
        status = Status.DEGRADED if ready else Status.UNHEALTHY
    return PoolHealth(status, False, wanted, ready, reasons)


def _status_of_unwanted(census: Census) -> Status:
    if census.drained:
        return Status.DRAINING if census.with_process else Status.DRAINED
    return Status.STOPPING if census.with_process else Status.STOPPED


def _is_trouble(instance: Instance) -> bool:
    """What an operator takes down is on its way, and no trouble unless it never gets there."""
    return instance.phase is Phase.STUCK or (instance.goal is Goal.UP and not instance.at_goal)


def _why_looping(host: Host, name: str) -> tuple[str, ...]:
    seconds = host.pools[name].plan.restart.backoff.reset_after_seconds
    looping = [one for one in host.instances_of(name) if one.is_looping]
    return _shown(
        [
            f"{one.id} has failed {one.failures} times in a row; it counts as well when it has been ready"
            f" for {seconds:g} s"
            for one in looping[:REASONS_SHOWN]
        ],
        len(looping),
    )


_TROUBLE = frozenset({Phase.BACKOFF, Phase.FAILED, Phase.STUCK})


def host_reasons(host: Host, known: Mapping[str, PoolHealth] | None = None) -> tuple[str, ...]:
    """Why `/readyz` says no; empty when the host is ready. `known` are healths that need no second look."""
    if host.shutdown is not None:
        return ("the host is shutting down",)
    reasons: list[str] = []
    for name, pool in host.pools.items():
        if pool.plan.critical:
            health = (known or {}).get(name) or pool_health(host, name)
            if not health.ok:
                reasons.extend(health.reasons or (f"{name} is {health.status}",))
    return tuple(reasons)


def _reasons(trouble: list[Instance]) -> tuple[str, ...]:
    return _shown([why_not(one) for one in trouble[:REASONS_SHOWN]], len(trouble))


def _shown(reasons: list[str], total: int) -> tuple[str, ...]:
    rest = total - len(reasons)
    return (*reasons, f"and {rest} more instances") if rest else tuple(reasons)


def why_not(instance: Instance) -> str:
    """One sentence that says why an instance is not at its goal."""
    text = f"{instance.id} is {instance.phase}"
    if instance.phase in {Phase.RUNNING, Phase.STARTING}:
        text += f" but not ready: {instance.unready_reason}" if instance.unready_reason else ", not ready yet"
    elif instance.waiting_for:
        text += f", waiting for {instance.waiting_for}"
    if instance.phase in _TROUBLE and instance.last_exit is not None:
        text += f" after {instance.last_exit.detail}"
    return text
