"""The stop ladder of one instance: which rungs, how long each, and what leaves it early.

A rung is left by a fact (exit, drained, released) or when its window closes; the last one is always
SIGKILL to the whole tree, and whoever outlives that is stuck. Rules: a later wish only ever speeds a
stop up; a worker's request for more time only ever lengthens the rung it is on, under a ceiling.
"""

from dataclasses import replace

from supervisor.core.effects import Cause, Climbed, Extended, Kill, Signal, StopEnded
from supervisor.core.events import CheckKind, Urgency
from supervisor.core.instance import Instance, Rung, RungKind, Stop
from supervisor.core.phases import Phase
from supervisor.core.plan import KILL_SECONDS, LINGER_SECONDS, SWEEP_SECONDS, PoolPlan, Target
from supervisor.core.probing import begin_check
from supervisor.core.scene import Scene, enter, unready

IDLE_SECONDS = 1.0
"""How long a worker that held nothing when its drain began must stay so to count as drained: a task
may have been on its way to it while it was told."""

_KILL = Rung(RungKind.KILL, KILL_SECONDS, signal="SIGKILL", target=Target.ALL)
_LINGER = Rung(RungKind.SWEEP, LINGER_SECONDS, target=Target.ALL)
_WISHES = frozenset({Cause.DRAIN, Cause.STOP, Cause.RESTART, Cause.SHUTDOWN, Cause.SURGE})
_BEFORE_STAGES = frozenset({RungKind.SETTLE, RungKind.DRAIN})


def _first_moments(scene: Scene, instance: Instance, cause: Cause) -> tuple[Rung, ...]:
    """A worker that just began may have no handlers for signals yet, and work in its hands already.

    A wish can wait until it has been up for as long as its pool calls a start; our verdicts do not.
    """
    ready_at = instance.uptime_ready_at
    if instance.phase is not Phase.STARTING or ready_at is None or cause not in _WISHES:
        return ()
    seconds = min(ready_at - scene.now, scene.plan.min_uptime_seconds)
    return (_scaled(Rung(RungKind.SETTLE, seconds), scene.scale),)


def rungs(plan: PoolPlan, *, drains: bool, holds: bool, scale: float = 1.0) -> tuple[Rung, ...]:
    """The whole ladder of a pool; with `drains` false it begins at the stages."""
    ladder: list[Rung] = []
    if drains and plan.drain is not None:
        if plan.drain.settle_seconds > 0:
            ladder.append(Rung(RungKind.SETTLE, plan.drain.settle_seconds))
        ladder.append(Rung(RungKind.DRAIN, plan.drain.window_seconds, signal=plan.drain.signal))
    if holds:
        ladder.append(Rung(RungKind.HOLD, None))
    ladder.extend(
        Rung(RungKind.STAGE, stage.grace_seconds, number, stage.signal, stage.target)
        for number, stage in enumerate(plan.stop.stages, start=1)
    )
    return (*(_scaled(rung, scale) for rung in ladder), _KILL)


def _scaled(rung: Rung, scale: float) -> Rung:
    """The rung with the share of its window that a deadline of the host leaves it."""
    if scale >= 1.0 or not rung.window_seconds:
        return rung
    return replace(rung, window_seconds=rung.window_seconds * scale, cut=True)


def begin(scene: Scene, instance: Instance, cause: Cause, *, drains: bool, detail: str = "") -> Instance:
    """Set out on the ladder: unready first, so that nobody sends new work to a worker that is leaving."""
    instance = unready(scene, instance, f"stopping ({cause})")
    holds = scene.has_dependents and cause in {Cause.DRAIN, Cause.STOP, Cause.SHUTDOWN}
    stop = Stop(
        cause,
        _first_moments(scene, instance, cause)
        + rungs(scene.plan, drains=drains, holds=holds, scale=scene.scale),
        began_at=scene.now,
        rung_since=scene.now,
        stop_by=scene.stop_by,
        request_id=instance.request_id,
    )
    instance = instance._replace(checks={}, uptime_ready_at=None)
    if not drains:
        instance = instance._replace(watchdog_at=None)
    return _stand_on(scene, instance, stop, cause, detail)


def kill(scene: Scene, instance: Instance, cause: Cause, by: str) -> Instance:
    """Go straight to the last rung: who asks for SIGKILL does not want the worker told anything first."""
    instance = unready(scene, instance, f"stopping ({cause})")
    stop = Stop(
        cause,
        (_KILL,),
        scene.now,
        scene.now,
        stop_by=scene.stop_by,
        forced=by,
        request_id=instance.request_id,
    )
    return _stand_on(scene, instance._replace(uptime_ready_at=None), stop, cause, "")


