"""The surge instances of a rollout: when they come, when they count, and when they leave.

A surge instance is an extra slot behind the declared ones. It is ready before anybody who is ready
drains, stands in while the others are replaced one after the other, and goes at the end. When a
rollout ends early it stays for as long as it stands in for a declared one that is not well. Whose
turn it is, is `rollout`'s business; how one goes up and down is `lifecycle`'s.
"""

from supervisor.core import lifecycle, operations
from supervisor.core.effects import Cause, Release
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Goal, Phase
from supervisor.core.state import Pool, Rollout, RolloutState, StepState
from supervisor.core.turn import Turn


def fill(turn: Turn, name: str, rollout: Rollout) -> Rollout:
    """Begin as many as the rules allow, none for whom nobody waits. An occupied slot is waited for."""
    pool = turn.host.pools[name]
    for key in _slots(pool):
        if len(rollout.surge) >= _wanted(pool, rollout):
            break
        if key in turn.host.instances:
            continue
        generation = pool.surge_generation
        turn.add(
            Instance(
                key,
                Goal.UP,
                generation=generation,
                since=turn.now,
                surge=True,
                request_id=rollout.request_id,
            )
        )
        pool = pool._replace(surge=(*pool.surge, key))
        turn.put_pool(pool)
        operations.add_step(turn, rollout.operation, key, StepState("running", "surge: pending"))
        rollout = rollout._replace(
            surge=(*rollout.surge, key),
            turns={**rollout.turns, key: generation},
            progress_by=turn.now + pool.plan.rollout.progress_deadline_seconds,
        )
    return rollout


def _slots(pool: Pool) -> list[InstanceId]:
    first = pool.plan.instances
    return [InstanceId(pool.name, first + number) for number in range(pool.plan.rollout.max_surge)]


def _wanted(pool: Pool, rollout: Rollout) -> int:
    return min(pool.plan.rollout.max_surge, len(rollout.waiting))


def are_proven(pool: Pool, rollout: Rollout) -> bool:
    """Whether all that are to stand in have been ready for long enough, so that others may drain."""
    return len(rollout.surge) >= _wanted(pool, rollout) and not any(
        key in rollout.turns for key in rollout.surge
    )


def ready_count(turn: Turn, rollout: Rollout) -> int:
    """How many stand in at this moment."""
    return sum(turn.host.instances[key].ready for key in rollout.surge)


def trouble(instance: Instance, rollout: Rollout) -> str:
    """Why a rollout cannot go on with this surge instance ("": it can)."""
    if instance.phase is Phase.STUCK:
        return f"{instance.id} is stuck: it outlived SIGKILL"
    if rollout.is_ending:
        return ""
    if instance.goal is not Goal.UP:
        return f"{instance.id} is wanted {instance.goal} now"
    if instance.phase in {Phase.FAILED, Phase.STOPPED}:
        why = f": {instance.last_exit.detail}" if instance.last_exit is not None else ""
        return f"{instance.id} did not stay ready{why}"
    return ""


def note(turn: Turn, rollout: Rollout, instance: Instance) -> None:
    """Write down where a surge instance is; its step ends when it is gone."""
    rung = instance.rung
    detail = f"surge: {instance.phase}" + (f" ({rung.name})" if rung else "")
    if instance.ready:
        proving = instance.id in rollout.turns
        detail = (
            f"surge: generation {instance.generation} {'ready, proving itself' if proving else 'stands in'}"
        )
    step = StepState("running", detail)
    if turn.host.steps[rollout.operation].get(instance.id) != step:
        turn.put_step(rollout.operation, instance.id, step)


def settle(turn: Turn, name: str) -> None:
    """Take away the slots of those that are gone, and send away those that nobody needs any more."""
    pool = turn.host.pools[name]
    if not pool.surge:
        return
    for key in pool.surge:
        instance = turn.host.instances[key]
        if instance.goal is not Goal.UP and instance.phase is Phase.STOPPED:
            _vanish(turn, name, instance)
    rollout = turn.host.pools[name].rollout
    ending = rollout is None or (rollout.is_ending and rollout.state is RolloutState.RUNNING)
    census = turn.host.census[name]
    missing = census.wanted - census.wanted_at_goal
    for key in turn.host.pools[name].surge:
        instance = turn.host.instances[key]
        if instance.goal is not Goal.UP or (rollout is not None and key in rollout.surge and not ending):
            continue
        if instance.ready and missing > 0:
            # A declared one is away: without this one fewer would be ready than before the rollout.
            missing -= 1
            continue
        _send_away(turn, instance)


def _send_away(turn: Turn, instance: Instance) -> None:
    scene, name = turn.scene(instance.id.pool), instance.id.pool
    leaving = lifecycle.leave(scene, instance._replace(goal=Goal.DOWN), Cause.SURGE)
    turn.put(lifecycle.advance(scene, leaving, ""))
    pool = turn.host.pools[name]
    rollout = pool.rollout
    if rollout is not None and instance.id in rollout.surge:
        turns = {key: old for key, old in rollout.turns.items() if key != instance.id}
        progress_by = turn.now + pool.plan.rollout.progress_deadline_seconds
        turn.put_pool(pool._replace(rollout=rollout._replace(turns=turns, progress_by=progress_by)))


def _vanish(turn: Turn, name: str, instance: Instance) -> None:
    pool, key = turn.host.pools[name], instance.id
    rollout = pool.rollout
    if rollout is not None and key in rollout.surge:
        operations.set_step(turn, rollout.operation, key, StepState("done", "surge: gone again"))
        rollout = rollout._replace(surge=tuple(other for other in rollout.surge if other != key))
    turn.put_pool(
        pool._replace(
            rollout=rollout,
            surge=tuple(other for other in pool.surge if other != key),
            # A late word about this one must not be taken for one about the next in its slot.
            surge_generation=max(pool.surge_generation, instance.generation),
        )
    )
    turn.drop(key)
    turn.emit(Release(key))
