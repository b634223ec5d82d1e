"""What operators ask for: is it possible, whom does it set in motion, and which operation tracks it.

Precedence, in writing: shutdown > stop > drain > restart > start. A wish changes goals only and is
idempotent; whom it means and which goals it changes is decided in `goals`, how an instance then gets
there is `lifecycle`'s business. Each wish is answered by exactly one `Accepted` or `Refused`.
"""

from supervisor.core import errands, goals, operations, rollout, shutdown
from supervisor.core.effects import Accepted, Cause
from supervisor.core.events import (
    AbortRequested,
    DrainRequested,
    OperationWish,
    OperatorWish,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    ShutdownRequested,
    SignalRequested,
    StartRequested,
    StopRequested,
    UnpauseRequested,
    Urgency,
    Wish,
)
from supervisor.core.exits import SIGNAL_NUMBERS
from supervisor.core.goals import RefusedError
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import Target
from supervisor.core.state import ComeBack, Deliver, Leave, Operation, OperationState, Shutdown, StepState
from supervisor.core.turn import Turn


def take(turn: Turn, event: OperatorWish | OperationWish) -> None:
    """Carry out a wish, or say why it cannot be; one that was taken already has its answer."""
    if event.wish.operation in turn.host.operations:
        turn.emit(Accepted(event.wish.operation))
        return
    try:
        match event:
            case AbortRequested() | PauseRequested() | UnpauseRequested():
                _steer(turn, event)
                return
            case _:
                operation = _take_scoped(turn, event)
    except RefusedError as refused:
        turn.emit(refused.answer)
        return
    turn.emit(Accepted(operation))


def _take_scoped(turn: Turn, event: OperatorWish) -> str:
    wish = event.wish
    if isinstance(event, ShutdownRequested):
        return _shut_down(turn, event)
    if turn.host.shutdown is not None:
        raise RefusedError(
            "shutting-down", "the host is shutting down", "wait for it to end, or start pitbossd anew"
        )
    ids = goals.resolve(turn.host, wish.scope)
    if isinstance(event, StartRequested | ResumeRequested | RestartRequested):
        ids = goals.declared(turn.host, wish.scope, ids)
    match event:
        case StartRequested():
            return _start(turn, wish, ids)
        case ResumeRequested():
            return _bring_up(turn, "resume", wish, ids)
        case DrainRequested(deadline_seconds=deadline_seconds):
            return _take_down(turn, "drain", wish, ids, Urgency.NORMAL, deadline_seconds)
        case StopRequested(urgency=urgency):
            return _take_down(turn, "stop", wish, ids, urgency, None)
        case RestartRequested(only_failed=only_failed):
            return _restart(turn, wish, ids, only_failed=only_failed)
        case _:
            return _signal(turn, event, ids)


# ── down ─────────────────────────────────────────────────────────────────────────────────────────


def _take_down(
    turn: Turn, kind: str, wish: Wish, ids: list[InstanceId], urgency: Urgency, deadline_seconds: float | None
) -> str:
    host = turn.host
    goal = Goal.DRAINED if kind == "drain" else Goal.DOWN
    cause = Cause.DRAIN if kind == "drain" else Cause.STOP
    meant = goals.set_goal(turn, kind, wish, ids, goal)
    fit = None
    if deadline_seconds is not None:
        pools = {key.pool for key in meant}
        fit = shutdown.fit(host.plan, pools, turn.now, turn.now + deadline_seconds)
    operation = operations.find_active(host, kind, wish.scope)
    if operation is None:
        message = "" if meant else "nothing to do: it is stopped already"
        operation = operations.begin(turn, kind, wish, meant, message)
    errands.begin(turn, Leave(cause, urgency, fit, refits=fit is not None), meant)
    return operation.id


# ── up ───────────────────────────────────────────────────────────────────────────────────────────


def _start(turn: Turn, wish: Wish, ids: list[InstanceId]) -> str:
    host, scope = turn.host, wish.scope
    drained = [key for key in ids if host.instances[key].goal is Goal.DRAINED]
    if scope.pool is not None and drained and len(drained) == len(ids):
        raise RefusedError("drained", f"{scope} is drained", f"pitbossctl resume {scope} brings it back")
    if drained:
        ids = [key for key in ids if host.instances[key].goal is not Goal.DRAINED]
    return _bring_up(turn, "start", wish, ids)


def _bring_up(turn: Turn, kind: str, wish: Wish, ids: list[InstanceId]) -> str:
    meant = goals.set_goal(turn, kind, wish, ids, Goal.UP)
    operation = operations.find_active(turn.host, kind, wish.scope)
    if operation is None:
        operation = operations.begin(turn, kind, wish, meant)
    errands.begin(turn, ComeBack(pardons=kind == "start", request_id=wish.request_id), meant)
    return operation.id


# ── restart and its rollout ──────────────────────────────────────────────────────────────────────


