"""When a worker counts as ready, and what is watched from then on.

Decides nothing about probes' verdicts or about stopping; those who learn that a worker is ready,
or is so again, come here.
"""

from supervisor.core.effects import Cause, ReadyChanged
from supervisor.core.events import CheckKind
from supervisor.core.instance import Instance
from supervisor.core.phases import Phase
from supervisor.core.probing import begin_check
from supervisor.core.scene import Scene, enter


def become_ready(scene: Scene, instance: Instance) -> Instance:
    """Ready for the first time in this generation, unless it has said that it is stopping."""
    if instance.said_stopping:
        return instance._replace(uptime_ready_at=None)
    instance = enter(scene, instance, Phase.RUNNING, Cause.READY, uptime_ready_at=None, waiting_for="")
    return arm(scene, turn_ready(scene, instance, first=True))


def turn_ready(scene: Scene, instance: Instance, *, first: bool = False) -> Instance:
    """May get work, now or again; STOPPING=1 is final."""
    if instance.said_stopping:
        return instance
    started = instance.started_at if first else None
    took = None if started is None else scene.now - started
    scene.emit(ReadyChanged(instance.id, instance.generation, True, "", took))
    well_at = scene.now + scene.plan.restart.backoff.reset_after_seconds if instance.failures else None
    return instance._replace(ready=True, ready_at=scene.now, well_at=well_at, unready_reason="")


def arm(scene: Scene, instance: Instance) -> Instance:
    """Watch a worker that is up: the watchdog counts from readiness, as in systemd.service(5)."""
    seconds = instance.watchdog_seconds or scene.plan.watchdog_seconds
    watchdog_at = None if seconds is None else scene.now + seconds
    instance = instance._replace(watchdog_seconds=seconds, watchdog_at=watchdog_at)
    return begin_check(scene, instance, CheckKind.LIVENESS) if scene.plan.liveness_probe else instance
