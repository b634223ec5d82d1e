"""One instance: what it becomes, and what must be done about it.

Rule 1: a phase changes only in `scene.enter`. Rule 2: nothing here knows that other instances exist;
see `host` for order and `rollout` for turns. Rule 3: time is an argument, and every moment at which
time alone matters is a field of the instance. `react` takes a fact, `due` the passing of time,
`advance` moves towards the goal. The stop itself is climbed in `ladder`, what a worker says is heard
in `telling`, and what follows an ending is decided in `endings`.
"""

import math

from supervisor.core import ladder
from supervisor.core.effects import Cause, ProbeFailed, Spawn
from supervisor.core.endings import exited, gone, tree_gone
from supervisor.core.events import (
    CheckFailed,
    CheckKind,
    CheckPassed,
    Exited,
    Fact,
    MainMoved,
    Spawned,
    SpawnFailed,
    Told,
    TreeGone,
    Urgency,
)
from supervisor.core.exits import ExitClass, ExitRecord
from supervisor.core.instance import Instance, RungKind
from supervisor.core.phases import ON_THE_WAY_OUT, Goal, Phase
from supervisor.core.plan import Kind, Readiness
from supervisor.core.probing import answered, ask_due, begin_check, is_awaited, without
from supervisor.core.readiness import arm, become_ready, turn_ready
from supervisor.core.scene import Scene, enter, unready
from supervisor.core.telling import hear, hung

_UP = frozenset({Phase.STARTING, Phase.RUNNING})

# ── towards the goal ─────────────────────────────────────────────────────────────────────────────


def advance(scene: Scene, instance: Instance, gate: str) -> Instance:
    """Move one step towards the goal; `gate` names what a start has to wait for ("": nothing)."""
    if instance.goal is not Goal.UP:
        if instance.phase in {Phase.PENDING, Phase.BACKOFF, Phase.FAILED}:
            cause = Cause.DRAIN if instance.goal is Goal.DRAINED else Cause.STOP
            return enter(scene, instance, Phase.STOPPED, cause, waiting_for="", superseded=False)
        if instance.finished and scene.plan.kind is Kind.SERVICE:
            # A task runs once per boot; a service that ended well runs again when it is started again.
            return instance._replace(finished=False)
        return instance
    if instance.phase is Phase.STOPPED and not instance.finished:
        # Only an operator's wish leads here: what failed before it does not count any more.
        instance = enter(scene, instance, Phase.PENDING, Cause.START, failures=0, starts=())
    if instance.phase is Phase.PENDING:
        return instance._replace(waiting_for=gate) if gate else start(scene, instance)
    return instance


def start(scene: Scene, instance: Instance) -> Instance:
    """Begin a new generation."""
    cause = _start_cause(instance)
    kept = scene.plan.restart.give_up.starts if scene.plan.restart.give_up else 0
    generation = instance.generation + 1
    scene.emit(Spawn(instance.id, generation, cause))
    fresh = Instance(
        instance.id,
        instance.goal,
        phase=instance.phase,
        generation=generation,
        started_at=scene.now,
        failures=instance.failures,
        starts=(*instance.starts, scene.now)[-kept:] if kept else (),
        restarts=instance.restarts + (instance.started_at is not None),
        last_exit=instance.last_exit,
        surge=instance.surge,
        # A retry is nobody's wish: the request that once began the slot is not behind it any more.
        request_id="" if cause is Cause.RETRY else instance.request_id,
    )
    return enter(
        scene,
        fresh,
        Phase.STARTING,
        cause,
        deadline=scene.now + scene.plan.startup_timeout_seconds,
        waiting_for=_readiness_awaited(scene),
    )


def _start_cause(instance: Instance) -> Cause:
    if instance.started_at is None:
        return Cause.SURGE if instance.surge else Cause.BOOT
    if instance.superseded:
        return Cause.RESTART
    return Cause.RETRY if instance.failures else Cause.START


