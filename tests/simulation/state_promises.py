"""About the state itself: a phase is true of the process, deadlines and counts are what a recount gives.

Judged by the kernel's trees and by counting again. Sums that the core carries along are never believed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from supervisor.core.effects import Accepted, Cause, Effect, Ended, Moved, StopEnded
from supervisor.core.events import Event
from supervisor.core.instance import Instance, RungKind
from supervisor.core.phases import LEGAL_MOVES, ON_THE_WAY_OUT, Phase
from supervisor.core.plan import Readiness
from supervisor.core.state import Census
from tests.simulation.checker import EPSILON, Checker
from tests.simulation.kernel import Tree

if TYPE_CHECKING:
    from tests.simulation.world import World


class TrueReadiness(Checker):
    """An instance is running only if this very generation was ready, and stuck only while something lives."""

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Moved) and effect.target is Phase.RUNNING and effect.cause is Cause.READY:
                tree = world.kernel.tree(effect.instance, effect.generation)
                assert tree is not None and tree.open, f"{effect.instance} is running without a process"
                assert self._was_ready(world, tree), f"{effect.instance} is running but was never ready"
            if isinstance(effect, Moved) and effect.target is Phase.STUCK:
                tree = world.kernel.tree(effect.instance, effect.generation)
                assert tree is not None and tree.open, f"{effect.instance} is stuck without a process"

    def _was_ready(self, world: "World", tree: Tree) -> bool:
        plan = tree.plan
        match plan.readiness:
            case Readiness.NOTIFY:
                return tree.said_ready
            case Readiness.PROBE:
                needed = plan.readiness_probe.success_threshold if plan.readiness_probe else 1
                return tree.checks_passed >= needed
            case Readiness.UPTIME:
                return world.now - tree.began_at >= plan.min_uptime_seconds - EPSILON

    def settled(self, world: "World") -> None:
        for instance in world.host.instances.values():
            if instance.phase is Phase.STUCK:
                tree = world.kernel.tree(instance.id, instance.generation)
                assert tree is not None and tree.open, f"{instance.id} is stuck but everything has ended"


class Bookkeeping(Checker):
    """Deadlines exist exactly where a phase needs one, counts equal a recount, moves are on the map."""

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Moved):
                legal = effect.target in LEGAL_MOVES[effect.source]
                assert legal, f"{effect.instance} moves from {effect.source} to {effect.target}"
            if isinstance(effect, Moved) and effect.source in ON_THE_WAY_OUT:
                stopped = effect.target not in {*ON_THE_WAY_OUT, Phase.RUNNING}
                told = any(isinstance(one, StopEnded) and one.instance == effect.instance for one in effects)
                sweep = any(isinstance(one, Ended) and one.instance == effect.instance for one in effects)
                assert not stopped or told or sweep, f"{effect.instance}: a stop ended and nobody was told"
        accepted = sum(isinstance(effect, Accepted) for effect in effects)
        assert accepted <= 1, "a wish is answered once"

    def settled(self, world: "World") -> None:
        host = world.host
        for name in host.pools:
            recount = Census()
            extra = [key for key, one in host.instances.items() if key.pool == name and one.surge]
            assert sorted(extra) == sorted(host.pools[name].surge), f"{name}: {extra} are its surge instances"
            for instance in host.members_of(name):
                recount.count(instance, 1)
                _deadline_fits(instance)
                slot = world.witness.slots.get(instance.id)
                goal = instance.goal if slot is None or slot.surge else slot.goal
                assert instance.goal is goal, f"{instance.id} has the goal {instance.goal}, not {goal}"
                known = host.moments.get(instance.id)
                wake_at = instance.wake_at()
                if world.booted:
                    assert (known and known[0]) == wake_at, (
                        f"{instance.id} wakes at {known}, not at {wake_at}"
                    )
            assert host.census[name] == recount, f"{name}: counted {host.census[name]}, there are {recount}"
        total = sum(instance.has_process for instance in host.instances.values())
        assert host.with_process == total, f"{host.with_process} processes counted, there are {total}"
        assert len(host.heap) <= 4 * len(host.moments) + 64, f"the heap holds {len(host.heap)} entries"


def _deadline_fits(instance: Instance) -> None:
    rung = instance.rung
    match instance.phase:
        case Phase.STARTING | Phase.STOPPING | Phase.BACKOFF:
            wanted = True
        case Phase.RUNNING:
            wanted = instance.said_stopping
        case Phase.DRAINING:
            wanted = rung is None or rung.kind is not RungKind.HOLD or instance.deadline is not None
        case _:
            wanted = False
    assert (instance.deadline is not None) is wanted, (
        f"{instance.id} is {instance.phase} with the deadline {instance.deadline}"
    )
    assert (instance.stop is not None) is (instance.phase in {*ON_THE_WAY_OUT, Phase.STUCK}), (
        f"{instance.id} is {instance.phase} with the stop {instance.stop}"
    )
    if instance.ready:
        assert instance.phase is Phase.RUNNING, f"{instance.id} is {instance.phase} and ready"
