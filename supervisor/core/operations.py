"""Tracked wishes: what an operator asked for, how far it is, and how it ended.

An operation watches instances; it never moves them. It ends when each of its steps has ended. The
steps of a restart are written by `rollout`, those of every other kind are judged here.
"""

from collections.abc import Iterable

from supervisor.core.effects import OperationChanged
from supervisor.core.events import Scope, Wish
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Goal, Phase
from supervisor.core.state import Host, Operation, OperationState, StepState
from supervisor.core.turn import Turn

KEPT_OPERATIONS = 200
"""Ended operations kept in memory; the journal keeps more."""

_GOALS = {
    "start": Goal.UP,
    "resume": Goal.UP,
    "drain": Goal.DRAINED,
    "stop": Goal.DOWN,
    "shutdown": Goal.DOWN,
}
_FINAL_STEPS = frozenset({"done", "failed", "aborted"})
_WAITING = StepState("waiting")


def find_active(host: Host, kind: str, scope: Scope) -> Operation | None:
    """The operation of this kind that is under way for exactly this scope."""
    for operation in host.operations.values():
        if not operation.state.is_final and operation.kind == kind and operation.scope == scope:
            return operation
    return None


def begin(turn: Turn, kind: str, wish: Wish, ids: Iterable[InstanceId], message: str = "") -> Operation:
    """Open an operation over these instances, and end it at once if nothing is left to do."""
    steps = dict.fromkeys(ids, _WAITING)
    pools = dict.fromkeys(key.pool for key in steps)
    operation = Operation(
        wish.operation,
        kind,
        wish.scope,
        OperationState.RUNNING,
        done=0,
        total=len(steps),
        started_at=turn.now,
        deadline=_deadline(turn, kind, pools),
        request_id=wish.request_id,
        principal=wish.principal,
        message=message,
    )
    turn.put_steps(operation.id, steps)
    turn.put_operation(operation)
    for pool in pools:
        turn.put_active(pool, turn.host.active_operations.get(pool, frozenset()) | {operation.id})
    turn.emit(OperationChanged(operation.id))
    if not steps:
        finish(turn, operation.id, OperationState.SUCCEEDED, message)
    return turn.host.operations[operation.id]


def _deadline(turn: Turn, kind: str, pools: Iterable[str]) -> float | None:
    if kind not in {"start", "resume"}:
        return None
    plans = [turn.host.pools[pool].plan for pool in pools]
    return turn.now + max((plan.rollout.progress_deadline_seconds for plan in plans), default=0.0)


def observe(turn: Turn, instance: Instance) -> None:
    """An instance changed: write down what that means for the operations over it."""
    host = turn.host
    for name in sorted(host.active_operations.get(instance.id.pool, ())):
        operation = host.operations[name]
        step = host.steps[name].get(instance.id)
        if step is None or step.state in _FINAL_STEPS or operation.kind not in _GOALS:
            continue
        judged = _judge(operation.kind, instance)
        if judged != step:
            set_step(turn, name, instance.id, judged)


def _judge(kind: str, instance: Instance) -> StepState:
    goal = _GOALS[kind]
    if instance.goal is not goal:
        return StepState("aborted", f"its goal became {instance.goal}")
    if instance.at_goal:
        return StepState("done", _ending(instance) if goal is not Goal.UP else "ready")
    if instance.phase is Phase.STUCK:
        return StepState("failed", "stuck: it outlived SIGKILL")
    if goal is Goal.UP and instance.phase is Phase.FAILED:
        detail = instance.last_exit.detail if instance.last_exit else ""
        return StepState("failed", f"failed: {detail}")
    rung = instance.rung
    detail = f"{instance.phase} ({rung.name})" if rung is not None else str(instance.phase)
    return StepState("running", detail)


def _ending(instance: Instance) -> str:
    last = instance.last_exit
    return "was not running" if last is None else f"{last.detail}" + (f" on {last.rung}" if last.rung else "")


def set_step(turn: Turn, name: str, instance: InstanceId, step: StepState) -> None:
    """Write one step; the last one that ends, ends the operation."""
    before = turn.host.steps[name][instance]
    turn.put_step(name, instance, step)
    if step.state not in _FINAL_STEPS or before.state in _FINAL_STEPS:
        return
    operation = turn.host.operations[name]
    operation = operation._replace(done=operation.done + 1)
    turn.put_operation(operation)
    if operation.done < operation.total:
        turn.emit(OperationChanged(name))
        return
    states = {state.state for state in turn.host.steps[name].values()}
    if "failed" in states:
        finish(turn, name, OperationState.FAILED, operation.message or _first(turn, name, "failed"))
    elif "aborted" in states:
        finish(turn, name, OperationState.ABORTED, operation.message or _first(turn, name, "aborted"))
    else:
        finish(turn, name, OperationState.SUCCEEDED, operation.message)


def add_step(turn: Turn, name: str, instance: InstanceId, step: StepState) -> None:
    """An operation has come to concern one instance more."""
    operation = turn.host.operations[name]
    turn.put_step(name, instance, step)
    turn.put_operation(operation._replace(total=operation.total + 1))
    turn.emit(OperationChanged(name))


def _first(turn: Turn, name: str, state: str) -> str:
    found = ((key, step) for key, step in turn.host.steps[name].items() if step.state == state)
    key, step = next(found)
    return f"{key}: {step.detail}"


def finish(turn: Turn, name: str, state: OperationState, message: str) -> None:
    """End an operation; steps that had not ended are aborted."""
    host = turn.host
    operation = host.operations[name]
    if operation.state.is_final:
        return
    _end_steps(turn, name, "aborted")
    turn.put_operation(operation._replace(state=state, message=message, finished_at=turn.now))
    for pool in dict.fromkeys(key.pool for key in host.steps[name]):
        turn.put_active(pool, host.active_operations.get(pool, frozenset()) - {name})
    turn.emit(OperationChanged(name))


def forget_old(host: Host, ended: str) -> None:
    """Drop the oldest ended operations beyond the number kept. Called after the turn is committed."""
    host.finished_operations.append(ended)
    while len(host.finished_operations) > KEPT_OPERATIONS:
        old = host.finished_operations.popleft()
        host.operations.pop(old, None)
        host.steps.pop(old, None)


def out_of_time(turn: Turn, name: str) -> None:
    """The time in which its instances had to become ready is over."""
    late = [key for key, step in turn.host.steps[name].items() if step.state not in _FINAL_STEPS]
    more = f" and {len(late) - 3} more" if len(late) > 3 else ""
    names = ", ".join(map(str, late[:3]))
    _end_steps(turn, name, "failed", "not ready in time: ")
    message = f"not ready within the progress deadline: {names}{more}; they go on trying"
    finish(turn, name, OperationState.FAILED, message)


def _end_steps(turn: Turn, name: str, state: str, why: str = "") -> None:
    """Write at once what became of all the steps that have not ended."""
    steps = turn.host.steps[name]
    late = {
        key: StepState(state, why + step.detail)
        for key, step in steps.items()
        if step.state not in _FINAL_STEPS
    }
    if late:
        turn.put_steps(name, steps | late)
