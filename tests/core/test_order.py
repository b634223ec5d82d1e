"""Order over a diamond: `base` is needed by `left` and `right`, and both by `top`."""

from itertools import permutations

import pytest

from supervisor.core.events import (
    Booted,
    DrainRequested,
    Exited,
    Scope,
    ShutdownRequested,
    Spawned,
    Tick,
    Told,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import Condition, DrainPolicy, PoolPlan
from tests.playbook import Playbook, host_of, named, running, wish

OK = ExitStatus(code=0)
READY = Condition.READY
BASE = PoolPlan("base")
LEFT = PoolPlan("left", depends_on={"base": READY})
RIGHT = PoolPlan("right", depends_on={"base": READY})
TOP = PoolPlan("top", depends_on={"left": READY, "right": READY})
DIAMOND = (BASE, LEFT, RIGHT, TOP)


def starts(book: Playbook, name: str) -> Playbook:
    """It is started now."""
    return book << f"spawn {name}#1 (boot)" << f"{name} pending > starting (boot)"


def stops(book: Playbook, name: str) -> Playbook:
    """It has held, and is terminated now."""
    book << f"{name} climbs hold > stage-1 (released)" << f"{name} draining > stopping (shutdown, stage-1)"
    return book << f"SIGTERM main {name}#1"


def gone(book: Playbook, name: str) -> Playbook:
    """It has ended."""
    return book >> Exited(named(name), 1, OK) << f"{name} stopping > stopped (exit)"


@pytest.mark.parametrize(
    "order", list(permutations(DIAMOND)), ids=lambda order: "-".join(p.name for p in order)
)
def test_a_boot_goes_from_the_base_to_the_top(order: tuple[PoolPlan, ...]) -> None:
    """In whichever order the manifest names them: each after all that it needs, the two sides at once."""
    book = starts((Playbook(host_of(*order)) >> Booted()).until(0), "base/0")
    book >> Spawned(named("base/0"), 1, 1)
    sides = [plan.name for plan in order if plan.name in {"left", "right"}]
    book.until(1) << "base/0 starting > running (ready)"
    for side in sides:
        starts(book, f"{side}/0")
    assert book.instance("top/0").waiting_for == "left ready (0/1)"
    book.at(2) >> Spawned(named("left/0"), 1, 2)
    book.until(3) << "left/0 starting > running (ready)"
    assert book.instance("top/0").waiting_for == "right ready (0/1)"
    book >> Spawned(named("right/0"), 1, 3)
    assert starts(book.until(4) << "right/0 starting > running (ready)", "top/0")


@pytest.mark.parametrize("first", ["left", "right"])
def test_a_shutdown_goes_from_the_top_to_the_base(first: str) -> None:
    """The base is terminated after the last of all that need it, also through others."""
    book = running(*DIAMOND) >> ShutdownRequested(wish())
    for name in ("base", "left", "right"):
        book << f"{name}/0 running > draining (shutdown, hold)"
    book << "top/0 running > stopping (shutdown, stage-1)" << "SIGTERM main top/0#1" << "accepted op1"
    assert book.instance("base/0").waiting_for == "left, right, top to be gone"
    gone(book, "top/0")
    stops(stops(book, "left/0"), "right/0")
    second = {"left": "right", "right": "left"}[first]
    gone(book, f"{first}/0")
    assert book.instance("base/0").phase is Phase.DRAINING
    gone(book, f"{second}/0")
    assert gone(stops(book, "base/0"), "base/0") << "halt"


def test_who_is_down_already_is_not_waited_for() -> None:
    """The side that never ran does not hold the base; the one that runs does."""
    book = running(*DIAMOND, intents={Scope("right"): Goal.DOWN, Scope("top"): Goal.DOWN})
    book >> ShutdownRequested(wish()) << "base/0 running > draining (shutdown, hold)"
    book << "left/0 running > stopping (shutdown, stage-1)" << "SIGTERM main left/0#1" << "accepted op1"
    assert gone(stops(gone(book, "left/0"), "base/0"), "base/0") << "halt"


def test_each_instance_holds_for_itself() -> None:
    """One drains on while its peer holds: the first is freed by the dependent, the other needs no hold."""
    base = PoolPlan("base", instances=2, drain=DrainPolicy("SIGUSR1"))
    book = running(base, LEFT) >> ShutdownRequested(wish())
    for name in ("base/0", "base/1"):
        book << f"{name} running > draining (shutdown, drain)" << f"SIGUSR1 main {name}#1"
    book << "left/0 running > stopping (shutdown, stage-1)" << "SIGTERM main left/0#1" << "accepted op1"
    book >> Told(named("base/0"), 1, drained=True) << "base/0 climbs drain > hold (drained)"
    stops(gone(book, "left/0"), "base/0")
    assert book.instance("base/1").deadline == 40
    book >> Told(named("base/1"), 1, drained=True) << "base/1 climbs drain > stage-1 (drained)"
    book << "base/1 draining > stopping (drained, stage-1)" << "SIGTERM main base/1#1"
    assert gone(gone(book, "base/0"), "base/1") << "halt"


def test_a_gate_opens_for_those_that_wait_and_for_nobody_else() -> None:
    """An instance that an operator wants down stays down when the gate of its pool opens."""
    web = PoolPlan("web", instances=2, depends_on={"base": READY})
    book = (Playbook(host_of(BASE, web, intents={Scope("web", 0): Goal.DOWN})) >> Booted()).until(0)
    starts(book, "base/0") << "web/0 pending > stopped (stop)"
    book >> Spawned(named("base/0"), 1, 1)
    assert starts(book.until(1) << "base/0 starting > running (ready)", "web/1")
    assert book.instance("web/0").generation == 0


def test_a_drain_of_one_side_leaves_the_rest() -> None:
    """Nobody that it needs goes with it, and nobody that needs it is taken down for it."""
    book = running(*DIAMOND) >> DrainRequested(wish("left"))
    book << "left/0 running > stopping (drain, stage-1)" << "SIGTERM main left/0#1" << "accepted op1"
    assert gone(book, "left/0")
    assert [book.instance(f"{name}/0").ready for name in ("base", "right", "top")] == [True] * 3


def test_a_tick_that_finds_a_superseded_deadline_does_nothing() -> None:
    """The moment that was moved is still in the heap; whoever looks there must not act on it."""
    book = running(PoolPlan("web", watchdog_seconds=30.0)).at(20) >> Told(named("web/0"), 1, watchdog=True)
    before = book.instance("web/0")
    assert book.at(35) >> Tick()
    assert book.instance("web/0") == before
    assert book.until(50) << "web/0 running > stopping (watchdog, stage-1)" << "SIGTERM main web/0#1"
