"""Surge instances and everybody else: their gates and dependents, and what an operator may ask of them."""

from typing import Any

import pytest

from supervisor.core.events import (
    AbortRequested,
    DrainRequested,
    Exited,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    ShutdownRequested,
    SignalRequested,
    Spawned,
    StartRequested,
    StopRequested,
    Told,
    UnpauseRequested,
    Urgency,
)
from supervisor.core.health import pool_health
from supervisor.core.host import next_deadline, step
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import (
    Condition,
    PoolPlan,
    Readiness,
)
from supervisor.core.state import OperationState
from tests.core.surge_turns import (
    OK,
    comes,
    detail,
    ends,
    goes,
    ready,
    restarting,
    standing_in,
    vanishes,
    web,
)
from tests.playbook import Playbook, named, running, wish


@pytest.mark.parametrize("verb", [DrainRequested, StopRequested])
def test_it_goes_down_with_its_pool(verb: Any) -> None:
    """A drain or a stop concerns every process of the pool, and is over when all are gone."""
    book = ready(restarting(web()), "web/2", 1) >> verb(wish("web", "op2"))
    cause = "drain" if verb is DrainRequested else "stop"
    goes(goes(goes(book, "web/0", 1, cause), "web/1", 1, cause), "web/2", 1, cause) << "accepted op2"
    assert book
    # A surge instance that nobody needs is not a replacement that failed, but its rollout is over.
    assert book.host.operations["op1"].state is OperationState.ABORTED
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)"
    book >> Exited(named("web/1"), 1, OK) << "web/1 stopping > stopped (exit)"
    assert book.host.operations["op2"].state == "running"
    assert vanishes(book, "web/2")
    assert book.host.operations["op2"].state == "succeeded"
    assert pool_health(book.host, "web").ready == 0


def test_one_on_its_way_out_is_waited_for_by_a_drain() -> None:
    """The end of a rollout has sent it away; "drained" is said when it is gone too."""
    book = ready(restarting(web()), "web/2", 1) >> AbortRequested("op1")
    goes(book << "accepted op1", "web/2", 1, "surge") >> DrainRequested(wish("web", "op2"))
    goes(goes(book, "web/0", 1, "drain"), "web/1", 1, "drain") << "accepted op2"
    assert book
    assert book.instance("web/2").goal is Goal.DRAINED
    assert len(book.host.steps["op2"]) == 3
    again = book >> DrainRequested(wish("web", "op3")) << "accepted op2"
    assert (
        again
        >> StopRequested(wish("web", "op4"), Urgency.KILL)
        << "kill web/0#1"
        << "kill web/1#1"
        << ("kill web/2#1")
        << "accepted op4"
    )


def test_an_abort_sends_it_away_when_all_are_well() -> None:
    """Nobody was touched: at once. Somebody is on the way: when that one is ready again."""
    early = restarting(web()) >> Spawned(named("web/2"), 1, 7) >> AbortRequested("op1")
    early << "accepted op1" << "web/2 starting > stopping (surge, stage-1)" << "SIGTERM main web/2#1"
    assert vanishes(early, "web/2")
    late = ends(standing_in(web()), "web/0") >> AbortRequested("op1") << "accepted op1"
    assert late.instance("web/2").ready
    assert goes(ready(late, "web/0", 2), "web/2", 1, "surge")
    assert late.instance("web/1").generation == 1


def test_a_pause_holds_it_where_it_is() -> None:
    """What is under way goes on, nobody goes down, and the last ones are not sent away either."""
    book = restarting(web()) >> PauseRequested("op1") << "accepted op1"
    assert ready(book, "web/2", 1).until(400)
    assert next_deadline(book.host) is None
    goes(book >> UnpauseRequested("op1"), "web/0") << "accepted op1"
    ready(ends(book, "web/0"), "web/0", 2)
    goes(book.until(405), "web/1") >> PauseRequested("op1") << "accepted op1"
    assert ready(ends(book, "web/1"), "web/1", 2).until(900)
    assert goes(book >> UnpauseRequested("op1") << "accepted op1", "web/2", 1, "surge")


