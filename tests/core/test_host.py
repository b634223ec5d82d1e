"""Order: who starts after whom, who is terminated after whom, and that strangers never wait."""

from dataclasses import replace

import pytest

from supervisor.core import host as core
from supervisor.core.effects import ReleaseBarrier
from supervisor.core.events import (
    BarrierReached,
    Booted,
    CheckKind,
    CheckPassed,
    DrainRequested,
    Exited,
    RestartRequested,
    ResumeRequested,
    Scope,
    ShutdownRequested,
    Spawned,
    StopRequested,
    Tick,
    Told,
    Urgency,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import (
    Backoff,
    Condition,
    DrainPolicy,
    GiveUp,
    Kind,
    PoolPlan,
    Readiness,
    RestartPolicy,
    RestartRules,
    Stage,
    StopPolicy,
)
from tests.playbook import Playbook, host_of, named, running, wish

OK = ExitStatus(code=0)
BAD = ExitStatus(code=1)
DB = PoolPlan("db", instances=2)
WEB = PoolPlan("web", depends_on={"db": Condition.READY})


def booted(*pools: PoolPlan) -> Playbook:
    """A conversation about a host that has just booted."""
    return (Playbook(host_of(*pools)) >> Booted()).until(0)


def test_a_pool_waits_until_all_of_another_are_ready() -> None:
    """And it says for whom it waits."""
    book = booted(DB, WEB) << "spawn db/0#1 (boot)" << "db/0 pending > starting (boot)"
    book << "spawn db/1#1 (boot)" << "db/1 pending > starting (boot)"
    assert book.instance("web/0").waiting_for == "db ready (0/2)"
    book >> Spawned(named("db/0"), 1, 1) >> Spawned(named("db/1"), 1, 2)
    book.until(1) << "db/0 starting > running (ready)" << "db/1 starting > running (ready)"
    assert book << "spawn web/0#1 (boot)" << "web/0 pending > starting (boot)"


def test_a_gate_stays_open_while_one_is_ready() -> None:
    """The restart of one of two does not hold up who depends on them; the loss of both does."""
    slowly, soon = (RestartRules(backoff=Backoff(seconds, jitter=0)) for seconds in (30, 0.5))
    db, web = replace(DB, restart=slowly), replace(WEB, restart=soon)
    book = running(db, web) >> Exited(named("db/0"), 1, BAD) << "db/0 running > backoff (exit)"
    book >> Exited(named("web/0"), 1, BAD) << "web/0 running > backoff (exit)"
    book.until(10.5) << "web/0 backoff > pending (retry)" << "spawn web/0#2 (retry)"
    book << "web/0 pending > starting (retry)"
    book >> Exited(named("db/1"), 1, BAD) << "db/1 running > backoff (exit)"
    book >> Exited(named("web/0"), 2, BAD) << "web/0 starting > backoff (exit)"
    assert not book.host.pools["db"].available
    assert book


def test_started_is_enough_where_that_is_asked() -> None:
    """A dependency that is up but not ready opens the gate of `started`."""
    slow = PoolPlan("db", readiness=Readiness.NOTIFY)
    book = booted(slow, PoolPlan("web", depends_on={"db": Condition.STARTED}))
    book << "spawn db/0#1 (boot)" << "db/0 pending > starting (boot)"
    assert book << "spawn web/0#1 (boot)" << "web/0 pending > starting (boot)"


def test_what_has_not_started_holds_up() -> None:
    """`started` counts those that have a process."""
    first = PoolPlan("a", readiness=Readiness.NOTIFY)
    second = PoolPlan("b", depends_on={"a": Condition.READY})
    book = booted(first, second, PoolPlan("c", depends_on={"b": Condition.STARTED}))
    assert book << "spawn a/0#1 (boot)" << "a/0 pending > starting (boot)"
    assert book.instance("c/0").waiting_for == "b started (0/1)"


def test_a_task_opens_the_gate_when_it_has_completed() -> None:
    """Not when it runs, and not when it has failed, which the waiting pool says."""
    migrate = PoolPlan("migrate", kind=Kind.TASK, restart=RestartRules(RestartPolicy.NEVER))
    web = PoolPlan("web", depends_on={"migrate": Condition.COMPLETED})
    book = booted(migrate, web) << "spawn migrate/0#1 (boot)" << "migrate/0 pending > starting (boot)"
    assert book.instance("web/0").waiting_for == "migrate completed"
    book >> Exited(named("migrate/0"), 1, OK) << "migrate/0 starting > stopped (completed)"
    assert book << "spawn web/0#1 (boot)" << "web/0 pending > starting (boot)"

    book = booted(migrate, web) << "spawn migrate/0#1 (boot)" << "migrate/0 pending > starting (boot)"
    book >> Exited(named("migrate/0"), 1, BAD) << "migrate/0 starting > failed (exit)"
    assert book
    assert book.instance("web/0").phase is Phase.PENDING


def test_the_waiting_pool_names_the_failed_task() -> None:
    """As soon as it has failed: nobody has to look at the other pool to learn why this one waits."""
    migrate = PoolPlan("migrate", kind=Kind.TASK, restart=RestartRules(give_up=GiveUp(1, 60)))
    book = booted(migrate, PoolPlan("web", depends_on={"migrate": Condition.COMPLETED}))
    book << "spawn migrate/0#1 (boot)" << "migrate/0 pending > starting (boot)"
    book >> Exited(named("migrate/0"), 1, BAD) << "migrate/0 starting > failed (gave-up)"
    assert book.instance("web/0").waiting_for == "migrate completed (1 failed)"
    assert book


@pytest.mark.parametrize("condition", [Condition.STARTED, Condition.COMPLETED])
def test_who_was_taken_down_holds_up_no_gate(condition: Condition) -> None:
    """One of two is stopped by an operator before it has come so far: those that wait ask for the other."""
    kind = Kind.TASK if condition is Condition.COMPLETED else Kind.SERVICE
    book = booted(
        PoolPlan("first", readiness=Readiness.NOTIFY),
        PoolPlan("needed", instances=2, kind=kind, depends_on={"first": Condition.READY}),
        PoolPlan("web", depends_on={"needed": condition}),
    )
    book << "spawn first/0#1 (boot)" << "first/0 pending > starting (boot)"
    book >> StopRequested(wish("needed/1")) << "needed/1 pending > stopped (stop)" << "accepted op1"
    book >> Told(named("first/0"), 1, ready=True) << "first/0 starting > running (ready)"
    book << "spawn needed/0#1 (boot)" << "needed/0 pending > starting (boot)"
    if condition is Condition.COMPLETED:
        book >> Exited(named("needed/0"), 1, OK) << "needed/0 starting > stopped (completed)"
    assert book << "spawn web/0#1 (boot)" << "web/0 pending > starting (boot)"


def test_a_pool_that_was_stopped_has_not_started() -> None:
    """Nobody of it is wanted: whoever depends on it waits, although its last process still lives."""
    book = running(PoolPlan("db"), PoolPlan("web", depends_on={"db": Condition.STARTED}))
    book >> StopRequested(wish("db")) << "db/0 running > stopping (stop, stage-1)"
    book << "SIGTERM main db/0#1" << "accepted op1"
    book >> Exited(named("web/0"), 1, BAD) << "web/0 running > backoff (exit)"
    book.until(10.5) << "web/0 backoff > pending (retry)"
    assert book.instance("web/0").waiting_for == "db started (0/0)"
    assert book


def test_a_gate_that_closes_in_this_very_step_lets_nobody_through() -> None:
    """A restart of the whole host takes the database down and revives a failed worker at one moment."""
    web = PoolPlan("web", depends_on={"db": Condition.READY}, restart=RestartRules(RestartPolicy.NEVER))
    book = running(PoolPlan("db"), web) >> Exited(named("web/0"), 1, BAD) << "web/0 running > failed (exit)"
    book >> RestartRequested(wish()) << "db/0 running > stopping (restart, stage-1)"
    book << "SIGTERM main db/0#1" << "web/0 failed > pending (restart)" << "accepted op1"
    assert book
    assert book.instance("web/0").waiting_for == "db ready (0/1)"


def test_a_failure_delays_no_stranger() -> None:
    """A pool in trouble holds up only those that depend on it."""
    ill = PoolPlan("ill", readiness=Readiness.NOTIFY)
    book = booted(ill, PoolPlan("well"), PoolPlan("web", depends_on={"ill": Condition.READY}))
    book << "spawn ill/0#1 (boot)" << "ill/0 pending > starting (boot)"
    book << "spawn well/0#1 (boot)" << "well/0 pending > starting (boot)"
    book >> Exited(named("ill/0"), 1, BAD) << "ill/0 starting > backoff (exit)"
    assert book >> Spawned(named("well/0"), 1, 2)


def test_a_large_host_boots_in_slices() -> None:
    """One step handles as many deadlines as its tick allows, and the rest stays due."""
    host = host_of(PoolPlan("web", instances=50))
    core.step(host, Booted(), 0.0)
    core.step(host, Tick(most=20), 0.0)
    assert host.with_process == 20
    assert core.next_deadline(host) == 0
    core.step(host, Tick(most=30), 0.0)
    assert host.with_process == 50


def test_intents_of_before_hold_at_boot() -> None:
    """A drained pool and a stopped instance stay what they were; scopes that are gone are ignored."""
    intents = {Scope("web"): Goal.DRAINED, Scope("db", 1): Goal.DOWN, Scope("gone"): Goal.DOWN}
    book = Playbook(host_of(DB, PoolPlan("web"), intents=intents)) >> Booted()
    book.until(0) << "spawn db/0#1 (boot)" << "db/0 pending > starting (boot)"
    assert book << "db/1 pending > stopped (stop)" << "web/0 pending > stopped (drain)"
    assert book.host.pools["web"].goal is Goal.DRAINED
    assert book.host.goal is Goal.UP


def test_a_barrier_is_answered() -> None:
    """Everything said before it has been taken in by then, because events are taken in order."""
    assert running(PoolPlan("web")) >> BarrierReached(7) << ReleaseBarrier(7)


def test_two_rules_that_undo_one_another_are_our_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step gives up and raises instead of spinning."""
    book = running(PoolPlan("web"))
    monkeypatch.setattr(core, "_SETTLE_PASSES", 0)
    with pytest.raises(AssertionError, match="does not settle"):
        book >> Exited(named("web/0"), 1, BAD)


# ── the end ──────────────────────────────────────────────────────────────────────────────────────


def test_a_shutdown_goes_from_the_outside_in() -> None:
    """All are told at once; the database is terminated when the last of its dependents is gone."""
    drain = DrainPolicy("SIGUSR1")
    db, web = PoolPlan("db", drain=drain), PoolPlan("web", instances=2, depends_on={"db": Condition.READY})
    book = running(db, web) >> ShutdownRequested(wish())
    book << "db/0 running > draining (shutdown, drain)" << "SIGUSR1 main db/0#1"
    book << "web/0 running > stopping (shutdown, stage-1)" << "SIGTERM main web/0#1"
    book << "web/1 running > stopping (shutdown, stage-1)" << "SIGTERM main web/1#1" << "accepted op1"
    book >> Told(named("db/0"), 1, drained=True) << "db/0 climbs drain > hold (drained)"
    assert book.instance("db/0").waiting_for == "web to be gone"
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)"
    book >> Exited(named("web/1"), 1, OK) << "web/1 stopping > stopped (exit)"
    book << "db/0 climbs hold > stage-1 (released)" << "db/0 draining > stopping (shutdown, stage-1)"
    book << "SIGTERM main db/0#1"
    book >> Exited(named("db/0"), 1, OK) << "db/0 stopping > stopped (exit)" << "halt"
    assert book >> Tick()


def test_a_late_answer_about_the_drain_does_not_end_the_hold() -> None:
    """What holds waits for its dependents, whatever its own checks say."""
    db = PoolPlan("db", drain=DrainPolicy("SIGUSR1", has_until=True, window_seconds=2))
    book = running(db, WEB) >> ShutdownRequested(wish())
    book << "db/0 running > draining (shutdown, drain)" << "SIGUSR1 main db/0#1" << "check until db/0#1"
    book << "web/0 running > stopping (shutdown, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    book.until(12) << "db/0 climbs drain > hold (window-closed)"
    assert book >> CheckPassed(named("db/0"), 1, CheckKind.UNTIL)


def test_nobody_waits_for_what_is_stuck() -> None:
    """A dependent that outlived SIGKILL is named, and those it depends on go on."""
    web = PoolPlan("web", depends_on={"db": Condition.READY}, stop=StopPolicy((Stage(grace_seconds=1),)))
    book = running(PoolPlan("db"), web) >> ShutdownRequested(wish())
    book << "db/0 running > draining (shutdown, hold)"
    book << "web/0 running > stopping (shutdown, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    book.until(11) << "kill web/0#1"
    book.until(16) << "web/0 stopping > stuck (outlived-kill)"
    book << "db/0 draining > stopping (shutdown, stage-1)" << "SIGTERM main db/0#1"
    book >> Exited(named("db/0"), 1, OK) << "db/0 stopping > stopped (exit)"
    assert book << "halt, web/0 is stuck"


def test_a_shutdown_of_nothing_is_over_at_once() -> None:
    """Nothing runs, so nothing is waited for."""
    book = Playbook(host_of(PoolPlan("web"))) >> ShutdownRequested(wish())
    assert book << "web/0 pending > stopped (stop)" << "accepted op1" << "halt"
    assert book.host.goal is Goal.DOWN


def test_a_hold_is_skipped_where_nobody_is_in_the_way() -> None:
    """Stopping the database alone waits for nobody; its dependents stay up."""
    book = running(PoolPlan("db"), WEB) >> StopRequested(wish("db"))
    assert book << "db/0 running > stopping (stop, stage-1)" << "SIGTERM main db/0#1" << "accepted op1"


def test_a_hold_ends_when_the_dependent_is_wanted_again() -> None:
    """Who is not going down any more is not waited for."""
    web = PoolPlan("web", depends_on={"db": Condition.READY}, drain=DrainPolicy(settle_seconds=9))
    book = running(PoolPlan("db"), web) >> DrainRequested(wish())
    book << "db/0 running > draining (drain, hold)" << "web/0 running > draining (drain, settle)"
    book << "accepted op1"
    book >> ResumeRequested(wish("web", "op2")) << "web/0 draining > running (resume)" << "accepted op2"
    assert book << "db/0 draining > stopping (drain, stage-1)" << "SIGTERM main db/0#1"


def test_a_second_signal_skips_drains_and_a_third_kills() -> None:
    """SIGINT or another SIGTERM is a shutdown in a hurry; it never slows down."""
    drain = DrainPolicy("SIGUSR1")
    db, web = PoolPlan("db", drain=drain), PoolPlan("web", depends_on={"db": Condition.READY}, drain=drain)
    book = running(db, web) >> ShutdownRequested(wish())
    book << "db/0 running > draining (shutdown, drain)" << "SIGUSR1 main db/0#1"
    book << "web/0 running > draining (shutdown, drain)" << "SIGUSR1 main web/0#1" << "accepted op1"
    book >> ShutdownRequested(wish("", "op2"), Urgency.NOW) << "db/0 climbs drain > hold (hurried)"
    book << "web/0 climbs drain > stage-1 (hurried)" << "web/0 draining > stopping (stop, stage-1)"
    book << "SIGTERM main web/0#1" << "accepted op1"
    book >> ShutdownRequested(wish("", "op3")) << "accepted op1"
    book >> ShutdownRequested(wish("", "op4"), Urgency.KILL) << "db/0 climbs hold > kill (hurried)"
    book << "db/0 draining > stopping (stop, kill)" << "kill db/0#1"
    book << "web/0 climbs stage-1 > kill (hurried)" << "kill web/0#1" << "accepted op1"
    book >> Exited(named("web/0"), 1, ExitStatus(signal="SIGKILL"))
    book << "web/0#1 ended clean (SIGKILL (windows cut short by operator), kill)"
    assert book << "web/0 stopping > stopped (exit)"


def test_only_those_that_wait_are_started_when_a_gate_opens() -> None:
    """One of two waits for the gate, the other for its own next attempt."""
    db = PoolPlan("db", readiness=Readiness.NOTIFY, restart=RestartRules(backoff=Backoff(0.1, jitter=0)))
    web = replace(WEB, instances=2, restart=RestartRules(backoff=Backoff(1, jitter=0)))
    book = running(db, web) >> Told(named("db/0"), 1, reloading=True) << "db/0 unready: it is reloading"
    book >> Exited(named("web/0"), 1, BAD) << "web/0 running > backoff (exit)"
    book.until(11) << "web/0 backoff > pending (retry)"
    book >> Exited(named("web/1"), 1, BAD) << "web/1 running > backoff (exit)"
    (
        book
        >> Told(named("db/0"), 1, ready=True)
        << "spawn web/0#2 (retry)"
        << "web/0 pending > starting (retry)"
    )
    assert book


def test_only_those_that_hold_are_released() -> None:
    """One of two had begun its stop before, for a reason of its own."""
    book = running(DB, WEB) >> RestartRequested(wish("db/1", "op0"))
    book << "db/1 running > stopping (restart, stage-1)" << "SIGTERM main db/1#1" << "accepted op0"
    book >> ShutdownRequested(wish()) << "db/0 running > draining (shutdown, hold)"
    book << "web/0 running > stopping (shutdown, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)"
    book << "db/0 draining > stopping (shutdown, stage-1)" << "SIGTERM main db/0#1"
    assert book


def test_a_drained_database_that_nobody_needs_goes_on() -> None:
    """No dependent is going down, so the hold is not even entered."""
    book = running(PoolPlan("db", drain=DrainPolicy("SIGUSR1")), WEB) >> DrainRequested(wish("db"))
    book << "db/0 running > draining (drain, drain)" << "SIGUSR1 main db/0#1" << "accepted op1"
    book >> Told(named("db/0"), 1, drained=True) << "db/0 climbs drain > stage-1 (drained)"
    assert book << "db/0 draining > stopping (drained, stage-1)" << "SIGTERM main db/0#1"
