"""Promises 9 and 12, about wishes: said twice they do no more, and once faults stop each is fulfilled.

Judged by the goals as the witness heard them and by who lives. That an operation calls itself finished
is not enough: its target must be as it was wanted.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from supervisor.core.effects import Act, Cause, Climbed, Effect, GoalChanged, Moved, ReadyChanged
from supervisor.core.events import CarryOn, Event, OperatorWish
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import ON_THE_WAY_OUT, Goal, Phase
from tests.simulation.checker import Checker
from tests.simulation.witness import Slot

if TYPE_CHECKING:
    from tests.simulation.world import World


class Repeatable(Checker):
    """Promise 9: the same wish again, at the same moment, changes nothing further."""

    def __init__(self) -> None:
        self.repeated = False
        self.instances: dict[InstanceId, Instance] = {}

    def before(self, world: "World", event: Event) -> None:
        self.repeated = world.repeats and not isinstance(event, CarryOn)
        if self.repeated:
            self.instances = dict(world.host.instances)

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        if self.repeated:
            further = [
                one for one in effects if isinstance(one, Act | Moved | Climbed | ReadyChanged | GoalChanged)
            ]
            assert not further, f"the repeated wish did more: {further}"
            latest = world.host.instances
            changed = [
                key for key in {**latest, **self.instances} if latest.get(key) != self.instances.get(key)
            ]
            assert not changed, f"the repeated wish changed {changed}"


class Obedience(Checker):
    """Promises 9 and 12: a wish for many counts for each at once, and only for as long as it is wished."""

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        slots = world.witness.slots
        if isinstance(event, OperatorWish):
            for key, instance in world.host.instances.items():
                slot = slots.get(key)
                goal = instance.goal if slot is None or slot.surge else slot.goal
                assert instance.goal is goal, f"{key} is wanted {goal}, and has the goal {instance.goal}"
        for effect in effects:
            if isinstance(effect, Moved) and _sets_out(effect) and effect.cause in _WISHES:
                goal = slots[effect.instance].goal
                assert goal is not Goal.UP, f"{effect.instance} leaves ({effect.cause}), and is wanted up"


def _sets_out(effect: Moved) -> bool:
    """Whether it is the first step on the ladder; whoever is on it goes on."""
    return effect.target in ON_THE_WAY_OUT and effect.source not in ON_THE_WAY_OUT


_WISHES = frozenset({Cause.DRAIN, Cause.STOP, Cause.SHUTDOWN})


class GoalsAreReached(Checker):
    """Promise 12: once faults stop, every goal is reached, and every operation ends."""

    def ended(self, world: "World") -> None:
        for key, slot in world.witness.slots.items():
            tree = world.kernel.latest(key)
            if slot.surge:
                self._surge(world, key, slot)
                continue
            instance = world.host.instances[key]
            if slot.goal is not Goal.UP:
                assert tree is None or not tree.alive or world.kernel.halts, (
                    f"{key} is wanted {slot.goal}, but lives"
                )
                assert instance.phase in {Phase.STOPPED, Phase.STUCK}, (
                    f"{key} is {instance.phase}, not stopped"
                )
            elif instance.phase is Phase.PENDING:
                witness = world.witness
                both = witness.gate_is_open(key.pool, witness.available) and witness.gate_is_open(
                    key.pool, witness.available_by_step
                )
                assert not both, f"{key} is pending although its gates are open"
            elif instance.phase is Phase.FAILED:
                # What had begun before may still end as it had to; what began since is healthy.
                old = tree is not None and tree.began_at <= world.healed_at
                assert old or not world.forgiven, f"{key} has failed after it was started anew"
            elif slot.finished:
                assert tree is not None and not tree.alive, f"{key} has finished, but lives"
            else:
                assert tree is not None and tree.main_alive, f"{key} should be up, but is {instance.phase}"
                assert instance.ready, f"{key} should be ready: {instance.unready_reason}"
        if world.witness.shutdown_at is not None:
            assert len(world.kernel.halts) == 1, f"told to halt {len(world.kernel.halts)} times"
        for operation in world.host.operations.values():
            assert operation.state.is_final, (
                f"operation {operation.id} ({operation.kind}) is {operation.state}"
            )
            assert operation.done <= operation.total, f"operation {operation.id}: {operation.done}"

    def _surge(self, world: "World", key: InstanceId, slot: Slot) -> None:
        """It is gone, or stands in for a declared one that waits for an operator or a gate."""
        tree = world.kernel.latest(key)
        if slot.gone:
            assert tree is None or not tree.alive, f"{key} is gone, but lives"
        elif world.host.instances[key].phase is not Phase.STUCK:
            others = world.witness.members(key.pool)
            missing = [one for one in others if one.goal is Goal.UP and not one.ready and not one.finished]
            assert slot.ready and missing, f"{key} is still there, and stands in for nobody"
