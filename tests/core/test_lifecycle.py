"""One instance: how it starts, what makes it leave, and what late or repeated facts change (nothing)."""

from typing import Any

import pytest

from supervisor.core import lifecycle
from supervisor.core.effects import Cause
from supervisor.core.events import (
    Booted,
    CheckFailed,
    CheckKind,
    CheckPassed,
    DrainRequested,
    Exited,
    MainMoved,
    RestartRequested,
    ResumeRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    Tick,
    Told,
    TreeGone,
    Urgency,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.phases import Phase
from supervisor.core.plan import DrainPolicy, PoolPlan, ProbePolicy, Readiness, StopPolicy
from supervisor.core.scene import IllegalMoveError, Scene, enter
from tests.playbook import Playbook, host_of, named, running, wish

WEB = named("web/0")
OK = ExitStatus(code=0)


def starting(**plan: Any) -> Playbook:
    """A pool `web` of one, whose process exists and is not ready yet, at 0 s."""
    book = (Playbook(host_of(PoolPlan("web", **plan))) >> Booted()).until(0)
    book << "spawn web/0#1 (boot)" << "web/0 pending > starting (boot)"
    return book


def test_a_process_that_stays_up_is_ready() -> None:
    """Without a probe or a word from the worker, min_uptime decides, to the moment."""
    assert (starting(min_uptime_seconds=2) >> Spawned(WEB, 1, 7)).until(1.9)
    book = (starting(min_uptime_seconds=2) >> Spawned(WEB, 1, 7)).until(2)
    assert book << "web/0 starting > running (ready)" << "web/0 ready"
    assert book.instance("web/0").pid == 7


def test_no_min_uptime_means_ready_at_once() -> None:
    """A min_uptime of nothing is over when the process exists."""
    assert starting(min_uptime_seconds=0) >> Spawned(WEB, 1, 7) << "web/0 starting > running (ready)"


def test_a_worker_says_that_it_is_ready() -> None:
    """READY=1 counts once, and only where readiness is by notify."""
    book = (starting(readiness=Readiness.NOTIFY) >> Spawned(WEB, 1, 7)).until(5)
    book >> Told(WEB, 1, ready=True) << "web/0 starting > running (ready)"
    assert book >> Told(WEB, 1, ready=True)
    assert starting() >> Spawned(WEB, 1, 7) >> Told(WEB, 1, ready=True)


def test_a_probe_says_that_it_is_ready() -> None:
    """It takes as many passes in a row as the manifest says; a failure begins the count anew."""
    probe = ProbePolicy(period_seconds=2, success_threshold=2, initial_delay_seconds=1)
    book = starting(readiness=Readiness.PROBE, readiness_probe=probe) >> Spawned(WEB, 1, 7)
    book.until(1) << "check readiness web/0#1"
    book >> CheckPassed(WEB, 1, CheckKind.READINESS)
    book.until(3) << "check readiness web/0#1"
    book >> CheckFailed(WEB, 1, CheckKind.READINESS, "HTTP 503") << "web/0 readiness failed: HTTP 503"
    assert book.instance("web/0").unready_reason == "HTTP 503"
    book.until(5) << "check readiness web/0#1"
    book >> CheckPassed(WEB, 1, CheckKind.READINESS)
    book.until(7) << "check readiness web/0#1"
    assert book >> CheckPassed(WEB, 1, CheckKind.READINESS) << "web/0 starting > running (ready)"


def test_an_answer_that_was_told_twice_counts_once() -> None:
    """A repeated answer must not make a worker ready before the second question is asked."""
    probe = ProbePolicy(success_threshold=2)
    book = starting(readiness=Readiness.PROBE, readiness_probe=probe) >> Spawned(WEB, 1, 7)
    book << "check readiness web/0#1"
    assert book >> CheckPassed(WEB, 1, CheckKind.READINESS) >> CheckPassed(WEB, 1, CheckKind.READINESS)


def test_an_answer_to_no_question_is_ignored() -> None:
    """Checks that this pool does not have change nothing."""
    book = running(PoolPlan("web"))
    assert book >> CheckPassed(WEB, 1, CheckKind.UNTIL) >> CheckFailed(WEB, 1, CheckKind.LIVENESS, "x")


def test_not_ready_in_time_is_a_staged_stop() -> None:
    """The record says that it was the start that took too long, and why it was not ready."""
    probe = ProbePolicy(period_seconds=60)
    book = starting(startup_timeout_seconds=5, readiness=Readiness.PROBE, readiness_probe=probe)
    book >> Spawned(WEB, 1, 7) << "check readiness web/0#1"
    book >> CheckFailed(WEB, 1, CheckKind.READINESS, "refused")
    book.until(5) << "web/0 starting > stopping (startup-timeout, stage-1)" << "SIGTERM main web/0#1"
    book >> Exited(WEB, 1, OK)
    book << "web/0#1 ended startup-timeout (startup-timeout, then exit 0, stage-1)"
    assert book << "web/0 stopping > backoff (exit)"


def test_a_start_without_a_word_is_also_too_late() -> None:
    """The detail of the move tells how long it was waited for."""
    book = starting(startup_timeout_seconds=5, readiness=Readiness.NOTIFY) >> Spawned(WEB, 1, 7)
    assert book.until(5) << "web/0 starting > stopping (startup-timeout, stage-1)" << "SIGTERM main web/0#1"


def test_readiness_is_a_fact_beside_the_phase() -> None:
    """A failing readiness probe makes unready after its threshold and ready again, in phase running."""
    probe = ProbePolicy(period_seconds=1, failure_threshold=2)
    book = running(PoolPlan("web", readiness=Readiness.PROBE, readiness_probe=probe), now=0)
    book.until(1) << "check readiness web/0#1"
    book >> CheckFailed(WEB, 1, CheckKind.READINESS, "HTTP 503")
    assert book.instance("web/0").ready
    book.until(2) << "check readiness web/0#1"
    book >> CheckFailed(WEB, 1, CheckKind.READINESS, "HTTP 503") << "web/0 unready: HTTP 503"
    book.until(3) << "check readiness web/0#1"
    book >> CheckPassed(WEB, 1, CheckKind.READINESS) << "web/0 ready"
    book.until(4) << "check readiness web/0#1"
    assert book >> CheckPassed(WEB, 1, CheckKind.READINESS)
    assert book.instance("web/0").phase is Phase.RUNNING


def test_a_liveness_probe_that_fails_often_enough_is_a_staged_stop_with_its_drain() -> None:
    """One failure is no verdict; the threshold is, and then the record says probe."""
    plan = PoolPlan(
        "web", liveness_probe=ProbePolicy(period_seconds=1, failure_threshold=2), drain=DrainPolicy("SIGUSR1")
    )
    book = running(plan, now=1)
    book.until(2) << "check liveness web/0#1"
    book >> CheckFailed(WEB, 1, CheckKind.LIVENESS, "exit 1") << "web/0 liveness failed: exit 1"
    book.until(3) << "check liveness web/0#1"
    book >> CheckFailed(WEB, 1, CheckKind.LIVENESS, "exit 1")
    book << "web/0 running > draining (liveness, drain)" << "SIGUSR1 main web/0#1"
    book >> Exited(WEB, 1, OK) << "web/0#1 ended probe (probe, then exit 0, drain)"
    assert book << "web/0 draining > backoff (exit)"


def test_a_question_whose_answer_is_lost_counts_as_failed() -> None:
    """The runtime always answers; if it lost the question, the probe goes on after five seconds more."""
    plan = PoolPlan(
        "web", liveness_probe=ProbePolicy(period_seconds=1, timeout_seconds=1, failure_threshold=9)
    )
    book = running(plan, now=1).until(2) << "check liveness web/0#1"
    book.until(8) << "web/0 liveness failed: no answer from the probe" << "check liveness web/0#1"
    assert book >> CheckPassed(WEB, 1, CheckKind.LIVENESS)


def test_facts_about_older_generations_change_nothing() -> None:
    """Whatever the dead still say reaches nobody."""
    book = running(PoolPlan("web")) >> Exited(WEB, 1, ExitStatus(code=1)) << "web/0 running > backoff (exit)"
    book.until(12) << "web/0 backoff > pending (retry)" << "spawn web/0#2 (retry)"
    book << "web/0 pending > starting (retry)"
    for late in (
        Spawned(WEB, 1, 9),
        SpawnFailed(WEB, 1, "late"),
        Exited(WEB, 1, OK),
        TreeGone(WEB, 1),
        MainMoved(WEB, 1, 9),
        Told(WEB, 1, ready=True, stopping=True, watchdog_trigger=True),
        CheckPassed(WEB, 1, CheckKind.READINESS),
        CheckFailed(WEB, 1, CheckKind.LIVENESS, "late"),
        Exited(named("web/7"), 1, OK),
        Exited(named("nowhere/0"), 1, OK),
    ):
        before = book.instance("web/0")
        assert book >> late
        assert book.instance("web/0") == before


def test_facts_about_a_generation_that_is_over_change_nothing() -> None:
    """The same generation, but nothing of it is left."""
    book = running(PoolPlan("web")) >> Exited(WEB, 1, ExitStatus(code=1)) << "web/0 running > backoff (exit)"
    assert book >> Exited(WEB, 1, OK) >> TreeGone(WEB, 1) >> Told(WEB, 1, ready=True)
    assert book.instance("web/0").phase is Phase.BACKOFF


def test_a_start_that_is_told_twice_asks_no_second_question() -> None:
    """Two probes of a kind at once would count every answer twice."""
    book = starting(readiness=Readiness.PROBE, readiness_probe=ProbePolicy()) >> Spawned(WEB, 1, 7)
    book << "check readiness web/0#1"
    assert book >> Spawned(WEB, 1, 8)
    assert book.instance("web/0").pid == 7


def test_an_end_that_is_told_twice_is_recorded_once() -> None:
    """The record keeps what the first report said while leftovers are awaited."""
    book = running(PoolPlan("web")) >> Exited(WEB, 1, ExitStatus(code=3), leftovers=2)
    book << "web/0 running > stopping (leftovers, sweep)"
    pending = book.instance("web/0").pending_exit
    book >> Exited(WEB, 1, OK) >> Spawned(WEB, 1, 9) >> MainMoved(WEB, 1, 9) >> SpawnFailed(WEB, 1, "late")
    assert book.instance("web/0").pending_exit == pending
    assert book.instance("web/0").pid is None
    book >> TreeGone(WEB, 1) << "web/0#1 ended failure (exit 3)"
    assert book << "web/0 stopping > backoff (exit)"


def test_the_stop_may_overtake_the_start() -> None:
    """The pid is noted, and nothing makes a leaving instance ready."""
    book = starting(min_uptime_seconds=0) >> StopRequested(wish("web"))
    book << "web/0 starting > stopping (stop, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    assert book >> Spawned(WEB, 1, 7)
    assert book.instance("web/0").pid == 7


def test_a_spawn_that_fails_during_a_stop_ends_the_stop() -> None:
    """There never was a process: climbing the ladder for it would end stuck without one."""
    book = starting() >> StopRequested(wish("web"))
    book << "web/0 starting > stopping (stop, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    book >> SpawnFailed(WEB, 1, "cannot run ./x") << "web/0 stop clean after 0 s"
    assert book << "web/0 stopping > stopped (exit)"


def test_a_main_process_that_moved_is_followed() -> None:
    """MAINPID of the own tree becomes the pid."""
    book = running(PoolPlan("web")) >> MainMoved(WEB, 1, 4242)
    assert book.instance("web/0").pid == 4242


SETTLES = DrainPolicy("SIGUSR1", settle_seconds=5)


@pytest.mark.parametrize("begin", [DrainRequested(wish("web")), StopRequested(wish("web"))])
def test_a_stop_that_only_settles_is_taken_back(begin: DrainRequested | StopRequested) -> None:
    """Nothing was asked of the worker yet: it is ready again at once, and watched again."""
    plan = PoolPlan("web", drain=SETTLES, watchdog_seconds=30.0, liveness_probe=ProbePolicy(period_seconds=9))
    book = running(plan) >> begin
    cause = "drain" if isinstance(begin, DrainRequested) else "stop"
    book << f"web/0 running > draining ({cause}, settle)" << "accepted op1"
    book.at(12) >> ResumeRequested(wish("web", "op2")) << "web/0 climbs settle > gone (cancelled)"
    book << "web/0 draining > running (resume)" << "web/0 ready" << "check liveness web/0#1" << "accepted op2"
    assert book.instance("web/0").watchdog_at == 42
    assert book.instance("web/0").deadline is None


def test_a_probed_worker_proves_itself_again_when_its_stop_is_taken_back() -> None:
    """Nobody knows whether it still is what it was: the probe is asked first."""
    plan = PoolPlan("web", drain=SETTLES, readiness=Readiness.PROBE, readiness_probe=ProbePolicy())
    book = running(plan) >> DrainRequested(wish("web"))
    book << "web/0 running > draining (drain, settle)" << "accepted op1"
    book >> ResumeRequested(wish("web", "op2")) << "web/0 draining > running (resume)"
    book << "check readiness web/0#1" << "accepted op2"
    assert not book.instance("web/0").ready
    assert book >> CheckPassed(WEB, 1, CheckKind.READINESS) << "web/0 ready"


def test_a_start_does_not_take_back_a_restart() -> None:
    """Restart goes before start: the turn of a rollout would never end otherwise."""
    book = running(PoolPlan("web", drain=SETTLES)) >> RestartRequested(wish("web"))
    book << "web/0 running > draining (restart, settle)" << "accepted op1"
    assert book >> StartRequested(wish("web", "op2")) << "accepted op2"
    assert book.instance("web/0").phase is Phase.DRAINING


def test_a_start_does_not_take_back_a_verdict() -> None:
    """A worker whose liveness probe failed is not well because somebody wants it up."""
    probe = ProbePolicy(period_seconds=1, failure_threshold=1)
    book = running(PoolPlan("web", drain=SETTLES, liveness_probe=probe), now=1)
    book.until(2) << "check liveness web/0#1"
    book >> CheckFailed(WEB, 1, CheckKind.LIVENESS, "x") << "web/0 running > draining (liveness, settle)"
    assert book >> ResumeRequested(wish("web", "op2")) << "accepted op2"


def test_a_worker_that_goes_by_itself_is_not_taken_back() -> None:
    """STOPPING=1 is final, also when the stop that followed is no longer wanted."""
    book = running(PoolPlan("web", drain=SETTLES)) >> Told(WEB, 1, stopping=True)
    book >> DrainRequested(wish("web")) << "web/0 running > draining (drain, settle)" << "accepted op1"
    assert book >> ResumeRequested(wish("web", "op2")) << "accepted op2"
    assert not book.instance("web/0").ready


def test_a_stop_past_its_settling_ends_first() -> None:
    """The worker was told to go: it goes, and a new generation comes."""
    book = running(PoolPlan("web", drain=DrainPolicy("SIGUSR1"))) >> DrainRequested(wish("web"))
    book << "web/0 running > draining (drain, drain)" << "SIGUSR1 main web/0#1" << "accepted op1"
    book >> ResumeRequested(wish("web", "op2")) << "accepted op2"
    book >> Exited(WEB, 1, OK) << "web/0 draining > pending (exit)" << "spawn web/0#2 (start)"
    assert book << "web/0 pending > starting (start)"


def test_stages_may_be_none() -> None:
    """A ladder without stages is the kill alone."""
    book = running(PoolPlan("web", stop=StopPolicy(()))) >> StopRequested(wish("web"))
    assert book << "web/0 running > stopping (stop, kill)" << "kill web/0#1" << "accepted op1"


def test_a_start_after_a_stop_forgives() -> None:
    """Failures from before an operator's stop do not count as a crash loop afterwards."""
    book = running(PoolPlan("web")) >> Exited(WEB, 1, ExitStatus(code=1)) << "web/0 running > backoff (exit)"
    book >> StopRequested(wish("web")) << "web/0 backoff > stopped (stop)" << "accepted op1"
    book >> StartRequested(wish("web", "op2")) << "accepted op2" << "web/0 stopped > pending (start)"
    book << "spawn web/0#2 (start)" << "web/0 pending > starting (start)"
    assert book.instance("web/0").failures == 0
    assert book


def test_a_move_that_the_map_does_not_have_is_our_bug() -> None:
    """It raises, and names who, from where, where to and why."""
    book = running(PoolPlan("web"))
    scene = Scene(PoolPlan("web"), "h", 10.0)
    with pytest.raises(IllegalMoveError, match="web/0 may not move from running to stuck"):
        enter(scene, book.instance("web/0"), Phase.STUCK, Cause.STOP)
    assert scene.held() == ""


def test_urgency_from_a_standing_start() -> None:
    """`--now` on a running instance begins at its stages; `--kill` sends nothing before SIGKILL."""
    plan = PoolPlan("web", drain=SETTLES)
    book = running(plan) >> StopRequested(wish("web"), Urgency.NOW)
    assert book << "web/0 running > stopping (stop, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    book = running(plan) >> StopRequested(wish("web"), Urgency.KILL)
    assert book << "web/0 running > stopping (stop, kill)" << "kill web/0#1" << "accepted op1"
    book >> Exited(WEB, 1, ExitStatus(signal="SIGKILL"))
    book << "web/0#1 ended clean (SIGKILL (windows cut short by operator), kill)"
    assert book << "web/0 stopping > stopped (exit)"


def test_a_tick_before_its_time_does_nothing() -> None:
    """Whoever rings too early hears nothing."""
    book = running(PoolPlan("web", liveness_probe=ProbePolicy()))
    before = book.instance("web/0")
    assert book >> Tick()
    assert lifecycle.due(Scene(PoolPlan("web"), "h", 0.0), before) == before
