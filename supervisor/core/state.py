"""What is: the pools and the host, their counts, and the questions one may ask them.

Pools, rollouts and operations are tuples, as instances are: whoever holds one holds a snapshot. The `Host`
is the one place that maps names to the latest values; only `turn` writes to it. Nothing here
decides anything.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from supervisor.core.effects import Cause
from supervisor.core.events import Scope, Urgency
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance, RungKind
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import HostPlan, Kind, PoolPlan, Target
from supervisor.core.shutdown import Fit


class RolloutState(StrEnum):
    """How a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"


class Rollout(NamedTuple):
    """A pool on its way from old generations to new ones.

    `waiting` are those still to be replaced, in turn order; `turns` those being replaced, with the
    generation each must leave behind. `wake_at` is the next moment at which time alone matters to it.
    `surge` are the surge instances it has begun and that are not gone yet.
    """

    operation: str
    waiting: tuple[InstanceId, ...]
    turns: Mapping[InstanceId, int]
    progress_by: float
    wake_at: float | None
    state: RolloutState = RolloutState.RUNNING
    surge: tuple[InstanceId, ...] = ()
    request_id: str = ""

    @property
    def is_ending(self) -> bool:
        """Whether all are replaced, and only surge instances are left to go."""
        return not self.waiting and all(key in self.surge for key in self.turns)


class Pool(NamedTuple):
    """A named set of identical instances. `available` opens the gate of those that depend on `ready`.

    It turns true when every wanted instance is ready, and false only when none is: the restart of
    one instance must not hold up the pools that depend on the others. `surge` are the surge instances
    there are; no generation of one is above `surge_generation` once it is gone.
    """

    plan: PoolPlan
    goal: Goal
    available: bool = False
    rollout: Rollout | None = None
    surge: tuple[InstanceId, ...] = ()
    surge_generation: int = 0

    @property
    def name(self) -> str:
        """The key in the manifest."""
        return self.plan.name


@dataclass(slots=True)
class Census:
    """Counts over the instances of one pool, kept up to date by each change so that nobody has to count.

    `going_down` are those with a process whose goal is not up, but for stuck ones, for which nobody waits.
    `unstarted` and `unfinished` are wanted up and have not come so far: who is not wanted holds up no gate,
    but a pool of which nobody is wanted has not started.
    Surge instances are in the counts of processes and phases; they are neither wanted nor declared.
    `wanted_ready` leaves out those that were told to go a moment ago and are ready still.
    """

    declared: int = 0
    wanted: int = 0
    drained: int = 0
    ready: int = 0
    wanted_ready: int = 0
    looping: int = 0
    surge_ready: int = 0
    with_process: int = 0
    spawned: int = 0
    unstarted: int = 0
    finished: int = 0
    unfinished: int = 0
    wanted_at_goal: int = 0
    going_down: int = 0
    holding: int = 0
    phases: dict[Phase, int] = field(default_factory=lambda: dict.fromkeys(Phase, 0))

    def count(self, instance: Instance, step: int) -> None:
        """Take so many instances that stand like this one into the counts, or out of them (below 0)."""
        phase, wanted, finished = instance.phase, instance.goal is Goal.UP, instance.finished
        has_process = instance.has_process
        self.phases[phase] += step
        if has_process:
            self.with_process += step
            if not wanted and phase is not Phase.STUCK:
                self.going_down += step
        rung = instance.rung
        if rung is not None and rung.kind is RungKind.HOLD:
            self.holding += step
        if instance.surge:
            self.surge_ready += step * instance.ready
            return
        self.declared += step
        self.ready += step * instance.ready
        self.looping += step * instance.is_looping
        there = (wanted and has_process) or finished
        self.spawned += step * there
        self.finished += step * finished
        if wanted:
            self.wanted += step
            self.wanted_ready += step * instance.ready
            self.wanted_at_goal += step * instance.at_goal
            self.unstarted += step * (not there)
            self.unfinished += step * (not finished)
        elif instance.goal is Goal.DRAINED:
            self.drained += step

    @property
    def started(self) -> bool:
        """Whether the gate of those that depend on `started` is open."""
        return self.spawned == self.declared or (self.wanted > 0 and not self.unstarted)

    @property
    def completed(self) -> bool:
        """Whether the gate of those that depend on `completed` is open."""
        return self.finished == self.declared or (self.wanted > 0 and not self.unfinished)


class OperationState(StrEnum):
    """How an operation stands; the last three are final."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self in {OperationState.SUCCEEDED, OperationState.FAILED, OperationState.ABORTED}


class Operation(NamedTuple):
    """A tracked wish. `kind` is the verb; `steps` of it are in `Host.steps`; moments are monotonic seconds.

    `deadline` is when an operation that waits for readiness is called failed; None: it waits on.
    """

    id: str
    kind: str
    scope: Scope
    state: OperationState
    done: int
    total: int
    started_at: float
    finished_at: float | None = None
    deadline: float | None = None
    request_id: str = ""
    principal: str = ""
    message: str = ""


class StepState(NamedTuple):
    """Where one instance is in an operation: waiting, running, done, failed or aborted, and why."""

    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The end of the host: when it must be over, and how much every window is scaled to fit.

    `stop_by` is when each pool's stop goes to its last rung, so that those it depends on keep their share.
    """

    began_at: float
    deadline: float
    scale: float
    stop_by: Mapping[str, float]
    operation: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """Something that instances wait for may have come: a gate, or the end of their dependents."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Go, because an operator asked for it: how fast, and into which deadline it must fit.

    `refits` says that this deadline, or that of the host, is news to those on their way out too.
    """

    cause: Cause
    urgency: Urgency = Urgency.NORMAL
    fit: Fit | None = None
    refits: bool = False


