"""What goes first where much is due at one moment: deadlines, whom a wish concerns, ends, log lines."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from supervisor.core.effects import Moved, Report, Signal, Spawn
from supervisor.core.events import Booted, Exited, Scope, StopRequested, Told, Wish
from supervisor.core.exits import ExitStatus
from supervisor.core.host import step
from supervisor.core.phases import Phase
from supervisor.core.state import Host
from supervisor.runtime import engine as engine_module
from tests.runtime.engine_rig import A, Rig
from tests.waiting import async_eventually


def started(rig: Rig) -> bool:
    """Whether all are on their way."""
    return all(one.phase is Phase.STARTING for one in rig.host.instances.values())


@pytest.mark.parametrize(("seconds", "before"), [(0.01, 40), (0, 8)])
async def test_deadlines_of_one_moment_go_before_what_came_after(
    monkeypatch: pytest.MonkeyPatch, seconds: float, before: int
) -> None:
    """More than fit into one step are due at once: an end that follows the first is heard after the last.

    Once their precedence is over it is heard after the step on its way.
    """
    rig = Rig(instances=40, min_uptime=50)
    rig.engine.post(Booted())
    await async_eventually(lambda: rig.is_at_rest and started(rig))
    order: list[Phase] = []
    clock = rig.engine.now() + 51

    def note(reports: Sequence[Report], _host: Host, _now: float) -> None:
        moves = [report for report in reports if isinstance(report, Moved)]
        order.extend(move.target for move in moves)
        if any(move.instance == A and move.target is Phase.RUNNING for move in moves):
            rig.engine.post(Exited(A, 1, ExitStatus(code=0)))

    monkeypatch.setattr(rig.engine, "_observers", [note])
    # The clock stands still, so that the slice does not end, nor the precedence.
    monkeypatch.setattr(engine_module, "DEADLINES_FIRST_SECONDS", seconds)
    monkeypatch.setattr(rig.engine._loop, "time", lambda: clock)
    rig.engine._heard_until = clock + 1
    rig.engine._ring()
    assert order.index(Phase.BACKOFF) == before
    rig.engine.close()


@pytest.mark.parametrize(("seconds", "before"), [(0.01, 5), (0, 1)])
async def test_nobody_whose_deadline_has_passed_waits_for_a_log_line(
    monkeypatch: pytest.MonkeyPatch, seconds: float, before: int
) -> None:
    """Deadlines that passed together are all acted on before the first is told of, while they go first."""
    rig = Rig(instances=40, min_uptime=50)
    rig.engine.post(Booted())
    await async_eventually(lambda: rig.is_at_rest and started(rig))
    order: list[str] = []
    clock = rig.engine.now() + 51

    def noted(*arguments: Any) -> Any:
        order.append("step")
        return step(*arguments)

    monkeypatch.setattr(engine_module, "step", noted)
    monkeypatch.setattr(rig.engine, "_observers", [lambda *_: order.append("told")])
    monkeypatch.setattr(engine_module, "DEADLINES_FIRST_SECONDS", seconds)
    monkeypatch.setattr(rig.engine._loop, "time", lambda: clock)
    rig.engine._heard_until = clock + 1
    rig.engine._ring()
    assert order.index("told") == before
    assert not rig.engine.more_is_due
    assert order.count("told") == before
    rig.engine.close()


@pytest.mark.parametrize(("seconds", "before"), [(60.0, 40), (0.0, 8)])
async def test_all_whom_a_wish_concerns_are_told_before_what_comes_of_it(
    monkeypatch: pytest.MonkeyPatch, seconds: float, before: int
) -> None:
    """More than fit into one step are to end: no log line and no end goes before the signal to the last.

    Once their precedence is over, they take turns.
    """
    rig = Rig(instances=40, min_uptime=0.0)
    rig.engine.post(Booted())
    await async_eventually(lambda: all(one.ready for one in rig.host.instances.values()))
    monkeypatch.setattr(engine_module, "ERRANDS_FIRST_SECONDS", seconds)
    seen: list[tuple[int, bool]] = []

    def note(reports: Sequence[Report], _host: Host, _now: float) -> None:
        if any(isinstance(report, Moved) for report in reports):
            signals = sum(isinstance(act, Signal) for act in rig.acts)
            seen.append((signals, rig.engine.more_is_due))

    monkeypatch.setattr(rig.engine, "_observers", [note])
    rig.engine.post(StopRequested(Wish(Scope("a"), "op-1")))
    await async_eventually(lambda: len(seen) >= 5)
    assert seen[0] == (before, False)
    assert sum(isinstance(act, Signal) for act in rig.acts) == 40
    rig.engine.close()


async def test_whoever_posts_while_many_are_told_does_not_wait_for_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is begun for many takes turns with what is in the inbox already, and so with every deadline."""
    rig, order = Rig(instances=40, min_uptime=0.0), []
    rig.engine.post(Booted())
    await async_eventually(lambda: all(one.ready for one in rig.host.instances.values()))
    monkeypatch.setattr(engine_module, "ERRANDS_FIRST_SECONDS", 60.0)

    def noted(host: Host, event: Any, now: float) -> Any:
        order.append(type(event).__name__)
        return step(host, event, now)

    monkeypatch.setattr(engine_module, "step", noted)
    monkeypatch.setitem(rig.engine._performers, Signal, lambda act: rig.engine.post(Told(A, 1, status="x")))
    rig.engine.post(StopRequested(Wish(Scope("a"), "op-1")))
    await async_eventually(lambda: order.count("Told") == 40)
    assert order[:3] == ["StopRequested", "CarryOn", "CarryOn"]
    assert order[3:11] == ["Told"] * 8
    assert order[11] == "CarryOn"
    rig.engine.close()


