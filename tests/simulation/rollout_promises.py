"""Promise 7, about rollouts: how many are away at a time, and nobody after a failure.

Judged by what the witness knows of readiness. Of the core's rollout only the operation is read: whether
it is under way and whom it concerns; whose turn it is and what has proven itself is reckoned anew.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from supervisor.core.effects import Cause, Effect, Ended, Moved, ReadyChanged, Spawn
from supervisor.core.events import Event
from supervisor.core.identity import InstanceId
from supervisor.core.phases import ON_THE_WAY_OUT, Goal
from tests.simulation.checker import EPSILON, Checker, Name

if TYPE_CHECKING:
    from tests.simulation.world import World


def _sets_out(move: Moved) -> bool:
    return move.target in ON_THE_WAY_OUT and move.source not in ON_THE_WAY_OUT


class Rollouts(Checker):
    """Promise 7: a rollout takes down at most max_unavailable, and nobody once a replacement has failed.

    With max_surge somebody who is ready goes down only once a surge instance has proven itself, and a
    surge instance that is ready leaves only when no declared one is missing that it stands in for.
    """

    def __init__(self) -> None:
        self.replaced: dict[InstanceId, tuple[int, int]] = {}
        self.taken_down_for: dict[InstanceId, int] = {}
        self.failed: dict[str, InstanceId] = {}
        self.known: dict[str, int] = {}
        self.proven: set[Name] = set()
        self.stands_in: dict[InstanceId, str] = {}

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        witness = world.witness
        for pool, restarts in witness.restarts.items():
            if len(restarts) != self.known.get(pool, 0):
                self.known[pool] = len(restarts)
                self.failed.pop(pool, None)
        self._stand_in(world)
        for effect in effects:
            if isinstance(effect, Moved) and _sets_out(effect):
                so_far = len(witness.restarts.get(effect.instance.pool, ()))
                self.taken_down_for[effect.instance] = so_far
            match effect:
                case Spawn(cause=Cause.SURGE):
                    self.stands_in.pop(effect.instance, None)
                    so_far = len(witness.restarts.get(effect.instance.pool, ()))
                    self.replaced[effect.instance] = (effect.generation, so_far)
                case Spawn(cause=Cause.RESTART):
                    # Who was on its way down before a restart was asked for is not replaced by that one.
                    so_far = len(witness.restarts.get(effect.instance.pool, ()))
                    so_far = self.taken_down_for.pop(effect.instance, so_far)
                    self.replaced[effect.instance] = (effect.generation, so_far)
                case Ended():
                    self._ended(world, effect)
                case Moved(cause=Cause.RESTART) if _sets_out(effect):
                    pool = effect.instance.pool
                    assert pool not in self.failed, (
                        f"{effect.instance} is restarted after {self.failed[pool]} failed"
                    )
                    assert is_covered(world, effect.instance), f"{effect.instance} is restarted by nobody"
                case ReadyChanged(ready=False, reason="stopping (restart)"):
                    # Who was unready anyway costs no capacity.
                    self._capacity(world, effect.instance)
                case ReadyChanged(ready=False, reason="stopping (surge)"):
                    missing = [
                        other
                        for other in self._siblings(world, effect.instance)
                        if self._is_missing(world, other)
                    ]
                    # One that has yet to prove itself serves as well as any other, once nobody waits.
                    slots = world.witness.slots
                    left = [key for key in world.witness.surge(effect.instance.pool) if slots[key].ready]
                    assert len(missing) <= len(left), (
                        f"{effect.instance} leaves, missing {missing}, left {left}"
                    )
                case _:
                    pass

    def settled(self, world: "World") -> None:
        for key, (generation, _) in self.replaced.items():
            slot, wanted = world.witness.slots[key], world.plan.pools[key.pool].rollout.min_ready_seconds
            ready_for = world.now - slot.ready_at if slot.ready and slot.ready_at is not None else -1.0
            if generation == slot.generation and ready_for >= wanted - EPSILON:
                # From here on it is one of the pool like any other, even if it is ready anew later.
                self.proven.add((key, generation))

    def _stand_in(self, world: "World") -> None:
        """Whoever has been ready for long enough stands in, from this moment on."""
        for key, (generation, _) in self.replaced.items():
            slot, rules = world.witness.slots[key], world.plan.pools[key.pool].rollout
            if slot.surge and slot.ready and slot.ready_at is not None and generation == slot.generation:
                proven = world.now - slot.ready_at >= rules.min_ready_seconds - EPSILON
                if proven and key not in self.stands_in:
                    self.stands_in[key] = covering(world, key) or ""

    def _ended(self, world: "World", effect: Ended) -> None:
        """A replacement that ends before it has proven itself has failed, unless somebody wanted it away."""
        key, slot = effect.instance, world.witness.slots[effect.instance]
        generation, restarts = self.replaced.get(key, (0, 0))
        pool = world.plan.pools[key.pool]
        if generation != effect.record.generation or slot.goal is not Goal.UP or not is_covered(world, key):
            return
        if restarts != len(world.witness.restarts[key.pool]):
            # What an earlier restart brought is not a replacement of this one.
            return
        proven = (
            slot.ready_at is not None
            and world.now - slot.ready_at >= pool.rollout.min_ready_seconds - EPSILON
        )
        if not proven and effect.record.exit_class != "clean":
            self.failed[key.pool] = key

    def _standing(self, world: "World", pool: str) -> list[InstanceId]:
        """The surge instances that have proven themselves once and are ready."""
        slots = world.witness.slots
        return [key for key in world.witness.surge(pool) if key in self.stands_in and slots[key].ready]

    def _capacity(self, world: "World", key: InstanceId) -> None:
        rules = world.plan.pools[key.pool].rollout
        unready = [other for other in self._siblings(world, key) if self._is_missing(world, other)]
        proving = [
            other
            for other in self._siblings(world, key)
            if other not in unready and self._is_proving(world, other)
        ]
        taken = len({*unready, key, *proving})
        standing = self._standing(world, key.pool)
        assert taken <= rules.max_unavailable + len(standing), (
            f"{key} goes down, unready {unready}, proving {proving}, standing in {standing}"
        )
        if rules.max_surge:
            rollout = covering(world, key)
            backed = any(other.pool == key.pool and by == rollout for other, by in self.stands_in.items())
            assert backed, f"{key} goes down before a replacement is ready"

    def _siblings(self, world: "World", key: InstanceId) -> list[InstanceId]:
        return [InstanceId(key.pool, index) for index in range(world.plan.pools[key.pool].instances)]

    def _is_missing(self, world: "World", key: InstanceId) -> bool:
        slot = world.witness.slots[key]
        return slot.goal is Goal.UP and not slot.ready and not slot.finished

    def _is_proving(self, world: "World", key: InstanceId) -> bool:
        slot, (generation, restarts) = world.witness.slots[key], self.replaced.get(key, (0, -1))
        wanted = world.plan.pools[key.pool].rollout.min_ready_seconds
        young = slot.ready_at is not None and world.now - slot.ready_at < wanted - EPSILON
        if (key, generation) in self.proven:
            return False
        latest = generation == slot.generation and restarts == len(world.witness.restarts[key.pool])
        return slot.ready and slot.goal is Goal.UP and latest and young


def covering(world: "World", key: InstanceId) -> str | None:
    """The restart under way, or ended in this very moment, that concerns an instance."""
    for name, _ in world.witness.restarts.get(key.pool, []):
        operation = world.host.operations.get(name)
        under_way = operation is not None and operation.finished_at in (None, world.now)
        if under_way and key in world.host.steps[name]:
            return name
    return None


def is_covered(world: "World", key: InstanceId) -> bool:
    """Whether a restart under way concerns an instance."""
    return covering(world, key) is not None
