"""Whom a wish means, and what is wanted of them: targets, goals, and the goals that a wish leaves alone.

It refuses names that do not exist and knows which goal gives way to which. It refuses to know how an
instance gets to its goal, and which operation tracks that: see `wishes`.
"""

from supervisor.core.effects import GoalChanged, Refused
from supervisor.core.events import Scope, Wish
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Goal
from supervisor.core.plan import Kind
from supervisor.core.state import Host
from supervisor.core.turn import Turn


class RefusedError(Exception):
    """A wish that cannot be; carries the answer."""

    def __init__(self, kind: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.answer = Refused(kind, message, hint)


def resolve(host: Host, scope: Scope) -> list[InstanceId]:
    """The instances that a scope means, surge instances included; raises RefusedError for a name unknown."""
    if scope.pool is None:
        return list(host.instances)
    pool = host.pools.get(scope.pool)
    if pool is None:
        known = ", ".join(list(host.pools)[:10])
        raise RefusedError("unknown-pool", f"there is no pool {scope.pool!r}", f"the pools are: {known}")
    if scope.index is None:
        return [*host.declared[scope.pool], *pool.surge]
    key = InstanceId(scope.pool, scope.index)
    if key not in host.instances:
        last = pool.plan.instances - 1
        hint = (
            f"the instances are {scope.pool}/0 to {scope.pool}/{last}" if last >= 0 else "the pool has none"
        )
        raise RefusedError("unknown-instance", f"there is no instance {key}", hint)
    return [key]


def declared(host: Host, scope: Scope, ids: list[InstanceId]) -> list[InstanceId]:
    """Those that an operator can want up: a surge instance comes and goes with its rollout.

    Raises RefusedError when the scope names a surge instance itself.
    """
    lasting = [key for key in ids if not host.instances[key].surge]
    if scope.index is not None and not lasting:
        what = f"{scope} is a surge instance: a rollout has brought it, and takes it away again"
        raise RefusedError("surge-instance", what, f"pitbossctl status {scope.pool} shows the others")
    return lasting


def _scopes(host: Host, scope: Scope) -> list[Scope]:
    return [Scope(name) for name in host.pools] if scope.pool is None else [scope]


def set_goal(turn: Turn, kind: str, wish: Wish, ids: list[InstanceId], goal: Goal) -> list[InstanceId]:
    """Write the goal down for pools and instances, and return the instances to which it applies.

    Some keep the goal they have: a drain leaves what is down where it is, a start what is drained.
    """
    host = turn.host
    keeps = _kept_by(kind)
    for scope in _scopes(host, wish.scope):
        _set_goal_of(turn, wish, scope, goal, keeps)
    instances = host.instances
    meant = ids
    if keeps:
        meant = [
            key for key in ids if instances[key].goal not in keeps or _follows(host, instances[key], goal)
        ]
    # All goals first: who waits for whom depends on the goals of the others.
    elsewhere = [key for key in meant if host.instances[key].goal is not goal]
    turn.put_goals(elsewhere, goal, wish.request_id, _run_again(host, wish.scope, goal))
    return meant


def _run_again(host: Host, scope: Scope, goal: Goal) -> frozenset[str]:
    """The pools that this goal lets run again. At once: the next wish may come before anybody is looked at.

    A task runs once per boot; a service that ended well runs again when it is started again.
    """
    names = () if goal is Goal.UP else [one.pool for one in _scopes(host, scope) if one.pool is not None]
    return frozenset(name for name in names if host.pools[name].plan.kind is Kind.SERVICE)


def _follows(host: Host, instance: Instance, goal: Goal) -> bool:
    """Nobody but the rollout has sent a surge instance down: its goal is that of its pool."""
    return instance.surge and host.pools[instance.id.pool].goal is goal


def _kept_by(kind: str) -> frozenset[Goal]:
    """The goals that a wish of this kind does not overrule."""
    match kind:
        case "drain":
            return frozenset({Goal.DOWN})
        case "start":
            return frozenset({Goal.DRAINED})
        case _:
            return frozenset()


def _set_goal_of(turn: Turn, wish: Wish, scope: Scope, goal: Goal, keeps: frozenset[Goal]) -> None:
    host = turn.host
    assert scope.pool is not None
    members = [one for one in map(host.instances.__getitem__, resolve(host, scope)) if not one.surge]
    if scope.index is not None and not members:
        # The goal of a surge instance is no intent to be remembered: the slot is gone before the next boot.
        return
    settled = {goal, *keeps}
    differ = any(one.goal not in settled for one in members)
    if scope.index is None and host.pools[scope.pool].goal not in settled:
        turn.put_pool(host.pools[scope.pool]._replace(goal=goal))
        differ = True
    if not differ:
        return
    turn.emit(GoalChanged(scope, goal, wish.request_id, wish.principal))
    for one in members if keeps and scope.index is None else ():
        if one.goal in keeps:
            # What the journal has just heard about the whole pool does not hold for this one.
            own = Scope(one.id.pool, one.id.index)
            turn.emit(GoalChanged(own, one.goal, wish.request_id, wish.principal))
