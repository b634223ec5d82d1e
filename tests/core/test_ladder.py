"""The stop ladder: every rung, what leaves it early, and what speeds it up or slows it down."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core import ladder
from supervisor.core.events import (
    CheckFailed,
    CheckKind,
    CheckPassed,
    DrainRequested,
    Exited,
    RestartRequested,
    ShutdownRequested,
    StopRequested,
    Tick,
    Told,
    Urgency,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.instance import RungKind
from supervisor.core.phases import Phase
from supervisor.core.plan import Condition, DrainPolicy, PoolPlan, Stage, StopPolicy, Target
from tests.playbook import Playbook, named, running, wish

WEB = named("web/0")
OK = ExitStatus(code=0)


def draining(drain: DrainPolicy, *said: Told, **plan: Any) -> Playbook:
    """A pool of one that was told to drain at 10 s, after it had said something."""
    book = running(PoolPlan("web", drain=drain, **plan))
    for told in said:
        book >> told
    book >> DrainRequested(wish("web")) << "web/0 unready: stopping (drain)"
    book << f"web/0 running > draining (drain, {'settle' if drain.settle_seconds else 'drain'})"
    if drain.signal and not drain.settle_seconds:
        book << f"{drain.signal} main web/0#1"
    return book


def test_every_rung_to_the_last() -> None:
    """Settle, drain, stage by stage, kill, stuck: each window to its moment."""
    stages = (Stage("SIGINT", Target.MAIN, 3), Stage("SIGTERM", Target.ALL, 2))
    drain = DrainPolicy("SIGUSR1", settle_seconds=4, window_seconds=6)
    book = draining(drain, stop=StopPolicy(stages)) << "accepted op1"
    assert book.instance("web/0").waiting_for == "load balancers to notice"
    book.until(14) << "web/0 climbs settle > drain (window-closed)" << "SIGUSR1 main web/0#1"
    assert book.instance("web/0").waiting_for == "its work to finish"
    book.until(20) << "web/0 climbs drain > stage-1 (window-closed)"
    book << "web/0 draining > stopping (window-closed, stage-1)" << "SIGINT main web/0#1"
    assert book.instance("web/0").waiting_for == "exit after SIGINT"
    book.until(23) << "web/0 climbs stage-1 > stage-2 (window-closed)" << "SIGTERM all web/0#1"
    book.until(25) << "web/0 climbs stage-2 > kill (window-closed)" << "kill web/0#1"
    assert book.instance("web/0").waiting_for == "exit after SIGKILL"
    book.until(30) << "web/0 climbs kill > gone (window-closed)" << "web/0 stop stuck after 20 s"
    book << "web/0 stopping > stuck (outlived-kill)"
    assert book.until(1000)
    assert book.instance("web/0").deadline is None


@pytest.mark.parametrize(("until", "outcome"), [(10.5, "clean"), (36, "escalated"), (41, "killed")], ids=str)
def test_how_a_stop_went(until: float, outcome: str) -> None:
    """Clean on the first stage, escalated on a later one, killed on the last."""
    book = running(PoolPlan("web")) >> StopRequested(wish("web"))
    book << "web/0 running > stopping (stop, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    book.until(until)
    if until > 35:
        book << "SIGTERM all web/0#1"
    if until > 40:
        book << "kill web/0#1"
    book >> Exited(WEB, 1, OK) << f"web/0 stop {outcome} after {until - 10:g} s"
    assert book << "web/0 stopping > stopped (exit)"


# ── the drain ────────────────────────────────────────────────────────────────────────────────────


def test_a_drain_that_is_merely_waited_for() -> None:
    """Neither signal nor call: the worker is given its window."""
    book = draining(DrainPolicy(window_seconds=9)) << "accepted op1"
    assert book.until(19) << "web/0 draining > stopping (window-closed, stage-1)" << "SIGTERM main web/0#1"


def test_a_drain_by_an_action_is_asked_for_until_it_is_accepted() -> None:
    """Once a second, and the status page says why it takes so long; only then its end is asked for."""
    book = draining(DrainPolicy(has_action=True, has_until=True)) << "check drain web/0#1" << "accepted op1"
    assert book.instance("web/0").waiting_for == "the drain request to be accepted"
    book >> Told(WEB, 1, in_flight=0)
    book >> CheckFailed(WEB, 1, CheckKind.DRAIN, "HTTP 500") << "web/0 drain failed: HTTP 500"
    assert "HTTP 500; asking again" in book.instance("web/0").waiting_for
    book.until(11) << "check drain web/0#1"
    book >> CheckPassed(WEB, 1, CheckKind.DRAIN) << "check until web/0#1"
    book >> CheckFailed(WEB, 1, CheckKind.UNTIL, "HTTP 503")
    book.until(11.9)
    assert (
        book.until(12)
        << "web/0 climbs drain > stage-1 (drained)"
        << ("web/0 draining > stopping (drained, stage-1)")
        << "SIGTERM main web/0#1"
    )


def test_a_passing_until_ends_the_drain() -> None:
    """The pool's own question decides when nothing is left."""
    book = draining(DrainPolicy("SIGUSR1", has_until=True)) << "check until web/0#1" << "accepted op1"
    book >> CheckFailed(WEB, 1, CheckKind.UNTIL, "3 left")
    book.until(11) << "check until web/0#1"
    book >> CheckPassed(WEB, 1, CheckKind.UNTIL) << "web/0 draining > stopping (drained, stage-1)"
    assert book << "SIGTERM main web/0#1"


