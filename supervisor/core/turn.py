"""One step on its way: the only writer of a host, and able to take everything back.

Every write goes through `put*` and is remembered, so that a step that raises leaves the host as it
was. It also keeps what follows from a write up to date (counts, deadlines, revision). It decides
nothing.
"""

import heapq
from collections.abc import Callable, MutableMapping
from typing import NamedTuple, TypeVar

from supervisor.core.effects import Effect, Report
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Phase
from supervisor.core.scene import Scene
from supervisor.core.state import HeapKey, Host, Operation, Pool, Shutdown, StepState

_K = TypeVar("_K")
_V = TypeVar("_V")


SPARE_ENTRIES = 64
"""So many superseded deadlines may stay in the heap of even the smallest host."""


class Gates(NamedTuple):
    """What other pools may wait for: what of it changed in this turn concerns them."""

    started: bool
    available: bool
    completed: bool
    failed: bool
    going_down: bool


class Turn:
    """The host, the time, and what has been written and asked for in this step so far."""

    def __init__(self, host: Host, now: float) -> None:
        self.host = host
        self.now = now
        self.effects: list[Effect] = []
        self.changed: dict[InstanceId, None] = {}
        self.touched: dict[str, Gates] = {}
        self._undo: list[Callable[[], None]] = []
        self._shows = False
        self._order_before = host.heap_order
        self._taken: list[tuple[float, int, HeapKey]] = []

    def scene(self, pool: str) -> Scene:
        """The stage for an instance of this pool."""
        host = self.host
        shutdown = host.shutdown
        return Scene(
            host.pools[pool].plan,
            host.plan.name,
            self.now,
            self.effects,
            scale=1.0 if shutdown is None else shutdown.scale,
            stop_by=None if shutdown is None else shutdown.stop_by[pool],
            held=lambda: self.held(pool),
            has_dependents=bool(host.dependents[pool]),
        )

    def held(self, pool: str) -> str:
        """The dependents that are going down too and must be gone before this pool is terminated."""
        census = self.host.census
        return ", ".join(name for name in self.host.dependents[pool] if census[name].going_down)

    def emit(self, effect: Effect) -> None:
        """Ask for something or report it."""
        self.effects.append(effect)

    def put(self, instance: Instance) -> None:
        """Make this the latest value of an instance."""
        host, key = self.host, instance.id
        old = host.instances[key]
        if old == instance:
            return
        self._touch(key.pool)
        self.changed[key] = None
        self._shows = self._shows or _shown(old) != _shown(instance)
        self._count(old, instance)
        self._undo.append(lambda: self._count(instance, old))
        self._set(host.instances, key, instance)
        self.schedule(key, instance.wake_at())

    def add(self, instance: Instance) -> None:
        """Make a slot that was not there."""
        key = instance.id
        self._touch(key.pool)
        self.changed[key] = None
        self._shows = True
        census = self.host.census[key.pool]
        census.count(instance, 1)
        self._undo.append(lambda: census.count(instance, -1))
        self._set(self.host.instances, key, instance)

    def drop(self, key: InstanceId) -> None:
        """Take away a slot without a process."""
        instance = self.host.instances[key]
        self._touch(key.pool)
        self.changed.pop(key, None)
        self._shows = True
        census = self.host.census[key.pool]
        census.count(instance, -1)
        self._undo.append(lambda: census.count(instance, 1))
        self._delete(self.host.instances, key)
        self.schedule(key, None)

    def _touch(self, pool: str) -> None:
        """Remember how the pool looked to others before it is written to."""
        if pool not in self.touched:
            self.touched[pool] = self.gates(pool)

    def _count(self, old: Instance, new: Instance) -> None:
        census = self.host.census[new.id.pool]
        census.count(old, -1)
        census.count(new, 1)
        self.host.with_process += new.has_process - old.has_process

    def gates(self, pool: str) -> Gates:
        """How the pool looks to those that depend on it or are depended on."""
        census = self.host.census[pool]
        return Gates(
            started=census.started,
            available=self.host.pools[pool].available,
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

    def put_operation(self, operation: Operation) -> None:
        """Make this the latest value of an operation."""
        self._set(self.host.operations, operation.id, operation)
        deadline = None if operation.state.is_final else operation.deadline
        self.schedule(f"operation:{operation.id}", deadline)

    def put_step(self, operation: str, instance: InstanceId, state: StepState) -> None:
        """Note where an instance is in an operation."""
        self._set(self.host.steps[operation], instance, state)

    def put_steps(self, operation: str, steps: dict[InstanceId, StepState]) -> None:
        """Begin the steps of a new operation."""
        self._set(self.host.steps, operation, steps)

    def put_active(self, pool: str, operations: frozenset[str]) -> None:
        """Note which operations concern a pool."""
        self._set(self.host.active_operations, pool, operations)

    def put_shutdown(self, shutdown: Shutdown) -> None:
        """Begin the end of the host."""
        old = self.host.shutdown
        self._undo.append(lambda: setattr(self.host, "shutdown", old))
        self.host.shutdown = shutdown

    def put_halted(self) -> None:
        """Note that the shutdown is complete, so that it is said once."""
        self._undo.append(lambda: setattr(self.host, "halted", False))
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

    def take_due(self, most: int) -> list[HeapKey]:
        """Take at most so many keys whose moment has come; whoever acts on one schedules it anew."""
        heap, moments = self.host.heap, self.host.moments
        due: list[HeapKey] = []
        while heap and heap[0][0] <= self.now and len(due) < most:
            entry = heapq.heappop(heap)
            self._taken.append(entry)
            moment, order, key = entry
            if moments.get(key) == (moment, order):
                self._delete(moments, key)
                due.append(key)
        return due

    def _set(self, mapping: MutableMapping[_K, _V], key: _K, value: _V) -> None:
        if key in mapping:
            old = mapping[key]
            self._undo.append(lambda: mapping.__setitem__(key, old))
        else:
            self._undo.append(lambda: mapping.__delitem__(key))
        mapping[key] = value

    def _delete(self, mapping: MutableMapping[_K, _V], key: _K) -> None:
        old = mapping.pop(key)
        self._undo.append(lambda: mapping.__setitem__(key, old))

    def finish(self) -> tuple[Effect, ...]:
        """The step is done: its effects."""
        if self._shows or any(isinstance(effect, Report) for effect in self.effects):
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
        while self._undo:
            self._undo.pop()()
        heap, before = self.host.heap, self._order_before
        heap[:] = [entry for entry in [*heap, *self._taken] if entry[1] <= before]
        heapq.heapify(heap)
        self.host.heap_order = before


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
