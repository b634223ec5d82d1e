"""Is a pool well, is the host ready, and the sentence that says why not."""

from dataclasses import replace

import pytest

from supervisor.core.events import (
    Booted,
    DrainRequested,
    Exited,
    RestartRequested,
    ResumeRequested,
    Scope,
    ShutdownRequested,
    Spawned,
    StopRequested,
    Tick,
    Urgency,
    Wish,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.health import REASONS_SHOWN, Status, host_reasons, pool_health, why_not
from supervisor.core.host import next_deadline, step
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Goal
from supervisor.core.plan import Condition, Kind, PoolPlan, RestartPolicy, RestartRules
from supervisor.core.state import Host
from tests.playbook import host_of, running

A = InstanceId("a", 0)
BAD = ExitStatus(code=3)


def up(instances: int = 2, **more: object) -> Host:
    """A host whose pool is well."""
    return running(PoolPlan("a", instances=instances, **more)).host  # type: ignore[arg-type]  # keys of the plan


def test_all_ready_is_healthy_and_needs_no_reason() -> None:
    """The common case, and the host is ready."""
    host = up()
    health = pool_health(host, "a")
    assert (health.status, health.ok, health.wanted, health.ready, health.reasons) == (
        Status.HEALTHY,
        True,
        2,
        2,
        (),
    )
    assert host_reasons(host) == ()


def test_a_boot_is_starting_and_says_what_it_waits_for() -> None:
    """Nothing is wrong yet, and the host is not ready."""
    host = host_of(PoolPlan("a"), PoolPlan("b", depends_on={"a": Condition.READY}))
    step(host, Booted(), 0.0)
    step(host, Tick(), 0.0)
    assert pool_health(host, "a").status is Status.STARTING
    assert pool_health(host, "b").reasons == ("b/0 is pending, waiting for a ready (0/1)",)
    assert host_reasons(host)[0] == "a/0 is starting, not ready yet"
    known = {"a": replace(pool_health(host, "a"), reasons=("known already",))}
    assert host_reasons(host, known) == ("known already", *host_reasons(host)[1:])


@pytest.mark.parametrize(("instances", "status"), [(2, Status.DEGRADED), (1, Status.UNHEALTHY)])
def test_a_crash_is_named_with_its_exit(instances: int, status: Status) -> None:
    """Degraded while somebody serves, unhealthy when nobody does."""
    host = up(instances)
    step(host, Exited(A, 1, BAD), 11.0)
    health = pool_health(host, "a")
    assert (health.status, health.ok) == (status, False)
    assert health.reasons == ("a/0 is backoff, waiting for its next attempt after exit 3",)
    assert host_reasons(host) == health.reasons


def test_what_is_not_critical_does_not_turn_the_host() -> None:
    """It shows in the pool's own health only."""
    host = up(1, critical=False)
    step(host, Exited(A, 1, BAD), 11.0)
    assert not pool_health(host, "a").ok
    assert host_reasons(host) == ()


def test_a_retry_that_starts_is_not_a_fresh_start() -> None:
    """After a failure `starting` would hide the crash loop."""
    host = up(1)
    step(host, Exited(A, 1, BAD), 11.0)
    while not host.instances[A].has_process:
        step(host, Tick(), 12.0)
    assert pool_health(host, "a").status is Status.UNHEALTHY


def test_reasons_are_bounded() -> None:
    """A thousand failing instances have one page to fit on."""
    host = up(REASONS_SHOWN + 3)
    for index in range(REASONS_SHOWN + 3):
        step(host, Exited(InstanceId("a", index), 1, BAD), 11.0)
    reasons = pool_health(host, "a").reasons
    assert len(reasons) == REASONS_SHOWN + 1
    assert reasons[-1] == "and 3 more instances"


def test_what_operators_ask_for_is_said_to_be_asked_for() -> None:
    """Draining then drained, stopping then stopped; never well, and never called trouble."""
    for wish, on_the_way, there in (
        (DrainRequested(Wish(Scope("a"), "x")), Status.DRAINING, Status.DRAINED),
        (StopRequested(Wish(Scope("a"), "x")), Status.STOPPING, Status.STOPPED),
    ):
        host = up(1)
        step(host, wish, 11.0)
        assert pool_health(host, "a").status is on_the_way
        step(host, Exited(A, 1, ExitStatus(code=0)), 12.0)
        health = pool_health(host, "a")
        assert (health.status, health.ok, health.wanted) == (there, False, 0)
        assert host_reasons(host) == (f"a is {there}: an operator asked for it",)


def test_a_rollout_within_its_allowance_keeps_the_host_ready() -> None:
    """A rolling restart is not trouble; a balancer must not take the host out for it."""
    host = up()
    step(host, RestartRequested(Wish(Scope("a"), "x")), 11.0)
    health = pool_health(host, "a")
    assert (health.status, health.ok, health.ready) == (Status.HEALTHY, True, 1)
    assert host_reasons(host) == ()


def test_a_completed_task_is_well() -> None:
    """It did what it was for."""
    host = host_of(PoolPlan("a", kind=Kind.TASK))
    step(host, Booted(), 0.0)
    step(host, Tick(), 0.0)
    step(host, Spawned(A, 1, 10), 0.0)
    step(host, Exited(A, 1, ExitStatus(code=0)), 0.5)
    assert (pool_health(host, "a").status, pool_health(host, "a").ok) == (Status.COMPLETED, True)
    assert host_reasons(host) == ()


def test_one_that_gave_up_says_why() -> None:
    """Failed, with the exit that led there."""
    host = up(1, restart=RestartRules(RestartPolicy.NEVER))
    step(host, Exited(A, 1, BAD), 11.0)
    assert why_not(host.instances[A]) == "a/0 is failed after exit 3"


def test_one_taken_away_from_a_pool_that_is_up_is_no_trouble() -> None:
    """The pool is well with what is wanted of it, on the way down and after."""
    host = up(2)
    step(host, StopRequested(Wish(Scope("a", 1), "x")), 11.0)
    assert host.instances[InstanceId("a", 1)].goal is Goal.DOWN
    health = pool_health(host, "a")
    assert (health.status, health.ok, health.wanted, health.ready) == (Status.HEALTHY, True, 1, 1)
    step(host, Exited(InstanceId("a", 1), 1, ExitStatus(code=0)), 12.0)
    assert pool_health(host, "a").status is Status.HEALTHY


def test_one_that_never_gets_down_is_trouble() -> None:
    """Stuck is said of a pool of which everybody else is well."""
    host = up(2)
    step(host, StopRequested(Wish(Scope("a", 1), "x"), Urgency.KILL), 11.0)
    step(host, Tick(), 16.0)
    health = pool_health(host, "a")
    assert (health.status, health.ok) == (Status.DEGRADED, False)
    assert health.reasons == ("a/1 is stuck, waiting for the kernel to end it",)


def test_a_pool_that_never_gets_down_is_trouble_first() -> None:
    """Somebody asked for it, and it does not happen: what is stuck is named before who asked."""
    host = up(1)
    step(host, StopRequested(Wish(Scope("a"), "x"), Urgency.KILL), 11.0)
    step(host, Tick(), 16.0)
    health = pool_health(host, "a")
    assert (health.status, health.ok) == (Status.UNHEALTHY, False)
    assert health.reasons == (
        "a/0 is stuck, waiting for the kernel to end it",
        "a is stopping: an operator asked for it",
    )


def test_a_pool_taken_down_one_by_one_is_down() -> None:
    """The status follows the instances, whichever way their goals were said."""
    host = up(2)
    step(host, DrainRequested(Wish(Scope("a", 0), "x")), 11.0)
    step(host, DrainRequested(Wish(Scope("a", 1), "y")), 11.0)
    assert pool_health(host, "a").status is Status.DRAINING
    step(host, Exited(A, 1, ExitStatus(code=0)), 12.0)
    step(host, Exited(InstanceId("a", 1), 1, ExitStatus(code=0)), 12.0)
    health = pool_health(host, "a")
    assert (health.status, health.ok, health.wanted) == (Status.DRAINED, False, 0)


def test_one_brought_back_from_a_drained_pool_is_judged() -> None:
    """One that is wanted and ready makes the pool well with what is wanted of it."""
    host = up(2)
    step(host, DrainRequested(Wish(Scope("a"), "x")), 11.0)
    for index in range(2):
        step(host, Exited(InstanceId("a", index), 1, ExitStatus(code=0)), 12.0)
    step(host, ResumeRequested(Wish(Scope("a", 0), "y")), 13.0)
    assert pool_health(host, "a").status is Status.STARTING
    step(host, Spawned(A, 2, 77), 13.0)
    step(host, Tick(), 14.0)
    health = pool_health(host, "a")
    assert (health.status, health.ok, health.wanted, health.ready) == (Status.HEALTHY, True, 1, 1)


def crash(host: Host, now: float, *, up_for: float) -> float:
    """The worker fails, comes back, and is up again for a while; the moment after that."""
    generation = host.instances[A].generation
    step(host, Exited(A, generation, BAD), now)
    while host.instances[A].generation == generation:
        now = next_deadline(host) or now
        step(host, Tick(), now)
    step(host, Spawned(A, generation + 1, 70 + generation), now)
    for _ in range(4):
        moment = next_deadline(host)
        if moment is None or moment > now + up_for:
            break
        step(host, Tick(), moment)
    return now + up_for


def test_a_crash_loop_is_degraded_while_it_is_up() -> None:
    """A worker that fails late is not well between two failures; one failure alone is no loop yet."""
    host = up(1)
    now = crash(host, 11.0, up_for=1.5)
    assert pool_health(host, "a").status is Status.HEALTHY
    now = crash(host, now, up_for=1.5)
    health = pool_health(host, "a")
    assert (health.status, health.ok, health.ready) == (Status.DEGRADED, True, 1)
    assert health.reasons == (
        "a/0 has failed 2 times in a row; it counts as well when it has been ready for 60 s",
    )
    assert host_reasons(host) == (), "it serves: a balancer need not take the host out"
    step(host, Tick(), now + 60)
    assert pool_health(host, "a").status is Status.HEALTHY
    assert host.instances[A].failures == 0


def test_who_fails_once_a_minute_is_not_called_a_loop() -> None:
    """Well for longer than `reset_after` between the failures: each of them is a first one."""
    host, now = up(1), 80.0
    for _ in range(4):
        now = crash(host, now, up_for=61.5)
        assert pool_health(host, "a").status is Status.HEALTHY


def test_many_that_loop_are_counted() -> None:
    """The page has room for a few."""
    host = up(REASONS_SHOWN + 2)
    for key, one in list(host.instances.items()):
        host.census["a"].count(one, -1)
        host.instances[key] = one._replace(failures=3)
        host.census["a"].count(host.instances[key], 1)
    assert pool_health(host, "a").reasons[-1] == "and 2 more instances"


def test_a_host_that_goes_down_says_only_that() -> None:
    """Every other reason follows from it."""
    host = up(1)
    step(host, ShutdownRequested(Wish(Scope(), "end")), 11.0)
    assert host_reasons(host) == ("the host is shutting down",)
    assert pool_health(host, "a").reasons == ("a is stopping: the host is shutting down",)


def test_unready_says_why() -> None:
    """A probe's last words are the reason; without any it is simply not ready yet."""
    one = up(1).instances[A]._replace(ready=False, unready_reason="http://x answered 503")
    assert why_not(one) == "a/0 is running but not ready: http://x answered 503"
