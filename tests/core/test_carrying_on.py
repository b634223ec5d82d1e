"""What was begun for many goes on without a look at deadlines: whom it tells, in which order, how long."""

from supervisor.core import host as core
from supervisor.core.effects import Kill, Signal
from supervisor.core.events import CarryOn, SignalRequested, StopRequested, Tick
from supervisor.core.plan import PoolPlan, Stage, StopPolicy
from supervisor.core.state import MOST_AT_ONCE, Host
from tests.playbook import running, wish

MANY = 20
STOP = StopPolicy((Stage(grace_seconds=5.0),))


def up() -> Host:
    """Two pools of twenty, all running."""
    return running(
        PoolPlan("web", instances=MANY, stop=STOP), PoolPlan("api", instances=MANY, stop=STOP)
    ).host


def told(host: Host, now: float) -> list[list[str]]:
    """Who gets a signal in each step, until there is nothing left to go on with."""
    found = []
    while core.has_errands(host, now):
        effects = core.step(host, CarryOn(), now)
        found.append([str(one.instance) for one in effects if isinstance(one, Signal)])
    return found


def test_a_few_in_each_step_in_the_order_of_the_wishes() -> None:
    """Nobody is left out, nobody is told twice, and the second wish follows the first."""
    host = up()
    core.step(host, StopRequested(wish("api")), 10.0)
    core.step(host, SignalRequested(wish("web", "second"), "SIGHUP"), 10.0)
    steps = told(host, 10.0)
    assert [len(one) for one in steps] == [MOST_AT_ONCE, MOST_AT_ONCE, MANY - 2 * MOST_AT_ONCE] * 2
    everybody = [name for one in steps for name in one]
    assert everybody == [f"{pool}/{index}" for pool in ("api", "web") for index in range(MANY)]
    assert not host.errands


def test_deadlines_are_left_to_ticks() -> None:
    """A window that has closed stays so until time is looked at; then all that is due is done."""
    host = up()
    core.step(host, StopRequested(wish("api")), 10.0)
    told(host, 10.0)
    assert core.next_deadline(host) == 15.0
    assert not core.has_errands(host, 16.0)
    assert not core.step(host, CarryOn(), 16.0)
    kills = [core.step(host, Tick(), 16.0) for _ in range(4)]
    assert sum(isinstance(one, Kill) for effects in kills for one in effects) == MANY


def test_ticks_and_carrying_on_may_take_turns() -> None:
    """Whoever goes on with it, it goes on where it was."""
    host, signals = up(), 0
    core.step(host, StopRequested(wish("api")), 10.0)
    for event in (Tick(), CarryOn(), Tick(), CarryOn()):
        signals += sum(isinstance(one, Signal) for one in core.step(host, event, 10.0))
    assert signals == MANY
    assert core.next_deadline(host) == 15.0
