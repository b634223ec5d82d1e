"""Replacing a pool turn by turn: capacity, proof, and the halt at the first failure."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.events import (
    AbortRequested,
    DrainRequested,
    Exited,
    PauseRequested,
    RestartRequested,
    ShutdownRequested,
    Spawned,
    StopRequested,
    Told,
    UnpauseRequested,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.host import next_deadline
from supervisor.core.phases import Phase
from supervisor.core.plan import (
    Condition,
    DrainPolicy,
    PoolPlan,
    Readiness,
    RestartPolicy,
    RestartRules,
    RolloutRules,
)
from supervisor.core.state import OperationState, StepState
from tests.playbook import Playbook, named, running, wish

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


def test_one_after_the_other_each_proven() -> None:
    """The next turn begins when the replacement has been ready for min_ready."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    assert book.host.steps["op1"][named("web/0")] == StepState("running", "generation 1 stopping (stage-1)")
    ready(ends(book, "web/0"), "web/0")
    assert book.host.steps["op1"][named("web/0")].detail == "generation 2 ready, proving itself"
    book.until(14.9)
    goes(book.until(15), "web/1")
    ready(ends(book, "web/1"), "web/1")
    book.until(20) << "operation op1"
    assert book
    assert book.host.operations["op1"].state is OperationState.SUCCEEDED
    assert book.host.pools["web"].rollout is None


def test_as_many_turns_as_may_be_unready() -> None:
    """With max_unavailable 2 two go at once, and the third when the first is proven."""
    book = running(web(3, limit=2)) >> RestartRequested(wish("web"))
    goes(goes(book, "web/0"), "web/1") << "accepted op1"
    ready(ends(book, "web/1"), "web/1")
    assert book.until(14.9)
    assert goes(book.until(15), "web/2")


def test_who_is_unready_anyway_goes_first() -> None:
    """It costs no capacity; while it is away nobody else is taken."""
    book = running(web(2)) >> Told(named("web/1"), 1, reloading=True) >> RestartRequested(wish("web"))
    assert goes(book, "web/1") << "accepted op1"


def test_capacity_that_is_missing_already_counts() -> None:
    """A rollout that would take down the only one left waits."""
    book = running(web(3)) >> Exited(named("web/1"), 1, BAD) << "web/1 running > backoff (exit)"
    book >> RestartRequested(wish("web/0")) << "accepted op1"
    assert book.instance("web/0").phase is Phase.RUNNING


