"""The list of all checkers, each of one promise; the modules `*_promises` beside this one judge."""

from tests.simulation.checker import Checker
from tests.simulation.goal_promises import GoalsAreReached, Obedience, Repeatable
from tests.simulation.process_promises import NothingIsLeft, OneProcess, OwnGeneration
from tests.simulation.rollout_promises import Rollouts
from tests.simulation.start_promises import Gates, NoDelay, Patience
from tests.simulation.state_promises import Bookkeeping, TrueReadiness
from tests.simulation.stop_promises import KillIsLast, StopEnds

__all__ = [
    "Bookkeeping",
    "Checker",
    "Gates",
    "GoalsAreReached",
    "KillIsLast",
    "NoDelay",
    "NothingIsLeft",
    "Obedience",
    "OneProcess",
    "OwnGeneration",
    "Patience",
    "Repeatable",
    "Rollouts",
    "StopEnds",
    "TrueReadiness",
    "all_checkers",
]


def all_checkers() -> list[Checker]:
    """One of each."""
    return [
        OneProcess(),
        KillIsLast(),
        StopEnds(),
        NothingIsLeft(),
        Gates(),
        NoDelay(),
        Rollouts(),
        Patience(),
        Repeatable(),
        OwnGeneration(),
        TrueReadiness(),
        Bookkeeping(),
        Obedience(),
        GoalsAreReached(),
    ]
