"""The JSON shapes of instances, pools and operations, from values of the core.

Pure functions of values of the core. Ages are not in them: an `Age` marks where one goes, so that
the rest can be kept as text for as long as the instance is the same value; see `render`.
"""

from collections.abc import Mapping, Sequence

from supervisor.control import documents
from supervisor.control.clock import WallClock
from supervisor.control.documents import Age
from supervisor.core.exits import ExitRecord
from supervisor.core.health import PoolHealth
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.state import Host, Operation, Pool, Rollout, Shutdown, StepState


def instance_shape(instance: Instance) -> documents.Instance:
    """One instance, with an `Age` for each number that changes by itself."""
    stop, rung = instance.stop, instance.rung
    uptime = instance.started_at if instance.has_process else None
    return {
        "name": str(instance.id),
        "phase": instance.phase.value,
        "goal": instance.goal.value,
        "ready": instance.ready,
        "pid": instance.pid,
        "generation": instance.generation,
        "since_seconds": Age(instance.since),
        "uptime_seconds": None if uptime is None else Age(uptime),
        "stage": None if rung is None else rung.name,
        "stage_signal": None if rung is None else rung.signal,
        "stage_target": None if rung is None or rung.signal is None else rung.target.value,
        "stage_since_seconds": None if stop is None or rung is None else Age(stop.rung_since),
        "deadline_seconds": None if instance.deadline is None else Age(instance.deadline, left=True),
        "waiting_for": instance.waiting_for or None,
        "unready_reason": instance.unready_reason or None,
        "restarts": instance.restarts,
        "failures": instance.failures,
        "status_text": instance.status_text or None,
        "in_flight": instance.in_flight,
        "queue_depth": instance.queue_depth,
        "last_exit": None if instance.last_exit is None else exit_shape(instance.last_exit),
        "surge": instance.surge,
    }


def exit_shape(record: ExitRecord) -> documents.LastExit:
    """The ending of one generation."""
    return {
        "generation": record.generation,
        "class": record.exit_class.value,
        "detail": record.detail,
        "rung": record.rung,
        "ago_seconds": Age(record.at),
        "uptime_seconds": round(record.uptime_seconds, 3),
        "leftovers": record.leftovers,
        "last_lines": list(record.last_lines),
    }


def host_shape(
    host: Host, reasons: Sequence[str], version: str, uptime_seconds: float, now: float
) -> documents.HostHead:
    """The host without its pools. Its name is the manifest's."""
    return {
        "name": host.plan.name,
        "version": version,
        "revision": host.revision,
        "ready": not reasons,
        "goal": host.goal.value,
        "reasons": list(reasons),
        "uptime_seconds": round(max(0.0, uptime_seconds), 1),
        "shutdown": None if host.shutdown is None else shutdown_shape(host.shutdown, now),
    }


def shutdown_shape(shutdown: Shutdown, now: float) -> documents.Shutdown:
    """How long the host may still take, and the operation that tracks its end."""
    return {
        "deadline_seconds": round(max(0.0, shutdown.deadline - now), 1),
        "operation": shutdown.operation,
    }


def pool_shape(pool: Pool, health: PoolHealth) -> documents.PoolHead:
    """One pool without its instances."""
    return {
        "name": pool.name,
        "kind": pool.plan.kind.value,
        "critical": pool.plan.critical,
        "goal": pool.goal.value,
        "status": health.status.value,
        "reasons": list(health.reasons),
        "wanted": health.wanted,
        "ready": health.ready,
        "instances_declared": pool.plan.instances,
        "depends_on": {name: condition.value for name, condition in pool.plan.depends_on.items()},
        "sockets": dict(pool.plan.sockets),
        "rollout": None if pool.rollout is None else rollout_shape(pool.rollout),
    }


def rollout_shape(rollout: Rollout) -> documents.Rollout:
    """How far a pool is on its way from old generations to new ones."""
    return {
        "operation": rollout.operation,
        "state": rollout.state.value,
        "waiting": len(rollout.waiting),
        "turns": [str(instance) for instance in rollout.turns],
        "surge": [str(instance) for instance in rollout.surge],
    }


def pool_health_shape(pool: Pool, health: PoolHealth) -> documents.PoolHealth:
    """One pool as `/health` shows it."""
    return {
        "name": pool.name,
        "status": health.status.value,
        "critical": pool.plan.critical,
        "wanted": health.wanted,
        "ready": health.ready,
        "reasons": list(health.reasons),
    }


def operation_shape(operation: Operation, clock: WallClock) -> documents.OperationHead:
    """An operation without its steps."""
    return {
        "id": operation.id,
        "kind": operation.kind,
        "target": str(operation.scope),
        "state": operation.state.value,
        "done": operation.done,
        "total": operation.total,
        "started_at": clock.text(operation.started_at),
        "finished_at": None if operation.finished_at is None else clock.text(operation.finished_at),
        "request_id": operation.request_id,
        "principal": operation.principal,
        "message": operation.message,
    }


def steps_shape(steps: Mapping[InstanceId, StepState]) -> list[documents.Step]:
    """What each instance of an operation has to do with it."""
    return [
        {"instance": str(instance), "state": step.state, "detail": step.detail}
        for instance, step in steps.items()
    ]