def _readiness_awaited(scene: Scene) -> str:
    match scene.plan.readiness:
        case Readiness.NOTIFY:
            return "READY=1"
        case Readiness.PROBE:
            return "its readiness probe"
        case _:
            return f"{scene.plan.min_uptime_seconds:g} s of uptime"


def leave(scene: Scene, instance: Instance, cause: Cause, urgency: Urgency = Urgency.NORMAL) -> Instance:
    """Take the process down for a wish; a stop under way is only ever sped up."""
    if instance.phase in _UP and urgency is Urgency.KILL:
        return ladder.kill(scene, instance, cause, "operator")
    if instance.phase in _UP:
        drains = urgency is Urgency.NORMAL and instance.phase is Phase.RUNNING
        instance = ladder.begin(scene, instance, cause, drains=drains)
    if urgency is not Urgency.NORMAL and instance.phase in ON_THE_WAY_OUT:
        instance = ladder.hurry(scene, instance, urgency, "operator")
    return instance


def come_back(scene: Scene, instance: Instance) -> Instance:
    """The goal is up again: take back a stop that only settles; any other ends first, then it starts.

    Only what a wish for `down` or `drained` began is taken back, not a restart nor a verdict on the
    worker; and a worker that has said STOPPING=1 goes away whatever we want.
    """
    stop = instance.stop
    if stop is None or stop.cause not in {Cause.DRAIN, Cause.STOP} or instance.said_stopping:
        return instance
    if instance.phase is not Phase.DRAINING or stop.rungs[0].kind is not RungKind.SETTLE:
        return instance
    if instance.ready_at is None:
        return instance
    ladder.cancel(scene, instance)
    instance = enter(
        scene, instance, Phase.RUNNING, Cause.RESUME, stop=None, waiting_for="", superseded=False
    )
    if scene.plan.readiness is Readiness.PROBE:
        instance = begin_check(
            scene, instance._replace(unready_reason="its readiness probe"), CheckKind.READINESS
        )
    else:
        instance = turn_ready(scene, instance)
    return arm(scene, instance)


def forgive(scene: Scene, instance: Instance, cause: Cause) -> Instance:
    """An operator wants it up now: neither backoff nor an earlier failure counts any more."""
    instance = instance._replace(failures=0, starts=())
    if instance.phase in {Phase.BACKOFF, Phase.FAILED}:
        return enter(scene, instance, Phase.PENDING, cause, waiting_for="")
    return instance


# ── facts ────────────────────────────────────────────────────────────────────────────────────────


def react(scene: Scene, instance: Instance, fact: Fact) -> Instance:
    """Take in a fact about the current generation; `host` has dropped those about older ones."""
    if not instance.has_process:
        return instance
    if instance.pending_exit is not None and not isinstance(fact, TreeGone | Told):
        # Its main process is gone, and that is told once: what else is said about it came too late.
        return instance
    match fact:
        case Spawned(pid=pid):
            return instance if instance.pid is not None else _spawned(scene, instance, pid)
        case SpawnFailed(reason=reason):
            record = ExitRecord(instance.generation, ExitClass.SPAWN_ERROR, reason, scene.now, 0.0)
            return gone(scene, instance, record)
        case Exited():
            return exited(scene, instance, fact)
        case TreeGone():
            return tree_gone(scene, instance)
        case MainMoved(pid=pid):
            return instance._replace(pid=pid)
        case CheckPassed(check=check):
            return _check_passed(scene, instance, check)
        case CheckFailed(check=check, reason=reason):
            return _check_failed(scene, instance, check, reason)
        case _:
            return hear(scene, instance, fact)


def _spawned(scene: Scene, instance: Instance, pid: int) -> Instance:
    instance = instance._replace(pid=pid)
    if instance.phase is not Phase.STARTING:
        return instance
    match scene.plan.readiness:
        case Readiness.UPTIME if scene.plan.min_uptime_seconds <= 0:
            return become_ready(scene, instance)
        case Readiness.UPTIME:
            return instance._replace(uptime_ready_at=scene.now + scene.plan.min_uptime_seconds)
        case Readiness.PROBE:
            return begin_check(scene, instance, CheckKind.READINESS)
        case _:
            return instance