def sweep(scene: Scene, instance: Instance) -> Instance:
    """The main process ended by itself and left something behind: that goes before anything new starts."""
    instance = unready(scene, instance, "its main process is gone")
    stop = Stop(
        Cause.EXIT,
        _after_main(scene, rungs(scene.plan, drains=False, holds=False, scale=scene.scale)),
        began_at=scene.now,
        rung_since=scene.now,
        stop_by=scene.stop_by,
    )
    instance = instance._replace(checks={}, uptime_ready_at=None, watchdog_at=None)
    return _stand_on(scene, instance, stop, Cause.LEFTOVERS, "")


def main_gone(scene: Scene, instance: Instance) -> Instance:
    """The main process ended during a stop, but not its tree: only rungs that address all are left."""
    stop = instance.stop
    assert stop is not None
    current = stop.rungs[0]
    if current.kind in {RungKind.KILL, RungKind.SWEEP} or (
        current.kind is RungKind.STAGE and current.target is Target.ALL
    ):
        return instance._replace(waiting_for=_waiting_for(scene, instance, current))
    ladder = (current, *_after_main(scene, stop.rungs[1:]))
    return climb(scene, instance._replace(stop=stop._replace(rungs=ladder)), "exit", Cause.LEFTOVERS)


def _after_main(scene: Scene, rest: tuple[Rung, ...]) -> tuple[Rung, ...]:
    """The ladder for what a main process left behind: the stages for all that are left, or a sweep."""
    stages = tuple(rung for rung in rest if rung.kind is RungKind.STAGE and rung.target is Target.ALL)
    sweeping = Rung(RungKind.SWEEP, SWEEP_SECONDS, signal="SIGTERM", target=Target.ALL)
    return (_LINGER, *(stages or (_scaled(sweeping, scene.scale),)), _KILL)


def climb(scene: Scene, instance: Instance, outcome: str, cause: Cause = Cause.WINDOW_CLOSED) -> Instance:
    """Leave the rung for the next one, or admit that the tree outlives the last."""
    stop = instance.stop
    assert stop is not None
    left, rest = stop.rungs[0], stop.rungs[1:]
    if outcome == "window-closed" and left.cut:
        stop = stop._replace(forced=stop.forced or "deadline")
    if outcome == "window-closed" and stop.stop_by is not None and scene.now >= stop.stop_by and rest:
        rest, stop = (_KILL,), stop._replace(forced=stop.forced or "deadline")
    if rest and rest[0].kind is RungKind.HOLD and not scene.held():
        rest = rest[1:]
    _report(scene, instance, left, outcome, rest[0] if rest else None)
    if not rest:
        scene.emit(StopEnded(instance.id, instance.generation, "stuck", scene.now - stop.began_at))
        return enter(
            scene,
            instance,
            Phase.STUCK,
            Cause.OUTLIVED_KILL,
            detail="it outlived SIGKILL",
            waiting_for="the kernel to end it",
            stop=stop._replace(rungs=(), idle_at=None),
        )
    escalated = stop.escalated or (
        outcome == "window-closed" and left.kind in {RungKind.STAGE, RungKind.SWEEP}
    )
    stop = stop._replace(rungs=rest, rung_since=scene.now, idle_at=None, escalated=escalated)
    return _stand_on(scene, instance, stop, cause, "")


def _report(scene: Scene, instance: Instance, left: Rung, outcome: str, following: Rung | None) -> None:
    stop = instance.stop
    assert stop is not None
    scene.emit(
        Climbed(
            instance.id,
            instance.generation,
            left.name,
            scene.now - stop.rung_since,
            outcome,
            following.name if following else None,
            following.window_seconds if following else None,
            stop.request_id,
        )
    )