@dataclass(frozen=True, slots=True)
class ComeBack:
    """Be up again; `pardons` those that rest or have given up."""

    pardons: bool
    request_id: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send a signal to the processes that were there when it was asked for: these generations."""

    signal: str
    target: Target
    generations: Mapping[InstanceId, int]


class Errand(NamedTuple):
    """What one step has begun for many instances and later ones carry out, a few at a time.

    Goals are written at once. An errand tells the instances in `ids`, of which so many were `seen`; whoever
    is wanted elsewhere by the time it comes is left alone.
    """

    purpose: Look | Leave | ComeBack | Deliver
    ids: tuple[InstanceId, ...]
    seen: int = 0

    @property
    def is_over(self) -> bool:
        """Whether all have been seen."""
        return self.seen >= len(self.ids)


MOST_AT_ONCE = 8
"""On so many instances one step acts of its own accord: half a millisecond of work on a small machine."""

HeapKey = InstanceId | str
"""Whom a deadline in the heap is about: an instance, `pool:NAME`, `operation:ID`, `errand:NUMBER`, or
`look:NAME` (an errand for a pool whose gate may have opened)."""


@dataclass(slots=True)
class Host:
    """The whole state of one daemon. `revision` grows with every visible change.

    `heap` holds (moment, order, key); an entry is stale unless `moments[key]` still names it.
    `operations` keeps the active ones and the latest that ended; `active_operations` names, for each
    pool, those that concern it. `dependents` and `requirements` are transitive. `declared` are the names of
    the declared instances of each pool; `errands` are kept under their names in the heap.
    """

    plan: HostPlan
    pools: dict[str, Pool]
    instances: dict[InstanceId, Instance]
    census: dict[str, Census]
    dependents: dict[str, tuple[str, ...]]
    requirements: dict[str, tuple[str, ...]]
    declared: dict[str, tuple[InstanceId, ...]]
    revision: int = 0
    with_process: int = 0
    stuck: int = 0
    shutdown: Shutdown | None = None
    halted: bool = False
    operations: dict[str, Operation] = field(default_factory=dict)
    steps: dict[str, dict[InstanceId, StepState]] = field(default_factory=dict)
    active_operations: dict[str, frozenset[str]] = field(default_factory=dict)
    finished_operations: deque[str] = field(default_factory=deque)
    heap: list[tuple[float, int, HeapKey]] = field(default_factory=list)
    moments: dict[HeapKey, tuple[float, int]] = field(default_factory=dict)
    heap_order: int = 0
    errands: dict[str, Errand] = field(default_factory=dict)
    most_at_once: int = MOST_AT_ONCE

    @property
    def goal(self) -> Goal:
        """Where the whole host should be: that of its pools where they all agree, else up."""
        if self.shutdown is not None:
            return Goal.DOWN
        goals = {pool.goal for pool in self.pools.values()}
        return goals.pop() if len(goals) == 1 else Goal.UP

    def instances_of(self, pool: str) -> Iterator[Instance]:
        """The declared instances of a pool by index."""
        return map(self.instances.__getitem__, self.declared[pool])

    def members_of(self, pool: str) -> Iterator[Instance]:
        """The declared instances of a pool, then its surge instances."""
        yield from self.instances_of(pool)
        yield from (self.instances[key] for key in self.pools[pool].surge)


def create(plan: HostPlan, intents: Mapping[Scope, Goal] | None = None, now: float = 0.0) -> Host:
    """A host on which nothing has started yet; `intents` are the operators' goals that outlived a restart.

    Scopes that name no pool or instance of this plan are ignored: the manifest has moved on.
    """
    intents = intents or {}
    declared = {
        name: tuple(InstanceId(name, index) for index in range(one.instances))
        for name, one in plan.pools.items()
    }
    pools: dict[str, Pool] = {}
    instances: dict[InstanceId, Instance] = {}
    census: dict[str, Census] = {}
    for name, pool_plan in plan.pools.items():
        goal = intents.get(Scope(name), Goal.UP)
        pools[name] = Pool(pool_plan, goal)
        census[name] = Census()
        for key in declared[name]:
            own = intents.get(Scope(name, key.index), goal)
            instance = instances[key] = Instance(key, own, since=now)
            census[name].count(instance, 1)
    requirements = {name: _requirements(plan, name) for name in plan.pools}
    dependents = {
        name: tuple(other for other, needed in requirements.items() if name in needed) for name in plan.pools
    }
    return Host(plan, pools, instances, census, dependents, requirements, declared)


def _requirements(plan: HostPlan, name: str) -> tuple[str, ...]:
    """Every pool that a pool depends on, directly or through others, nearest first."""
    found: dict[str, None] = {}
    queue = deque(plan.pools[name].depends_on)
    while queue:
        needed = queue.popleft()
        if needed not in found:
            found[needed] = None
            queue.extend(plan.pools[needed].depends_on)
    return tuple(found)


def is_task(pool: Pool) -> bool:
    """Whether the pool runs to completion."""
    return pool.plan.kind is Kind.TASK
