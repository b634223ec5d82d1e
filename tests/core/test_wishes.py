"""What operators ask for: goals, precedence, refusals, and repetition."""

from typing import Any

import pytest

from supervisor.core.effects import GoalChanged, Refused
from supervisor.core.events import (
    AbortRequested,
    DrainRequested,
    Exited,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    Scope,
    ShutdownRequested,
    SignalRequested,
    StartRequested,
    StopRequested,
    UnpauseRequested,
    Urgency,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.host import step
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import DrainPolicy, Kind, PoolPlan, RestartPolicy, RestartRules
from supervisor.core.state import OperationState
from tests.playbook import Playbook, acts, named, running, wish

WEB, DB = PoolPlan("web", instances=2), PoolPlan("db")
BAD = ExitStatus(code=1)
OK = ExitStatus(code=0)


def down(book: Playbook, target: str, goal: str = "stop") -> Playbook:
    """Take these down, to the end."""
    make = StopRequested if goal == "stop" else DrainRequested
    for effect in step(book.host, make(wish(target, f"down-{target}")), book.now):
        assert effect
    for one in list(book.host.instances.values()):
        if one.phase in {Phase.STOPPING, Phase.DRAINING}:
            step(book.host, Exited(one.id, one.generation, OK), book.now)
    return book


# ── goals ────────────────────────────────────────────────────────────────────────────────────────


def test_a_goal_is_for_the_journal() -> None:
    """Each wish that changes a goal reports it once, for the scope that was meant."""
    book = running(WEB, DB) >> DrainRequested(wish("web")) << "goal web drained"
    book._left.clear()
    book >> DrainRequested(wish("db/0", "op2")) << "goal db/0 drained"
    book._left.clear()
    book >> ResumeRequested(wish("", "op3")) << "goal web up" << "goal db up"
    book._left.clear()
    assert book.host.goal is Goal.UP


def test_a_drain_leaves_what_is_down_where_it_is() -> None:
    """And the journal is told that the pool's goal does not hold for it."""
    book = down(running(WEB), "web/1") >> DrainRequested(wish("web"))
    book << "goal web drained" << "goal web/1 down" << "web/0 running > stopping (drain, stage-1)"
    assert book << "SIGTERM main web/0#1" << "accepted op1"
    assert book.instance("web/1").goal is Goal.DOWN
    assert down(running(WEB), "web") >> DrainRequested(wish("web")) << "accepted op1"


def test_a_start_of_the_host_leaves_what_is_drained_drained() -> None:
    """Neither now nor, by the journal, after the next boot does it come back."""
    book = down(running(WEB, DB), "web", "drain")
    effects = step(book.host, StartRequested(wish()), book.now)
    assert not any(isinstance(effect, GoalChanged) for effect in effects)
    assert book.host.pools["web"].goal is Goal.DRAINED
    assert book.instance("web/0").goal is Goal.DRAINED
    assert not acts(effects)


def test_a_start_of_a_pool_leaves_its_drained_instance_drained() -> None:
    """The other comes back, and the journal hears of both."""
    book = down(down(running(WEB), "web/1", "drain"), "web/0")
    book >> StartRequested(wish("web")) << "goal web up" << "goal web/1 drained"
    book._left.clear()
    assert book.instance("web/1").goal is Goal.DRAINED
    assert book.instance("web/0").goal is Goal.UP


def test_the_journal_hears_who_keeps_another_goal() -> None:
    """A pool that is stopped with one instance drained: a start is not about that one."""
    book = down(running(WEB), "web")
    one = book.instance("web/1")
    step(book.host, ResumeRequested(wish("web/1", "up")), book.now)
    step(book.host, DrainRequested(wish("web/1", "drain")), book.now)
    step(book.host, Exited(one.id, 2, OK), book.now)
    book >> StartRequested(wish("web")) << "goal web up" << "goal web/1 drained" << "accepted op1"
    assert (
        book
        << "web/0 stopped > pending (start)"
        << "spawn web/0#2 (start)"
        << ("web/0 pending > starting (start)")
    )


def test_a_stop_goes_before_a_drain() -> None:
    """What is drained is then down; a drain of what is down changes nothing."""
    book = down(running(DB), "db", "drain") >> StopRequested(wish("db")) << "goal db down" << "accepted op1"
    assert book >> DrainRequested(wish("db", "op2")) << "accepted op2"
    assert book.host.goal is Goal.DOWN
    assert book.host.operations["op2"].message == "nothing to do: it is stopped already"


def test_resume_brings_up_from_both() -> None:
    """From drained and from down."""
    for way in ("stop", "drain"):
        book = down(running(DB), "db", way) >> ResumeRequested(wish("db")) << "accepted op1"
        book << "db/0 stopped > pending (start)" << "spawn db/0#2 (start)"
        assert book << "db/0 pending > starting (start)"


def test_a_start_does_not_wait_for_the_backoff() -> None:
    """And counts failures anew; a resume has nothing to resume there."""
    book = running(DB) >> Exited(named("db/0"), 1, BAD) << "db/0 running > backoff (exit)"
    book >> ResumeRequested(wish("db")) << "accepted op1"
    book >> StartRequested(wish("db", "op2")) << "db/0 backoff > pending (start)" << "accepted op2"
    assert book << "spawn db/0#2 (start)" << "db/0 pending > starting (start)"


def test_what_does_not_run_is_stopped_at_once() -> None:
    """Pending, waiting and failed instances have nothing to take down."""
    book = running(DB) >> Exited(named("db/0"), 1, BAD) << "db/0 running > backoff (exit)"
    book >> StopRequested(wish("db")) << "db/0 backoff > stopped (stop)" << "accepted op1"
    assert book
    assert book.host.operations["op1"].state is OperationState.SUCCEEDED


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (StopRequested(wish("nowhere")), "unknown-pool"),
        (StopRequested(wish("web/9")), "unknown-instance"),
        (StopRequested(wish("none/0")), "unknown-instance"),
        (SignalRequested(wish("web"), "SIGNOPE"), "unknown-signal"),
        (AbortRequested("nobody"), "unknown-operation"),
        (PauseRequested("nobody"), "unknown-operation"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_cannot_be_is_refused_with_a_hint(event: Any, kind: str) -> None:
    """One answer, no operation, nothing changed."""
    host = running(WEB, PoolPlan("none", instances=0)).host
    before = dict(host.instances)
    (answer,) = step(host, event, 11.0)
    assert isinstance(answer, Refused)
    assert answer.kind == kind
    assert answer.message
    assert answer.hint
    assert host.instances == before
    assert not host.operations


def test_a_drained_pool_is_neither_started_nor_restarted() -> None:
    """Who drained it had a reason; the hint says how it comes back."""
    book = down(running(DB), "db", "drain")
    assert book >> StartRequested(wish("db")) << "refused drained"
    assert book >> RestartRequested(wish("db")) << "refused drained"
    assert book >> StartRequested(wish("db/0")) << "refused drained"


def test_a_stopped_pool_is_not_restarted() -> None:
    """A restart replaces what runs."""
    assert down(running(DB), "db") >> RestartRequested(wish("db")) << "refused stopped"


def test_two_rollouts_of_one_pool_are_not_told_apart() -> None:
    """The second is refused while the first is under way; the same again joins it."""
    book = running(WEB) >> RestartRequested(wish("web")) << "web/0 running > stopping (restart, stage-1)"
    book << "SIGTERM main web/0#1" << "accepted op1"
    assert book >> RestartRequested(wish("web/1", "op2")) << "refused rollout-running"
    assert book >> RestartRequested(wish("web", "op3")) << "accepted op1"
    assert book >> RestartRequested(wish("web", "op4"), only_failed=True) << "accepted op1"


def test_only_rollouts_are_steered() -> None:
    """And only while they are under way; an abort that was done is done."""
    book = running(WEB) >> StopRequested(wish("web/0")) << "web/0 running > stopping (stop, stage-1)"
    book << "SIGTERM main web/0#1" << "accepted op1"
    (
        book
        >> AbortRequested("op1")
        << "refused not-a-rollout"
        >> UnpauseRequested("op1")
        << "refused not-a-rollout"
    )
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)"
    assert book >> PauseRequested("op1") << "refused operation-ended"
    assert book >> AbortRequested("op1") << "refused operation-ended"


# ── repetition ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "make",
    [
        lambda name: StopRequested(wish("web", name)),
        lambda name: StopRequested(wish("web", name), Urgency.NOW),
        lambda name: StopRequested(wish("web", name), Urgency.KILL),
        lambda name: DrainRequested(wish("web", name)),
        lambda name: DrainRequested(wish("web", name), 20.0),
        lambda name: DrainRequested(wish("", name)),
        lambda name: RestartRequested(wish("web", name)),
        lambda name: StartRequested(wish("web", name)),
        lambda name: ResumeRequested(wish("web", name)),
        lambda name: ShutdownRequested(wish("", name)),
        lambda name: ShutdownRequested(wish("", name), Urgency.NOW, 20.0),
    ],
)
def test_the_same_wish_again_changes_nothing(make: Any) -> None:
    """With the same id or with another, at once or later: one answer, nothing done."""
    host = running(PoolPlan("web", instances=2, drain=DrainPolicy("SIGUSR1", settle_seconds=3)), DB).host
    step(host, make("op1"), 10.0)
    for name in ("op1", "op2"):
        before = dict(host.instances)
        effects = step(host, make(name), 10.0)
        assert not acts(effects)
        assert [
            type(effect).__name__ for effect in effects if type(effect).__name__ != "OperationChanged"
        ] == ["Accepted"]
        assert host.instances == before


