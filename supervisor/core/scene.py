"""The stage on which one instance acts: its pool's plan, the time, and where effects go.

`enter` is the only place where a phase changes. It checks that the move is legal, sets `since` and
the deadline together, and reports the move.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from supervisor.core.effects import Cause, Effect, Moved, ReadyChanged
from supervisor.core.instance import Instance
from supervisor.core.phases import LEGAL_MOVES, Phase
from supervisor.core.plan import PoolPlan


class IllegalMoveError(Exception):
    """The core tried a move that the map does not have: our bug, never the operator's."""


def _nobody() -> str:
    return ""


@dataclass(slots=True)
class Scene:
    """What a decision about one instance may see.

    A deadline of the host multiplies windows by `scale` and ends every stop of the pool at `stop_by`.
    `held` names the dependents that must be gone before this pool is terminated ("": none).
    """

    plan: PoolPlan
    host_name: str
    now: float
    effects: list[Effect] = field(default_factory=list)
    scale: float = 1.0
    stop_by: float | None = None
    held: Callable[[], str] = _nobody
    has_dependents: bool = False

    def emit(self, effect: Effect) -> None:
        """Ask for something or report it."""
        self.effects.append(effect)


def enter(
    scene: Scene,
    instance: Instance,
    phase: Phase,
    cause: Cause,
    *,
    detail: str = "",
    deadline: float | None = None,
    **changes: Any,
) -> Instance:
    """Change the phase, and with it everything that a change of phase means."""
    if phase not in LEGAL_MOVES[instance.phase]:
        raise IllegalMoveError(f"{instance.id} may not move from {instance.phase} to {phase} ({cause})")
    moved = instance._replace(phase=phase, since=scene.now, deadline=deadline, **changes)
    rung = moved.rung
    scene.emit(
        Moved(
            moved.id,
            moved.generation,
            instance.phase,
            phase,
            cause,
            detail,
            rung.name if rung else None,
            None if deadline is None else deadline - scene.now,
            moved.request_id,
        )
    )
    return moved


def unready(scene: Scene, instance: Instance, reason: str) -> Instance:
    """It may get no work, for this reason; reported once."""
    if instance.ready:
        scene.emit(ReadyChanged(instance.id, instance.generation, False, reason))
    return instance._replace(ready=False, well_at=None, unready_reason=reason)
