"""Promises 5, 6 and 8, about starts: not before the gates, not after them, and with patience.

Judged by the gates as the witness knows them and by a reckoning of backoff from the plan. The failures
that the core has counted and the moment for which it has armed a deadline are not believed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from supervisor.core.effects import Cause, Effect, Ended, Moved, Signal, Spawn
from supervisor.core.events import Event, Exited
from supervisor.core.identity import InstanceId
from supervisor.core.phases import ON_THE_WAY_OUT, Goal, Phase
from supervisor.core.plan import Kind
from tests.simulation.checker import EPSILON, Checker

if TYPE_CHECKING:
    from tests.simulation.world import World


class Gates(Checker):
    """Promise 5: nobody starts before its gates, nor is terminated before its dependents in a shutdown."""

    def __init__(self) -> None:
        self.for_shutdown: set[InstanceId] = set()

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        witness = world.witness
        for effect in effects:
            match effect:
                case Spawn():
                    pool = effect.instance.pool
                    is_open = self._was_open(world, effects, pool)
                    assert is_open, f"{effect.instance} starts before {world.plan.pools[pool].depends_on}"
                    goal = witness.slots[effect.instance].goal
                    assert goal is Goal.UP, f"{effect.instance} starts although it is wanted {goal}"
                case Moved(cause=Cause.SHUTDOWN) if effect.target in ON_THE_WAY_OUT:
                    self.for_shutdown.add(effect.instance)
                case Signal() if effect.instance in self.for_shutdown:
                    drain = world.plan.pools[effect.instance.pool].drain
                    drains = drain is not None and effect.signal == drain.signal
                    if not drains and effect not in world.witness.by_wish:
                        self._dependents_are_gone(world, event, effect.instance)
                case _:
                    pass

    def _was_open(self, world: "World", effects: Sequence[Effect], pool: str) -> bool:
        # Inside one step a gate may open and close again; the witness knows its state after each report.
        witness = world.witness
        return (
            witness.gate_is_open(pool, witness.available)
            or witness.gate_is_open(pool, witness.available_by_step)
            or pool in witness.opened_in_step
        )

    def _dependents_are_gone(self, world: "World", event: Event, key: InstanceId) -> None:
        tree = world.kernel.latest(key)
        if tree is None or tree.exit_told or isinstance(event, Exited):
            return
        for name in world.host.dependents[key.pool]:
            for instance in world.host.members_of(name):
                slot = world.witness.slots.get(instance.id)
                gone = slot is None or not slot.has_process or instance.phase is Phase.STUCK
                assert gone, f"{key} is terminated while {instance.id} lives"


class NoDelay(Checker):
    """Promise 6: whoever may start has started; nobody waits for a stranger."""

    def settled(self, world: "World") -> None:
        witness = world.witness
        for name in world.plan.pools:
            waiting = [one for one in world.host.members_of(name) if one.phase is Phase.PENDING]
            if not waiting or not world.booted:
                continue
            both = witness.gate_is_open(name, witness.available) and witness.gate_is_open(
                name, witness.available_by_step
            )
            for one in waiting:
                goal = one.goal if one.surge else witness.slots[one.id].goal
                assert not (both and goal is Goal.UP), f"{one.id} waits although its gates are open"


class Patience(Checker):
    """Promise 8: starts respect backoff and give_up; only an operator's wish is an excuse."""

    def __init__(self) -> None:
        self.failures: dict[InstanceId, int] = {}
        self.not_before: dict[InstanceId, float] = {}
        self.banned: dict[InstanceId, str] = {}
        self.starts: dict[InstanceId, list[float]] = {}

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        for key, slot in world.witness.slots.items():
            if slot.pardoned:
                self.failures[key] = 0
                self.not_before.pop(key, None)
                self.banned.pop(key, None)
                self.starts[key] = []
        for effect in effects:
            if isinstance(effect, Spawn):
                self._spawned(world, effect)
            elif isinstance(effect, Ended):
                self._ended(world, effect)

    def _spawned(self, world: "World", effect: Spawn) -> None:
        key = effect.instance
        assert key not in self.banned, f"{key} is started again although {self.banned[key]}"
        wait = self.not_before.get(key, world.now)
        assert world.now >= wait - EPSILON, f"{key} is started {wait - world.now:.3f} s too early"
        self.starts.setdefault(key, []).append(world.now)
        world.witness.slots[key].pardoned = False

    def _ended(self, world: "World", effect: Ended) -> None:
        key, record = effect.instance, effect.record
        slot, plan = world.witness.slots[key], world.plan.pools[key.pool]
        if slot.pardoned or slot.goal is not Goal.UP or self._is_restarting(world, key):
            slot.pardoned = True
            return
        rules = plan.restart
        clean = record.exit_class == "clean"
        if record.code in rules.permanent_exit_codes:
            self.banned[key] = "its exit code is permanent"
        elif clean and (plan.kind is Kind.TASK or rules.policy != "always"):
            self.banned[key] = "it has completed"
        elif rules.policy == "never":
            self.banned[key] = "its policy is never"
        well = slot.ready_at is not None and world.now - slot.ready_at >= rules.backoff.reset_after_seconds
        failures = self.failures[key] = 1 if well else self.failures.get(key, 0) + 1
        starts, give_up = self.starts.get(key, []), rules.give_up
        enough = give_up is not None and len(starts) >= give_up.starts
        if enough and give_up and world.now - starts[-give_up.starts] <= give_up.within_seconds:
            self.banned[key] = "it has given up"
        steady = min(
            rules.backoff.max_seconds, rules.backoff.initial_seconds * rules.backoff.factor ** (failures - 1)
        )
        self.not_before[key] = world.now + steady * (1.0 - rules.backoff.jitter)

    def _is_restarting(self, world: "World", key: InstanceId) -> bool:
        for name, _ in world.witness.restarts.get(key.pool, []):
            operation = world.host.operations.get(name)
            # The turn that was under way when a rollout ended goes on by itself.
            if operation is not None and key in world.host.steps[name]:
                return True
        return False
