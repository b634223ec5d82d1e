"""Fitting a stop into a deadline: one factor for every window, and a last moment for each pool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.events import Booted, DrainRequested, Exited, ShutdownRequested, Spawned, StartRequested
from supervisor.core.exits import ExitStatus
from supervisor.core.plan import (
    KILL_SECONDS,
    Condition,
    DrainPolicy,
    HostPlan,
    PoolPlan,
    Readiness,
    Stage,
    StopPolicy,
    Target,
)
from supervisor.core.shutdown import fit
from tests.playbook import Playbook, host_of, named, running, wish

SECONDS = st.floats(0, 100)


@st.composite
def plans(draw: st.DrawFn) -> HostPlan:
    """Up to five pools, each depending on some of those before it."""
    pools: dict[str, PoolPlan] = {}
    for number in range(draw(st.integers(1, 5))):
        name = f"p{number}"
        needed = draw(st.sets(st.sampled_from(sorted(pools)))) if pools else set()
        pools[name] = PoolPlan(
            name,
            depends_on=dict.fromkeys(sorted(needed), Condition.READY),
            drain=DrainPolicy(settle_seconds=draw(SECONDS), window_seconds=draw(SECONDS)),
            stop=StopPolicy(
                tuple(Stage(grace_seconds=draw(SECONDS)) for _ in range(draw(st.integers(0, 3))))
            ),
            min_uptime_seconds=draw(SECONDS),
        )
    order = draw(st.permutations(sorted(pools)))
    return HostPlan("h", {name: pools[name] for name in order})


def _ends(plan: HostPlan, scale: float) -> dict[str, float]:
    """When each pool is gone at the latest, if every window is used up and every kill takes its share."""
    ends: dict[str, float] = {}

    def end(name: str) -> float:
        if name not in ends:
            pool = plan.pools[name]
            after = [end(other) for other, its in plan.pools.items() if name in its.depends_on]
            stages = sum(stage.grace_seconds for stage in pool.stop.stages)
            begin = max([pool.before_stages_seconds * scale, *after])
            ends[name] = begin + stages * scale + KILL_SECONDS
        return ends[name]

    for name in plan.pools:
        end(name)
    return ends


@given(plans(), st.floats(0, 2000), st.floats(0, 1e6))
def test_what_fits_never_exceeds_the_deadline(plan: HostPlan, left: float, now: float) -> None:
    """Scaled windows and whole kill rungs end in time, wherever there is time for the kills at all."""
    fitted = fit(plan, plan.pools, now, now + left)
    assert 0 <= fitted.scale <= 1
    levels = max(_ends(plan, 0.0).values())
    if left >= levels:
        assert max(_ends(plan, fitted.scale).values()) <= left + 1e-6


@given(plans(), st.floats(0, 2000), st.floats(0, 1e6))
def test_the_last_moments_keep_their_order(plan: HostPlan, left: float, now: float) -> None:
    """Each pool is killed in time for itself, and early enough for those it depends on."""
    fitted = fit(plan, plan.pools, now, now + left)
    for name, pool in plan.pools.items():
        assert fitted.stop_by[name] <= now + left - KILL_SECONDS + 1e-6
        for needed in pool.depends_on:
            stages = sum(stage.grace_seconds for stage in plan.pools[needed].stop.stages)
            room = fitted.stop_by[needed] - fitted.stop_by[name]
            assert room >= KILL_SECONDS + fitted.scale * stages - 1e-6


def test_time_enough_changes_nothing() -> None:
    """Who has time keeps every window as declared."""
    plan = HostPlan("h", {"web": PoolPlan("web")})
    assert fit(plan, plan.pools, 0.0, 300.0).scale == 1.0
    assert fit(plan, (), 0.0, 300.0) == (1.0, {})


def test_the_worst_case_of_one_stop() -> None:
    """Every window, the kill, and what the main process left behind at the last moment."""
    drain = DrainPolicy(settle_seconds=5, window_seconds=30)
    main_only = StopPolicy((Stage(grace_seconds=10),))
    swept = StopPolicy((Stage(grace_seconds=10), Stage(target=Target.ALL, grace_seconds=3)))
    pools = {
        "a": PoolPlan("a", drain=drain, stop=main_only),
        "b": PoolPlan("b", stop=swept, readiness=Readiness.NOTIFY),
        "c": PoolPlan("c", stop=swept, min_uptime_seconds=9),
    }
    plan = HostPlan("h", pools)
    assert plan.worst_case_stop_seconds("a") == pytest.approx(35 + 10 + 0.2 + 5 + 5)
    assert plan.worst_case_stop_seconds("b") == pytest.approx(13 + 0.2 + 5)
    assert plan.worst_case_stop_seconds("c") == pytest.approx(9 + 13 + 0.2 + 5)


WEB = PoolPlan("web", depends_on={"db": Condition.READY}, drain=DrainPolicy(window_seconds=100))


def test_a_host_that_has_no_time_is_down_in_time() -> None:
    """The dependents are killed early enough that the database keeps its share."""
    book = running(PoolPlan("db"), WEB) >> ShutdownRequested(wish(), deadline_seconds=20)
    book << "db/0 running > draining (shutdown, hold)" << "web/0 running > draining (shutdown, drain)"
    book << "accepted op1"
    web_by, db_by = (book.instance(name).stop for name in ("web/0", "db/0"))
    assert web_by is not None
    assert db_by is not None
    assert db_by.stop_by == 25
    book.until(17)
    book._left.clear()
    assert book.host.shutdown is not None
    assert book.host.shutdown.scale == pytest.approx(10 / 160)
    book.until(30)
    assert "halt, db/0 is stuck, web/0 is stuck" in str(book._told(""))


def test_a_shorter_deadline_counts_and_a_longer_one_does_not() -> None:
    """A second shutdown only ever speeds up."""
    book = running(PoolPlan("db"), WEB) >> ShutdownRequested(wish(), deadline_seconds=100)
    book << "db/0 running > draining (shutdown, hold)" << "web/0 running > draining (shutdown, drain)"
    book << "accepted op1"
    book >> ShutdownRequested(wish("", "op2"), deadline_seconds=500) << "accepted op1"
    assert book.host.shutdown is not None
    assert book.host.shutdown.deadline == 110
    book.at(11) >> ShutdownRequested(wish("", "op3"), deadline_seconds=50) << "accepted op1"
    assert book.host.shutdown.deadline == 61
    assert book


def test_nothing_else_is_wished_for_during_a_shutdown() -> None:
    """Not even a start."""
    book = running(PoolPlan("web")) >> ShutdownRequested(wish())
    book << "web/0 running > stopping (shutdown, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    assert book >> StartRequested(wish("web", "op2")) << "refused shutting-down"


def test_a_drain_of_some_fits_those() -> None:
    """Only the pools that are meant share the time."""
    book = running(PoolPlan("db"), WEB) >> DrainRequested(wish("web"), deadline_seconds=70)
    assert book << "web/0 running > draining (drain, drain)" << "accepted op1"
    stop = book.instance("web/0").stop
    assert stop is not None
    assert stop.rungs[0].window_seconds == pytest.approx(50)
    assert stop.stop_by == 75


def test_who_has_just_begun_is_told_when_it_can_hear() -> None:
    """A worker without handlers yet is given its min_uptime first; a deadline cuts that as well."""
    book = Playbook(host_of(PoolPlan("web", min_uptime_seconds=10))) >> Booted()
    book.until(0) << "spawn web/0#1 (boot)" << "web/0 pending > starting (boot)"
    book >> Spawned(named("web/0"), 1, 7)
    book.at(2) >> DrainRequested(wish("web")) << "web/0 starting > draining (drain, settle)" << "accepted op1"
    assert book.instance("web/0").waiting_for == "it to have started, so that it can be told"
    assert book.instance("web/0").deadline == 10
    for name in ("op2", "op3"):
        book >> DrainRequested(wish("web", name), deadline_seconds=25) << "accepted op1"
        assert book.instance("web/0").deadline == pytest.approx(7)
    book.until(7) << "web/0 climbs settle > stage-1 (window-closed)"
    book << "web/0 draining > stopping (window-closed, stage-1)" << "SIGTERM main web/0#1"
    assert book >> Exited(named("web/0"), 1, ExitStatus(code=0)) << "web/0 stopping > stopped (exit)"
