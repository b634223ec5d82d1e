"""All instances together: order at boot and at the end, and who is told what.

`step` takes one event, lets `lifecycle`, `wishes` or time act on what it concerns, and then settles:
gates that opened, holds that ended, rollouts whose turn it is, operations that are done. It touches
only what the event concerns and what that changes; never the whole host.
"""

import heapq
import math

from supervisor.core import errands, lifecycle, operations, rollout, surge, wishes
from supervisor.core.effects import Effect, Halt, OperationChanged, ReleaseBarrier
from supervisor.core.events import (
    BarrierReached,
    Booted,
    CarryOn,
    CheckFailed,
    CheckPassed,
    Event,
    Exited,
    Fact,
    MainMoved,
    Spawned,
    SpawnFailed,
    Tick,
    Told,
    TreeGone,
)
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import Condition
from supervisor.core.state import Census, Host, Pool
from supervisor.core.turn import Gates, Turn

_SETTLE_PASSES = 10_000
"""Far above what any legal sequence needs; reaching it means that two rules undo one another."""


def step(host: Host, event: Event, now: float) -> tuple[Effect, ...]:
    """Take one event: the new state is in `host`, and what must be done or told is returned.

    Raises whatever a broken invariant raises; the host is then as it was before.
    """
    turn = Turn(host, now)
    try:
        _take(turn, event)
        _settle(turn)
    except BaseException:
        turn.take_back()
        raise
    changed = (effect.operation for effect in turn.effects if isinstance(effect, OperationChanged))
    for name in dict.fromkeys(changed):
        _keep_bounded(host, name)
    return turn.finish()


def next_deadline(host: Host) -> float | None:
    """The moment at which the next `Tick` is due, monotonic seconds."""
    heap, moments = host.heap, host.moments
    while heap and moments.get(heap[0][2]) != heap[0][:2]:
        heapq.heappop(heap)
    return heap[0][0] if heap else None


def has_errands(host: Host, now: float) -> bool:
    """Whether there is something for `CarryOn` to go on with."""
    return errands.next_due(host, now) is not None


def put_off(host: Host, moment: float) -> None:
    """Look at the earliest deadline again at `moment`: a decision about it raised, and others must go on."""
    earliest, turn = next_deadline(host), Turn(host, math.inf)
    key = turn.take_due()
    if earliest is None or key is None:
        return
    if key in host.errands:
        errands.set_aside(turn, str(key), earliest, moment)
    else:
        turn.schedule(key, moment)


def _take(turn: Turn, event: Event) -> None:
    match event:
        case (
            Spawned()
            | SpawnFailed()
            | Exited()
            | TreeGone()
            | MainMoved()
            | Told()
            | CheckPassed()
            | CheckFailed()
        ):
            _observe(turn, event)
        case Tick(most=most):
            while most > 0 and (key := turn.take_due()) is not None:
                most -= _due(turn, key, most)
        case CarryOn():
            name = errands.next_due(turn.host, turn.now)
            if name is not None:
                errands.carry_on(turn, name, turn.host.most_at_once)
        case BarrierReached(token=token):
            turn.emit(ReleaseBarrier(token))
        case Booted():
            errands.look_at_all(turn)
        case _:
            wishes.take(turn, event)


def _observe(turn: Turn, fact: Fact) -> None:
    """The one place where facts about older generations, and about strangers, are dropped."""
    instance = turn.host.instances.get(fact.instance)
    if instance is None or instance.generation != fact.generation:
        return
    turn.put(lifecycle.react(turn.scene(fact.instance.pool), instance, fact))


def _due(turn: Turn, key: InstanceId | str, most: int) -> int:
    """Act on a key whose moment has come; on how many instances, of so many at most."""
    if isinstance(key, InstanceId):
        turn.put(lifecycle.due(turn.scene(key.pool), turn.host.instances[key]))
        turn.changed[key] = None
        turn.schedule(key, turn.host.instances[key].wake_at())
        return 1
    kind, _, name = key.partition(":")
    match kind:
        case "errand" | "look":
            return errands.carry_on(turn, key, most)
        case "operation":
            operations.out_of_time(turn, name)
        case _:
            rollout.advance(turn, name)
            latest = turn.host.pools[name].rollout
            turn.schedule(key, latest.wake_at if latest is not None else None)
    return 1


# ── settling ─────────────────────────────────────────────────────────────────────────────────────


def _settle(turn: Turn) -> None:
    """Carry on until nothing that has changed changes anything else."""
    for _ in range(_SETTLE_PASSES):
        if turn.changed:
            key = next(iter(turn.changed))
            del turn.changed[key]
            turn.put(_advanced(turn, turn.host.instances[key]))
            operations.observe(turn, turn.host.instances[key])
        elif turn.touched:
            name = next(iter(turn.touched))
            _settle_pool(turn, name, turn.touched.pop(name))
        else:
            _halt_if_over(turn)
            return
    raise AssertionError("the host does not settle")


def _advanced(turn: Turn, instance: Instance) -> Instance:
    pool = instance.id.pool
    gate = _gate(turn, pool) if instance.goal is Goal.UP and not instance.has_process else ""
    return lifecycle.advance(turn.scene(pool), instance, gate)


def _settle_pool(turn: Turn, name: str, before: Gates) -> None:
    pool, census = turn.host.pools[name], turn.host.census[name]
    available = _is_available(pool, census)
    if available != pool.available:
        turn.put_pool(pool._replace(available=available))
    after = turn.gates(name)
    if after[:-1] != before[:-1]:
        for dependent in turn.host.dependents[name]:
            if turn.host.census[dependent].phases[Phase.PENDING]:
                errands.look(turn, dependent)
    if before.going_down and not after.going_down:
        for needed in turn.host.requirements[name]:
            if turn.host.census[needed].holding and not turn.held(needed):
                errands.look(turn, needed)
    rollout.advance(turn, name, turn.written.pop(name, {}))
    surge.settle(turn, name)


def _is_available(pool: Pool, census: Census) -> bool:
    """All of them open the gate; only the loss of the last closes it."""
    ready = census.wanted_ready
    return ready > 0 if pool.available else census.wanted > 0 and ready == census.wanted


def _gate(turn: Turn, name: str) -> str:
    """What a start of this pool has to wait for; empty when it may start."""
    host = turn.host
    for needed, condition in host.pools[name].plan.depends_on.items():
        census = host.census[needed]
        match condition:
            case Condition.STARTED if not census.started:
                return f"{needed} started ({census.spawned}/{census.spawned + census.unstarted})"
            case Condition.READY if not _is_available(host.pools[needed], census):
                # Asked anew: in this very step the last one may have become unready.
                return f"{needed} ready ({census.wanted_ready}/{census.wanted})"
            case Condition.COMPLETED if not census.completed:
                failed = census.phases[Phase.FAILED]
                return f"{needed} completed" + (f" ({failed} failed)" if failed else "")
            case _:
                pass
    return ""


def _halt_if_over(turn: Turn) -> None:
    host = turn.host
    if host.shutdown is None or host.halted:
        return
    if host.with_process == host.stuck and not host.errands:
        turn.put_halted()
        stuck = (one.id for one in host.instances.values() if one.phase is Phase.STUCK)
        turn.emit(Halt(tuple(stuck) if host.stuck else ()))


def _keep_bounded(host: Host, name: str) -> None:
    operation = host.operations.get(name)
    if operation is not None and operation.state.is_final:
        operations.forget_old(host, name)