def test_a_shutdown_takes_it_along() -> None:
    """It is one of the processes that the end of the host waits for."""
    book = standing_in(web()) >> ShutdownRequested(wish("", "op2"))
    goes(goes(book, "web/1", 1, "shutdown"), "web/2", 1, "shutdown") << "accepted op2"
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)"
    book >> Exited(named("web/1"), 1, OK) << "web/1 stopping > stopped (exit)"
    assert vanishes(book, "web/2") << "halt"


def test_it_starts_behind_the_same_gates() -> None:
    """A surge instance of a dependent waits for what its pool depends on, and its stop is held for none."""
    db = PoolPlan("db", readiness=Readiness.NOTIFY)
    book = running(db, web(depends_on={"db": Condition.READY})) >> Told(named("db/0"), 1, reloading=True)
    book >> RestartRequested(wish("web")) << "accepted op1"
    assert detail(book, "web/2") == "surge: pending"
    comes(book >> Told(named("db/0"), 1, ready=True), "web/2")
    assert book


def test_no_dependency_goes_before_it() -> None:
    """A pool that is stopped with its dependents waits for their surge instances too."""
    book = running(PoolPlan("db"), web(depends_on={"db": Condition.READY}))
    book >> RestartRequested(wish("web")) << "accepted op1"
    ready(comes(book, "web/2"), "web/2", 1) >> StopRequested(wish("", "op2"))
    book << "db/0 running > draining (stop, hold)"
    goes(goes(goes(book, "web/0", 1, "stop"), "web/1", 1, "stop"), "web/2", 1, "stop") << "accepted op2"
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)"
    book >> Exited(named("web/1"), 1, OK) << "web/1 stopping > stopped (exit)"
    assert book
    book >> Exited(named("web/2"), 1, OK) << "web/2 stopping > stopped (exit)"
    assert book << "db/0 draining > stopping (stop, stage-1)" << "SIGTERM main db/0#1" << "release web/2"


def test_it_holds_for_its_own_dependents() -> None:
    """The surge instance of a dependency goes when the dependents are gone, like the declared ones."""
    job = PoolPlan("job", depends_on={"web": Condition.READY})
    book = ready(restarting_beside(job), "web/2", 1) >> StopRequested(wish("", "op2"))
    book << "web/0 running > draining (stop, hold)" << "web/1 running > draining (stop, hold)"
    goes(book, "job/0", 1, "stop") << "web/2 running > draining (stop, hold)" << "accepted op2"
    book >> Exited(named("job/0"), 1, OK) << "job/0 stopping > stopped (exit)"
    for name in ("web/0", "web/1", "web/2"):
        book << f"{name} draining > stopping (stop, stage-1)" << f"SIGTERM main {name}#1"
    assert book


def restarting_beside(other: PoolPlan) -> Playbook:
    """A restart of `web` has begun, with another pool beside it."""
    return comes(running(web(), other) >> RestartRequested(wish("web")) << "accepted op1", "web/2")


@pytest.mark.parametrize("verb", [StartRequested, ResumeRequested, RestartRequested])
def test_nobody_can_want_it_up(verb: Any) -> None:
    """It comes and goes with its rollout; wishes for the pool are about the declared ones."""
    book = ready(restarting(web()), "web/2", 1)
    assert book >> verb(wish("web/2", "op2")) << "refused surge-instance"
    if verb is not RestartRequested:
        book >> verb(wish("web", "op3")) << "accepted op3"
        assert len(book.host.steps["op3"]) == 2


def test_it_can_be_signalled_and_stopped_by_name() -> None:
    """A stop of it is a halt of its rollout, and no intent that outlives it."""
    book = ready(restarting(web()), "web/2", 1) >> SignalRequested(wish("web", "op2"), "SIGHUP")
    book << "SIGHUP main web/0#1" << "SIGHUP main web/1#1" << "SIGHUP main web/2#1" << "accepted op2"
    effects = step(book.host, StopRequested(wish("web/2", "op3")), 11.0)
    assert not [effect for effect in effects if type(effect).__name__ == "GoalChanged"]
    assert "web/2 is wanted down now" in book.host.operations["op1"].message
    assert book.instance("web/2").phase is Phase.STOPPING
    assert book.instance("web/0").goal is Goal.UP
