"""The turns of a rollout with extra instances: one comes, is ready, stands in, goes and vanishes."""

from typing import Any

from supervisor.core.events import (
    Exited,
    RestartRequested,
    Spawned,
    Told,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.plan import (
    PoolPlan,
    Readiness,
    RolloutRules,
)
from tests.playbook import Playbook, named, running, wish

OK = ExitStatus(code=0)
BAD = ExitStatus(code=1)


def web(count: int = 2, away: int = 0, extra: int = 1, progress: float = 600.0, **plan: Any) -> PoolPlan:
    """A pool that is ready when it says so, of which nobody may be away but some may be extra."""
    rules = RolloutRules(away, 5.0, progress, extra)
    return PoolPlan("web", instances=count, readiness=Readiness.NOTIFY, rollout=rules, **plan)


def comes(book: Playbook, name: str, generation: int = 1) -> Playbook:
    """A surge instance is started."""
    book << f"spawn {name}#{generation} (surge)"
    return book << f"{name} pending > starting (surge)"


def ready(book: Playbook, name: str, generation: int) -> Playbook:
    """It has a process, and that says that it is ready."""
    book >> Spawned(named(name), generation, 7)
    return book >> Told(named(name), generation, ready=True) << f"{name} starting > running (ready)"


def goes(book: Playbook, name: str, generation: int = 1, cause: str = "restart") -> Playbook:
    """It is asked to go."""
    book << f"{name} running > stopping ({cause}, stage-1)"
    return book << f"SIGTERM main {name}#{generation}"


def ends(book: Playbook, name: str, generation: int = 1) -> Playbook:
    """Its old generation is gone and the new one is started."""
    book >> Exited(named(name), generation, OK) << f"{name} stopping > pending (exit)"
    return book << f"spawn {name}#{generation + 1} (restart)" << f"{name} pending > starting (restart)"


def vanishes(book: Playbook, name: str, generation: int = 1) -> Playbook:
    """A surge instance that was asked to go is gone, and its slot with it."""
    book >> Exited(named(name), generation, OK) << f"{name} stopping > stopped (exit)" << f"release {name}"
    assert named(name) not in book.host.instances
    return book


def restarting(plan: PoolPlan) -> Playbook:
    """A restart has begun: its surge instance is being started at second 10."""
    book = running(plan) >> RestartRequested(wish("web")) << "accepted op1"
    return comes(book, f"web/{plan.instances}")


def standing_in(plan: PoolPlan) -> Playbook:
    """The surge instance has proven itself at second 15, and the first old one is asked to go."""
    return goes(ready(restarting(plan), f"web/{plan.instances}", 1).until(15), "web/0")


def detail(book: Playbook, name: str) -> str:
    """What the operation says about an instance."""
    return book.host.steps["op1"][named(name)].detail