def _stand_on(scene: Scene, instance: Instance, stop: Stop, cause: Cause, detail: str) -> Instance:
    """Take up position on `stop.rungs[0]` and do what that rung asks for."""
    if stop.rungs[0].kind is RungKind.HOLD and not scene.held():
        stop = stop._replace(rungs=stop.rungs[1:])
    rung = stop.rungs[0]
    deadline = None if rung.window_seconds is None else scene.now + rung.window_seconds
    if stop.stop_by is not None and rung.kind is not RungKind.KILL:
        deadline = stop.stop_by if deadline is None else min(deadline, stop.stop_by)
    sent = instance.signals_sent
    if rung.signal is not None:
        sent = sent | {rung.signal}
    if rung.kind is RungKind.KILL:
        stop = stop._replace(killed=True)
    if rung.kind is not RungKind.DRAIN:
        # An answer about the end of the drain must not end the hold that comes after it.
        instance = instance._replace(checks={})
    if rung.kind in {RungKind.STAGE, RungKind.SWEEP, RungKind.KILL}:
        instance = instance._replace(watchdog_at=None)
    instance = instance._replace(stop=stop)
    instance = instance._replace(
        deadline=deadline,
        signals_sent=sent,
        waiting_for=_waiting_for(scene, instance, rung),
    )
    before_stages = rung.kind in _BEFORE_STAGES or rung.kind is RungKind.HOLD
    phase = Phase.DRAINING if before_stages else Phase.STOPPING
    if phase is not instance.phase:
        instance = enter(scene, instance, phase, cause, detail=detail, deadline=deadline)
    return _act(scene, instance, rung)


def _act(scene: Scene, instance: Instance, rung: Rung) -> Instance:
    if rung.kind is RungKind.KILL:
        scene.emit(Kill(instance.id, instance.generation))
    elif rung.signal is not None:
        scene.emit(Signal(instance.id, instance.generation, rung.signal, rung.target))
    if rung.kind is not RungKind.DRAIN:
        return instance
    assert scene.plan.drain is not None
    if scene.plan.drain.has_action:
        return begin_check(scene, instance, CheckKind.DRAIN)
    return drain_accepted(scene, instance)


def drain_accepted(scene: Scene, instance: Instance) -> Instance:
    """The worker has been told; now watch for the end of what it holds."""
    stop, drain = instance.stop, scene.plan.drain
    assert stop is not None and drain is not None
    idle_at = scene.now + IDLE_SECONDS if instance.in_flight == 0 else None
    instance = instance._replace(stop=stop._replace(drain_sent=True, idle_at=idle_at))
    instance = instance._replace(waiting_for=_waiting_for(scene, instance, stop.rungs[0]))
    if instance.said_drained:
        return climb(scene, instance, "drained", Cause.DRAINED)
    return begin_check(scene, instance, CheckKind.UNTIL) if drain.has_until else instance


def in_flight_changed(scene: Scene, instance: Instance) -> Instance:
    """A draining worker said how much it still holds, or that it holds nothing."""
    stop = instance.stop
    assert stop is not None
    rung = stop.rungs[0]
    if rung.kind is not RungKind.DRAIN or not stop.drain_sent:
        return instance
    if instance.said_drained or instance.in_flight == 0:
        return climb(scene, instance, "drained", Cause.DRAINED)
    idle_at = None if instance.in_flight else stop.idle_at
    instance = instance._replace(stop=stop._replace(idle_at=idle_at))
    return instance._replace(waiting_for=_waiting_for(scene, instance, rung))


def hurry(scene: Scene, instance: Instance, urgency: Urgency, by: str) -> Instance:
    """Speed a stop up: skip what is left of the drain, or everything but the last rung."""
    stop = instance.stop
    assert stop is not None
    current = stop.rungs[0]
    if urgency is Urgency.KILL and current.kind is not RungKind.KILL:
        stop = stop._replace(rungs=(current, _KILL), forced=by)
    elif urgency is Urgency.NOW and current.kind in _BEFORE_STAGES:
        rest = tuple(rung for rung in stop.rungs if rung.kind not in _BEFORE_STAGES)
        stop = stop._replace(rungs=(current, *rest), forced=by)
    else:
        return instance
    return climb(scene, instance._replace(stop=stop), "hurried", _stop_cause(by))


def _stop_cause(by: str) -> Cause:
    return Cause.STOP if by == "operator" else Cause.WATCHDOG