def test_a_signal_is_sent_as_often_as_asked() -> None:
    """To the main process, or to everybody; to all that live, and to nobody else."""
    book = down(running(WEB), "web/1") >> SignalRequested(wish("web"), "SIGHUP") << "SIGHUP main web/0#1"
    book << "accepted op1" >> SignalRequested(wish("web", "op2"), "SIGHUP", everyone=True)
    book << "SIGHUP all web/0#1" << "accepted op2"
    assert book.host.operations["op2"].message == "SIGHUP sent to 1"
    assert "SIGHUP" in book.instance("web/0").signals_sent
    assert book


def test_only_failed_ones_where_none_has_failed() -> None:
    """An operation that ends at once and says so."""
    book = running(WEB) >> RestartRequested(wish("web"), only_failed=True) << "accepted op1"
    assert book
    operation = book.host.operations["op1"]
    assert (operation.state, operation.message) == (OperationState.SUCCEEDED, "nothing has failed")


def test_a_restart_of_failed_ones_knows_who_keeps_failing() -> None:
    """Also one that is on its next try at this moment."""
    book = running(WEB) >> Exited(named("web/0"), 1, BAD) << "web/0 running > backoff (exit)"
    book.until(11)
    book._left.clear()
    assert book.instance("web/0").phase is Phase.STARTING
    book >> RestartRequested(wish("web"), only_failed=True) << "web/0 starting > stopping (restart, stage-1)"
    assert book << "SIGTERM main web/0#2" << "accepted op1"