def _restart(turn: Turn, wish: Wish, ids: list[InstanceId], *, only_failed: bool) -> str:
    host, scope = turn.host, wish.scope
    up = [key for key in ids if host.instances[key].goal is Goal.UP]
    if ids and not up:
        goal = host.instances[ids[0]].goal
        kind, verb = ("drained", "resume") if goal is Goal.DRAINED else ("stopped", "start")
        raise RefusedError(kind, f"{scope} is {kind}", f"pitbossctl {verb} {scope} brings it up")
    same = operations.find_active(host, "restart", scope)
    if same is not None:
        return same.id
    if only_failed:
        up = [key for key in up if _has_failed(host.instances[key])]
        if not up:
            return operations.begin(turn, "restart", wish, (), "nothing has failed").id
    pools: dict[str, list[InstanceId]] = {}
    for key in up:
        pools.setdefault(key.pool, []).append(key)
    for name in pools:
        running = host.pools[name].rollout
        if running is not None:
            raise RefusedError(
                "rollout-running",
                f"{name} is being restarted by operation {running.operation}",
                f"wait for it, or pitbossctl operations abort {running.operation}",
            )
    surplus = [key for name in pools for key in host.pools[name].surge]
    stuck = next((key for key in [*up, *surplus] if host.instances[key].phase is Phase.STUCK), None)
    concerned = up if stuck is None else list(dict.fromkeys([*up, stuck]))
    operation = operations.begin(turn, "restart", wish, concerned)
    if stuck is not None:
        # It cannot be replaced: said before anybody is touched, in whichever pool it is.
        turn.put_step(operation.id, stuck, StepState("failed", "stuck: it outlived SIGKILL"))
        message = f"{stuck} is stuck, so nobody was touched"
        operations.finish(turn, operation.id, OperationState.FAILED, message)
        return operation.id
    for name, queue in pools.items():
        if host.operations[operation.id].state.is_final:
            # The rollout of an earlier pool has halted at once: nobody else is touched.
            break
        rollout.begin(turn, host.pools[name], queue, wish)
        rollout.advance(turn, name)
    return operation.id


def _has_failed(instance: Instance) -> bool:
    return instance.phase in {Phase.BACKOFF, Phase.FAILED, Phase.STUCK} or (
        instance.failures > 0 and not instance.ready
    )


def _steer(turn: Turn, event: OperationWish) -> None:
    host = turn.host
    operation = host.operations.get(event.operation)
    if operation is None:
        raise RefusedError(
            "unknown-operation", f"there is no operation {event.operation!r}", "see pitbossctl operations"
        )
    pools = [
        name for name, pool in host.pools.items() if pool.rollout and pool.rollout.operation == operation.id
    ]
    if operation.state.is_final:
        if isinstance(event, AbortRequested) and operation.state is OperationState.ABORTED:
            turn.emit(Accepted(operation.id))
            return
        raise RefusedError(
            "operation-ended", f"operation {operation.id} has {operation.state}", "nothing is left to steer"
        )
    if not pools:
        hint = "to take back a drain or a stop, resume or start its target"
        raise RefusedError("not-a-rollout", f"a {operation.kind} cannot be paused or aborted", hint)
    match event:
        case AbortRequested():
            rollout.abandon(turn, pools[0], OperationState.ABORTED, "aborted by an operator")
        case _:
            _pause(turn, operation, paused=isinstance(event, PauseRequested))
    turn.emit(Accepted(operation.id))


def _pause(turn: Turn, operation: Operation, *, paused: bool) -> None:
    state = OperationState.PAUSED if paused else OperationState.RUNNING
    if operation.state is not state:
        turn.put_operation(operation._replace(state=state))
        rollout.set_paused(turn, operation.id, paused=paused)


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────


def _signal(turn: Turn, event: SignalRequested, ids: list[InstanceId]) -> str:
    if event.signal not in SIGNAL_NUMBERS:
        known = ", ".join(SIGNAL_NUMBERS)
        raise RefusedError("unknown-signal", f"cannot send {event.signal!r}", f"the signals are: {known}")
    alive = [key for key in ids if turn.host.instances[key].has_process]
    if not alive:
        scope = event.wish.scope
        where = f" {scope}" if scope.pool else ""
        raise RefusedError(
            "not-running", f"{scope} has no process to signal", f"pitbossctl status{where} says why"
        )
    target = Target.ALL if event.everyone else Target.MAIN
    generations = {key: turn.host.instances[key].generation for key in alive}
    errands.begin(turn, Deliver(event.signal, target, generations), alive)
    operation = operations.begin(turn, "signal", event.wish, (), f"{event.signal} sent to {len(alive)}")
    return operation.id


def _shut_down(turn: Turn, event: ShutdownRequested) -> str:
    host, wish = turn.host, event.wish
    seconds = (
        host.plan.shutdown_deadline_seconds if event.deadline_seconds is None else event.deadline_seconds
    )
    deadline = turn.now + seconds
    known = host.shutdown
    first = known is None
    if known is not None and deadline >= known.deadline:
        deadline = known.deadline
    if known is None or deadline < known.deadline:
        fitted = shutdown.fit(host.plan, host.plan.pools, turn.now, deadline)
        turn.put_shutdown(
            Shutdown(
                turn.now if known is None else known.began_at,
                deadline,
                fitted.scale,
                fitted.stop_by,
                wish.operation if known is None else known.operation,
                wish.request_id if known is None else known.request_id,
            )
        )
    assert host.shutdown is not None
    if first:
        for name in host.pools:
            rollout.abandon(turn, name, OperationState.ABORTED, "the host is shutting down")
        # Not reported as an intent: after the next boot every goal is what it was.
        turn.put_goals(host.instances, Goal.DOWN, wish.request_id)
        alive = [key for key, instance in host.instances.items() if instance.has_process]
        operations.begin(turn, "shutdown", wish, alive)
    refits = first or (known is not None and deadline < known.deadline)
    errands.begin(turn, Leave(Cause.SHUTDOWN, event.urgency, refits=refits), list(host.instances))
    return host.shutdown.operation