def refit(scene: Scene, instance: Instance) -> Instance:
    """A deadline fell on a stop that is under way: what is left of it shrinks, never grows.

    Windows are cut to the declared one times the factor, not multiplied by it: the same deadline
    asked for twice must not cut them twice.
    """
    stop = instance.stop
    assert stop is not None and scene.stop_by is not None
    rest = tuple(_cut(scene, instance, rung) for rung in stop.rungs[1:])
    deadline = instance.deadline
    stop_by = scene.stop_by if stop.stop_by is None else min(stop.stop_by, scene.stop_by)
    current = stop.rungs[0]
    if current.kind is not RungKind.KILL:
        window = _cut(scene, instance, current).window_seconds
        cut = stop_by if window is None else min(stop_by, scene.now + window)
        if deadline is None or cut < deadline:
            deadline, current = cut, replace(current, cut=True)
    if scene.has_dependents and current.kind in _BEFORE_STAGES and not _has_hold(rest):
        at = next(index for index, rung in enumerate(rest) if rung.kind not in _BEFORE_STAGES)
        rest = (*rest[:at], Rung(RungKind.HOLD, None), *rest[at:])
    return instance._replace(deadline=deadline, stop=stop._replace(rungs=(current, *rest), stop_by=stop_by))


def _cut(scene: Scene, instance: Instance, rung: Rung) -> Rung:
    """The rung with the window that the deadline leaves it."""
    declared = _declared_seconds(scene.plan, instance, rung)
    if declared is None or rung.window_seconds is None or declared * scene.scale >= rung.window_seconds:
        return rung
    return replace(rung, window_seconds=declared * scene.scale, cut=True)


def _declared_seconds(plan: PoolPlan, instance: Instance, rung: Rung) -> float | None:
    """The window before any deadline; None where deadlines do not change it."""
    match rung.kind:
        case RungKind.SETTLE if instance.ready_at is None:
            return plan.min_uptime_seconds
        case RungKind.SETTLE if plan.drain is not None:
            return plan.drain.settle_seconds
        case RungKind.DRAIN if plan.drain is not None:
            return plan.drain.window_seconds
        case RungKind.STAGE:
            return plan.stop.stages[rung.number - 1].grace_seconds
        case RungKind.SWEEP if rung.signal is not None:
            return SWEEP_SECONDS
        case _:
            return None


def _has_hold(ladder: tuple[Rung, ...]) -> bool:
    return any(rung.kind is RungKind.HOLD for rung in ladder)


def extend(scene: Scene, instance: Instance, seconds: float) -> Instance:
    """Grant a worker more time on its rung: never less than it had, never beyond the ceiling."""
    stop, rules = instance.stop, scene.plan.stop
    assert stop is not None
    rung = stop.rungs[0]
    if rung.kind not in {RungKind.DRAIN, RungKind.STAGE} or instance.deadline is None:
        return instance
    granted = scene.now + min(seconds, rules.extend_step_seconds) - instance.deadline
    granted = min(granted, rules.extend_total_seconds - stop.extended_seconds)
    if stop.stop_by is not None:
        granted = min(granted, stop.stop_by - instance.deadline)
    if granted <= 0:
        return instance
    scene.emit(Extended(instance.id, instance.generation, granted))
    stop = stop._replace(extended_seconds=stop.extended_seconds + granted)
    return instance._replace(deadline=instance.deadline + granted, stop=stop)


def end(scene: Scene, instance: Instance) -> None:
    """The tree is gone: report how the stop went."""
    stop = instance.stop
    if stop is None or not stop.rungs:
        return
    _report(scene, instance, stop.rungs[0], "exit", None)
    if stop.cause is not Cause.EXIT:
        outcome = "killed" if stop.killed else "escalated" if stop.escalated else "clean"
        scene.emit(StopEnded(instance.id, instance.generation, outcome, scene.now - stop.began_at))


def cancel(scene: Scene, instance: Instance) -> None:
    """A stop is taken back while it settles: nothing was asked of the worker yet."""
    stop = instance.stop
    assert stop is not None
    _report(scene, instance, stop.rungs[0], "cancelled", None)


def _waiting_for(scene: Scene, instance: Instance, rung: Rung) -> str:
    match rung.kind:
        case RungKind.SETTLE if instance.ready_at is None:
            return "it to have started, so that it can be told"
        case RungKind.SETTLE:
            return "load balancers to notice"
        case RungKind.DRAIN:
            if instance.stop is not None and not instance.stop.drain_sent and rung.signal is None:
                return "the drain request to be accepted"
            return f"{instance.in_flight} in flight" if instance.in_flight else "its work to finish"
        case RungKind.HOLD:
            return f"{scene.held()} to be gone"
        case RungKind.STAGE if instance.pending_exit is None:
            return f"exit after {rung.signal}"
        case RungKind.KILL if instance.pending_exit is None:
            return "exit after SIGKILL"
        case _:
            return "what its main process left behind"
