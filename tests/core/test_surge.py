"""Restarting with extra instances: ready before anybody drains, standing in, and gone at the end."""

import pytest

from supervisor.core.events import (
    Exited,
    RestartRequested,
    Spawned,
    SpawnFailed,
    StopRequested,
    Tick,
    Told,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.health import Status, pool_health
from supervisor.core.host import step
from supervisor.core.plan import (
    RestartPolicy,
    RestartRules,
)
from supervisor.core.state import OperationState, StepState, create
from supervisor.core.turn import Turn
from tests.core.surge_turns import (
    BAD,
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
from tests.playbook import named, running, wish


def test_a_replacement_is_ready_before_the_old_one_drains() -> None:
    """An extra one proves itself, the declared ones are replaced in turn, and the extra one goes."""
    book = restarting(web())
    assert detail(book, "web/2") == "surge: starting"
    assert book.instance("web/0").ready
    ready(book, "web/2", 1)
    assert detail(book, "web/2") == "surge: generation 1 ready, proving itself"
    assert book.until(14.9)
    goes(book.until(15), "web/0")
    assert detail(book, "web/2") == "surge: generation 1 stands in"
    ready(ends(book, "web/0"), "web/0", 2)
    goes(book.until(20), "web/1")
    ready(ends(book, "web/1"), "web/1", 2)
    goes(book.until(25), "web/2", 1, "surge")
    assert detail(book, "web/2") == "surge: stopping (stage-1)"
    assert book.host.operations["op1"].state is OperationState.RUNNING
    assert vanishes(book, "web/2")
    operation = book.host.operations["op1"]
    assert (operation.state, operation.done, operation.total) == (OperationState.SUCCEEDED, 3, 3)
    assert book.host.steps["op1"][named("web/2")] == StepState("done", "surge: gone again")
    assert (book.host.pools["web"].rollout, book.host.pools["web"].surge) == (None, ())


def test_what_stands_in_is_ready_but_neither_wanted_nor_declared() -> None:
    """Ready beyond wanted is shown as it is, and the gate of dependents counts declared ones only."""
    book = ready(restarting(web()), "web/2", 1)
    census = book.host.census["web"]
    assert (census.wanted, census.ready, census.surge_ready, census.spawned) == (2, 2, 1, 2)
    health = pool_health(book.host, "web")
    assert (health.status, health.wanted, health.ready) == (Status.HEALTHY, 2, 3)
    goes(book.until(15), "web/0")
    health = pool_health(book.host, "web")
    assert (health.status, health.wanted, health.ready) == (Status.HEALTHY, 2, 2)


def test_so_many_may_stand_in_and_so_many_be_away() -> None:
    """Each that stands in lets one more go; more of them than there are to replace are never started."""
    book = running(web(4, away=1, extra=2)) >> RestartRequested(wish("web"))
    comes(comes(book << "accepted op1", "web/4"), "web/5")
    ready(book, "web/4", 1)
    assert book.until(15), "nobody goes before all are there"
    ready(book, "web/5", 1)
    assert goes(goes(goes(book.until(20), "web/0"), "web/1"), "web/2")
    alone = running(web(4, extra=3)) >> RestartRequested(wish("web/1"))
    assert comes(alone << "accepted op1", "web/4")


def test_who_is_not_ready_anyway_needs_nobody() -> None:
    """Its turn costs no capacity, so no surge instance comes for it."""
    book = running(web()) >> Told(named("web/1"), 1, reloading=True) >> RestartRequested(wish("web/1"))
    goes(book, "web/1") << "accepted op1"
    ready(ends(book, "web/1"), "web/1", 2).until(15)
    assert book
    assert book.host.operations["op1"].state is OperationState.SUCCEEDED
    assert book.host.pools["web"].surge_generation == 0


@pytest.mark.parametrize("waits", [True, False])
def test_one_that_does_not_become_ready_halts_it(waits: bool) -> None:
    """It is taken away again; nobody else was touched, and the pool is whole."""
    book = restarting(web())
    if waits:
        book >> Spawned(named("web/2"), 1, 7)
        book >> Exited(named("web/2"), 1, BAD) << "web/2 starting > backoff (exit)"
        why = "exit 1"
    else:
        book >> SpawnFailed(named("web/2"), 1, why := "no such file")
        book << "web/2 starting > backoff (spawn-failed)"
    book << "web/2 backoff > stopped (stop)" << "release web/2"
    assert book
    operation = book.host.operations["op1"]
    assert operation.message == f"halted: web/2 did not stay ready: {why}; 2 left untouched"
    assert book.host.steps["op1"][named("web/2")].state == "failed"
    assert [one.generation for one in book.host.instances.values()] == [1, 1]
    assert book.host.census["web"].ready == 2


def test_one_that_hangs_is_stopped_and_taken_away() -> None:
    """The verdict halts the rollout; its slot goes with the process."""
    book = restarting(web(startup_timeout_seconds=5)) >> Spawned(named("web/2"), 1, 7)
    book.until(15) << "web/2 starting > stopping (startup-timeout, stage-1)" << "SIGTERM main web/2#1"
    assert book.host.operations["op1"].state is OperationState.FAILED
    assert vanishes(book, "web/2")


def test_what_comes_next_in_the_slot_has_another_name() -> None:
    """A late word about the first web/2 is not taken for one about the second."""
    book = restarting(web())
    book >> Spawned(named("web/2"), 1, 7) >> Exited(named("web/2"), 1, BAD)
    book << "web/2 starting > backoff (exit)" << "web/2 backoff > stopped (stop)" << "release web/2"
    book >> Told(named("web/2"), 1, ready=True) >> Exited(named("web/2"), 1, BAD)
    comes(book >> RestartRequested(wish("web", "op2")) << "accepted op2", "web/2", 2)
    assert book >> Told(named("web/2"), 1, ready=True)
    assert (book.instance("web/2").ready, book.instance("web/2").restarts) == (False, 0)


def test_a_replacement_that_fails_is_stood_in_for() -> None:
    """The rollout halts; the surge instance stays until the declared one is well, and only then goes."""
    book = ends(standing_in(web()), "web/0")
    book >> Spawned(named("web/0"), 2, 8) >> Exited(named("web/0"), 2, BAD)
    book << "web/0 starting > backoff (exit)"
    assert book
    assert book.host.operations["op1"].message == "halted: web/0 did not stay ready: exit 1; 1 left untouched"
    health = pool_health(book.host, "web")
    assert (health.status, health.ready) == (Status.DEGRADED, 2)
    book.until(16) << "web/0 backoff > pending (retry)" << "spawn web/0#3 (retry)"
    book << "web/0 pending > starting (retry)" >> Spawned(named("web/0"), 3, 9)
    book >> Told(named("web/0"), 3, ready=True) << "web/0 starting > running (ready)"
    assert vanishes(goes(book, "web/2", 1, "surge"), "web/2")


def test_the_next_restart_waits_for_the_slot() -> None:
    """What an earlier rollout has left behind is gone before a new surge instance comes."""
    book = ends(standing_in(web()), "web/0") >> Spawned(named("web/0"), 2, 8)
    book >> Exited(named("web/0"), 2, BAD) << "web/0 starting > backoff (exit)"
    book >> RestartRequested(wish("web", "op2")) << "web/0 backoff > pending (restart)"
    book << "accepted op2" << "spawn web/0#3 (restart)" << "web/0 pending > starting (restart)"
    # It is well again, so the old one may go: only then is there room for the new one.
    goes(ready(book, "web/0", 3), "web/2", 1, "surge").until(25)
    assert book
    book >> Exited(named("web/2"), 1, OK) << "web/2 stopping > stopped (exit)" << "release web/2"
    comes(book, "web/2", 2)
    goes(ready(book, "web/2", 2).until(30), "web/1")
    assert book


def test_one_that_stands_in_and_dies_leaves_a_gap_that_is_filled() -> None:
    """Like any other of the pool it is started again, and counts as soon as it is ready."""
    book = ready(ends(standing_in(web()), "web/0"), "web/0", 2)
    book >> Exited(named("web/2"), 1, BAD) << "web/2 running > backoff (exit)"
    assert book.until(15.1)
    book.until(20) << "web/2 backoff > pending (retry)" << "spawn web/2#2 (retry)"
    book << "web/2 pending > starting (retry)"
    assert book.instance("web/1").ready, "nobody goes while nobody stands in"
    assert goes(ready(book, "web/2", 2), "web/1")


@pytest.mark.parametrize(("code", "phase"), [(78, "failed"), (0, "stopped")])
def test_one_that_will_not_come_back_halts_it(code: int, phase: str) -> None:
    """A permanent failure, or an end that counts as completion."""
    rules = RestartRules(RestartPolicy.ON_FAILURE, permanent_exit_codes=frozenset({78}))
    book = ready(ends(standing_in(web(restart=rules)), "web/0"), "web/0", 2)
    book >> Exited(named("web/2"), 1, ExitStatus(code=code))
    if phase == "failed":
        book << "web/2 running > failed (permanent)" << "web/2 failed > stopped (stop)"
    else:
        book << "web/2 running > stopped (completed)"
    assert book << "release web/2"
    why = f"halted: web/2 did not stay ready: exit {code}; 1 left untouched"
    assert book.host.operations["op1"].message == why


def test_one_that_is_stuck_halts_it_and_is_named_ever_after() -> None:
    """It outlives SIGKILL as it goes; the next restart does not begin beside it."""
    book = standing_in(web())
    ready(ends(book, "web/0"), "web/0", 2)
    goes(book.until(20), "web/1")
    goes(ready(ends(book, "web/1"), "web/1", 2).until(25), "web/2", 1, "surge")
    book.until(50) << "SIGTERM all web/2#1"
    book.until(55) << "kill web/2#1"
    book.until(60) << "web/2 stopping > stuck (outlived-kill)"
    assert book
    assert book.host.operations["op1"].message == "halted: web/2 is stuck: it outlived SIGKILL"
    health = pool_health(book.host, "web")
    assert (health.status, health.reasons[0][:14]) == (Status.DEGRADED, "web/2 is stuck")
    book >> RestartRequested(wish("web", "op2")) << "accepted op2"
    assert book.host.operations["op2"].message == "web/2 is stuck, so nobody was touched"
    book >> Exited(named("web/2"), 1, OK) << "web/2 stuck > stopped (exit)" << "release web/2"
    assert book
    assert pool_health(book.host, "web").status is Status.HEALTHY


def test_an_old_one_that_dies_meanwhile_is_replaced_first() -> None:
    """It is not ready, so its turn costs nothing; those that are ready wait for the surge instance."""
    book = restarting(web()) >> Exited(named("web/0"), 1, BAD) << "web/0 running > backoff (exit)"
    book << "web/0 backoff > pending (restart)" << "spawn web/0#2 (restart)"
    book << "web/0 pending > starting (restart)"
    assert ready(book, "web/2", 1).until(15)
    assert book.instance("web/1").ready, "while web/0 is away, web/2 stands in for it and for nobody else"
    ready(book, "web/0", 2)
    assert goes(book.until(20), "web/1")


def test_whose_goal_changes_needs_no_replacement() -> None:
    """All that were left are wanted away: what was to stand in for them goes."""
    book = restarting(web()) >> Spawned(named("web/2"), 1, 7)
    book >> StopRequested(wish("web/0", "op2"))
    goes(book, "web/0", 1, "stop") << "accepted op2"
    goes(book >> StopRequested(wish("web/1", "op3")), "web/1", 1, "stop") << "accepted op3"
    book << "web/2 starting > stopping (surge, stage-1)" << "SIGTERM main web/2#1"
    assert vanishes(book, "web/2")
    assert book.host.operations["op1"].state is OperationState.ABORTED


def test_no_progress_halts_it() -> None:
    """A surge instance that neither fails nor becomes ready."""
    book = restarting(web(progress=50, startup_timeout_seconds=500)) >> Spawned(named("web/2"), 1, 7)
    book.until(60) << "web/2 starting > stopping (surge, stage-1)" << "SIGTERM main web/2#1"
    assert book
    assert book.host.operations["op1"].message == "halted: no progress within 50 s; 2 left untouched"


def test_a_step_that_fails_takes_slots_back_too() -> None:
    """What was added is gone again, what was dropped is back, and the counts are as before."""
    host = create(running(web()).host.plan)
    instance = host.instances[named("web/0")]
    before = (dict(host.instances), host.census["web"].with_process, host.census["web"].wanted)
    turn = Turn(host, 1.0)
    turn.drop(instance.id)
    assert host.census["web"].wanted == 1
    turn.add(instance)
    turn.drop(named("web/1"))
    turn.take_back()
    assert (dict(host.instances), host.census["web"].with_process, host.census["web"].wanted) == before
    assert step(host, Tick(), 2.0) == ()
