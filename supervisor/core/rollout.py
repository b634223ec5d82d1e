"""Replacing the generations of a pool without losing capacity: whose turn it is, and when to halt.

Promise: by its own doing never more than `max_unavailable` instances are unready, and after the
first replacement that does not become ready nobody else is touched. How one instance goes down and
comes up again is `lifecycle`'s business; the extra ones of `max_surge` are `surge`'s.
"""

from collections.abc import Collection, Sequence

from supervisor.core import lifecycle, operations, surge
from supervisor.core.effects import Cause, Spawn
from supervisor.core.events import Wish
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Goal, Phase
from supervisor.core.state import OperationState, Pool, Rollout, RolloutState, StepState
from supervisor.core.turn import Turn

_FAILING = frozenset({Cause.STARTUP_TIMEOUT, Cause.LIVENESS, Cause.WATCHDOG, Cause.EXIT, Cause.WINDOW_CLOSED})


def begin(turn: Turn, pool: Pool, ids: Sequence[InstanceId], wish: Wish) -> None:
    """Queue these instances of a pool for replacement: those that are unready anyway go first."""
    instances = turn.host.instances
    order = sorted(ids, key=lambda key: (instances[key].ready, key.index))
    deadline = turn.now + pool.plan.rollout.progress_deadline_seconds
    turn.put_pool(
        pool._replace(
            rollout=Rollout(wish.operation, tuple(order), {}, deadline, deadline, request_id=wish.request_id),
        )
    )


def advance(turn: Turn, name: str, written: Collection[InstanceId] | None = None) -> None:
    """Close the turns that are over and begin those that may.

    With `written` only these have changed since the last time, and no time has passed that matters: else
    the cost of an event would grow with `max_unavailable`.
    """
    pool = turn.host.pools[name]
    rollout = pool.rollout
    if rollout is None:
        return
    for key in rollout.surge:
        trouble = surge.trouble(turn.host.instances[key], rollout)
        if trouble:
            _halt(turn, pool, rollout, trouble, key)
            return
    for key in list(rollout.turns if written is None else filter(rollout.turns.__contains__, written)):
        old, instance = rollout.turns[key], turn.host.instances[key]
        trouble = _trouble(instance, old)
        if trouble:
            _halt(turn, pool, rollout, trouble, key)
            return
        if _is_replaced(turn, pool, instance, old):
            if not instance.surge:
                operations.set_step(
                    turn, rollout.operation, key, StepState("done", f"generation {instance.generation}")
                )
            rollout = _without_turn(turn, pool, rollout, key)
        elif not instance.surge:
            _note(turn, rollout, instance, old)
    if turn.now >= rollout.progress_by and rollout.state is RolloutState.RUNNING:
        why = f"no progress within {pool.plan.rollout.progress_deadline_seconds:g} s"
        _halt(turn, pool, rollout, why)
        return
    rollout = _next_turns(turn, name, rollout)
    for key in rollout.surge:
        surge.note(turn, rollout, turn.host.instances[key])
    done = not rollout.waiting and not rollout.turns and not rollout.surge
    wake_at = _wake_at(turn, pool, rollout)
    latest = None if done else rollout._replace(wake_at=wake_at)
    if latest != turn.host.pools[name].rollout:
        turn.put_pool(turn.host.pools[name]._replace(rollout=latest))


def _without_turn(turn: Turn, pool: Pool, rollout: Rollout, key: InstanceId) -> Rollout:
    return rollout._replace(
        turns={other: old for other, old in rollout.turns.items() if other != key},
        progress_by=turn.now + pool.plan.rollout.progress_deadline_seconds,
    )


def _trouble(instance: Instance, old: int) -> str:
    """Why this turn cannot succeed any more ("": it still can)."""
    if instance.phase is Phase.STUCK:
        return f"{instance.id} is stuck: it outlived SIGKILL"
    if instance.goal is not Goal.UP:
        return f"{instance.id} is wanted {instance.goal} now"
    if instance.generation <= old:
        return ""
    ended = instance.generation > old + 1 or instance.phase in {Phase.BACKOFF, Phase.FAILED}
    ending = instance.stop is not None and instance.stop.cause in _FAILING
    if ended or ending:
        last = instance.last_exit
        why = (
            last.detail
            if last is not None and last.generation > old
            else str(instance.stop and instance.stop.cause)
        )
        return f"{instance.id} did not stay ready: {why}"
    return ""


def _is_replaced(turn: Turn, pool: Pool, instance: Instance, old: int) -> bool:
    if instance.generation <= old:
        return False
    if instance.finished:
        return True
    proven_at = _proven_at(pool, instance)
    return proven_at is not None and turn.now >= proven_at


def _proven_at(pool: Pool, instance: Instance) -> float | None:
    """When a replacement will have been ready for long enough; None while it is not ready."""
    # The turn ends by this very number and wakes at it: `now - ready_at` may round to just below.
    if not instance.ready or instance.ready_at is None:
        return None
    return instance.ready_at + pool.plan.rollout.min_ready_seconds


def _note(turn: Turn, rollout: Rollout, instance: Instance, old: int) -> None:
    rung = instance.rung
    if instance.generation <= old:
        detail = f"generation {old} {instance.phase}" + (f" ({rung.name})" if rung else "")
    elif instance.ready:
        detail = f"generation {instance.generation} ready, proving itself"
    else:
        detail = f"generation {instance.generation} {instance.phase}"
    step = StepState("running", detail)
    if turn.host.steps[rollout.operation].get(instance.id) != step:
        turn.put_step(rollout.operation, instance.id, step)


