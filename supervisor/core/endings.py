"""How a generation ends: its record, its class, and what follows.

The main process ending is not the end: a generation is over when nothing of its tree is left.
"""

from dataclasses import replace

from supervisor.core import ladder
from supervisor.core.backoff import delay_seconds, has_given_up, spread
from supervisor.core.effects import BackedOff, Cause, Ended, Forget
from supervisor.core.events import Exited
from supervisor.core.exits import ExitClass, ExitRecord, ExitStatus, is_ours
from supervisor.core.instance import Instance, RungKind, Stop
from supervisor.core.phases import ON_THE_WAY_OUT, Goal, Phase
from supervisor.core.plan import Kind, RestartPolicy
from supervisor.core.scene import Scene, enter, unready

_CLASS_OF_CAUSE = {
    Cause.STARTUP_TIMEOUT: ExitClass.STARTUP_TIMEOUT,
    Cause.LIVENESS: ExitClass.PROBE,
    Cause.WATCHDOG: ExitClass.WATCHDOG,
}
"""Stops that are our verdict on a worker: whatever status it then ends with, this is what happened."""


def exited(scene: Scene, instance: Instance, fact: Exited) -> Instance:
    """The main process ended: the end of the generation, unless something of its tree is left."""
    record = _record(scene, instance, fact)
    if fact.leftovers == 0:
        return gone(scene, instance, record)
    instance = instance._replace(pid=None, pending_exit=replace(record, leftovers=fact.leftovers))
    if instance.phase in {Phase.STARTING, Phase.RUNNING}:
        return ladder.sweep(scene, instance)
    return ladder.main_gone(scene, instance) if instance.phase in ON_THE_WAY_OUT else instance


def tree_gone(scene: Scene, instance: Instance) -> Instance:
    """What the main process had left behind is gone too."""
    record, stop = instance.pending_exit, instance.stop
    if record is None:
        return instance
    if (
        stop is not None
        and stop.rungs
        and stop.rungs[0].kind is RungKind.SWEEP
        and stop.rungs[0].signal is None
    ):
        # It went while we lingered: that is how some programs end, and nothing was left behind.
        record = replace(record, leftovers=0)
    return gone(scene, instance, record)


def _who_skipped(stop: Stop | None) -> str:
    """The words that say on whose account SIGKILL came before its time; empty if it did not."""
    if stop is None or stop.forced is None or not stop.killed:
        return ""
    return f" (windows cut short by {stop.forced})"


def _record(scene: Scene, instance: Instance, fact: Exited) -> ExitRecord:
    stop = instance.stop
    rung = stop.rungs[0].name if stop is not None and stop.rungs else None
    uptime = scene.now - (instance.started_at if instance.started_at is not None else scene.now)
    detail = str(fact.status)
    if stop is not None and stop.cause in _CLASS_OF_CAUSE:
        exit_class = _CLASS_OF_CAUSE[stop.cause]
        detail = f"{exit_class}, then {detail}"
    else:
        exit_class = _classify(fact.status, instance)
    return ExitRecord(
        instance.generation,
        exit_class,
        detail,
        scene.now,
        uptime,
        rung,
        code=fact.status.code,
        last_lines=fact.last_lines,
    )


def _classify(status: ExitStatus, instance: Instance) -> ExitClass:
    if status.code == 0 or is_ours(status, instance.signals_sent):
        return ExitClass.CLEAN
    if status.out_of_memory:
        return ExitClass.OUT_OF_MEMORY
    return ExitClass.FAILURE if status.signal is None else ExitClass.SIGNAL


def gone(scene: Scene, instance: Instance, record: ExitRecord) -> Instance:
    """Nothing of the generation is left: close its book and decide what follows."""
    record = replace(record, detail=record.detail + _who_skipped(instance.stop))
    instance = unready(scene, instance, f"it ended: {record.detail}")
    ladder.end(scene, instance)
    scene.emit(Ended(instance.id, record))
    scene.emit(Forget(instance.id, instance.generation))
    deliberate = instance.stop is not None and instance.stop.cause in {
        Cause.DRAIN,
        Cause.STOP,
        Cause.RESTART,
        Cause.SHUTDOWN,
    }
    was_ready_at = instance.ready_at
    instance = instance._replace(
        pid=None,
        stop=None,
        pending_exit=None,
        checks={},
        last_exit=record,
        uptime_ready_at=None,
        watchdog_at=None,
        watchdog_seconds=None,
        in_flight=None,
        queue_depth=None,
        waiting_for="",
    )
    if instance.goal is not Goal.UP:
        return enter(scene, instance, Phase.STOPPED, Cause.EXIT, detail=record.detail, superseded=False)
    if deliberate or instance.superseded:
        return enter(scene, instance, Phase.PENDING, Cause.EXIT, detail=record.detail, failures=0)
    return _after_exit(scene, instance, record, was_ready_at)


def _after_exit(scene: Scene, instance: Instance, record: ExitRecord, was_ready_at: float | None) -> Instance:
    """Nobody asked for this ending: restart it, let it rest, or give up."""
    rules, failed = scene.plan.restart, record.exit_class is not ExitClass.CLEAN
    detail = record.detail
    if record.code in rules.permanent_exit_codes:
        return enter(scene, instance, Phase.FAILED, Cause.PERMANENT, detail=detail)
    done = not failed and (scene.plan.kind is Kind.TASK or rules.policy is not RestartPolicy.ALWAYS)
    if done:
        return enter(
            scene, instance, Phase.STOPPED, Cause.COMPLETED, detail=detail, finished=True, failures=0
        )
    if rules.policy is RestartPolicy.NEVER:
        return enter(scene, instance, Phase.FAILED, Cause.EXIT, detail=detail)
    was_well = was_ready_at is not None and scene.now - was_ready_at >= rules.backoff.reset_after_seconds
    failures = 1 if was_well else instance.failures + 1
    instance = instance._replace(failures=failures)
    if has_given_up(rules.give_up, instance.starts, scene.now):
        return enter(scene, instance, Phase.FAILED, Cause.GAVE_UP, detail=detail)
    fraction = spread(scene.host_name, instance.id, instance.generation)
    seconds = delay_seconds(rules.backoff, failures, fraction)
    scene.emit(BackedOff(instance.id, seconds, failures))
    deadline = scene.now + seconds
    cause = Cause.SPAWN_FAILED if record.exit_class is ExitClass.SPAWN_ERROR else Cause.EXIT
    instance = enter(
        scene,
        instance,
        Phase.BACKOFF,
        cause,
        detail=detail,
        deadline=deadline,
        waiting_for="its next attempt",
    )
    # No wait was asked for: the next attempt belongs to this very step.
    return instance if seconds > 0 else enter(scene, instance, Phase.PENDING, Cause.RETRY, waiting_for="")
