"""Promises 1, 4 and 11, about processes: one at a time, none left over, none addressed by mistake.

Judged by the trees of the simulated kernel. That a phase says "stopped" is not believed: it is held
against what still lives, and against what the kernel has told.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from supervisor.core.effects import (
    Check,
    Effect,
    Ended,
    Forget,
    Kill,
    Moved,
    Release,
    Signal,
    Spawn,
)
from supervisor.core.events import Event
from supervisor.core.identity import InstanceId
from supervisor.core.phases import HAS_PROCESS
from tests.simulation.checker import Checker, Name
from tests.simulation.rollout_promises import is_covered

if TYPE_CHECKING:
    from tests.simulation.world import World


class OneProcess(Checker):
    """Promise 1: at most one live process per instance; each generation is started once, in order.

    A pool never exceeds its instances and max_surge, and has surge instances only for a rollout.
    """

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        spawned = [effect.instance for effect in effects if isinstance(effect, Spawn)]
        for pool in {key.pool for key in spawned}:
            self._pool_has_room(world, pool, spawned)
        for effect in effects:
            if isinstance(effect, Spawn):
                latest = world.kernel.latest(effect.instance)
                known = 0 if latest is None else latest.generation
                surge = effect.instance.index >= world.plan.pools[effect.instance.pool].instances
                # The generations of surge instances are counted for the pool, not for the slot.
                follows = effect.generation > known if surge else effect.generation == known + 1
                assert follows, f"{effect.instance} goes from {known} to {effect.generation}"
                assert not surge or is_covered(world, effect.instance), (
                    f"{effect.instance} is started for no rollout"
                )
                alive = [
                    tree.generation for tree in world.kernel.trees.get(effect.instance, []) if tree.alive
                ]
                assert not alive, f"{effect.instance} is started while generation {alive} lives"
                assert latest is None or latest.gone_told, (
                    f"{effect.instance} is started before its end was told"
                )

    def _pool_has_room(self, world: "World", pool: str, spawned: list[InstanceId]) -> None:
        plan = world.plan.pools[pool]
        living = {key for key, trees in world.kernel.trees.items() if trees[-1].alive and key.pool == pool}
        living.update(key for key in spawned if key.pool == pool)
        most = plan.instances + plan.rollout.max_surge
        assert len(living) <= most, f"{pool} has {len(living)} instances with a process, not {most} at most"


class NothingIsLeft(Checker):
    """Promise 4: when an instance counts as gone, nothing of its tree lives; each generation ends once."""

    def __init__(self) -> None:
        self.ended_names: set[Name] = set()
        self.forgotten: set[Name] = set()

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Moved() if effect.source in HAS_PROCESS and effect.target not in HAS_PROCESS:
                    tree = world.kernel.tree(effect.instance, effect.generation)
                    assert tree is not None and not tree.alive, (
                        f"{effect.instance} is {effect.target} but lives"
                    )
                    assert tree.gone_told, f"{effect.instance} is {effect.target} before its end was told"
                    assert (effect.instance, effect.generation) in self.ended_names, (
                        f"{effect.instance}: no record"
                    )
                case Ended():
                    name = (effect.instance, effect.record.generation)
                    assert name not in self.ended_names, f"{name} ends twice"
                    self.ended_names.add(name)
                case Forget():
                    name = (effect.instance, effect.generation)
                    assert name not in self.forgotten, f"{name} is forgotten twice"
                    assert name in self.ended_names, f"{name} is forgotten before it ended"
                    self.forgotten.add(name)
                case Release():
                    trees = world.kernel.trees.get(effect.instance, [])
                    alive = [tree.generation for tree in trees if tree.alive or not tree.gone_told]
                    assert not alive, f"{effect.instance} is released while generation {alive} lives"
                case _:
                    pass

    def ended(self, world: "World") -> None:
        for trees in world.kernel.trees.values():
            for tree in trees:
                name = (tree.instance, tree.generation)
                assert tree.alive or name in self.ended_names or not tree.gone_told, (
                    f"{name} was never reaped"
                )


class OwnGeneration(Checker):
    """Promise 11: acts address the living generation, never an older one, and nothing that was forgotten."""

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        started = {one.instance: one.generation for one in effects if isinstance(one, Spawn)}
        for effect in effects:
            if isinstance(effect, Signal | Kill | Check):
                latest = world.kernel.latest(effect.instance)
                known = 0 if latest is None else latest.generation
                newest = started.get(effect.instance, known)
                assert effect.generation == newest, f"{effect} addresses an older generation than {newest}"
                over = latest is not None and latest.generation == effect.generation and latest.forgotten
                assert not over, f"{effect} addresses what was forgotten"