@pytest.mark.parametrize("words", [{"drained": True}, {"in_flight": 0}], ids=str)
def test_the_worker_says_that_it_is_drained(words: dict[str, Any]) -> None:
    """X_PITBOSS_DRAINED=1, or nothing in flight any more."""
    book = draining(DrainPolicy("SIGUSR1")) << "accepted op1"
    book >> Told(WEB, 1, in_flight=3)
    assert book.instance("web/0").waiting_for == "3 in flight"
    book >> Told(WEB, 1, **words) << "web/0 draining > stopping (drained, stage-1)"
    assert book << "SIGTERM main web/0#1"


def test_a_worker_that_was_drained_before_is_not_waited_for() -> None:
    """It said so in this generation; the rung is left at once."""
    book = draining(DrainPolicy("SIGUSR1"), Told(WEB, 1, drained=True))
    book << "web/0 climbs drain > stage-1 (drained)" << "web/0 draining > stopping (drained, stage-1)"
    assert book << "SIGTERM main web/0#1" << "accepted op1"


def test_an_idle_worker_gets_a_second_to_think_of_something() -> None:
    """A task may have been on its way to it: nothing in flight counts when it stays so."""
    book = draining(DrainPolicy("SIGUSR1"), Told(WEB, 1, in_flight=0)) << "accepted op1"
    assert book.until(11) << "web/0 draining > stopping (drained, stage-1)" << "SIGTERM main web/0#1"
    book = draining(DrainPolicy("SIGUSR1"), Told(WEB, 1, in_flight=0)) << "accepted op1"
    book >> Told(WEB, 1, in_flight=1)
    assert book.until(30)


def test_what_is_said_while_it_settles_is_kept_for_the_drain() -> None:
    """Nothing was asked of the worker yet, so nothing can be over."""
    book = draining(DrainPolicy("SIGUSR1", settle_seconds=5)) << "accepted op1"
    book >> Told(WEB, 1, drained=True)
    book.until(15) << "SIGUSR1 main web/0#1" << "web/0 draining > stopping (drained, stage-1)"
    assert book << "SIGTERM main web/0#1"


def test_an_exit_ends_any_rung() -> None:
    """Whoever goes while it drains has drained."""
    book = draining(DrainPolicy("SIGUSR1")) << "accepted op1" >> Exited(WEB, 1, OK)
    assert book << "web/0 climbs drain > gone (exit)" << "web/0 draining > stopped (exit)"


def test_leftovers_of_a_drain() -> None:
    """The main process went while it drained: only rungs for all are left."""
    book = draining(DrainPolicy("SIGUSR1")) << "accepted op1" >> Exited(WEB, 1, OK, leftovers=1)
    book << "web/0 climbs drain > sweep (exit)" << "web/0 draining > stopping (leftovers, sweep)"
    assert book.until(10.2) << "SIGTERM all web/0#1"


# ── in a hurry ───────────────────────────────────────────────────────────────────────────────────


def test_a_stop_over_a_drain_changes_the_goal_and_nothing_else() -> None:
    """A later wish only ever speeds up; a plain stop is no faster than a drain."""
    book = draining(DrainPolicy("SIGUSR1")) << "accepted op1"
    assert book >> StopRequested(wish("web", "op2")) << "accepted op2"


