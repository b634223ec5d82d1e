"""The short sentences: what an instance or a pool is doing, in the words of the operator.

Decides wording and colour only. `elapsed` is how many seconds ago the answer arrived.
"""

from supervisor.cli.ctl.durations import age, left
from supervisor.cli.ctl.view import TROUBLED, ExitView, InstanceView, PoolView

STYLES = {
    "healthy": "green",
    "running": "green",
    "completed": "green",
    "starting": "cyan",
    "pending": "cyan",
    "degraded": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "backoff": "red",
    "unhealthy": "red",
    "failed": "bold red",
    "stuck": "bold red",
    "drained": "blue",
    "stopped": "dim",
}
"""The colour of each word for a state; a word from a newer daemon has none."""

SIGNS = {
    "healthy": "good",
    "running": "active",
    "completed": "good",
    "starting": "active",
    "pending": "idle",
    "degraded": "warn",
    "draining": "active",
    "stopping": "active",
    "backoff": "bad",
    "unhealthy": "bad",
    "failed": "bad",
    "stuck": "bad",
    "drained": "idle",
    "stopped": "idle",
}
"""The sign before each word, as a field of `Symbols`."""

RECENT_SECONDS = 3600.0
"""A restart that is longer ago says nothing about now."""

_ALONG = {
    "up": {"starting", "running", "pending", "backoff", "stopped", "failed"},
    "drained": {"draining", "stopped"},
}


def phase_and_goal(instance: InstanceView, arrow: str) -> str:
    """The phase, with the goal beside it where the phase does not already lead there."""
    if instance.goal == "drained":
        return (
            instance.word if instance.phase in {"draining", "stopped"} else f"{instance.phase}{arrow}drained"
        )
    if instance.goal == "down":
        return instance.phase if instance.phase in {"stopping", "stopped"} else f"{instance.phase}{arrow}down"
    return f"{instance.phase}{arrow}up" if instance.phase in {"draining", "stopping"} else instance.phase


def rung_sentence(instance: InstanceView, elapsed: float = 0.0) -> str:
    """On which rung it is, how much time is left there, and what it waits for."""
    sentence = instance.stage or instance.phase
    if instance.deadline is not None:
        sentence += f" {left(instance.deadline - elapsed)} left"
    return f"{sentence}: {instance.waiting_for}" if instance.waiting_for else sentence


def exit_sentence(last: ExitView, elapsed: float = 0.0) -> str:
    """How it ended and how long ago: "exit 1 4s ago"."""
    detail = last.detail or last.exit_class or "it ended"
    if last.exit_class == "out-of-memory":
        detail += " (out of memory)"
    return f"{detail} {age(last.ago + elapsed)} ago"


def instance_note(instance: InstanceView, elapsed: float = 0.0) -> str:
    """Everything worth saying about an instance in one line, the most important first."""
    parts: list[str] = ["surge"] if instance.surge else []
    phase = instance.phase
    if phase in {"draining", "stopping"}:
        parts.append(rung_sentence(instance, elapsed))
    elif phase == "starting":
        parts.extend(_starting(instance, elapsed))
    elif phase == "running":
        if not instance.ready:
            parts.append(f"not ready: {instance.unready_reason}" if instance.unready_reason else "not ready")
    elif phase == "backoff":
        until = (
            "waits to start"
            if instance.deadline is None
            else f"starts in {left(instance.deadline - elapsed)}"
        )
        parts.append(until)
    elif phase == "stuck":
        parts.append("outlived SIGKILL")
    elif instance.waiting_for:
        parts.append(f"waiting for {instance.waiting_for}")
    parts.extend(_past(instance, elapsed))
    parts.extend(_work(instance))
    return ", ".join(parts)


def _starting(instance: InstanceView, elapsed: float) -> list[str]:
    awaited = instance.waiting_for or instance.unready_reason
    limit = "" if instance.deadline is None else f"{left(instance.deadline - elapsed)} left"
    return [
        f"{limit}: {awaited}"
        if limit and awaited
        else limit or (f"waiting for {awaited}" if awaited else "not ready")
    ]


def _past(instance: InstanceView, elapsed: float) -> list[str]:
    last = instance.last_exit
    if last is None:
        return []
    parts = []
    restarts = "1 restart" if instance.restarts == 1 else f"{instance.restarts} restarts"
    if instance.phase in TROUBLED:
        parts.append(exit_sentence(last, elapsed))
        if instance.restarts:
            parts.append(restarts)
    elif instance.phase == "stopped":
        parts.append(exit_sentence(last, elapsed))
        if last.leftovers:
            parts.append(f"{last.leftovers} leftovers swept")
    elif (
        instance.phase in {"starting", "running"}
        and instance.restarts
        and last.ago + elapsed < RECENT_SECONDS
    ):
        parts.append(f"{exit_sentence(last, elapsed)}, {restarts}")
    return parts


def _work(instance: InstanceView) -> list[str]:
    parts = []
    if instance.in_flight is not None and "in flight" not in instance.waiting_for:
        parts.append(f"{instance.in_flight} in flight")
    if instance.queue_depth is not None:
        parts.append(f"{instance.queue_depth} queued")
    if instance.status_text:
        parts.append(f'"{instance.status_text}"')
    return parts


def rollout_sentence(pool: PoolView) -> str:
    """How far a rollout is: "rollout: 2 to go, 1 now"."""
    rollout = pool.rollout
    if rollout is None:
        return ""
    verb = "rollout paused" if rollout.state == "paused" else "rollout"
    return f"{verb}: {rollout.waiting} to go, {len(rollout.turns)} now"


def pool_note(pool: PoolView, *, tells_reason: bool) -> str:
    """What there is to say about a pool as a whole; with `tells_reason`, also why it is not well."""
    parts = [pool.kind] if pool.kind != "service" else []
    if not pool.critical:
        parts.append("not critical")
    if pool.rollout is not None:
        parts.append(rollout_sentence(pool))
    if pool.goal != "up":
        parts.append("until resumed")
    elif tells_reason and pool.reasons:
        parts.append(pool.reasons[0])
    return ", ".join(parts)
