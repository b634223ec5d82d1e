"""What an outsider knows without asking the core: the operators' goals, who is ready, open gates.

It follows wishes and reports with a few lines of its own; where its picture and the core's differ,
one of the two is wrong, and the checkers say so.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from supervisor.core import shutdown
from supervisor.core.effects import (
    Accepted,
    Cause,
    Effect,
    Ended,
    Moved,
    ReadyChanged,
    Refused,
    Release,
    Signal,
    Spawn,
)
from supervisor.core.events import (
    DrainRequested,
    Event,
    OperatorWish,
    RestartRequested,
    ResumeRequested,
    Scope,
    ShutdownRequested,
    SignalRequested,
    StartRequested,
    StopRequested,
    Urgency,
)
from supervisor.core.identity import InstanceId
from supervisor.core.phases import ON_THE_WAY_OUT, Goal, Phase
from supervisor.core.plan import KILL_SECONDS, Condition, HostPlan, Kind

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass
class Slot:
    """What is known about one instance. Everything below `generation` is about that generation."""

    goal: Goal = Goal.UP
    ready: bool = False
    has_process: bool = False
    finished: bool = False
    pardoned: bool = True
    generation: int = 0
    ready_at: float | None = None
    killed_by_wish: bool = False
    hurried: bool = False
    scale: float = 1.0
    stop_by: float | None = None
    surge: bool = False
    gone: bool = False


@dataclass
class Witness:
    """The outsider's picture of a host."""

    plan: HostPlan
    slots: dict[InstanceId, Slot] = field(default_factory=dict)
    available: dict[str, bool] = field(default_factory=dict)
    available_by_step: dict[str, bool] = field(default_factory=dict)
    shutdown_at: float | None = None
    shutdown_by: float | None = None
    over_by: float | None = None
    restarts: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    opened_in_step: set[str] = field(default_factory=set)
    dependents: dict[str, list[str]] = field(default_factory=dict)
    pool_goals: dict[str, Goal] = field(default_factory=dict)
    asked: list[tuple[InstanceId, int, str]] = field(default_factory=list)
    by_wish: list[Signal] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, pool in self.plan.pools.items():
            self.available[name] = self.available_by_step[name] = False
            self.pool_goals[name] = Goal.UP
            for needed in pool.depends_on:
                self.dependents.setdefault(needed, []).append(name)
            for index in range(pool.instances):
                self.slots[InstanceId(name, index)] = Slot()

    def members(self, pool: str) -> list[Slot]:
        """The declared slots of a pool."""
        return [self.slots[InstanceId(pool, index)] for index in range(self.plan.pools[pool].instances)]

    def surge(self, pool: str) -> list[InstanceId]:
        """The surge instances of a pool that have been started and are not gone."""
        slots = self.slots.items()
        return [key for key, slot in slots if key.pool == pool and slot.surge and not slot.gone]

    def meant(self, scope: Scope) -> list[InstanceId]:
        """The instances in a scope."""
        return [
            key
            for key, slot in self.slots.items()
            if scope.pool in (None, key.pool) and scope.index in (None, key.index) and not slot.gone
        ]

    # ── what happens ─────────────────────────────────────────────────────────────────────────────

    def take(self, world: "World", event: Event, effects: Iterable[Effect]) -> None:
        """Follow one step."""
        self.opened_in_step = {name for name in self.plan.pools if self.gate_is_open(name, self.available)}
        if isinstance(event, OperatorWish) and not any(isinstance(effect, Refused) for effect in effects):
            self._wish(world, event, effects)
        self.by_wish = [one for one in effects if isinstance(one, Signal) and self._is_asked(one)]
        for effect in effects:
            self.follow(effect, world.now)
        for name in self.plan.pools:
            self.available_by_step[name] = self._is_available(name, self.available_by_step[name])

    def follow(self, effect: Effect, now: float) -> None:
        """Take in one report."""
        match effect:
            case Spawn():
                self._spawned(effect)
            case ReadyChanged():
                slot = self.slots[effect.instance]
                slot.ready = effect.ready
                slot.ready_at = now if effect.ready else slot.ready_at
            case Ended():
                self.slots[effect.instance].has_process = False
            case Release():
                # One whose gates never opened has left no trace.
                self.slots.setdefault(effect.instance, Slot(surge=True)).gone = True
            case Moved(cause=Cause.SURGE) if effect.target in ON_THE_WAY_OUT:
                self.slots[effect.instance].goal = Goal.DOWN
            case Moved(cause=Cause.COMPLETED):
                self.slots[effect.instance].finished = True
            case Moved(source=Phase.STOPPED):
                self.slots[effect.instance].finished = False
            case _:
                return
        pool = effect.instance.pool
        self.available[pool] = self._is_available(pool, self.available[pool])
        for name in self.dependents.get(pool, ()):
            if self.gate_is_open(name, self.available):
                self.opened_in_step.add(name)

    def _spawned(self, effect: Spawn) -> None:
        key = effect.instance
        surge = key.index >= self.plan.pools[key.pool].instances
        old = self.slots.get(key)
        if old is None or old.gone:
            old = Slot()
        self.slots[key] = Slot(
            old.goal, has_process=True, generation=effect.generation, pardoned=old.pardoned, surge=surge
        )

    def _note_goal(self, scope: Scope, goal: Goal, keeps: Goal | None = None) -> None:
        if scope.index is None:
            for name in self.pool_goals if scope.pool is None else [scope.pool]:
                if self.pool_goals[name] is not keeps:
                    self.pool_goals[name] = goal

    def _is_drained(self, key: InstanceId) -> bool:
        """Whether a drain concerns it; what is down stays so, but surge instances go as their pool does."""
        slot = self.slots[key]
        return slot.goal is not Goal.DOWN or (slot.surge and self.pool_goals[key.pool] is Goal.DRAINED)

    def _wish(self, world: "World", event: OperatorWish, effects: Iterable[Effect]) -> None:
        scope, urgency = event.wish.scope, Urgency.NORMAL
        meant = self.meant(scope)
        if isinstance(event, StartRequested | ResumeRequested | RestartRequested):
            meant = [key for key in meant if not self.slots[key].surge]
        match event:
            case StartRequested():
                meant = [key for key in meant if self.slots[key].goal is not Goal.DRAINED]
                self._note_goal(scope, Goal.UP, keeps=Goal.DRAINED)
                self._set(meant, Goal.UP)
            case ResumeRequested():
                self._note_goal(scope, Goal.UP)
                self._set(meant, Goal.UP)
            case DrainRequested(deadline_seconds=seconds):
                self._note_goal(scope, Goal.DRAINED, keeps=Goal.DOWN)
                meant = [key for key in meant if self._is_drained(key)]
                self._set(meant, Goal.DRAINED)
                self._run_again(meant)
                if seconds is not None:
                    self._fit(meant, world.now, world.now + seconds)
            case StopRequested():
                self._note_goal(scope, Goal.DOWN)
                self._set(meant, Goal.DOWN)
                self._run_again(meant)
                urgency = event.urgency
            case ShutdownRequested():
                self._shut_down(world, event)
                urgency = event.urgency
            case RestartRequested():
                accepted = next(effect.operation for effect in effects if isinstance(effect, Accepted))
                for pool in dict.fromkeys(key.pool for key in meant):
                    self.restarts.setdefault(pool, []).append((accepted, world.now))
            case SignalRequested(signal=name):
                alive = [key for key in meant if self.slots[key].has_process]
                self.asked += [(key, self.slots[key].generation, name) for key in alive]
                return
        for key in meant:
            slot = self.slots[key]
            slot.pardoned = True
            slot.hurried |= urgency is not Urgency.NORMAL
            slot.killed_by_wish |= urgency is Urgency.KILL

    def _is_asked(self, signal: Signal) -> bool:
        """Whether an operator asked for this one: each wish sends it once to each that was there."""
        name = (signal.instance, signal.generation, signal.signal)
        asked = name in self.asked
        if asked:
            self.asked.remove(name)
        return asked

    def _shut_down(self, world: "World", event: ShutdownRequested) -> None:
        seconds = event.deadline_seconds
        seconds = self.plan.shutdown_deadline_seconds if seconds is None else seconds
        deadline = world.now + seconds
        self._set(list(self.slots), Goal.DOWN)
        if self.shutdown_at is None:
            self.shutdown_at = world.now
        if self.shutdown_by is None or deadline < self.shutdown_by:
            self.shutdown_by = deadline
            self.over_by = max(deadline, world.now + KILL_SECONDS)
            self._fit(list(self.slots), world.now, deadline)

    def _fit(self, keys: list[InstanceId], now: float, deadline: float) -> None:
        fitted = shutdown.fit(self.plan, {key.pool for key in keys}, now, deadline)
        for key in keys:
            slot = self.slots[key]
            slot.scale = min(slot.scale, fitted.scale)
            moment = fitted.stop_by[key.pool]
            slot.stop_by = moment if slot.stop_by is None else min(slot.stop_by, moment)

    def _set(self, keys: list[InstanceId], goal: Goal) -> None:
        for key in keys:
            self.slots[key].goal = goal
        for pool in dict.fromkeys(key.pool for key in keys):
            self.available[pool] = self._is_available(pool, self.available[pool])

    def _run_again(self, keys: list[InstanceId]) -> None:
        for key in keys:
            if self.plan.pools[key.pool].kind is Kind.SERVICE:
                self.slots[key].finished = False

    # ── gates ────────────────────────────────────────────────────────────────────────────────────

    def _is_available(self, pool: str, before: bool) -> bool:
        wanted = [slot for slot in self.members(pool) if slot.goal is Goal.UP]
        ready = sum(slot.ready for slot in wanted)
        return ready > 0 if before else bool(wanted) and ready == len(wanted)

    def gate_is_open(self, pool: str, available: dict[str, bool]) -> bool:
        """Whether a start of this pool need not wait for another one."""
        for needed, condition in self.plan.pools[pool].depends_on.items():
            members = self.members(needed)
            match condition:
                case Condition.STARTED if not _gate(
                    members, lambda slot: slot.finished or (slot.has_process and slot.goal is Goal.UP)
                ):
                    return False
                case Condition.READY if not available[needed]:
                    return False
                case Condition.COMPLETED if not _gate(members, lambda slot: slot.finished):
                    return False
                case _:
                    pass
        return True


def _gate(members: list[Slot], come_so_far: Callable[[Slot], bool]) -> bool:
    """All of them, or all of those that are wanted if any is: who was taken down holds up no gate."""
    wanted = [slot for slot in members if slot.goal is Goal.UP]
    return all(map(come_so_far, members)) or (bool(wanted) and all(map(come_so_far, wanted)))
