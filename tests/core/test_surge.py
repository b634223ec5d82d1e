"""Restarting with extra instances: ready before anybody drains, standing in, and gone at the end."""

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
    SpawnFailed,
    StartRequested,
    StopRequested,
    Tick,
    Told,
    UnpauseRequested,
    Urgency,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.health import Status, pool_health
from supervisor.core.host import next_deadline, step
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import (
    Condition,
    PoolPlan,
    Readiness,
    RestartPolicy,
    RestartRules,
    RolloutRules,
)
from supervisor.core.state import OperationState, StepState, create
from supervisor.core.turn import Turn
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