def _next_turns(turn: Turn, name: str, rollout: Rollout) -> Rollout:
    """Begin as many turns as the rules allow, and no more of them in one step than there is time for."""
    rules, instances = turn.host.pools[name].plan.rollout, turn.host.instances
    replacing = [key for key in rollout.turns if key not in rollout.surge]
    # A replacement that proves itself is ready in the counts, but its turn still takes a place.
    proving, free = sum(instances[key].ready for key in replacing), rules.max_unavailable + rules.max_surge
    free -= len(replacing)
    while rollout.waiting and rollout.state is RolloutState.RUNNING and free > 0 and turn.spare > 0:
        key = rollout.waiting[0]
        instance = instances[key]
        if instance.started_at == turn.now and any(
            isinstance(effect, Spawn) and effect.instance == key for effect in turn.effects
        ):
            # Started in this very step: its process must exist before it can be told to go.
            turn.spare = 0
            break
        if instance.goal is not Goal.UP:
            turn.spare -= 1
            operations.set_step(
                turn, rollout.operation, key, StepState("aborted", f"it is wanted {instance.goal}")
            )
            rollout = rollout._replace(waiting=rollout.waiting[1:])
            continue
        if instance.ready:
            rollout = surge.fill(turn, name, rollout)
            if not _has_room(turn, turn.host.pools[name], rollout, proving):
                # Nobody was acted on: with less to spare, this would be looked at again without end.
                break
        turn.spare -= 1
        rollout = rollout._replace(
            waiting=rollout.waiting[1:],
            turns={**rollout.turns, key: instance.generation},
            progress_by=turn.now + rules.progress_deadline_seconds,
        )
        _note(turn, rollout, instance, instance.generation)
        turn.put(_supersede(turn, instance, rollout.request_id))
        free -= 1
    return rollout


def _has_room(turn: Turn, pool: Pool, rollout: Rollout, proving: int) -> bool:
    """Whether one more that is ready may go down: it costs capacity, and needs its replacement first."""
    if not surge.are_proven(pool, rollout):
        return False
    census = turn.host.census[pool.name]
    taken = census.wanted - census.wanted_at_goal + proving
    return taken < pool.plan.rollout.max_unavailable + surge.ready_count(turn, rollout)


def _supersede(turn: Turn, instance: Instance, request_id: str) -> Instance:
    scene = turn.scene(instance.id.pool)
    instance = instance._replace(superseded=True, request_id=request_id, finished=False)
    instance = lifecycle.forgive(scene, instance, Cause.RESTART)
    return lifecycle.leave(scene, instance, Cause.RESTART)


def _wake_at(turn: Turn, pool: Pool, rollout: Rollout) -> float | None:
    # A paused rollout has no deadline; one that lay in the past would wake the daemon without end.
    moments = [rollout.progress_by] if rollout.state is RolloutState.RUNNING else []
    if moments and rollout.waiting and turn.spare <= 0:
        moments.append(turn.now)
    instances = turn.host.instances
    proven = [
        _proven_at(pool, instances[key])
        for key, old in rollout.turns.items()
        if instances[key].ready and instances[key].generation > old
    ]
    moments.extend(moment for moment in proven if moment is not None)
    return min(moments, default=None)


def _halt(turn: Turn, pool: Pool, rollout: Rollout, why: str, failed: InstanceId | None = None) -> None:
    """Stop where we are: turns under way end by themselves, and nobody else is touched."""
    turn.put_pool(pool._replace(rollout=None))
    operation = rollout.operation
    untouched = len(rollout.waiting)
    # What an operator has taken away did not fail: the wish is theirs, as is the end of this one.
    taken_away = failed is not None and _is_taken_away(turn.host.instances[failed])
    state = OperationState.ABORTED if taken_away else OperationState.FAILED
    if failed is not None:
        turn.put_step(operation, failed, StepState(state.value, why))
    for other in turn.host.pools.values():
        # A restart of the whole host is one operation: a failure in one pool ends it for all.
        if other.rollout is not None and other.rollout.operation == operation:
            untouched += len(other.rollout.waiting)
            turn.put_pool(other._replace(rollout=None))
    steps = turn.host.steps[operation]
    waiting = [key for key, step in steps.items() if step.state == "waiting"]
    turn.put_steps(operation, steps | dict.fromkeys(waiting, StepState("aborted", "untouched")))
    message = f"halted: {why}" + (f"; {untouched} left untouched" if untouched else "")
    operations.finish(turn, operation, state, message)


def _is_taken_away(instance: Instance) -> bool:
    return instance.goal is not Goal.UP and instance.phase is not Phase.STUCK


def abandon(turn: Turn, name: str, state: OperationState, message: str) -> None:
    """An operator ends a rollout: turns under way finish by themselves, no new one begins."""
    rollout = turn.host.pools[name].rollout
    if rollout is None:
        return
    for pool in list(turn.host.pools.values()):
        if pool.rollout is not None and pool.rollout.operation == rollout.operation:
            turn.put_pool(pool._replace(rollout=None))
    operations.finish(turn, rollout.operation, state, message)


def set_paused(turn: Turn, operation: str, *, paused: bool) -> None:
    """Begin no new turn while paused; the progress deadline starts anew afterwards."""
    state = RolloutState.PAUSED if paused else RolloutState.RUNNING
    for name in turn.host.pools:
        pool = turn.host.pools[name]
        rollout = pool.rollout
        if rollout is not None and rollout.operation == operation:
            progress_by = turn.now + pool.plan.rollout.progress_deadline_seconds
            turn.put_pool(pool._replace(rollout=rollout._replace(state=state, progress_by=progress_by)))
            advance(turn, name)