def test_now_skips_the_drain_and_kill_skips_the_rest() -> None:
    """And repeating either changes nothing."""
    book = draining(DrainPolicy("SIGUSR1", settle_seconds=5)) << "accepted op1"
    now = StopRequested(wish("web", "op2"), Urgency.NOW)
    book >> now << "web/0 climbs settle > stage-1 (hurried)" << "web/0 draining > stopping (stop, stage-1)"
    book << "SIGTERM main web/0#1" << "accepted op2" >> now << "accepted op2"
    kill = StopRequested(wish("web", "op3"), Urgency.KILL)
    book >> kill << "web/0 climbs stage-1 > kill (hurried)" << "kill web/0#1" << "accepted op2"
    book >> kill << "accepted op2"
    book >> Exited(WEB, 1, ExitStatus(signal="SIGKILL"))
    book << "web/0#1 ended clean (SIGKILL (windows cut short by operator), kill)"
    assert book << "web/0 stopping > stopped (exit)"


# ── deadlines ────────────────────────────────────────────────────────────────────────────────────


def test_a_deadline_cuts_what_is_left_once() -> None:
    """Asked for twice it cuts once: windows are a share of what was declared, not of what was left."""
    plan = {"stop": StopPolicy((Stage(grace_seconds=30), Stage(grace_seconds=35)))}
    book = draining(DrainPolicy("SIGUSR1", window_seconds=65), **plan) << "accepted op1"
    book >> DrainRequested(wish("web", "op2"), deadline_seconds=70) << "accepted op1"
    first = book.instance("web/0")
    assert first.deadline == pytest.approx(10 + 32.5)
    assert first.stop is not None
    assert [rung.window_seconds for rung in first.stop.rungs[1:3]] == [15, 17.5]
    for again in ("op3", "op4"):
        assert book >> DrainRequested(wish("web", again), deadline_seconds=70) << "accepted op1"
    second = book.at(12) >> DrainRequested(wish("web", "op5"), deadline_seconds=70) << "accepted op1"
    assert second.instance("web/0").stop == first.stop
    assert second.instance("web/0").deadline == first.deadline


def test_a_deadline_that_is_past_kills_and_says_so() -> None:
    """No time is left, so no window is; the record names the deadline."""
    book = draining(DrainPolicy("SIGUSR1")) << "accepted op1"
    book >> DrainRequested(wish("web", "op2"), deadline_seconds=0) << "accepted op1"
    book.until(10) << "web/0 climbs drain > kill (window-closed)"
    book << "web/0 draining > stopping (window-closed, kill)" << "kill web/0#1"
    book >> DrainRequested(wish("web", "op3"), deadline_seconds=0) << "accepted op1"
    book >> Exited(WEB, 1, ExitStatus(signal="SIGKILL"))
    book << "web/0#1 ended clean (SIGKILL (windows cut short by deadline), kill)"
    assert book << "web/0 stopping > stopped (exit)"


def test_a_window_that_a_deadline_cut_is_said_even_when_the_deadline_is_far() -> None:
    """Two stages of 25 s and 5 s have 15 s: SIGKILL comes long before the declared end, and says for whom."""
    book = running(PoolPlan("web")) >> ShutdownRequested(wish("", "op1"), deadline_seconds=20)
    book << "web/0 running > stopping (shutdown, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    book.until(22.5) << "web/0 climbs stage-1 > stage-2 (window-closed)" << "SIGTERM all web/0#1"
    book.until(25) << "web/0 climbs stage-2 > kill (window-closed)" << "kill web/0#1"
    book >> Exited(WEB, 1, ExitStatus(signal="SIGKILL"))
    book << "web/0#1 ended clean (SIGKILL (windows cut short by deadline), kill)"
    assert book << "web/0 stopping > stopped (exit)" << "halt"


def test_a_deadline_that_cuts_nothing_is_not_blamed() -> None:
    """Every window was as declared: the worker had its time, and the record says no more than that."""
    book = running(PoolPlan("web")) >> ShutdownRequested(wish("", "op1"), deadline_seconds=300)
    book << "web/0 running > stopping (shutdown, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    book.until(35) << "SIGTERM all web/0#1"
    book.until(40) << "kill web/0#1"
    book >> Exited(WEB, 1, ExitStatus(signal="SIGKILL"))
    book << "web/0#1 ended clean (SIGKILL, kill)"
    assert book << "web/0 stopping > stopped (exit)" << "halt"


