"""Bugs to plant, each in one place of the core or of the simulated kernel; the docstring says what breaks.

A bug says nothing about who finds it: see `test_checkers_bite`.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.core import (
    endings,
    errands,
    host,
    ladder,
    lifecycle,
    operations,
    readiness,
    rollout,
    shutdown,
    surge,
    turn,
    wishes,
)
from supervisor.core.effects import Kill, Release
from supervisor.core.events import Urgency
from supervisor.core.phases import Phase
from supervisor.core.state import Census
from tests.simulation.kernel import Kernel

Patch = pytest.MonkeyPatch


def no_generation_check(patch: Patch) -> None:
    """Facts about the dead are taken for facts about the living."""

    def observe(turn: Any, fact: Any) -> None:
        instance = turn.host.instances.get(fact.instance)
        if instance is not None:
            turn.put(lifecycle.react(turn.scene(fact.instance.pool), instance, fact))

    patch.setattr(host, "_observe", observe)


def double_spawn(patch: Patch) -> None:
    """A start is asked for twice."""
    real = lifecycle.start

    def start(scene: Any, instance: Any) -> Any:
        started = real(scene, instance)
        scene.effects.append(next(one for one in scene.effects if type(one).__name__ == "Spawn"))
        return started

    patch.setattr(lifecycle, "start", start)


def kill_too_early(patch: Patch) -> None:
    """Half of each window is enough."""
    real = ladder.rungs

    def rungs(*args: Any, **kwargs: Any) -> Any:
        return tuple(
            replace(rung, window_seconds=rung.window_seconds and rung.window_seconds / 2)
            for rung in real(*args, **kwargs)
        )

    patch.setattr(ladder, "rungs", rungs)


def drain_skipped(patch: Patch) -> None:
    """Every stop begins at its stages."""
    real = ladder.begin

    def begin(*args: Any, **kwargs: Any) -> Any:
        return real(*args, **{**kwargs, "drains": False})

    patch.setattr(ladder, "begin", begin)


def record_is_silent(patch: Patch) -> None:
    """Nobody writes down who skipped windows."""
    patch.setattr(endings, "_who_skipped", lambda stop: "")


def cut_is_silent(patch: Patch) -> None:
    """A window that a deadline made shorter passes for the declared one."""
    real = ladder._scaled
    patch.setattr(ladder, "_scaled", lambda rung, scale: replace(real(rung, scale), cut=False))


def told_before_it_is_killed(patch: Patch) -> None:
    """A wish for SIGKILL begins at the first stage and hurries on from there."""

    def kill(scene: Any, instance: Any, cause: Any, by: str) -> Any:
        instance = ladder.begin(scene, instance, cause, drains=False)
        return ladder.hurry(scene, instance, Urgency.KILL, by)

    patch.setattr(ladder, "kill", kill)


def windows_are_long(patch: Patch) -> None:
    """A window is twice as long as declared."""
    real = ladder.rungs

    def rungs(*args: Any, **kwargs: Any) -> Any:
        return tuple(
            replace(rung, window_seconds=rung.window_seconds and rung.window_seconds * 2 + 1)
            for rung in real(*args, **kwargs)
        )

    patch.setattr(ladder, "rungs", rungs)


def endless_extensions(patch: Patch) -> None:
    """The ceiling for requests for time is forgotten."""
    real = ladder.extend

    def extend(scene: Any, instance: Any, seconds: float) -> Any:
        stop = instance.stop
        forgetful = instance._replace(stop=stop._replace(extended_seconds=0.0))
        return real(scene, forgetful, seconds)

    patch.setattr(ladder, "extend", extend)


def shutdown_ignores_its_deadline(patch: Patch) -> None:
    """Windows are not fitted, and no pool is sent to its last rung in time."""
    real = shutdown.fit

    def fit(plan: Any, pools: Any, now: float, deadline: float) -> Any:
        return real(plan, pools, now, now + 100_000.0)

    patch.setattr(wishes, "shutdown", SimpleNamespace(fit=fit))


def leftovers_are_ignored(patch: Patch) -> None:
    """The end of the main process counts as the end of the tree."""
    real = endings.exited

    def exited(scene: Any, instance: Any, fact: Any) -> Any:
        return real(scene, instance, replace(fact, leftovers=0))

    patch.setattr(lifecycle, "exited", exited)


def forgotten_reap(patch: Patch) -> None:
    """Ends in a stop leave no record and release nothing."""
    real = endings.gone

    def gone(scene: Any, instance: Any, record: Any) -> Any:
        ended = real(scene, instance, record)
        scene.effects[:] = [one for one in scene.effects if type(one).__name__ not in {"Ended", "Forget"}]
        return ended

    patch.setattr(endings, "gone", gone)


def gate_ignored(patch: Patch) -> None:
    """Everybody starts at once."""
    patch.setattr(host, "_gate", lambda turn, name: "")


def hold_ignored(patch: Patch) -> None:
    """No pool waits for its dependents to be gone."""
    patch.setattr(turn.Turn, "held", lambda self, pool: "")


def others_wait(patch: Patch) -> None:
    """A pool starts only when every other one is well."""
    real = host._gate

    def gate(turn: Any, name: str) -> str:
        ill = [key for key, one in turn.host.instances.items() if one.phase is Phase.BACKOFF]
        return "strangers" if ill else real(turn, name)

    patch.setattr(host, "_gate", gate)


def gate_stays_shut(patch: Patch) -> None:
    """Nobody tells those who wait that their gate has opened."""
    patch.setattr(errands, "look", lambda turn, pool: None)


def max_unavailable_ignored(patch: Patch) -> None:
    """All turns of a rollout begin at once."""
    real = rollout._next_turns

    def next_turns(turn: Any, name: str, state: Any) -> Any:
        pool = turn.host.pools[name]
        generous = replace(pool.plan, rollout=replace(pool.plan.rollout, max_unavailable=99))
        turn.host.pools[name] = pool._replace(plan=generous)
        try:
            return real(turn, name, state)
        finally:
            turn.host.pools[name] = turn.host.pools[name]._replace(plan=pool.plan)

    patch.setattr(rollout, "_next_turns", next_turns)


def rollout_goes_on(patch: Patch) -> None:
    """A replacement that failed counts as replaced."""
    patch.setattr(rollout, "_trouble", lambda instance, old: "")
    real = rollout._is_replaced

    def is_replaced(turn: Any, pool: Any, instance: Any, old: int) -> bool:
        return instance.phase in {Phase.BACKOFF, Phase.FAILED} or real(turn, pool, instance, old)

    patch.setattr(rollout, "_is_replaced", is_replaced)


def too_many_surge(patch: Patch) -> None:
    """One more than max_surge is started."""

    def more(pool: Any) -> Any:
        rules = replace(pool.plan.rollout, max_surge=pool.plan.rollout.max_surge + 1)
        return pool._replace(plan=replace(pool.plan, rollout=rules))

    slots, wanted = surge._slots, surge._wanted
    patch.setattr(surge, "_slots", lambda pool: slots(more(pool)))
    patch.setattr(surge, "_wanted", lambda pool, rollout: wanted(more(pool), rollout))


def surge_generation_begins_anew(patch: Patch) -> None:
    """The second process in a surge slot has the name of the first."""
    real = surge._vanish

    def vanish(turn: Any, name: str, instance: Any) -> None:
        real(turn, name, instance._replace(generation=0))

    patch.setattr(surge, "_vanish", vanish)


def nobody_waits_for_the_replacement(patch: Patch) -> None:
    """Old ones go down while the surge instance is still starting, as if it stood in already."""
    patch.setattr(surge, "are_proven", lambda pool, rollout: True)
    patch.setattr(surge, "ready_count", lambda turn, rollout: len(rollout.surge))


def surge_is_counted_twice(patch: Patch) -> None:
    """Each that stands in makes room for two."""
    real = surge.ready_count
    patch.setattr(surge, "ready_count", lambda turn, rollout: 2 * real(turn, rollout))


def surge_fails_in_silence(patch: Patch) -> None:
    """A surge instance that does not become ready is taken for one that has proven itself."""
    patch.setattr(surge, "trouble", lambda instance, state: "")
    real, proven = rollout._trouble, rollout._is_replaced
    patch.setattr(rollout, "_trouble", lambda one, old: "" if one.surge else real(one, old))
    patch.setattr(
        rollout, "_is_replaced", lambda turn, pool, one, old: one.surge or proven(turn, pool, one, old)
    )


def surge_leaves_too_early(patch: Patch) -> None:
    """A halted rollout takes its surge instances away although somebody is missing."""
    real = surge.settle

    def settle(turn: Any, name: str) -> None:
        census = turn.host.census[name]
        wanted, census.wanted = census.wanted, census.wanted_at_goal
        try:
            real(turn, name)
        finally:
            census.wanted = wanted

    patch.setattr(surge, "settle", settle)


def surge_stays_for_ever(patch: Patch) -> None:
    """Nobody is sent away at the end."""
    patch.setattr(surge, "_send_away", lambda turn, instance: None)


def released_too_early(patch: Patch) -> None:
    """The slot goes when its process is asked to, not when it is gone."""
    real = surge._send_away

    def send_away(turn: Any, instance: Any) -> None:
        real(turn, instance)
        turn.emit(Release(instance.id))

    patch.setattr(surge, "_send_away", send_away)


def backoff_ignored(patch: Patch) -> None:
    """The next attempt follows at once."""
    patch.setattr(endings, "delay_seconds", lambda rules, failures, fraction: 0.0)


def never_gives_up(patch: Patch) -> None:
    """The limit of attempts is forgotten."""
    patch.setattr(endings, "has_given_up", lambda rules, starts, now: False)


def wish_not_idempotent(patch: Patch) -> None:
    """A repeated stop signals again."""
    real = lifecycle.leave

    def leave(scene: Any, instance: Any, cause: Any, *args: Any) -> Any:
        left = real(scene, instance, cause, *args)
        if left is instance and instance.has_process:
            scene.emit(Kill(instance.id, instance.generation))
        return left

    patch.setattr(lifecycle, "leave", leave)


def old_generation_is_signalled(patch: Patch) -> None:
    """A kill addresses the generation before."""
    real = ladder._act

    def act(scene: Any, instance: Any, rung: Any) -> Any:
        if instance.generation > 1:
            instance_before = instance._replace(generation=instance.generation - 1)
            real(scene, instance_before, rung)
            return instance
        return real(scene, instance, rung)

    patch.setattr(ladder, "_act", act)


def ready_without_asking(patch: Patch) -> None:
    """A process is called ready as soon as it exists."""
    patch.setattr(lifecycle, "_spawned", lambda scene, instance, pid: readiness.become_ready(scene, instance))


def stuck_for_ever(patch: Patch) -> None:
    """The end of what outlived SIGKILL is not taken in."""
    real = lifecycle.react

    def react(scene: Any, instance: Any, fact: Any) -> Any:
        return instance if instance.phase is Phase.STUCK else real(scene, instance, fact)

    patch.setattr(lifecycle, "react", react)


def counts_drift(patch: Patch) -> None:
    """An instance that becomes unready stays in the count."""
    real = Census.count

    def count(self: Census, instance: Any, step: int) -> None:
        ready = self.ready
        real(self, instance, step)
        if step < 0 and instance.id.index == 0:
            self.ready = ready

    patch.setattr(Census, "count", count)


def deadline_is_lost(patch: Patch) -> None:
    """A start may take for ever."""
    real = lifecycle.start

    def start(scene: Any, instance: Any) -> Any:
        return real(scene, instance)._replace(deadline=None)

    patch.setattr(lifecycle, "start", start)


def operations_never_end(patch: Patch) -> None:
    """A step that is done is not written down."""
    patch.setattr(operations, "observe", lambda turn, instance: None)


def backoff_never_ends(patch: Patch) -> None:
    """Whoever waits for the next attempt waits for ever."""
    real = lifecycle._deadline_passed

    def passed(scene: Any, instance: Any) -> Any:
        if instance.phase is Phase.BACKOFF:
            return instance._replace(deadline=scene.now + 100_000.0)
        return real(scene, instance)

    patch.setattr(lifecycle, "_deadline_passed", passed)


def kernel_loses_the_end(patch: Patch) -> None:
    """The kernel forgets to say that a tree is gone: the fault is in the world, and is seen all the same."""

    def child_ends(self: Kernel, tree: Any, child: int) -> None:
        tree.children_alive.discard(child)

    patch.setattr(Kernel, "_child_ends", child_ends)