@pytest.mark.parametrize(("behind", "before", "heard"), [(False, 5, 2), (True, 1, 1)])
async def test_deadlines_that_pass_while_others_are_met_go_first_too(
    monkeypatch: pytest.MonkeyPatch, behind: bool, before: int, heard: int
) -> None:
    """What was said meanwhile is heard before they are met; ends that have happened are told before."""
    rig = Rig(instances=40, min_uptime=50)
    rig.engine.post(Booted())
    await async_eventually(lambda: rig.is_at_rest and started(rig))
    deadlines = sorted(one.wake_at() or 0.0 for one in rig.host.instances.values())
    order: list[str] = []
    clock = deadlines[0]

    def noted(*arguments: Any) -> Any:
        nonlocal clock
        order.append("step")
        effects = step(*arguments)
        clock = deadlines[-1] + 0.001
        return effects

    rig.engine._is_behind = lambda: behind and "step" in order
    rig.engine._before_tick = lambda: order.append("heard")
    monkeypatch.setattr(engine_module, "SLICE_SECONDS", 100)
    monkeypatch.setattr(engine_module, "DEADLINES_FIRST_SECONDS", 1000)
    monkeypatch.setattr(engine_module, "step", noted)
    monkeypatch.setattr(rig.engine, "_observers", [lambda *_: order.append("told")])
    monkeypatch.setattr(rig.engine._loop, "time", lambda: clock)
    rig.engine._heard_until = clock + 1000
    rig.engine._ring()
    assert deadlines[0] < deadlines[-8], "they were not to be due at one moment"
    first = order[: order.index("told")]
    assert first.count("step") >= before
    assert first.count("heard") == heard
    rig.engine.close()


async def test_what_is_to_be_performed_goes_before_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the loop turns between one act and the next, as long as one is left."""
    rig, urgent = Rig(instances=4), []

    def spawn(act: Spawn) -> None:
        urgent.append(rig.engine.more_is_due)
        threading.Event().wait(2 * engine_module.SLICE_SECONDS)
        rig._spawn(act)

    monkeypatch.setitem(rig.engine._performers, Spawn, spawn)
    rig.engine.post(Booted())
    await async_eventually(lambda: len(urgent) == 4)
    assert urgent == [True, True, True, False]
    rig.engine.close()
