"""The single writer: order, slices, one timer, and faults that never stop supervision."""

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import pytest

from supervisor.core.effects import (
    Accepted,
    Moved,
    ReleaseBarrier,
    Report,
    Signal,
    Spawn,
)
from supervisor.core.events import (
    BarrierReached,
    Booted,
    Exited,
    Scope,
    SignalRequested,
    Spawned,
    StopRequested,
    Told,
    Wish,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.host import step
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Phase
from supervisor.core.state import Host
from supervisor.runtime import engine as engine_module
from tests.runtime.engine_rig import A, Rig
from tests.waiting import async_eventually


async def test_boot_spawns_and_the_timer_makes_ready() -> None:
    """A posted boot starts what is wanted, and the one timer brings it to ready without another event."""
    rig = Rig(instances=3)
    rig.engine.post(Booted())
    await async_eventually(lambda: all(one.ready for one in rig.host.instances.values()))
    assert sum(isinstance(act, Spawn) for act in rig.acts) == 3


async def test_a_thousand_starts_are_cut_into_slices_and_all_happen() -> None:
    """Between slices the loop turns: something else scheduled in it runs before the last spawn."""
    rig = Rig(instances=1000)
    seen_at: list[int] = []

    def look() -> None:
        spawned = sum(isinstance(act, Spawn) for act in rig.acts)
        seen_at.append(spawned)
        if spawned < 1000:
            asyncio.get_running_loop().call_soon(look)

    asyncio.get_running_loop().call_soon(look)
    rig.engine.post(Booted())
    await async_eventually(lambda: all(one.ready for one in rig.host.instances.values()))
    assert len({count for count in seen_at if 0 < count < 1000}) > 3


async def test_acts_come_before_reports_and_reports_before_the_answer() -> None:
    """No worker waits for a log line, and who asked is answered when everybody has been told."""
    rig = Rig()
    rig.engine.post(Booted())
    await async_eventually(lambda: rig.host.instances[A].ready)
    told: list[tuple[int, bool]] = []
    answer = asyncio.ensure_future(rig.engine.ask(StopRequested(Wish(Scope("a"), "one"))))
    rig.acts.clear()
    rig.engine._observers = [lambda *_: told.append((len(rig.acts), answer.done()))]
    await answer
    assert told == [(1, False)]
    assert isinstance(rig.acts[0], Signal)


async def test_ask_returns_the_effects_of_that_wish() -> None:
    """Who asks gets the answer to their own wish, also when the engine was busy."""
    rig = Rig()
    rig.engine.post(Booted())
    first, second = await asyncio.gather(
        rig.engine.ask(StopRequested(Wish(Scope("a"), "one"))),
        rig.engine.ask(StopRequested(Wish(Scope("nope"), "two"))),
    )
    assert Accepted("one") in first
    assert any(getattr(effect, "kind", "") == "unknown-pool" for effect in second)


async def test_changed_returns_once_the_revision_has_grown() -> None:
    """A watcher sleeps until something visible happens, and not longer."""
    rig = Rig(min_uptime=0.0)
    waiting = asyncio.ensure_future(rig.engine.changed(rig.host.revision))
    await asyncio.sleep(0)
    assert not waiting.done()
    rig.engine.post(Booted())
    await asyncio.wait_for(waiting, 30)


async def test_a_barrier_is_released_after_what_was_said_before_it() -> None:
    """Acts keep the order of the events that caused them."""
    rig = Rig(min_uptime=0.0)
    rig.engine.post(Booted())
    await async_eventually(lambda: rig.host.instances[A].ready)
    rig.engine.post(Told(A, 1, status="before"))
    rig.engine.post(BarrierReached(7))
    await async_eventually(lambda: rig.acts[-1] == ReleaseBarrier(7))
    assert rig.host.instances[A].status_text == "before"


async def test_a_step_that_raises_is_counted_and_supervision_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken invariant costs one event, never the others."""
    rig = Rig(instances=2, strict=False, min_uptime=0.0)
    rig.engine.post(Booted())
    await async_eventually(lambda: all(one.ready for one in rig.host.instances.values()))
    real = step

    def broken(host: Host, event: Any, now: float) -> Any:
        if isinstance(event, Told):
            raise AssertionError("planted")
        return real(host, event, now)

    monkeypatch.setattr(engine_module, "step", broken)
    rig.engine.post(Told(A, 1, status="x"))
    rig.engine.post(Exited(InstanceId("a", 1), 1, ExitStatus(code=1)))
    await async_eventually(lambda: rig.host.instances[InstanceId("a", 1)].phase is Phase.BACKOFF)
    assert rig.engine.faults == 1


async def test_a_deadline_whose_decision_raises_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One poisoned instance is found alone and put off; its neighbours' deadlines are met."""
    rig = Rig(instances=5, strict=False)
    from supervisor.core import lifecycle

    real = lifecycle.due

    def due(scene: Any, instance: Any) -> Any:
        if instance.id == A:
            raise AssertionError("planted")
        return real(scene, instance)

    monkeypatch.setattr(lifecycle, "due", due)
    rig.engine.post(Booted())
    await async_eventually(lambda: sum(one.ready for one in rig.host.instances.values()) == 4)
    assert not rig.host.instances[A].ready
    assert rig.engine.faults < 20, "it must not spin"
    monkeypatch.setattr(lifecycle, "due", real)
    await async_eventually(lambda: rig.host.instances[A].ready)


async def test_the_step_of_a_wish_has_a_slice_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken by who posts it, nor after other work of the same slice, however little that took."""
    rig, order = Rig(), []
    monkeypatch.setattr(engine_module, "SLICE_SECONDS", 100)

    def noted(host: Host, event: Any, now: float) -> Any:
        order.append(type(event).__name__)
        return step(host, event, now)

    def spawn(act: Spawn) -> None:
        rig.engine.post(StopRequested(Wish(Scope("a"), "op-2")))
        asyncio.get_running_loop().call_soon(order.append, "the loop turns")
        rig.engine.post(Spawned(act.instance, act.generation, 1000))

    monkeypatch.setattr(engine_module, "step", noted)
    monkeypatch.setitem(rig.engine._performers, Spawn, spawn)
    rig.engine.post(SignalRequested(Wish(Scope("a"), "op-1"), "SIGHUP"))
    assert order == []
    rig.engine.post(Booted())
    await async_eventually(lambda: "StopRequested" in order)
    assert order[0] == "SignalRequested"
    assert order.index("the loop turns") < order.index("StopRequested")
    rig.engine.close()


async def test_many_reports_are_told_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, in their order, before who asked is answered and before the next event is taken."""
    monkeypatch.setattr(engine_module, "TOLD_AT_ONCE", 1)
    rig = Rig()
    told: list[tuple[int, Report]] = []

    def note(reports: Sequence[Report], _host: Host, _now: float) -> None:
        told.extend((len(reports), report) for report in reports)

    monkeypatch.setattr(rig.engine, "_observers", [note])
    rig.engine.post(Booted())
    await async_eventually(lambda: rig.host.instances[A].ready)
    told.clear()
    effects = await rig.engine.ask(StopRequested(Wish(Scope("a"), "op")))
    reports = [one for one in effects if type(one) in engine_module._REPORTS]
    assert len(reports) > 1
    assert told[: len(reports)] == [(1, report) for report in reports]


async def test_garbage_is_looked_for_between_slices_and_after_so_much_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a step nor an act is held up by the collector; `tidy` comes in a turn of its own."""
    monkeypatch.setattr(engine_module, "TIDY_EFFECTS", 1)
    rig, seen, tidied = Rig(), [], 0

    def tidy() -> None:
        nonlocal tidied
        tidied += 1
        assert not rig.engine._working
        assert gc.isenabled()

    def spawn(_act: Spawn) -> None:
        seen.append(gc.isenabled())

    monkeypatch.setattr(rig.engine, "_tidy", tidy)
    monkeypatch.setitem(rig.engine._performers, Spawn, spawn)
    rig.engine.post(Booted())
    await async_eventually(lambda: tidied > 0 and seen)
    assert seen == [False]
    assert gc.isenabled()
    rig.engine.close()


async def test_deadlines_wait_for_what_has_happened() -> None:
    """As long as ends are waiting to be told no deadline is called missed, but not for ever."""
    rig = Rig(min_uptime=0.02)
    behind, asked = True, 0

    def is_behind() -> bool:
        nonlocal asked
        asked += 1
        return behind

    rig.engine._is_behind = is_behind
    rig.engine.post(Booted())
    await async_eventually(lambda: asked > 20)
    assert not rig.host.instances[A].ready
    await async_eventually(lambda: rig.host.instances[A].ready, what="the time is over")
    asked, behind = 0, False
    rig.engine.post(Exited(A, 1, ExitStatus(code=1)))
    await async_eventually(lambda: rig.host.instances[A].generation == 2)
    assert asked == 1


async def test_an_act_or_an_observer_that_raises_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be performed or reported is our bug; it must not end the daemon."""
    rig = Rig(strict=False, min_uptime=0.0)
    monkeypatch.setattr(rig, "reports", None)
    rig.engine.post(Booted())
    await async_eventually(lambda: rig.host.instances[A].ready)
    assert rig.engine.faults > 0


async def test_closed_means_closed() -> None:
    """After close no event is taken and no timer rings."""
    rig = Rig()
    rig.engine.post(Booted())
    rig.engine.close()
    revision = rig.host.revision
    rig.engine.post(Exited(A, 1, ExitStatus(code=0)))
    assert rig.host.revision == revision
    assert not any(isinstance(report, Moved) and report.target is Phase.RUNNING for report in rig.reports)
