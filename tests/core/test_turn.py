"""One step: what it leaves behind when it breaks (nothing), and what it costs the heap of deadlines."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from supervisor.core import host as core
from supervisor.core import lifecycle, operations
from supervisor.core.events import (
    Booted,
    DrainRequested,
    Event,
    Exited,
    RestartRequested,
    ShutdownRequested,
    Spawned,
    Tick,
    Told,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.plan import Condition, PoolPlan
from supervisor.core.state import Host
from supervisor.core.turn import Turn
from tests.playbook import Playbook, host_of, named, running, wish

WEB = named("web/0")


def same(host: Host) -> Host:
    """A copy for comparing: the order inside a heap means nothing."""
    copy = deepcopy(host)
    copy.heap.sort()
    return copy


@pytest.mark.parametrize(
    "event",
    [
        Exited(WEB, 1, ExitStatus(code=1)),
        DrainRequested(wish("web")),
        RestartRequested(wish("web")),
        ShutdownRequested(wish()),
        Exited(named("db/0"), 1, ExitStatus(code=0)),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_step_that_raises_leaves_the_host_as_it_was(event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a step breaks, nothing of it stays: no move, no count, no deadline, no operation."""
    book = running(PoolPlan("db"), PoolPlan("web", instances=3, depends_on={"db": Condition.READY}))
    assert book.at(500) >> Told(WEB, 1, status="fine")
    before = same(book.host)
    real = Turn._set
    broke = 0
    for depth in range(100):
        writes = iter(range(depth + 1))

        def write(*args: Any, writes: Iterator[int] = writes, depth: int = depth) -> None:
            real(*args)
            if next(writes) == depth:
                raise RuntimeError("planted")

        monkeypatch.setattr(Turn, "_set", write)
        try:
            core.step(book.host, event, 500.0)
            break
        except RuntimeError:
            broke += 1
            assert same(book.host) == before
    assert broke >= 2


def test_due_deadlines_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that was taken from the heap by a step that broke is due again."""
    book = (Playbook(host_of(PoolPlan("web"))) >> Booted()).at(5)
    before = same(book.host)
    monkeypatch.setattr(lifecycle, "start", lambda scene, instance: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        core.step(book.host, Tick(), 5.0)
    assert same(book.host) == before
    assert core.next_deadline(book.host) == 0


def test_the_end_is_taken_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A halt that could not be told is told by the next step."""
    book = running(PoolPlan("web")) >> ShutdownRequested(wish())
    book << "web/0 running > stopping (shutdown, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    before = same(book.host)
    monkeypatch.setattr(core, "Halt", lambda stuck: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        core.step(book.host, Exited(WEB, 1, ExitStatus(code=0)), 11.0)
    assert same(book.host) == before
    monkeypatch.undo()
    book >> Exited(WEB, 1, ExitStatus(code=0)) << "web/0 stopping > stopped (exit)"
    assert book << "halt"


def test_a_poisoned_deadline_is_put_off() -> None:
    """The runtime may let one deadline rest so that the others go on."""
    book = Playbook(host_of(PoolPlan("a"), PoolPlan("b"))) >> Booted()
    core.put_off(book.host, 7.0)
    book.until(1) << "spawn b/0#1 (boot)" << "b/0 pending > starting (boot)"
    book.until(7) << "spawn a/0#1 (boot)"
    assert book << "a/0 pending > starting (boot)"
    up = running(PoolPlan("a", watchdog_seconds=30.0)).host
    assert core.next_deadline(up) == 31.0
    core.put_off(up, 33.0)
    assert core.next_deadline(up) == 33.0
    empty = host_of(PoolPlan("a"))
    core.put_off(empty, 7.0)
    assert core.next_deadline(empty) is None


def test_superseded_deadlines_do_not_pile_up() -> None:
    """A worker that says WATCHDOG=1 a thousand times, or crashes so often, leaves no trace in the heap."""
    book = running(PoolPlan("web", watchdog_seconds=3600.0))
    for second in range(1000):
        book.at(10 + second / 10) >> Told(WEB, 1, watchdog=True)
    assert book
    assert len(book.host.heap) < 100


def test_a_superseded_deadline_is_passed_over() -> None:
    """A tick that comes late meets entries that do not hold any more."""
    book = running(PoolPlan("web", watchdog_seconds=30.0)) >> Told(WEB, 1, watchdog=True)
    assert book.at(39) >> Tick()
    assert core.next_deadline(book.host) == 40


def test_what_a_status_page_shows_is_a_new_revision() -> None:
    """Whoever waits for a change hears of a pid, a status text and a count, of which no report speaks."""
    book = (Playbook(host_of(PoolPlan("web"))) >> Booted()).until(0)
    book << "spawn web/0#1 (boot)" << "web/0 pending > starting (boot)"
    revision = book.host.revision
    for event in (Spawned(WEB, 1, 7), Told(WEB, 1, status="warm"), Told(WEB, 1, in_flight=2)):
        book >> event
        revision += 1
        assert book.host.revision == revision
    book >> Told(WEB, 1, status="warm") >> Tick()
    assert book.host.revision == revision


def test_ended_operations_are_kept_within_bounds() -> None:
    """The newest two hundred stay, each of them counted once."""
    book = running(PoolPlan("web"))
    for number in range(operations.KEPT_OPERATIONS + 50):
        core.step(book.host, RestartRequested(wish("web", f"op{number}"), only_failed=True), 11.0)
    assert len(book.host.operations) == operations.KEPT_OPERATIONS
    assert len(book.host.steps) == operations.KEPT_OPERATIONS
    assert next(iter(book.host.operations)) == "op50"