def _check_passed(scene: Scene, instance: Instance, check: CheckKind) -> Instance:
    if not is_awaited(instance, check):
        return instance
    instance = answered(scene, instance, check, None)
    if check is CheckKind.DRAIN:
        return ladder.drain_accepted(scene, without(instance, check))
    if check is CheckKind.UNTIL:
        return ladder.climb(scene, without(instance, check), "drained", Cause.DRAINED)
    probe = scene.plan.readiness_probe
    if check is CheckKind.READINESS and probe and instance.checks[check].passes >= probe.success_threshold:
        if instance.phase is Phase.STARTING:
            return become_ready(scene, instance)
        return instance if instance.ready else turn_ready(scene, instance)
    return instance


def _check_failed(scene: Scene, instance: Instance, check: CheckKind, reason: str) -> Instance:
    if not is_awaited(instance, check):
        return instance
    instance = answered(scene, instance, check, reason)
    if check is CheckKind.UNTIL:
        return instance
    scene.emit(ProbeFailed(instance.id, instance.generation, check, reason))
    if check is CheckKind.DRAIN:
        return instance._replace(waiting_for=f"the drain request to be accepted ({reason}; asking again)")
    failures = instance.checks[check].failures
    if check is CheckKind.READINESS:
        probe = scene.plan.readiness_probe
        if instance.phase is Phase.STARTING:
            return instance._replace(unready_reason=reason)
        return unready(scene, instance, reason) if probe and failures >= probe.failure_threshold else instance
    probe = scene.plan.liveness_probe
    if probe and failures >= probe.failure_threshold:
        return ladder.begin(scene, instance, Cause.LIVENESS, drains=True, detail=reason)
    return instance


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


def due(scene: Scene, instance: Instance) -> Instance:
    """What the passing of time alone changes; the host calls it again while something is still due."""
    now = scene.now
    deadline = math.inf if instance.deadline is None else instance.deadline
    if instance.uptime_ready_at is not None and instance.uptime_ready_at <= min(now, deadline):
        # Before the deadline of the start, where both have passed: a daemon that was held still, or had
        # no processor, must not call a worker late that has been up all the time.
        return become_ready(scene, instance)
    if deadline <= now:
        return _deadline_passed(scene, instance)
    if instance.watchdog_at is not None and instance.watchdog_at <= now:
        seconds = instance.watchdog_seconds
        return hung(scene, instance._replace(watchdog_at=None), f"no WATCHDOG=1 for {seconds:g} s")
    if instance.well_at is not None and instance.well_at <= now:
        return instance._replace(failures=0, well_at=None)
    if instance.stop is not None and instance.stop.idle_at is not None and instance.stop.idle_at <= now:
        return ladder.climb(scene, instance, "drained", Cause.DRAINED)
    for check, state in instance.checks.items():
        if state.asked_at is not None and state.next_at is not None and state.next_at <= now:
            return _check_failed(scene, instance, check, "no answer from the probe")
    return ask_due(scene, instance)


def _deadline_passed(scene: Scene, instance: Instance) -> Instance:
    match instance.phase:
        case Phase.STARTING:
            waited = f"not ready within {scene.now - (instance.started_at or scene.now):.3g} s"
            detail = f"{waited}: {instance.unready_reason}" if instance.unready_reason else waited
            return ladder.begin(scene, instance, Cause.STARTUP_TIMEOUT, drains=False, detail=detail)
        case Phase.RUNNING:
            return ladder.begin(
                scene, instance, Cause.WINDOW_CLOSED, drains=False, detail="STOPPING=1, then no exit"
            )
        case Phase.DRAINING | Phase.STOPPING:
            return ladder.climb(scene, instance, "window-closed")
        case _:
            return enter(scene, instance, Phase.PENDING, Cause.RETRY, waiting_for="")


def released(scene: Scene, instance: Instance) -> Instance:
    """Its dependents are gone: the stages may begin."""
    return ladder.climb(scene, instance, "released", instance.stop.cause if instance.stop else Cause.STOP)
