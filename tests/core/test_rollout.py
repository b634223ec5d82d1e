"""Replacing a pool turn by turn: capacity, proof, and the halt at the first failure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.events import (
    Exited,
    RestartRequested,
    Spawned,
    SpawnFailed,
    Told,
)
from supervisor.core.phases import Phase
from supervisor.core.plan import (
    Backoff,
    Condition,
    DrainPolicy,
    Kind,
    PoolPlan,
    Readiness,
    RestartPolicy,
    RestartRules,
    RolloutRules,
)
from supervisor.core.state import OperationState, StepState
from tests.core.rollout_turns import BAD, OK, ends, goes, ready, web
from tests.playbook import named, running, wish


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
    """A rollout that would take down one more waits, and says no at its deadline."""
    slow = RestartRules(backoff=Backoff(initial_seconds=500.0, max_seconds=500.0, jitter=0.0))
    book = running(web(3, progress=90, restart=slow))
    book >> Exited(named("web/1"), 1, BAD) << "web/1 running > backoff (exit)"
    book >> RestartRequested(wish("web/0")) << "accepted op1"
    assert book.until(99.9)
    assert book.instance("web/0").phase is Phase.RUNNING
    book.until(100) << "operation op1"
    assert book
    assert book.host.operations["op1"].message == "halted: no progress within 90 s; 1 left untouched"
    assert book.instance("web/0").generation == 1


def test_one_that_proves_itself_still_takes_its_place() -> None:
    """It may fail yet: with another one down by itself there is no room for a third."""
    slow = RestartRules(backoff=Backoff(initial_seconds=500.0, max_seconds=500.0, jitter=0.0))
    book = running(web(4, limit=2, restart=slow)) >> RestartRequested(wish("web"))
    goes(goes(book, "web/0"), "web/1") << "accepted op1"
    ready(ends(book, "web/1"), "web/1")
    ready(ends(book.at(12), "web/0"), "web/0")
    book.at(13) >> Exited(named("web/3"), 1, BAD) << "web/3 running > backoff (exit)"
    assert book.until(16.9)
    goes(book.until(17), "web/2") << "web/3 backoff > pending (restart)"
    assert book << "spawn web/3#2 (restart)" << "web/3 pending > starting (restart)"


def test_the_broken_go_first() -> None:
    """To replace what does not serve costs nothing; until it has proven itself nobody else is taken."""
    book = running(web(2)) >> Exited(named("web/1"), 1, BAD) << "web/1 running > backoff (exit)"
    book >> RestartRequested(wish("web")) << "web/1 backoff > pending (restart)" << "accepted op1"
    book << "spawn web/1#2 (restart)" << "web/1 pending > starting (restart)"
    ready(book >> Spawned(named("web/1"), 2, 7), "web/1")
    assert book.until(14.9)
    assert goes(book.until(15), "web/0")


@pytest.mark.parametrize("how", ["exit", "spawn", "late"])
def test_the_first_that_does_not_stay_ready_halts_it(how: str) -> None:
    """Nobody else is touched, the message names the one and why, and it goes on trying by itself."""
    book = goes(running(web(3)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    if how == "spawn":
        book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > pending (exit)"
        book << "spawn web/0#2 (restart)" << "web/0 pending > starting (restart)"
        book >> SpawnFailed(named("web/0"), 2, "cannot run ./x: no such file")
        why, phase = "cannot run ./x: no such file", "starting"
    elif how == "late":
        ready(ends(book, "web/0"), "web/0").until(14) >> Exited(named("web/0"), 2, BAD)
        why, phase = "exit 1", "running"
    else:
        ends(book, "web/0") >> Exited(named("web/0"), 2, BAD)
        why, phase = "exit 1", "starting"
    book << f"web/0 {phase} > backoff ({'spawn-failed' if how == 'spawn' else 'exit'})"
    assert book
    operation = book.host.operations["op1"]
    assert operation.state is OperationState.FAILED
    assert operation.message == f"halted: web/0 did not stay ready: {why}; 2 left untouched"
    steps = book.host.steps["op1"]
    assert steps[named("web/0")].state == "failed"
    assert [steps[named(f"web/{index}")] for index in (1, 2)] == [StepState("aborted", "untouched")] * 2
    assert [book.instance(f"web/{index}").generation for index in (1, 2)] == [1, 1]
    assert book.host.pools["web"].rollout is None


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


def test_every_pool_keeps_its_own_limit() -> None:
    """The restart of the host has succeeded when the last turn of the last pool has."""
    other = PoolPlan("other", readiness=Readiness.NOTIFY, rollout=RolloutRules(1, 5.0, 600.0))
    book = goes(goes(running(web(2), other) >> RestartRequested(wish()), "web/0"), "other/0")
    ready(ends(book << "accepted op1", "other/0"), "other/0")
    ready(ends(book, "web/0"), "web/0")
    goes(book.until(15), "web/1")
    assert book.host.pools["other"].rollout is None
    assert not book.host.operations["op1"].state.is_final
    ready(ends(book, "web/1"), "web/1").until(20) << "operation op1"
    assert book
    assert book.host.operations["op1"].state is OperationState.SUCCEEDED


def test_a_rollout_that_halts_at_once_touches_no_other_pool() -> None:
    """The first pool has no time at all."""
    book = running(web(2, progress=0), PoolPlan("other")) >> RestartRequested(wish()) << "accepted op1"
    assert book
    assert book.host.operations["op1"].state is OperationState.FAILED
    assert book.instance("other/0").phase is Phase.RUNNING


def test_a_stuck_instance_is_named_before_anybody_is_touched() -> None:
    """In whichever pool it is."""
    book = running(web(2), PoolPlan("other"))
    ill = book.instance("other/0")._replace(phase=Phase.STUCK, ready=False)
    book.host.instances[ill.id] = ill
    book >> RestartRequested(wish()) << "accepted op1"
    assert book
    assert book.host.operations["op1"].message == "other/0 is stuck, so nobody was touched"
    assert book.host.steps["op1"][named("web/0")].state == "aborted"


def test_what_has_finished_runs_again() -> None:
    """Completion counts as replaced."""
    plan = web(1, restart=RestartRules(RestartPolicy.ON_FAILURE))
    book = running(plan) >> Exited(named("web/0"), 1, OK) << "web/0 running > stopped (completed)"
    book >> RestartRequested(wish("web")) << "accepted op1" << "web/0 stopped > pending (start)"
    book << "spawn web/0#2 (restart)" << "web/0 pending > starting (restart)"
    book >> Exited(named("web/0"), 2, OK) << "web/0 starting > stopped (completed)"
    assert book
    assert book.host.operations["op1"].state is OperationState.SUCCEEDED


def test_a_task_is_replaced_when_it_has_completed() -> None:
    """For what runs to completion, that is what ready means."""
    plan = PoolPlan("task", kind=Kind.TASK, restart=RestartRules())
    book = running(plan) >> Exited(named("task/0"), 1, OK) << "task/0 running > stopped (completed)"
    assert book.instance("task/0").finished
    book >> RestartRequested(wish("task")) << "accepted op1" << "task/0 stopped > pending (start)"
    book << "spawn task/0#2 (restart)" << "task/0 pending > starting (restart)"
    book >> Spawned(named("task/0"), 2, 7) >> Exited(named("task/0"), 2, OK)
    assert book << "task/0 starting > stopped (completed)"
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
