"""What a worker says about itself: readiness, the watchdog, more time, its end, and its counts."""

from typing import Any

import pytest

from supervisor.core.effects import ReadyChanged, TasksReported
from supervisor.core.events import (
    Booted,
    CheckKind,
    CheckPassed,
    DrainRequested,
    Exited,
    Spawned,
    StopRequested,
    Told,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.phases import Phase
from supervisor.core.plan import (
    Condition,
    DrainPolicy,
    PoolPlan,
    ProbePolicy,
    Readiness,
    Stage,
    StopPolicy,
)
from tests.playbook import Playbook, host_of, named, running, wish

WEB = named("web/0")
OK = ExitStatus(code=0)
STOPS = "web/0 running > stopping (watchdog, stage-1)"


def starting(**plan: Any) -> Playbook:
    """A pool of one whose process has begun at 0 s."""
    book = (Playbook(host_of(PoolPlan("web", **plan))) >> Booted()).until(0)
    book << "spawn web/0#1 (boot)" << "web/0 pending > starting (boot)"
    return book >> Spawned(WEB, 1, 7)


# ── words and counts ─────────────────────────────────────────────────────────────────────────────


def test_words_and_counts_stay_until_the_next_ones() -> None:
    """A message that does not speak of a count leaves it; an empty status clears the text."""
    book = running(PoolPlan("web")) >> Told(WEB, 1, status="warm", in_flight=3, queue_depth=9)
    book >> Told(WEB, 1, watchdog=True)
    one = book.instance("web/0")
    assert (one.status_text, one.in_flight, one.queue_depth) == ("warm", 3, 9)
    assert book >> Told(WEB, 1, status="", in_flight=0)
    one = book.instance("web/0")
    assert (one.status_text, one.in_flight, one.queue_depth) == ("", 0, 9)


@pytest.mark.parametrize(
    ("said", "reported"),
    [
        ({"tasks_completed": 2}, (2, 0, 0, ())),
        ({"tasks_failed": 1}, (0, 1, 0, ())),
        ({"tasks_cancelled": 4}, (0, 0, 4, ())),
        ({"task_seconds": (0.5, 1.5)}, (0, 0, 0, (0.5, 1.5))),
    ],
)
def test_tasks_are_passed_on(said: dict[str, Any], reported: tuple[Any, ...]) -> None:
    """Each kind of count by itself is a report; the core keeps no sum of its own."""
    book = running(PoolPlan("web"))
    before = book.instance("web/0")
    assert book >> Told(WEB, 1, **said) << TasksReported(WEB, *reported)
    assert book.instance("web/0") == before


def test_a_new_generation_has_said_nothing_yet() -> None:
    """What the last one held, or that it was drained, does not pass to the next."""
    book = running(PoolPlan("web")) >> Told(WEB, 1, in_flight=3, queue_depth=2, drained=True, status="busy")
    book >> Exited(WEB, 1, ExitStatus(code=1)) << "web/0 running > backoff (exit)"
    book.until(12) << "web/0 backoff > pending (retry)" << "spawn web/0#2 (retry)"
    book << "web/0 pending > starting (retry)"
    one = book.instance("web/0")
    assert (one.in_flight, one.queue_depth, one.said_drained, one.status_text) == (None, None, False, "")
    assert book


# ── readiness ────────────────────────────────────────────────────────────────────────────────────


def test_ready_says_how_long_the_start_took() -> None:
    """The first READY=1 of a generation carries the seconds since its start."""
    book = starting(readiness=Readiness.NOTIFY).until(4) >> Told(WEB, 1, ready=True)
    assert book << "web/0 starting > running (ready)" << ReadyChanged(WEB, 1, True, "", 4.0)
    assert book.instance("web/0").ready_at == 4


def test_a_reload_is_unready_until_ready_is_said_again() -> None:
    """RELOADING=1, then READY=1: the phase stays running, and the second start took no time."""
    book = running(PoolPlan("web", readiness=Readiness.NOTIFY)) >> Told(WEB, 1, reloading=True)
    book << "web/0 unready: it is reloading"
    assert book.instance("web/0").unready_reason == "it is reloading"
    book.at(12) >> Told(WEB, 1, ready=True) << ReadyChanged(WEB, 1, True, "", None)
    assert book
    assert book.instance("web/0").phase is Phase.RUNNING
    assert book.instance("web/0").ready_at == 12


def test_ready_and_reloading_in_one_message_means_ready() -> None:
    """The worker is through with it: READY=1 has the last word."""
    book = running(PoolPlan("web", readiness=Readiness.NOTIFY))
    assert book >> Told(WEB, 1, ready=True, reloading=True)
    assert book.instance("web/0").ready


def test_a_reload_while_starting_says_why_it_is_not_ready_yet() -> None:
    """It was never ready, so nothing is reported; the next READY=1 is its first."""
    book = starting(readiness=Readiness.NOTIFY) >> Told(WEB, 1, reloading=True)
    assert book.instance("web/0").unready_reason == "it is reloading"
    assert book >> Told(WEB, 1, ready=True) << "web/0 starting > running (ready)" << "web/0 ready"


@pytest.mark.parametrize("readiness", [Readiness.UPTIME, Readiness.PROBE])
def test_where_others_say_what_is_ready_the_worker_does_not(readiness: Readiness) -> None:
    """RELOADING=1 from a worker whose readiness is by uptime or by probe changes nothing."""
    book = running(PoolPlan("web", readiness=readiness, readiness_probe=ProbePolicy(period_seconds=60)))
    assert book >> Told(WEB, 1, reloading=True)
    assert book.instance("web/0").ready


# ── its own end ──────────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_stops_by_itself_has_the_first_window() -> None:
    """STOPPING=1: unready at once, gone within the first grace window or taken through the ladder."""
    book = running(PoolPlan("web")) >> Told(WEB, 1, stopping=True)
    book << "web/0 unready: it said that it is stopping"
    assert book.instance("web/0").phase is Phase.RUNNING
    assert book.instance("web/0").waiting_for == "exit: it said STOPPING=1"
    book.at(20) >> Told(WEB, 1, stopping=True)
    assert book.instance("web/0").deadline == 35
    book.until(34.9)
    book.until(35) << "web/0 running > stopping (window-closed, stage-1)" << "SIGTERM main web/0#1"
    assert book


def test_a_worker_that_has_left_in_time_ended_by_itself() -> None:
    """No rung is named in its record, and what follows is the restart policy's business."""
    book = running(PoolPlan("web")) >> Told(WEB, 1, stopping=True) >> Exited(WEB, 1, OK)
    assert book << "web/0#1 ended clean (exit 0)" << "web/0 running > backoff (exit)"


def test_without_stages_there_is_no_window_to_leave_in() -> None:
    """The ladder is the kill alone, and so is what follows STOPPING=1."""
    book = running(PoolPlan("web", stop=StopPolicy(()))) >> Told(WEB, 1, stopping=True)
    assert book.until(10) << "web/0 running > stopping (window-closed, kill)" << "kill web/0#1"


def test_who_stops_by_itself_may_ask_for_more_time() -> None:
    """With STOPPING=1 or after it, step by step, never beyond the first window and the whole ceiling."""
    plan = PoolPlan("web", stop=StopPolicy(extend_step_seconds=30, extend_total_seconds=40))
    book = running(plan) >> Told(WEB, 1, stopping=True, extend_seconds=28)
    book << "web/0 unready: it said that it is stopping" << "web/0 gets 3 s more"
    book.at(20) >> Told(WEB, 1, extend_seconds=1)
    book.at(30) >> Told(WEB, 1, extend_seconds=1e9) << "web/0 gets 22 s more"
    book.at(50) >> Told(WEB, 1, stopping=True, extend_seconds=1e9) << "web/0 gets 15 s more"
    book.until(74.9)
    assert book.until(75) << "web/0 running > stopping (window-closed, stage-1)" << "SIGTERM main web/0#1"


def test_stopping_is_final() -> None:
    """Neither READY=1 nor a passing probe makes it ready again."""
    book = running(PoolPlan("web", readiness=Readiness.NOTIFY)) >> Told(WEB, 1, stopping=True)
    assert book >> Told(WEB, 1, ready=True)
    assert not book.instance("web/0").ready

    probe = ProbePolicy(period_seconds=1)
    book = running(PoolPlan("web", readiness=Readiness.PROBE, readiness_probe=probe), now=0)
    book >> Told(WEB, 1, stopping=True)
    book.until(1) << "check readiness web/0#1"
    assert book >> CheckPassed(WEB, 1, CheckKind.READINESS)
    assert not book.instance("web/0").ready


def test_who_stops_before_it_was_ready_never_is() -> None:
    """Its uptime does not count any more; when it stays, the start took too long."""
    book = starting(startup_timeout_seconds=5) >> Told(WEB, 1, stopping=True)
    assert book.until(4.9)
    assert book.instance("web/0").phase is Phase.STARTING
    book.until(5) << "web/0 starting > stopping (startup-timeout, stage-1)" << "SIGTERM main web/0#1"
    assert book


def test_stopping_during_a_stop_is_no_news() -> None:
    """Every worker with the protocol says so when it is told to go: the stop goes on as it was."""
    book = running(PoolPlan("web")) >> StopRequested(wish("web"))
    book << "web/0 running > stopping (stop, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    before = book.instance("web/0")
    assert book >> Told(WEB, 1, stopping=True)
    assert book.instance("web/0") == before


# ── the watchdog ─────────────────────────────────────────────────────────────────────────────────

WATCHED = PoolPlan("web", watchdog_seconds=30.0, drain=DrainPolicy("SIGUSR1"))


def test_a_missed_watchdog_skips_the_drain() -> None:
    """It counts from readiness (1 s), each WATCHDOG=1 starts it anew, and the record says watchdog."""
    book = running(WATCHED).at(20) >> Told(WEB, 1, watchdog=True)
    book.until(49.9)
    book.until(50) << STOPS << "SIGTERM main web/0#1"
    book >> Exited(WEB, 1, OK) << "web/0#1 ended watchdog (watchdog, then exit 0, stage-1)"
    assert book << "web/0 stopping > backoff (exit)"


def test_a_watchdog_that_never_was_fed() -> None:
    """Silence from the beginning is noticed too."""
    assert running(WATCHED).until(30.9)
    assert running(WATCHED).until(31) << STOPS << "SIGTERM main web/0#1"


def test_a_worker_may_say_that_it_hangs() -> None:
    """WATCHDOG=trigger needs no waiting, in phase starting neither; without a watchdog it counts as well."""
    book = running(PoolPlan("web")) >> Told(WEB, 1, watchdog_trigger=True)
    assert book << STOPS << "SIGTERM main web/0#1"
    book = starting(readiness=Readiness.NOTIFY) >> Told(WEB, 1, watchdog_trigger=True)
    assert book << "web/0 starting > stopping (watchdog, stage-1)" << "SIGTERM main web/0#1"


def test_a_worker_may_change_its_interval() -> None:
    """WATCHDOG_USEC counts from now, and from then on."""
    book = running(WATCHED) >> Told(WEB, 1, watchdog_seconds=5)
    book.at(14) >> Told(WEB, 1, watchdog=True)
    assert book.instance("web/0").watchdog_at == 19
    assert book.until(19) << STOPS << "SIGTERM main web/0#1"


def test_an_interval_that_was_changed_before_readiness_holds_from_then_on() -> None:
    """Nothing is watched while it starts."""
    book = starting(watchdog_seconds=30.0, readiness=Readiness.NOTIFY) >> Told(WEB, 1, watchdog_seconds=5)
    book.until(50) >> Told(WEB, 1, ready=True) << "web/0 starting > running (ready)"
    assert book.until(55) << STOPS << "SIGTERM main web/0#1"


def test_no_watchdog_where_none_was_declared() -> None:
    """A worker cannot put itself under one."""
    book = running(PoolPlan("web")) >> Told(WEB, 1, watchdog_seconds=5, watchdog=True)
    assert book.until(1000)
    assert book.instance("web/0").watchdog_at is None


def test_feeding_never_brings_the_end_nearer() -> None:
    """A worker that was granted more time loses nothing by saying that it is alive."""
    book = running(WATCHED) >> Told(WEB, 1, extend_seconds=60)
    assert book.instance("web/0").watchdog_at == 70
    assert book >> Told(WEB, 1, watchdog=True)
    assert book.instance("web/0").watchdog_at == 70


def drained_at_10() -> Playbook:
    """A pool of one under a watchdog until 31 s, told to drain at 10 s."""
    book = running(WATCHED) >> DrainRequested(wish("web"))
    return book << "web/0 running > draining (drain, drain)" << "SIGUSR1 main web/0#1" << "accepted op1"


def test_a_worker_that_hangs_while_it_drains_is_terminated() -> None:
    """It finishes nothing: the rest of the drain is skipped, and nobody is said to have been in a hurry."""
    book = drained_at_10().until(31) << "web/0 climbs drain > stage-1 (hurried)"
    book << "web/0 draining > stopping (watchdog, stage-1)" << "SIGTERM main web/0#1"
    book >> Exited(WEB, 1, OK) << "web/0#1 ended clean (exit 0, stage-1)"
    assert book << "web/0 stopping > stopped (exit)"


def test_a_worker_that_drains_and_is_alive_keeps_its_window() -> None:
    """WATCHDOG=1 counts during the drain too."""
    book = drained_at_10().at(30) >> Told(WEB, 1, watchdog=True)
    book.until(39.9)
    assert book.until(40) << "web/0 draining > stopping (window-closed, stage-1)" << "SIGTERM main web/0#1"


def test_a_hang_during_the_stages_changes_nothing() -> None:
    """It has been told to go already; the ladder goes on."""
    book = running(WATCHED) >> StopRequested(wish("web"))
    book << "web/0 running > draining (stop, drain)" << "SIGUSR1 main web/0#1" << "accepted op1"
    book >> Told(WEB, 1, drained=True) << "web/0 draining > stopping (drained, stage-1)"
    book << "SIGTERM main web/0#1"
    before = book.instance("web/0")
    assert book >> Told(WEB, 1, watchdog_trigger=True, watchdog=True)
    assert book.instance("web/0") == before


def test_a_hang_during_the_hold_does_not_overtake_the_dependents() -> None:
    """Order goes before speed: what holds is terminated after those that need it."""
    db = PoolPlan("db", watchdog_seconds=30.0)
    book = running(db, PoolPlan("web", depends_on={"db": Condition.READY})) >> StopRequested(wish())
    book << "db/0 running > draining (stop, hold)" << "web/0 running > stopping (stop, stage-1)"
    book << "SIGTERM main web/0#1" << "accepted op1"
    book >> Told(named("db/0"), 1, watchdog_trigger=True)
    assert book.until(34)
    rung = book.instance("db/0").rung
    assert rung is not None
    assert rung.name == "hold"


# ── more time ────────────────────────────────────────────────────────────────────────────────────


def test_more_time_to_start() -> None:
    """EXTEND_TIMEOUT_USEC moves the deadline of the start by at most a step, up to a ceiling; never back."""
    stop = StopPolicy(extend_step_seconds=30, extend_total_seconds=40)
    book = starting(readiness=Readiness.NOTIFY, stop=stop) >> Told(WEB, 1, extend_seconds=30)
    assert book.instance("web/0").deadline == 60
    book.until(50) >> Told(WEB, 1, extend_seconds=1e9) << "web/0 gets 20 s more"
    book.until(79) >> Told(WEB, 1, extend_seconds=1e9) << "web/0 gets 20 s more"
    assert book.instance("web/0").deadline == 100
    book >> Told(WEB, 1, extend_seconds=1e9)
    book.until(100) << "web/0 starting > stopping (startup-timeout, stage-1)" << "SIGTERM main web/0#1"
    assert book


def test_more_time_while_running_is_for_the_watchdog_only() -> None:
    """Nothing else runs out; less than it has is not taken."""
    book = running(WATCHED) >> Told(WEB, 1, extend_seconds=1)
    assert book.instance("web/0").watchdog_at == 31
    assert book >> Told(WEB, 1, extend_seconds=1e9)
    assert book.instance("web/0").watchdog_at == 70
    assert book.instance("web/0").deadline is None


def test_a_settling_rung_is_not_the_workers_to_lengthen() -> None:
    """It is for load balancers; the worker was asked for nothing yet."""
    book = running(PoolPlan("web", drain=DrainPolicy(settle_seconds=5))) >> DrainRequested(wish("web"))
    book << "web/0 running > draining (drain, settle)" << "accepted op1"
    assert book >> Told(WEB, 1, extend_seconds=60)
    assert book.instance("web/0").deadline == 15


def test_more_time_to_drain() -> None:
    """The drain's window is the worker's, and what it was granted is counted."""
    stop = StopPolicy((Stage(),), extend_step_seconds=60, extend_total_seconds=50)
    book = running(PoolPlan("web", drain=DrainPolicy("SIGUSR1", window_seconds=20), stop=stop))
    book >> DrainRequested(wish("web")) << "web/0 running > draining (drain, drain)" << "SIGUSR1 main web/0#1"
    book << "accepted op1" >> Told(WEB, 1, extend_seconds=30) << "web/0 gets 10 s more"
    stopping = book.instance("web/0").stop
    assert stopping is not None
    assert stopping.extended_seconds == 10
    assert book.instance("web/0").deadline == 40
    assert book


def test_the_last_moment_of_a_deadline_is_the_last() -> None:
    """Granted all that the deadline leaves, it is killed then: a signal at that moment would help nobody."""
    stop, drain = StopPolicy((Stage(grace_seconds=30),)), DrainPolicy("SIGUSR1", window_seconds=30)
    book = running(PoolPlan("web", drain=drain, stop=stop)) >> DrainRequested(wish("web"), 20)
    book << "web/0 running > draining (drain, drain)" << "SIGUSR1 main web/0#1" << "accepted op1"
    book >> Told(WEB, 1, extend_seconds=60) << "web/0 gets 7.5 s more"
    book.until(25) << "web/0 climbs drain > kill (window-closed)"
    assert book << "web/0 draining > stopping (window-closed, kill)" << "kill web/0#1"


def test_work_that_came_since_takes_back_that_it_was_drained() -> None:
    """What a worker said before it took work again does not end its next drain."""
    drain = DrainPolicy("SIGUSR1", window_seconds=30)
    book = running(PoolPlan("web", drain=drain)) >> Told(WEB, 1, drained=True) >> Told(WEB, 1, in_flight=5)
    book >> DrainRequested(wish("web")) << "web/0 running > draining (drain, drain)"
    book << "SIGUSR1 main web/0#1" << "accepted op1"
    assert book.instance("web/0").waiting_for == "5 in flight"
    book >> Told(WEB, 1, drained=True) << "web/0 climbs drain > stage-1 (drained)"
    assert book << "web/0 draining > stopping (drained, stage-1)" << "SIGTERM main web/0#1"
