"""Tracked wishes: each step as it is, and an end for every operation."""

from supervisor.core import operations
from supervisor.core.events import (
    DrainRequested,
    Exited,
    ResumeRequested,
    ShutdownRequested,
    StartRequested,
    StopRequested,
    Told,
    Urgency,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.host import next_deadline
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
from supervisor.core.turn import Turn
from tests.playbook import Playbook, named, running, wish

OK = ExitStatus(code=0)
BAD = ExitStatus(code=1)
WEB = PoolPlan("web", instances=2)


def stopping() -> Playbook:
    """Two instances on their first stage, for operation op1."""
    book = running(WEB) >> StopRequested(wish("web")) << "web/0 running > stopping (stop, stage-1)"
    book << "SIGTERM main web/0#1" << "web/1 running > stopping (stop, stage-1)" << "SIGTERM main web/1#1"
    return book << "accepted op1"


def test_an_operation_is_done_when_each_of_its_steps_is() -> None:
    """Progress, per instance and in sum, and how each ended."""
    book = stopping()
    assert book.host.steps["op1"][named("web/0")] == StepState("running", "stopping (stage-1)")
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)" << "operation op1"
    assert book.host.operations["op1"].done == 1
    assert book.host.steps["op1"][named("web/0")] == StepState("done", "exit 0 on stage-1")
    book >> Exited(named("web/1"), 1, OK) << "web/1 stopping > stopped (exit)" << "operation op1"
    operation = book.host.operations["op1"]
    assert (operation.state, operation.done, operation.finished_at) == (OperationState.SUCCEEDED, 2, 10)
    assert book
    assert book.host.active_operations["web"] == frozenset()


def test_what_was_down_anyway_is_done_at_once() -> None:
    """And what has never run says so."""
    book = running(PoolPlan("gate", readiness=Readiness.NOTIFY))
    book >> StopRequested(wish("gate")) << "gate/0 running > stopping (stop, stage-1)"
    book << "SIGTERM main gate/0#1" << "accepted op1" >> Exited(named("gate/0"), 1, BAD)
    book << "gate/0 stopping > stopped (exit)"
    assert book
    assert book.host.steps["op1"][named("gate/0")].detail == "exit 1 on stage-1"


def test_a_stop_that_ends_stuck_has_failed() -> None:
    """The operation names the instance."""
    book = running(PoolPlan("web")) >> StopRequested(wish("web"), Urgency.KILL)
    book << "web/0 running > stopping (stop, kill)" << "kill web/0#1" << "accepted op1"
    assert book.until(15) << "web/0 stopping > stuck (outlived-kill)"
    operation = book.host.operations["op1"]
    assert operation.state is OperationState.FAILED
    assert operation.message == "web/0: stuck: it outlived SIGKILL"


def test_a_goal_that_changed_aborts_the_step() -> None:
    """A mind that was changed ends the operation, with the reason."""
    book = running(PoolPlan("web", drain=DrainPolicy("SIGUSR1"))) >> DrainRequested(wish("web"))
    book << "web/0 running > draining (drain, drain)" << "SIGUSR1 main web/0#1" << "accepted op1"
    book >> ResumeRequested(wish("web", "op2")) << "accepted op2"
    operation = book.host.operations["op1"]
    assert operation.state is OperationState.ABORTED
    assert operation.message == "web/0: its goal became up"
    assert book


def test_an_operation_that_waits_for_readiness_has_an_end() -> None:
    """Past the progress deadline it has failed and says who is late; they go on trying."""
    plan = PoolPlan(
        "web", instances=5, readiness=Readiness.NOTIFY, rollout=RolloutRules(progress_deadline_seconds=30)
    )
    book = running(plan)
    for index in range(5):
        book >> StopRequested(wish(f"web/{index}", f"stop{index}"), Urgency.KILL)
        book._left.clear()
        book >> Exited(named(f"web/{index}"), 1, OK)
        book._left.clear()
    book >> StartRequested(wish("web"))
    book._left.clear()
    book >> Told(named("web/0"), 2, ready=True) << "web/0 starting > running (ready)"
    book.until(40) << "operation op1"
    assert book
    operation = book.host.operations["op1"]
    assert operation.state is OperationState.FAILED
    late = "not ready within the progress deadline: web/1, web/2, web/3 and 1 more; they go on trying"
    assert operation.message == late
    assert book.host.steps["op1"][named("web/0")] == StepState("done", "ready")
    assert book.host.steps["op1"][named("web/4")] == StepState("failed", "not ready in time: starting")


