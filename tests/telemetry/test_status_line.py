"""The status line: what is well, the first thing that is not, and never more than one harmless line."""

from dataclasses import replace

from supervisor.core.events import (
    Booted,
    Exited,
    Scope,
    ShutdownRequested,
    Spawned,
    StopRequested,
    Tick,
    Wish,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.host import next_deadline, step
from supervisor.core.identity import InstanceId
from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.core.state import Host, create
from supervisor.telemetry.status_line import MAX_CHARACTERS, status_line

A, B = InstanceId("a", 0), InstanceId("b", 0)


def up(*pools: PoolPlan) -> tuple[Host, float]:
    """A host whose instances all run and are ready, and the time by then."""
    host = create(HostPlan("h", {pool.name: pool for pool in pools}))
    step(host, Booted(), 0.0)
    step(host, Tick(), 0.0)
    for one in host.instances.values():
        step(host, Spawned(one.id, one.generation, 100), 0.0)
    while not all(one.ready for one in host.instances.values()):
        now = next_deadline(host)
        assert now is not None
        step(host, Tick(), now)
    return host, 1.0


def test_a_well_host_is_said_to_be_well() -> None:
    """All pools are counted, and nothing else is said."""
    host, now = up(PoolPlan("a", instances=2), PoolPlan("b"))
    assert status_line(host, now) == "2/2 pools healthy"
    host, now = up(PoolPlan("a"))
    assert status_line(host, now) == "1/1 pool healthy"


def test_the_first_trouble_is_named_and_the_others_are_counted() -> None:
    """One sentence says why, as the status page does; a pool that an operator stopped counts too."""
    host, now = up(PoolPlan("a"), PoolPlan("b"), PoolPlan("c"))
    step(host, Exited(A, 1, ExitStatus(code=3)), now)
    assert status_line(host, now) == (
        "2/3 pools healthy; a/0 is backoff, waiting for its next attempt after exit 3"
    )
    step(host, StopRequested(Wish(Scope("b"), "op-1")), now)
    assert status_line(host, now).startswith("1/3 pools healthy; a/0 is backoff")
    assert status_line(host, now).endswith("; and 1 more pool")


def test_the_end_of_the_host_counts_down() -> None:
    """While the host goes, what is left of it and of its time is said."""
    host, now = up(PoolPlan("a", instances=2))
    step(host, ShutdownRequested(Wish(Scope(), "op-1")), now)
    assert host.shutdown is not None
    assert status_line(host, host.shutdown.deadline - 7.5) == "shutting down: 2 instances left, 7.5 s at most"
    step(host, Exited(InstanceId("a", 1), 1, ExitStatus(code=0)), now)
    assert status_line(host, host.shutdown.deadline + 1) == "shutting down: 1 instance left, 0 s at most"
    step(host, Exited(A, 1, ExitStatus(code=0)), now)
    assert status_line(host, now) == "shutting down: every instance is gone"


def test_the_line_is_one_harmless_line() -> None:
    """What a worker may have a say in can neither break the line nor make it long."""
    host, now = up(PoolPlan("a"))
    step(host, Exited(A, 1, ExitStatus(code=3)), now)
    instance = host.instances[A]
    assert instance.last_exit is not None
    for detail in ("x\nREADY=1\0\x1b[2J", "y" * 10_000):
        host.instances[A] = instance._replace(last_exit=replace(instance.last_exit, detail=detail))
        line = status_line(host, now)
        assert line.isprintable()
        assert len(line) < MAX_CHARACTERS + 20
