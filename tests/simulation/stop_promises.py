"""Promises 2 and 3, about the end of a life: no window is cut short, and every stop ends in time.

Judged by the moments at which signals and kills went out, against the declared plan, and by a sum of
the time that was granted. How long a window was, the core is not believed; only that a stop waits for
its dependents is taken from it, because that wait has no window.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from supervisor.core.effects import (
    Climbed,
    Effect,
    Ended,
    Extended,
    Halt,
    Kill,
    Moved,
    Signal,
)
from supervisor.core.events import Event, Exited, OperatorWish
from supervisor.core.identity import InstanceId
from supervisor.core.instance import RungKind
from supervisor.core.phases import ON_THE_WAY_OUT, Phase
from supervisor.core.plan import SWEEP_SECONDS, Target
from tests.simulation.checker import EPSILON, Checker, Name
from tests.simulation.kernel import Tree

if TYPE_CHECKING:
    from tests.simulation.world import World


class KillIsLast(Checker):
    """Promise 2: only a fact, an operator or a deadline cuts a window short, and the record says which."""

    def __init__(self) -> None:
        self.sent: dict[Name, list[tuple[float, Target, float]]] = {}
        self.drain_from: dict[Name, float] = {}
        self.early_kill: dict[Name, str] = {}
        self.shortened: set[Name] = set()
        self.pending: dict[InstanceId, Phase] = {}

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, OperatorWish):
            self._nobody_is_told_and_killed(effects)
        for effect in effects:
            match effect:
                case Moved(source=Phase.RUNNING, target=Phase.DRAINING):
                    self.drain_from[effect.instance, effect.generation] = world.now
                case Moved(source=Phase.RUNNING, target=Phase.STOPPING, rung="stage-1"):
                    self._drain_was_skipped(world, effect)
                case Signal() if effect not in world.witness.by_wish:
                    self._signal(world, event, effect)
                case Kill():
                    self._kill(world, event, effect)
                case Ended():
                    self._ended(effect)
                case _:
                    pass

    def _nobody_is_told_and_killed(self, effects: Sequence[Effect]) -> None:
        told = {one.instance for one in effects if isinstance(one, Signal)}
        for effect in effects:
            if isinstance(effect, Kill):
                assert effect.instance not in told, f"{effect.instance} is told, and killed at once"

    def _tree(self, world: "World", name: Name) -> Tree:
        tree = world.kernel.tree(*name)
        assert tree is not None, f"{name[0]} has no generation {name[1]}"
        return tree

    def _main_ended(self, event: Event, tree: Tree) -> bool:
        told_now = isinstance(event, Exited) and (event.instance, event.generation) == (
            tree.instance,
            tree.generation,
        )
        return tree.exit_told or told_now

    def _signal(self, world: "World", event: Event, effect: Signal) -> None:
        name = (effect.instance, effect.generation)
        tree = self._tree(world, name)
        drain = tree.plan.drain
        if drain is not None and effect.signal == drain.signal:
            return
        sent = self.sent.setdefault(name, [])
        ended = self._main_ended(event, tree)
        self._window_closed(world, tree, sent, ended, kill=False)
        if ended:
            grace = next(
                (s.grace_seconds for s in tree.plan.stop.stages if s.target is Target.ALL), SWEEP_SECONDS
            )
            later = [s.grace_seconds for s in tree.plan.stop.stages[len(sent) :] if s.target is Target.ALL]
            grace = min([grace, *later])
        else:
            assert len(sent) < len(tree.plan.stop.stages), f"{effect.instance} gets more stages than declared"
            stage = tree.plan.stop.stages[len(sent)]
            assert (effect.signal, effect.target) == (stage.signal, stage.target), (
                f"{effect.instance}: wrong stage"
            )
            grace = stage.grace_seconds
            if not sent:
                self._drain_is_over(world, tree)
        sent.append((world.now, effect.target, grace))

    def _window_closed(
        self, world: "World", tree: Tree, sent: list[tuple[float, Target, float]], ended: bool, *, kill: bool
    ) -> None:
        slot = world.witness.slots[tree.instance]
        if sent:
            at, target, grace = sent[-1]
            if ended and target is Target.MAIN:
                return
            closed = world.now - at >= grace * slot.scale - EPSILON
            assert closed, f"{tree.instance}: its window of {grace} s was cut to {world.now - at:.3f} s"
            if world.now - at < grace - EPSILON:
                self.shortened.add((tree.instance, tree.generation))
        if kill:
            expected = len(tree.plan.stop.stages)
            if ended:
                assert any(target is Target.ALL for _, target, _ in sent), (
                    f"{tree.instance}: leftovers got no TERM"
                )
            else:
                assert len(sent) == expected, (
                    f"{tree.instance}: killed after {len(sent)} of {expected} stages"
                )
                self._drain_is_over(world, tree)

    def _drain_excused(self, world: "World", tree: Tree) -> bool:
        slot = world.witness.slots[tree.instance]
        by_deadline = slot.stop_by is not None and world.now >= slot.stop_by - EPSILON
        return slot.hurried or tree.hung or tree.said_stopping or by_deadline

    def _drain_was_skipped(self, world: "World", effect: Moved) -> None:
        tree = self._tree(world, (effect.instance, effect.generation))
        if tree.plan.drain is not None:
            assert self._drain_excused(world, tree), (
                f"{effect.instance}: its drain was skipped ({effect.cause})"
            )

    def _drain_is_over(self, world: "World", tree: Tree) -> None:
        began, drain = self.drain_from.get((tree.instance, tree.generation)), tree.plan.drain
        if began is None or drain is None or tree.idle or self._drain_excused(world, tree):
            return
        window = (drain.settle_seconds + drain.window_seconds) * world.witness.slots[tree.instance].scale
        closed = world.now - began >= window - EPSILON
        assert closed, f"{tree.instance}: its drain of {window} s was cut to {world.now - began:.3f} s"

    def _kill(self, world: "World", event: Event, effect: Kill) -> None:
        name = (effect.instance, effect.generation)
        tree = self._tree(world, name)
        slot = world.witness.slots[effect.instance]
        try:
            self._window_closed(
                world, tree, self.sent.get(name, []), self._main_ended(event, tree), kill=True
            )
        except AssertionError:
            if slot.stop_by is not None and world.now >= slot.stop_by - EPSILON:
                self.early_kill[name] = "deadline"
            if slot.killed_by_wish:
                self.early_kill[name] = "operator"
            if name not in self.early_kill:
                raise
        if name in self.shortened:
            self.early_kill.setdefault(name, "deadline")

    def _ended(self, effect: Ended) -> None:
        by = self.early_kill.get((effect.instance, effect.record.generation))
        if by is not None:
            said = "cut short by" in effect.record.detail
            assert said, (
                f"{effect.instance} was killed early by the {by}, its record says {effect.record.detail!r}"
            )


class StopEnds(Checker):
    """Promise 3: a stop ends within its windows and granted extensions, a shutdown by its deadline."""

    def __init__(self) -> None:
        self.began: dict[InstanceId, tuple[float, float]] = {}
        self.held: dict[InstanceId, float] = {}
        self.granted: dict[Name, float] = {}

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Moved() if effect.target in ON_THE_WAY_OUT and effect.source not in ON_THE_WAY_OUT:
                    self.began[effect.instance] = (world.now, world.lateness)
                    self.held[effect.instance] = 0.0
                case Moved() if effect.target not in ON_THE_WAY_OUT:
                    self.began.pop(effect.instance, None)
                case Climbed(source="hold"):
                    self.held[effect.instance] += effect.seconds
                case Extended():
                    self._extended(world, effect)
                case Halt():
                    self._in_time(world)
                case _:
                    pass

    def _extended(self, world: "World", effect: Extended) -> None:
        name = (effect.instance, effect.generation)
        total = world.plan.pools[effect.instance.pool].stop.extend_total_seconds
        if effect.instance in self.began:
            self.granted[name] = self.granted.get(name, 0.0) + effect.seconds
            assert effect.seconds > 0, f"{effect.instance}: a request for time took time away"
            assert self.granted[name] <= total + EPSILON, (
                f"{effect.instance} was granted {self.granted[name]} s"
            )

    def _in_time(self, world: "World") -> None:
        over_by = world.witness.over_by
        assert over_by is not None, "halted without a shutdown"
        latest = over_by + world.lateness
        assert world.now <= latest + EPSILON, f"the shutdown took {world.now - latest:.3f} s too long"

    def settled(self, world: "World") -> None:
        for key, (began, lateness) in self.began.items():
            instance, plan = world.host.instances[key], world.plan.pools[key.pool]
            if instance.rung is not None and instance.rung.kind is RungKind.HOLD:
                continue
            bound = world.plan.worst_case_stop_seconds(key.pool) + self.held[key]
            bound += plan.stop.extend_total_seconds + world.lateness - lateness
            took = world.now - began
            assert took <= bound + EPSILON, f"{key} stops for {took:.3f} s, its windows are {bound:.3f} s"
        over_by = world.witness.over_by
        if over_by is not None and not world.host.halted:
            assert world.now <= over_by + world.lateness + EPSILON, "the shutdown is late"
