"""A worker that has only just begun is not signalled for a wish before it can have its handlers."""

import pytest

from supervisor.core.effects import Kill, Signal
from supervisor.core.events import (
    Booted,
    DrainRequested,
    Exited,
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
from supervisor.core.host import next_deadline, step
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Phase
from supervisor.core.plan import HostPlan, PoolPlan, Target
from supervisor.core.state import Host, create

A = InstanceId("a", 0)


def just_begun() -> Host:
    """One instance, spawned at 0.0, that counts as ready at 1.0."""
    host = create(HostPlan("h", {"a": PoolPlan("a", min_uptime_seconds=1.0)}))
    step(host, Booted(), 0.0)
    step(host, Tick(), 0.0)
    step(host, Spawned(A, 1, 10), 0.0)
    return host


@pytest.mark.parametrize(
    "event",
    [
        StopRequested(Wish(Scope("a"), "one")),
        DrainRequested(Wish(Scope("a"), "one")),
        ShutdownRequested(Wish(Scope(), "one")),
    ],
    ids=["stop", "drain", "shutdown"],
)
def test_a_wish_waits_until_the_first_moments_are_over(event: StopRequested | DrainRequested) -> None:
    """TERM comes when its pool would have called it up, not into the import of its own program."""
    host = just_begun()
    effects = step(host, event, 0.25)
    assert not any(isinstance(effect, Signal) for effect in effects)
    instance = host.instances[A]
    assert (instance.phase, instance.rung and instance.rung.name) == (Phase.DRAINING, "settle")
    assert next_deadline(host) == 1.0
    assert "started" in instance.waiting_for
    assert Signal(A, 1, "SIGTERM", Target.MAIN) in step(host, Tick(), 1.0)


def test_now_and_kill_do_not_wait() -> None:
    """An operator in a hurry is obeyed at once."""
    host = just_begun()
    effects = step(host, StopRequested(Wish(Scope("a"), "one"), Urgency.NOW), 0.25)
    assert Signal(A, 1, "SIGTERM", Target.MAIN) in effects
    host = just_begun()
    assert Kill(A, 1) in step(host, StopRequested(Wish(Scope("a"), "one"), Urgency.KILL), 0.25)


def test_a_resume_in_the_first_moments_lets_the_stop_end_first() -> None:
    """It was never ready, so it cannot simply be called running again: a new start follows."""
    host = just_begun()
    step(host, StopRequested(Wish(Scope("a"), "one")), 0.25)
    step(host, ResumeRequested(Wish(Scope("a"), "two")), 0.5)
    assert host.instances[A].phase is Phase.DRAINING
    step(host, Tick(), 1.0)
    step(host, Exited(A, 1, ExitStatus(signal="SIGTERM")), 1.1)
    assert (host.instances[A].phase, host.instances[A].generation) == (Phase.STARTING, 2)


def test_before_the_process_exists_nothing_is_waited_for() -> None:
    """Without a spawned process there are no handlers to wait for."""
    host = create(HostPlan("h", {"a": PoolPlan("a", min_uptime_seconds=1.0)}))
    step(host, Booted(), 0.0)
    step(host, Tick(), 0.0)
    step(host, StopRequested(Wish(Scope("a"), "one")), 0.0)
    assert host.instances[A].phase is Phase.STOPPING


def test_who_was_up_in_time_is_ready_however_late_that_is_noticed() -> None:
    """Both moments have passed when the daemon looks again: it had been held still for a minute and more."""
    host = just_begun()
    effects = step(host, Tick(), 75.0)
    assert not any(isinstance(effect, Signal) for effect in effects)
    assert (host.instances[A].phase, host.instances[A].ready) == (Phase.RUNNING, True)


def test_a_start_may_time_out_before_its_first_moments_are_over() -> None:
    """The earlier of two moments that have passed decides, whichever way round the manifest has them."""
    plan = PoolPlan("a", min_uptime_seconds=90.0, startup_timeout_seconds=60.0)
    host = create(HostPlan("h", {"a": plan}))
    for event in (Booted(), Tick(), Spawned(A, 1, 10)):
        step(host, event, 0.0)
    assert Signal(A, 1, "SIGTERM", Target.MAIN) in step(host, Tick(), 95.0)