def test_a_shutdown_makes_a_restart_wait_for_dependents() -> None:
    """A stop that had begun without a hold gets one while it has not reached its stages."""
    drain = DrainPolicy("SIGUSR1", settle_seconds=1)
    db, web = PoolPlan("db", drain=drain), PoolPlan("web", depends_on={"db": Condition.READY})
    book = running(db, web) >> RestartRequested(wish("db")) << "db/0 running > draining (restart, settle)"
    book << "accepted op1" >> ShutdownRequested(wish("", "op2"))
    book << "web/0 running > stopping (shutdown, stage-1)" << "SIGTERM main web/0#1" << "accepted op2"
    rungs = book.instance("db/0").stop
    assert rungs is not None
    assert [rung.kind for rung in rungs.rungs[:3]] == [RungKind.SETTLE, RungKind.DRAIN, RungKind.HOLD]
    book >> ShutdownRequested(wish("", "op3"), deadline_seconds=100) << "accepted op2"
    again = book.instance("db/0").stop
    assert again is not None
    assert [rung.kind for rung in again.rungs].count(RungKind.HOLD) == 1


def test_the_sweep_is_cut_too() -> None:
    """A deadline reaches what is left of a sweep, and leaves the moment of lingering alone."""
    plan = PoolPlan("web", stop=StopPolicy((Stage(grace_seconds=100),)), min_uptime_seconds=0)
    book = running(plan) >> Exited(WEB, 1, OK, leftovers=1) << "web/0 running > stopping (leftovers, sweep)"
    book >> ShutdownRequested(wish(), deadline_seconds=15) << "accepted op1"
    stop = book.instance("web/0").stop
    assert stop is not None
    assert [rung.window_seconds for rung in stop.rungs] == [0.2, pytest.approx(0.5), 5.0]


# ── more time ────────────────────────────────────────────────────────────────────────────────────

POLICY = StopPolicy((Stage(grace_seconds=10),), extend_step_seconds=20, extend_total_seconds=25)


def stopping(**plan: Any) -> Playbook:
    """A pool of one on its first stage until 20 s."""
    book = running(PoolPlan("web", stop=POLICY, **plan)) >> StopRequested(wish("web"))
    return book << "web/0 running > stopping (stop, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"


def test_a_worker_is_granted_more_time_up_to_the_ceiling() -> None:
    """At most `step` from now at a time, and at most `total` in one stop; never less than it had."""
    book = stopping() >> Told(WEB, 1, extend_seconds=1e9) << "web/0 gets 10 s more"
    assert book.instance("web/0").deadline == 30
    book >> Told(WEB, 1, extend_seconds=0.001)
    assert book.instance("web/0").deadline == 30
    book.at(28) >> Told(WEB, 1, extend_seconds=1e9) << "web/0 gets 15 s more"
    book >> Told(WEB, 1, extend_seconds=1e9)
    assert book.instance("web/0").deadline == 45
    assert book.until(45) << "kill web/0#1" >> Told(WEB, 1, extend_seconds=1e9)
    assert book.instance("web/0").deadline == 50


def test_a_deadline_of_the_host_is_the_ceiling_of_ceilings() -> None:
    """Nobody is granted time that the host does not have."""
    book = stopping() >> ShutdownRequested(wish("", "op2"), deadline_seconds=17) << "accepted op2"
    book >> Told(WEB, 1, extend_seconds=1e9) << "web/0 gets 2 s more"
    assert book.instance("web/0").deadline == 22
    assert book


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 1e12)), max_size=20))
def test_a_stop_ends_whatever_the_worker_asks_for(requests: list[tuple[float, float]]) -> None:
    """The last window closes within the windows and the ceiling."""
    book = stopping()
    for pause, seconds in requests:
        if book.now + pause < (book.instance("web/0").deadline or 0.0):
            book.at(book.now + pause) >> Told(WEB, 1, extend_seconds=seconds)
    assert (book.instance("web/0").deadline or 0.0) <= 20 + 25 + 1e-6
    assert book


def test_what_stands_on_the_ladder() -> None:
    """Without a drain policy, or without the wish for it, the ladder begins at the stages."""
    plan = PoolPlan("web", drain=DrainPolicy(settle_seconds=0, window_seconds=3))
    names = [rung.name for rung in ladder.rungs(plan, drains=True, holds=True)]
    assert names == ["drain", "hold", "stage-1", "stage-2", "kill"]
    assert [rung.name for rung in ladder.rungs(plan, drains=False, holds=False)] == names[2:]
    scaled = ladder.rungs(plan, drains=True, holds=True, scale=0.5)
    assert [rung.window_seconds for rung in scaled] == [1.5, None, 12.5, 2.5, 5.0]


def test_a_late_tick_closes_one_window_at_a_time() -> None:
    """A daemon that was asleep for an hour still gives each stage its own window."""
    book = stopping().at(4000) >> Tick() << "kill web/0#1"
    assert book
    assert book.instance("web/0").phase is Phase.STOPPING
    assert book.instance("web/0").deadline == 4005
