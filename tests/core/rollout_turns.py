"""The turns of a rollout: one is asked to go, its replacement is started, and says that it is ready."""

from typing import Any

from supervisor.core.events import (
    Exited,
    Spawned,
    Told,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.plan import (
    PoolPlan,
    Readiness,
    RolloutRules,
)
from tests.playbook import Playbook, named

OK = ExitStatus(code=0)
BAD = ExitStatus(code=1)


def web(
    count: int = 3, limit: int = 1, min_ready: float = 5.0, progress: float = 600.0, **plan: Any
) -> PoolPlan:
    """A pool that is ready when it says so."""
    rules = RolloutRules(limit, min_ready, progress)
    return PoolPlan("web", instances=count, readiness=Readiness.NOTIFY, rollout=rules, **plan)


def goes(book: Playbook, name: str) -> Playbook:
    """It is this instance's turn: its old generation is asked to go."""
    return book << f"{name} running > stopping (restart, stage-1)" << f"SIGTERM main {name}#1"


def ends(book: Playbook, name: str, generation: int = 1) -> Playbook:
    """Its old generation is gone and the new one is started."""
    book >> Exited(named(name), generation, OK) << f"{name} stopping > pending (exit)"
    book << f"spawn {name}#{generation + 1} (restart)" << f"{name} pending > starting (restart)"
    return book >> Spawned(named(name), generation + 1, 7)


def ready(book: Playbook, name: str, generation: int = 2) -> Playbook:
    """Its new generation says that it is ready."""
    return book >> Told(named(name), generation, ready=True) << f"{name} starting > running (ready)"
