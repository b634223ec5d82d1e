"""One step on its way: the only writer of a host, and able to take everything back.

Every write goes through `put*` and is remembered, so that a step that raises leaves the host as it
was. It also keeps what follows from a write up to date (counts, deadlines, revision). It decides
nothing.
"""

import heapq
from collections.abc import Container, Iterable, MutableMapping
from typing import Any, NamedTuple, TypeVar, get_args

from supervisor.core.effects import Effect, Report
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Goal, Phase
from supervisor.core.scene import Scene
from supervisor.core.state import Errand, HeapKey, Host, Operation, Pool, Shutdown, StepState

_K = TypeVar("_K")
_V = TypeVar("_V")
_ABSENT = object()
_REPORTS = frozenset(get_args(Report))


SPARE_ENTRIES = 64
"""So many superseded deadlines may stay in the heap of even the smallest host."""


class Gates(NamedTuple):
    """What other pools may wait for: what of it changed in this turn concerns them."""

    started: bool = False
    available: bool = False
    completed: bool = False
    failed: bool = False
    going_down: bool = False


_UNWATCHED = Gates()


class Turn:
    """The host, the time, and what has been written and asked for in this step so far.

    `written` are the instances of a pool that were written to since its rollout looked at them last.
    `spare` is how many instances more this step may act on of its own accord; what is beyond that
    becomes an errand.
    """

    def __init__(self, host: Host, now: float) -> None:
        self.host = host
        self.now = now
        self.spare = host.most_at_once
        self.effects: list[Effect] = []
        self.changed: dict[InstanceId, None] = {}
        self.touched: dict[str, Gates] = {}
        self.written: dict[str, dict[InstanceId, None]] = {}
        self._scenes: dict[str, Scene] = {}
        self._undo: list[tuple[MutableMapping[Any, Any], Any, Any]] = []
        self._shows = False
        self._before = (host.shutdown, host.halted, host.heap_order)
        self._taken: list[tuple[float, int, HeapKey]] = []

    def scene(self, pool: str) -> Scene:
        """The stage for an instance of this pool."""
        known = self._scenes.get(pool)
        if known is not None:
            return known
        host = self.host
        shutdown = host.shutdown
        scene = self._scenes[pool] = Scene(
            host.pools[pool].plan,
            host.plan.name,
            self.now,
            self.effects,
            scale=1.0 if shutdown is None else shutdown.scale,
            stop_by=None if shutdown is None else shutdown.stop_by[pool],
            # Not a method of this turn: the turn holds its scenes, and a step must leave no garbage.
            held=lambda: _held(host, pool),
            has_dependents=bool(host.dependents[pool]),
        )
        return scene

    def held(self, pool: str) -> str:
        """The dependents that are going down too and must be gone before this pool is terminated."""
        return _held(self.host, pool)

    def emit(self, effect: Effect) -> None:
        """Ask for something or report it."""
        self.effects.append(effect)

    def put(self, instance: Instance) -> None:
        """Make this the latest value of an instance."""
        key = instance.id
        old = self.host.instances[key]
        if old == instance:
            return
        self._touch(key.pool)
        self._write(key)
        self.changed[key] = None
        self._shows = self._shows or _shown(old) != _shown(instance)
        if old.standing != instance.standing:
            self._count(old, instance)
        self._set(self.host.instances, key, instance)
        self.schedule(key, instance.wake_at())

    def put_goals(
        self, keys: Iterable[InstanceId], goal: Goal, request_id: str, anew: Container[str] = ()
    ) -> None:
        """Write the goal of many at once. Whoever leads them there looks at each: see `errands`.

        In the pools of `anew` it is forgotten that somebody has finished.
        """
        instances, undo = self.host.instances, self._undo
        alike: dict[tuple[str, tuple[object, ...]], list[Instance]] = {}
        for key in keys:
            old = instances[key]
            undo.append((instances, key, old))
            new = old.aimed(goal, request_id)
            instances[key] = new._replace(finished=False) if old.finished and key.pool in anew else new
            alike.setdefault((key.pool, old.standing), []).append(old)
        for same in alike.values():
            # Thousands differ in a few ways only: each way is counted once.
            old = same[0]
            self._touch(old.id.pool)
            self.written.setdefault(old.id.pool, {}).update(dict.fromkeys([one.id for one in same]))
            self._count(old, instances[old.id], len(same))

    def add(self, instance: Instance) -> None:
        """Make a slot that was not there."""
        key = instance.id
        self._touch(key.pool)
        self._write(key)
        self.changed[key] = None
        self._shows = True
        self._count(None, instance)
        self._set(self.host.instances, key, instance)

    def drop(self, key: InstanceId) -> None:
        """Take away a slot without a process."""
        self._touch(key.pool)
        self.changed.pop(key, None)
        self._shows = True
        self._count(self.host.instances[key], None)
        self._delete(self.host.instances, key)
        self.schedule(key, None)

    def _touch(self, pool: str) -> None:
        """Remember how the pool looked to others before it is written to."""
        if pool not in self.touched:
            self.touched[pool] = self.gates(pool)

    def _write(self, key: InstanceId) -> None:
        self.written.setdefault(key.pool, {})[key] = None

    def _count(self, old: Instance | None, new: Instance | None, many: int = 1) -> None:
        """So many instances that stood as `old` does stand as `new` does now."""
        for instance, step in ((old, -many), (new, many)):
            if instance is not None:
                self.host.census[instance.id.pool].count(instance, step)
                self.host.with_process += step * instance.has_process
                self.host.stuck += step * (instance.phase is Phase.STUCK)

    def gates(self, pool: str) -> Gates:
        """How the pool looks to those that depend on it or are depended on."""
        host = self.host
        if not host.dependents[pool] and not host.requirements[pool]:
            return _UNWATCHED
        census = host.census[pool]
        return Gates(
            started=census.started,
            available=host.pools[pool].available,
            completed=census.completed,
            failed=census.phases[Phase.FAILED] > 0,
            going_down=census.going_down > 0,
        )

    def put_pool(self, pool: Pool) -> None:
        """Make this the latest value of a pool."""
        self._touch(pool.name)
        self._set(self.host.pools, pool.name, pool)
        rollout = pool.rollout
        self.schedule(f"pool:{pool.name}", None if rollout is None else rollout.wake_at)

    def put_errand(self, name: str, errand: Errand, moment: float) -> None:
        """Go on with an errand from this moment on; one that is over is forgotten."""
        if not errand.is_over:
            self._set(self.host.errands, name, errand)
            self.schedule(name, moment)
        elif name in self.host.errands:
            self._delete(self.host.errands, name)
            self.schedule(name, None)

    def put_operation(self, operation: Operation) -> None:
        """Make this the latest value of an operation."""
        self._set(self.host.operations, operation.id, operation)
        deadline = None if operation.state.is_final else operation.deadline
        self.schedule(f"operation:{operation.id}", deadline)

    def put_step(self, operation: str, instance: InstanceId, state: StepState) -> None:
        """Note where an instance is in an operation."""
        self._set(self.host.steps[operation], instance, state)

    def put_steps(self, operation: str, steps: dict[InstanceId, StepState]) -> None:
        """Write all steps of an operation at once."""
        self._set(self.host.steps, operation, steps)

    def put_active(self, pool: str, operations: frozenset[str]) -> None:
        """Note which operations concern a pool."""
        self._set(self.host.active_operations, pool, operations)

    def put_shutdown(self, shutdown: Shutdown) -> None:
        """Begin the end of the host."""
        self.host.shutdown = shutdown
        self._scenes.clear()

    def put_halted(self) -> None:
        """Note that the shutdown is complete, so that it is said once."""
        self.host.halted = True

    def schedule(self, key: HeapKey, moment: float | None) -> None:
        """Set the earliest moment at which time alone changes something about `key`."""
        host = self.host
        known = host.moments.get(key)
        if moment is None:
            if known is not None:
                self._delete(host.moments, key)
            return
        if known is not None and known[0] == moment:
            return
        host.heap_order += 1
        self._set(host.moments, key, (moment, host.heap_order))
        # An entry that is taken back, or superseded, stays in the heap and is recognised as stale there.
        heapq.heappush(host.heap, (moment, host.heap_order, key))

    def take_due(self) -> HeapKey | None:
        """Take the earliest key whose moment has come; whoever acts on it schedules it anew."""
        heap, moments = self.host.heap, self.host.moments
        while heap and heap[0][0] <= self.now:
            entry = heapq.heappop(heap)
            self._taken.append(entry)
            moment, order, key = entry
            if moments.get(key) == (moment, order):
                self._delete(moments, key)
                return key
        return None

    def _set(self, mapping: MutableMapping[_K, _V], key: _K, value: _V) -> None:
        self._undo.append((mapping, key, mapping.get(key, _ABSENT)))
        mapping[key] = value

    def _delete(self, mapping: MutableMapping[_K, _V], key: _K) -> None:
        self._undo.append((mapping, key, mapping.pop(key)))

    def finish(self) -> tuple[Effect, ...]:
        """The step is done: its effects."""
        if self._shows or any(type(effect) in _REPORTS for effect in self.effects):
            self.host.revision += 1
        self._sweep_heap()
        return tuple(self.effects)

    def _sweep_heap(self) -> None:
        """Drop superseded entries before they outnumber the living: far ones would stay for hours."""
        heap, moments = self.host.heap, self.host.moments
        if len(heap) > SPARE_ENTRIES + 4 * len(moments):
            heap[:] = [(moment, order, key) for key, (moment, order) in moments.items()]
            heapq.heapify(heap)

    def take_back(self) -> None:
        """Leave the host as it was before this turn."""
        host = self.host
        for mapping, key, old in reversed(self._undo):
            if mapping is host.instances:
                self._count(mapping.get(key), None if old is _ABSENT else old)
            if old is _ABSENT:
                del mapping[key]
            else:
                mapping[key] = old
        host.shutdown, host.halted, host.heap_order = self._before
        host.heap[:] = [entry for entry in [*host.heap, *self._taken] if entry[1] <= host.heap_order]
        heapq.heapify(host.heap)


def _held(host: Host, pool: str) -> str:
    return ", ".join(name for name in host.dependents[pool] if host.census[name].going_down)


def _shown(instance: Instance) -> tuple[object, ...]:
    """What a status page shows of an instance and no report speaks of."""
    return (
        instance.pid,
        instance.deadline,
        instance.waiting_for,
        instance.unready_reason,
        instance.status_text,
        instance.in_flight,
        instance.queue_depth,
    )