def test_few_who_are_late_are_all_named() -> None:
    """A host whose gate never opens."""
    gate = PoolPlan("gate", readiness=Readiness.NOTIFY)
    web = PoolPlan(
        "web", depends_on={"gate": Condition.READY}, rollout=RolloutRules(progress_deadline_seconds=5)
    )
    book = running(gate, web) >> Told(named("gate/0"), 1, reloading=True)
    book >> StopRequested(wish("web")) << "web/0 running > stopping (stop, stage-1)" << "SIGTERM main web/0#1"
    book << "accepted op1" >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)"
    book >> StartRequested(wish("web", "op2")) << "accepted op2" << "web/0 stopped > pending (start)"
    assert book.until(15)
    assert "deadline: web/0; they" in book.host.operations["op2"].message
    assert next_deadline(book.host) is None


def test_a_start_of_what_fails_again_has_failed() -> None:
    """Failed for good is an outcome; waiting for the next attempt is not."""
    rules = RestartRules(RestartPolicy.NEVER)
    book = running(PoolPlan("web", restart=rules)) >> Exited(named("web/0"), 1, BAD)
    book << "web/0 running > failed (exit)" >> StartRequested(wish("web")) << "web/0 failed > pending (start)"
    book << "accepted op1" << "spawn web/0#2 (start)" << "web/0 pending > starting (start)"
    book >> Exited(named("web/0"), 2, BAD) << "web/0 starting > failed (exit)"
    assert book
    assert book.host.operations["op1"].message == "web/0: failed: exit 1"


def test_a_start_of_what_runs_is_over_at_once() -> None:
    """Everybody is where he should be."""
    book = running(WEB) >> StartRequested(wish("web")) << "operation op1" << "accepted op1"
    assert book
    assert book.host.operations["op1"].state is OperationState.SUCCEEDED


def test_a_start_of_a_host_where_everything_is_drained_has_nothing_to_do() -> None:
    """No steps, no wait."""
    book = running(PoolPlan("web")) >> DrainRequested(wish("web"))
    book._left.clear()
    book >> StartRequested(wish("", "op2")) << "operation op2" << "accepted op2"
    assert book
    assert book.host.operations["op2"].total == 0


def test_a_shutdown_tracks_who_lives() -> None:
    """And ends when the last is gone."""
    book = running(WEB) >> StopRequested(wish("web/1")) << "web/1 running > stopping (stop, stage-1)"
    book << "SIGTERM main web/1#1" << "accepted op1"
    book >> Exited(named("web/1"), 1, OK) << "web/1 stopping > stopped (exit)"
    book >> ShutdownRequested(wish("", "op2")) << "web/0 running > stopping (shutdown, stage-1)"
    book << "SIGTERM main web/0#1" << "accepted op2"
    assert book.host.operations["op2"].total == 1
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)" << "operation op2" << "halt"
    assert book
    assert book.host.operations["op2"].state is OperationState.SUCCEEDED


def test_an_operation_ends_once() -> None:
    """Whatever happens afterwards."""
    book = stopping()
    turn = Turn(book.host, 11.0)
    operations.finish(turn, "op1", OperationState.ABORTED, "enough")
    operations.finish(turn, "op1", OperationState.SUCCEEDED, "no, done")
    assert book.host.operations["op1"].message == "enough"
    assert book.host.steps["op1"][named("web/0")].state == "aborted"