def test_a_finished_task_stays_finished() -> None:
    """A task runs once per boot; stop and start do not run it again."""
    task = PoolPlan("task", kind=Kind.TASK)
    book = running(task) >> Exited(named("task/0"), 1, OK) << "task/0 running > stopped (completed)"
    book >> StopRequested(wish("task")) << "accepted op1" >> StartRequested(wish("task", "op2"))
    assert book << "accepted op2"
    assert book.instance("task/0").phase is Phase.STOPPED


def test_a_service_that_ended_well_runs_again_when_it_is_started_again() -> None:
    """It did not have to be restarted by its policy; an operator who stops and starts it wants it up."""
    web = PoolPlan("web", restart=RestartRules(RestartPolicy.ON_FAILURE))
    book = running(web) >> Exited(named("web/0"), 1, OK) << "web/0 running > stopped (completed)"
    assert book >> StartRequested(wish("web", "op1")) << "accepted op1"
    book >> StopRequested(wish("web", "op2")) << "accepted op2"
    book >> StartRequested(wish("web", "op3")) << "accepted op3"
    assert (
        book
        << "web/0 stopped > pending (start)"
        << "spawn web/0#2 (start)"
        << ("web/0 pending > starting (start)")
    )


def test_nobody_can_be_signalled_where_nobody_is() -> None:
    """A signal to a pool without a process is refused: it did not happen."""
    book = running(PoolPlan("web")) >> StopRequested(wish("web"), Urgency.KILL)
    book << "web/0 running > stopping (stop, kill)" << "kill web/0#1" << "accepted op1"
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)"
    for target in ("web", "web/0", ""):
        assert book >> SignalRequested(wish(target, f"op-{target}"), "SIGHUP") << "refused not-running"


def test_scopes_have_names() -> None:
    """As operators write them."""
    assert [str(Scope()), str(Scope("web")), str(Scope("web", 2))] == ["host", "web", "web/2"]
