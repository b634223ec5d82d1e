"""What a worker says about itself over its notify socket, and what that changes.

Protocol: sd_notify(3) and the X_PITBOSS_ extensions. A worker may say that it is ready, alive, slow
or done; it never decides more than that, and every number it names has a ceiling.
"""

from supervisor.core import ladder
from supervisor.core.effects import Cause, Extended, TasksReported
from supervisor.core.events import Told, Urgency
from supervisor.core.instance import Instance
from supervisor.core.phases import ON_THE_WAY_OUT, Phase
from supervisor.core.plan import Readiness
from supervisor.core.readiness import become_ready, turn_ready
from supervisor.core.scene import Scene, unready

_UP = frozenset({Phase.STARTING, Phase.RUNNING})


def hear(scene: Scene, instance: Instance, told: Told) -> Instance:
    """Take in one message of the worker: counts and words first, then what they mean for its phase."""
    if told.tasks_completed or told.tasks_failed or told.tasks_cancelled or told.task_seconds:
        scene.emit(
            TasksReported(
                instance.id, told.tasks_completed, told.tasks_failed, told.tasks_cancelled, told.task_seconds
            )
        )
    instance = instance._replace(
        status_text=instance.status_text if told.status is None else told.status,
        in_flight=instance.in_flight if told.in_flight is None else told.in_flight,
        queue_depth=instance.queue_depth if told.queue_depth is None else told.queue_depth,
        # Work that came after it said so takes it back: an old word must not end the next drain at once.
        said_drained=told.drained or (instance.said_drained and not told.in_flight),
    )
    instance = _watchdog_told(scene, instance, told)
    if instance.phase in _UP:
        instance = _readiness_told(scene, instance, told)
    elif instance.phase is Phase.DRAINING and (told.in_flight is not None or told.drained):
        instance = ladder.in_flight_changed(scene, instance)
    # Last: with STOPPING=1 or X_PITBOSS_DRAINED=1 it means the time that begins with those words.
    return instance if told.extend_seconds is None else _extend(scene, instance, told.extend_seconds)


def _readiness_told(scene: Scene, instance: Instance, told: Told) -> Instance:
    if told.stopping:
        # Final, as in systemd 259: it ends by itself, and within the first grace window or it is made to.
        grace = scene.plan.stop.stages[0].grace_seconds if scene.plan.stop.stages else 0.0
        instance = unready(scene, instance, "it said that it is stopping")
        if not instance.said_stopping:
            instance = instance._replace(leaves_by=scene.now + grace + scene.plan.stop.extend_total_seconds)
        if instance.phase is Phase.RUNNING and instance.deadline is None:
            instance = instance._replace(deadline=scene.now + grace, waiting_for="exit: it said STOPPING=1")
        return instance
    if scene.plan.readiness is not Readiness.NOTIFY or instance.said_stopping:
        return instance
    if told.ready:
        if instance.phase is Phase.STARTING:
            return become_ready(scene, instance)
        return instance if instance.ready else turn_ready(scene, instance)
    return unready(scene, instance, "it is reloading") if told.reloading else instance


def _watchdog_told(scene: Scene, instance: Instance, told: Told) -> Instance:
    if told.watchdog_seconds is not None and scene.plan.watchdog_seconds is not None:
        instance = instance._replace(watchdog_seconds=told.watchdog_seconds)
        if instance.watchdog_at is not None:
            instance = instance._replace(watchdog_at=scene.now + told.watchdog_seconds)
    if told.watchdog and instance.watchdog_at is not None and instance.watchdog_seconds is not None:
        instance = instance._replace(
            watchdog_at=max(instance.watchdog_at, scene.now + instance.watchdog_seconds)
        )
    return hung(scene, instance, "it said WATCHDOG=trigger") if told.watchdog_trigger else instance


def _extend(scene: Scene, instance: Instance, seconds: float) -> Instance:
    """EXTEND_TIMEOUT_USEC moves the running timer and the watchdog (sd_notify(3)), under our ceiling."""
    step = min(seconds, scene.plan.stop.extend_step_seconds)
    if instance.watchdog_at is not None:
        instance = instance._replace(watchdog_at=max(instance.watchdog_at, scene.now + step))
    if instance.phase in ON_THE_WAY_OUT:
        return ladder.extend(scene, instance, seconds)
    ceiling = instance.leaves_by
    if instance.phase is Phase.STARTING and instance.started_at is not None:
        ceiling = (
            instance.started_at + scene.plan.startup_timeout_seconds + scene.plan.stop.extend_total_seconds
        )
    if instance.deadline is None or ceiling is None:
        return instance
    deadline = min(scene.now + step, ceiling)
    if deadline <= instance.deadline:
        return instance
    scene.emit(Extended(instance.id, instance.generation, deadline - instance.deadline))
    return instance._replace(deadline=deadline)


def hung(scene: Scene, instance: Instance, detail: str) -> Instance:
    """A worker that does not turn its own loop finishes nothing: the drain is skipped."""
    if instance.phase in _UP:
        return ladder.begin(scene, instance, Cause.WATCHDOG, drains=False, detail=detail)
    if instance.phase is Phase.DRAINING:
        return ladder.hurry(scene, instance._replace(watchdog_at=None), Urgency.NOW, "watchdog")
    return instance