def test_the_first_failure_halts_it() -> None:
    """A replacement that does not become ready: nobody else is touched, and it goes on trying by itself."""
    book = goes(running(web(3)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    ends(book, "web/0") >> Exited(named("web/0"), 2, BAD) << "web/0 starting > backoff (exit)"
    assert book
    operation = book.host.operations["op1"]
    assert operation.state is OperationState.FAILED
    assert operation.message == "halted: web/0 did not stay ready: exit 1; 2 left untouched"
    assert book.host.steps["op1"][named("web/1")] == StepState("aborted", "untouched")


def test_a_replacement_that_hangs_halts_it() -> None:
    """The verdict is known before its end."""
    book = goes(running(web(2, startup_timeout_seconds=5)) >> RestartRequested(wish("web")), "web/0")
    ends(book << "accepted op1", "web/0")
    book.until(15) << "web/0 starting > stopping (startup-timeout, stage-1)" << "SIGTERM main web/0#2"
    assert book
    assert "web/0 did not stay ready: startup-timeout" in book.host.operations["op1"].message


def test_what_is_stuck_halts_it() -> None:
    """Its old generation outlives SIGKILL: the turn can never end."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book.until(35) << "SIGTERM all web/0#1"
    book.until(40) << "kill web/0#1"
    book.until(45) << "web/0 stopping > stuck (outlived-kill)"
    assert book
    assert "web/0 is stuck" in book.host.operations["op1"].message


def test_no_progress_halts_it() -> None:
    """A replacement that neither fails nor becomes ready."""
    plan = web(2, progress=50, startup_timeout_seconds=500)
    book = goes(running(plan) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    ends(book, "web/0").until(60)
    assert book
    assert book.host.operations["op1"].message == "halted: no progress within 50 s; 1 left untouched"


def test_a_host_is_restarted_by_one_operation() -> None:
    """Every pool turns at once, and a failure in one halts it for all."""
    other = PoolPlan("other", instances=2, readiness=Readiness.NOTIFY)
    book = running(web(2), other) >> RestartRequested(wish())
    goes(goes(book, "web/0"), "other/0") << "accepted op1"
    ends(book, "web/0") >> Exited(named("web/0"), 2, BAD) << "web/0 starting > backoff (exit)"
    assert book
    assert book.host.pools["other"].rollout is None
    assert book.host.operations["op1"].message.endswith("; 2 left untouched")


def test_a_rollout_that_halts_at_once_touches_no_other_pool() -> None:
    """The first pool has no time at all."""
    book = running(web(2, progress=0), PoolPlan("other")) >> RestartRequested(wish()) << "accepted op1"
    assert book
    assert book.host.operations["op1"].state is OperationState.FAILED
    assert book.instance("other/0").phase is Phase.RUNNING


def test_a_stuck_instance_is_named_before_anybody_is_touched() -> None:
    """In whichever pool it is."""
    book = running(web(2), PoolPlan("other"))
    ill = replace(book.instance("other/0"), phase=Phase.STUCK, ready=False)
    book.host.instances[ill.id] = ill
    book >> RestartRequested(wish()) << "accepted op1"
    assert book
    assert book.host.operations["op1"].message == "other/0 is stuck, so nobody was touched"
    assert book.host.steps["op1"][named("web/0")].state == "aborted"


def test_it_may_be_paused_for_as_long_as_it_takes() -> None:
    """No new turn begins, nothing wakes the daemon, and the progress deadline starts anew afterwards."""
    book = goes(running(web(2, progress=60)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> PauseRequested("op1") << "accepted op1" >> PauseRequested("op1") << "accepted op1"
    ready(ends(book, "web/0"), "web/0")
    book.until(15)
    assert next_deadline(book.host) is None
    book.at(5000)
    assert book.host.operations["op1"].state is OperationState.PAUSED
    goes(book >> UnpauseRequested("op1"), "web/1") << "accepted op1"
    assert book
    rollout = book.host.pools["web"].rollout
    assert rollout is not None
    assert rollout.progress_by == 5060


def test_a_turn_that_fails_while_paused_halts_it() -> None:
    """Pause holds back new turns, not the truth."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> PauseRequested("op1") << "accepted op1"
    ends(book, "web/0") >> Exited(named("web/0"), 2, BAD) << "web/0 starting > backoff (exit)"
    assert book
    assert book.host.operations["op1"].state is OperationState.FAILED


def test_a_host_wide_restart_is_paused_everywhere() -> None:
    """One operation, all its pools; pools of other operations are let be."""
    book = running(web(2), PoolPlan("other", instances=2), PoolPlan("third", instances=2))
    book >> RestartRequested(wish("third", "op0"))
    book << "third/0 running > stopping (restart, stage-1)" << "SIGTERM main third/0#1" << "accepted op0"
    book >> RestartRequested(wish("web")) << "web/0 running > stopping (restart, stage-1)"
    book << "SIGTERM main web/0#1" << "accepted op1" >> PauseRequested("op1") << "accepted op1"
    states = {name: pool.rollout.state for name, pool in book.host.pools.items() if pool.rollout}
    assert states == {"web": "paused", "third": "running"}
    assert book


def test_an_abort_lets_turns_end_and_begins_no_more() -> None:
    """What is away comes back; who has not had a turn keeps its generation."""
    book = goes(running(web(3)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> AbortRequested("op1") << "accepted op1" >> AbortRequested("op1") << "accepted op1"
    ready(ends(book, "web/0"), "web/0")
    assert book.until(600)
    assert book.host.operations["op1"].state is OperationState.ABORTED
    assert book.instance("web/1").generation == 1


def test_an_abort_leaves_other_rollouts_alone() -> None:
    """Two pools, two operations."""
    book = running(web(2), PoolPlan("other"))
    goes(book >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    goes(book >> RestartRequested(wish("other", "op2")), "other/0") << "accepted op2"
    assert book >> AbortRequested("op1") << "accepted op1"
    assert book.host.pools["other"].rollout is not None


def test_a_drain_goes_before_a_restart() -> None:
    """An instance whose turn it is and that is wanted away ends the rollout, which has not failed by that."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> DrainRequested(wish("web/0", "op2")) << "accepted op2"
    assert book
    assert book.host.operations["op1"].state is OperationState.ABORTED
    assert book.host.operations["op1"].message == "halted: web/0 is wanted drained now; 1 left untouched"


def test_who_is_wanted_away_has_no_turn() -> None:
    """Its step is aborted, and the others have theirs."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> StopRequested(wish("web/1", "op2")) << "web/1 running > stopping (stop, stage-1)"
    book << "SIGTERM main web/1#1" << "accepted op2"
    ready(ends(book, "web/0"), "web/0").until(15)
    assert book
    operation = book.host.operations["op1"]
    assert (operation.state, operation.message) == (OperationState.ABORTED, "web/1: it is wanted down")


def test_a_shutdown_goes_before_everything() -> None:
    """The rollout is over; what it took away does not come back."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> ShutdownRequested(wish("", "op2")) << "web/1 running > stopping (shutdown, stage-1)"
    book << "SIGTERM main web/1#1" << "accepted op2"
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)"
    assert book
    assert book.host.operations["op1"].message == "the host is shutting down"


def test_whoever_has_failed_is_tried_at_once() -> None:
    """Backoff and earlier failures do not count for an operator's restart."""
    book = running(web(2)) >> Exited(named("web/1"), 1, BAD) << "web/1 running > backoff (exit)"
    book >> RestartRequested(wish("web"), only_failed=True) << "web/1 backoff > pending (restart)"
    book << "accepted op1" << "spawn web/1#2 (restart)" << "web/1 pending > starting (restart)"
    assert book
    assert book.host.operations["op1"].total == 1


def test_what_has_finished_runs_again() -> None:
    """Completion counts as replaced."""
    plan = web(1, restart=RestartRules(RestartPolicy.ON_FAILURE))
    book = running(plan) >> Exited(named("web/0"), 1, OK) << "web/0 running > stopped (completed)"
    book >> RestartRequested(wish("web")) << "accepted op1" << "web/0 stopped > pending (start)"
    book << "spawn web/0#2 (restart)" << "web/0 pending > starting (restart)"
    book >> Exited(named("web/0"), 2, OK) << "web/0 starting > stopped (completed)"
    assert book
    assert book.host.operations["op1"].state is OperationState.SUCCEEDED


def test_a_turn_waits_for_its_gates_like_any_start() -> None:
    """The replacement of a dependent comes when its database is ready."""
    db = PoolPlan("db", readiness=Readiness.NOTIFY)
    book = running(db, web(1, depends_on={"db": Condition.READY}))
    book >> Told(named("db/0"), 1, reloading=True) << "db/0 unready: it is reloading"
    goes(book >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > pending (exit)"
    book >> Told(named("db/0"), 1, ready=True) << "spawn web/0#2 (restart)"
    assert book << "web/0 pending > starting (restart)"


def test_a_restart_drains() -> None:
    """The old generation finishes what it holds."""
    book = running(web(1, drain=DrainPolicy("SIGUSR1"))) >> RestartRequested(wish("web"))
    assert book << "web/0 running > draining (restart, drain)" << "SIGUSR1 main web/0#1" << "accepted op1"


def test_a_replacement_that_flaps_proves_itself_anew() -> None:
    """It has to be ready for min_ready without a break."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    ready(ends(book, "web/0"), "web/0")
    book.at(13) >> Told(named("web/0"), 2, reloading=True) >> Told(named("web/0"), 2, ready=True)
    assert book.until(17.9)
    assert goes(book.until(18), "web/1")


@given(st.floats(0, 1e7), st.floats(0, 100))
def test_the_moment_of_proof_is_met_exactly(began: float, min_ready: float) -> None:
    """A clock is a float: the sum that wakes the daemon must be the sum that ends the turn."""
    book = goes(running(web(1, min_ready=min_ready)).at(10 + began) >> RestartRequested(wish("web")), "web/0")
    ready(ends(book << "accepted op1", "web/0"), "web/0")
    rollout = book.host.pools["web"].rollout
    if rollout is not None:
        assert rollout.wake_at is not None
        book.until(rollout.wake_at)
    assert book
    assert book.host.operations["op1"].state is OperationState.SUCCEEDED


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_a_whole_pool_never_misses_more_than_it_may(limit: int) -> None:
    """Seven instances, each replaced once, at most `limit` away at any time."""
    book = running(web(7, limit=limit, min_ready=1))
    book >> RestartRequested(wish("web"))
    for _ in range(100):
        book._left.clear()
        away = [one for one in book.host.instances.values() if not one.ready]
        assert len(away) <= limit
        for one in away:
            if one.phase is Phase.STOPPING:
                book >> Exited(one.id, one.generation, OK)
                book._left.clear()
        for one in list(book.host.instances.values()):
            if one.phase is Phase.STARTING:
                book >> Told(one.id, one.generation, ready=True)
                book._left.clear()
        book.until(book.now + 1)
    assert all(one.generation == 2 for one in book.host.instances.values())
    assert book.host.operations["op1"].state is OperationState.SUCCEEDED
