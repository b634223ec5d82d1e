"""The checks of one instance: when each is asked, and when its answers change a verdict.

At most one question of a kind is open at a time, so checks never pile up however slow the answers
are. What a verdict leads to is decided in `lifecycle`.
"""

from supervisor.core.effects import Check
from supervisor.core.events import CheckKind
from supervisor.core.instance import Instance, ProbeState
from supervisor.core.plan import ProbePolicy
from supervisor.core.scene import Scene

DRAIN_CHECKS = ProbePolicy(period_seconds=1.0, timeout_seconds=5.0, failure_threshold=1)
"""How the drain's request is repeated until it is accepted, and its end asked for."""

LOST_SECONDS = 5.0
"""Past its time-out an answer is awaited this much longer before the question counts as failed: the
runtime always answers, so this is only reached when it lost the question."""


def policy(scene: Scene, check: CheckKind) -> ProbePolicy:
    """The policy that governs a kind of check for this pool."""
    if check is CheckKind.READINESS:
        return scene.plan.readiness_probe or DRAIN_CHECKS
    if check is CheckKind.LIVENESS:
        return scene.plan.liveness_probe or DRAIN_CHECKS
    return DRAIN_CHECKS


def begin_check(scene: Scene, instance: Instance, check: CheckKind) -> Instance:
    """Start asking, after the initial delay of its policy."""
    first = scene.now + policy(scene, check).initial_delay_seconds
    state = ProbeState(next_at=first)
    if first <= scene.now:
        return _put(instance, check, ask(scene, instance, check, state))
    return _put(instance, check, state)


def ask_due(scene: Scene, instance: Instance) -> Instance:
    """Ask what is due, and give up on answers that never came."""
    for check, state in instance.checks.items():
        if state.next_at is not None and state.next_at <= scene.now:
            instance = _put(instance, check, ask(scene, instance, check, state))
    return instance


def ask(scene: Scene, instance: Instance, check: CheckKind, state: ProbeState) -> ProbeState:
    """Put one question; `next_at` becomes the moment at which its answer is overdue."""
    rules = policy(scene, check)
    scene.emit(Check(instance.id, instance.generation, check, rules.timeout_seconds))
    overdue = scene.now + rules.timeout_seconds + LOST_SECONDS
    return state._replace(asked_at=scene.now, next_at=overdue)


def answered(scene: Scene, instance: Instance, check: CheckKind, reason: str | None) -> Instance:
    """Count an answer (None: it passed) and set the time of the next question."""
    state = instance.checks[check]
    asked_at = scene.now if state.asked_at is None else state.asked_at
    following = max(scene.now, asked_at + policy(scene, check).period_seconds)
    if reason is None:
        state = state._replace(passes=state.passes + 1, failures=0, last_reason="")
    else:
        state = state._replace(failures=state.failures + 1, passes=0, last_reason=reason)
    return _put(instance, check, state._replace(asked_at=None, next_at=following))


def is_awaited(instance: Instance, check: CheckKind) -> bool:
    """Whether a question of this kind is open; an answer to none is late, or was told twice."""
    state = instance.checks.get(check)
    return state is not None and state.asked_at is not None


def without(instance: Instance, check: CheckKind) -> Instance:
    """Ask no more questions of this kind; an answer that is still under way is ignored."""
    return instance._replace(
        checks={kind: state for kind, state in instance.checks.items() if kind is not check}
    )


def _put(instance: Instance, check: CheckKind, state: ProbeState) -> Instance:
    return instance._replace(checks={**instance.checks, check: state})
