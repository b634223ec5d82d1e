"""One checker for each promise, judging by the kernel's truth and the witness, not by the core's word.

A checker sees each event before its step, each step with its effects before they are performed, the
host whenever nothing more is due at this moment, and the end. It fails an assertion whose message
names the instance.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from supervisor.core.effects import (
    Accepted,
    Act,
    Cause,
    Check,
    Climbed,
    Effect,
    Ended,
    Extended,
    Forget,
    GoalChanged,
    Halt,
    Kill,
    Moved,
    ReadyChanged,
    Release,
    Signal,
    Spawn,
    StopEnded,
)
from supervisor.core.events import Event, Exited, OperatorWish, SignalRequested
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance, RungKind
from supervisor.core.phases import HAS_PROCESS, LEGAL_MOVES, ON_THE_WAY_OUT, Goal, Phase
from supervisor.core.plan import SWEEP_SECONDS, Kind, Readiness, Target
from supervisor.core.state import Census
from tests.simulation.kernel import Tree
from tests.simulation.witness import Slot

if TYPE_CHECKING:
    from tests.simulation.world import World

EPSILON = 1e-6
Name = tuple[InstanceId, int]


class Checker:
    """Looks on; each method may fail."""

    def before(self, world: "World", event: Event) -> None:
        """An event is about to be taken."""

    def after(self, world: "World", event: Event, effects: Sequence[Effect]) -> None:
        """A step was taken; its acts are not performed yet."""

    def settled(self, world: "World") -> None:
        """Acts are performed and nothing more is due at this moment."""

    def ended(self, world: "World") -> None:
        """Faults have stopped and the bound has passed."""


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
                case Signal() if not isinstance(event, SignalRequested):
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
                    if not drains and not isinstance(event, SignalRequested):
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
                    left = self._standing(world, effect.instance.pool)
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


class Repeatable(Checker):
    """Promise 9: the same wish again, at the same moment, changes nothing further."""

    def __init__(self) -> None:
        self.repeated = False
        self.instances: dict[InstanceId, Instance] = {}

    def before(self, world: "World", event: Event) -> None:
        self.repeated = world.repeats
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


def all_checkers() -> list[Checker]:
    """One of each."""
    return [
        OneProcess(),
        KillIsLast(),
        StopEnds(),
        NothingIsLeft(),
        Gates(),
        NoDelay(),
        Rollouts(),
        Patience(),
        Repeatable(),
        OwnGeneration(),
        TrueReadiness(),
        Bookkeeping(),
        GoalsAreReached(),
    ]
