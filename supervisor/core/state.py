"""What is: the instances, the pools and the host, and the questions one may ask them.

Instances, pools, rollouts and operations are values: whoever holds one holds a snapshot. The `Host`
is the one place that maps names to the latest values; only `turn` writes to it. Nothing here
decides anything.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from supervisor.core.effects import Cause
from supervisor.core.events import CheckKind, Scope
from supervisor.core.exits import ExitRecord
from supervisor.core.identity import InstanceId
from supervisor.core.phases import HAS_PROCESS, Goal, Phase
from supervisor.core.plan import HostPlan, Kind, PoolPlan, Target


class RungKind(StrEnum):
    """The kinds of rung on the stop ladder, in the order in which they are climbed."""

    SETTLE = "settle"
    DRAIN = "drain"
    HOLD = "hold"
    STAGE = "stage"
    SWEEP = "sweep"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a stop: what is sent, to whom, and for how long it may last (None: no bound of its own).

    `cut` says that a deadline of the host made its window shorter than the operator declared it.
    """

    kind: RungKind
    window_seconds: float | None
    number: int = 0
    signal: str | None = None
    target: Target = Target.MAIN
    cut: bool = False

    @property
    def name(self) -> str:
        """The word in API, metrics and logs: `settle`, `drain`, `hold`, `stage-1`, `sweep`, `kill`."""
        return f"stage-{self.number}" if self.kind is RungKind.STAGE else self.kind.value


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop on its way: the ladder, the rung it is on, and what is known about it.

    `rungs[0]` is the current one. `extended_seconds` counts what the worker was granted in this stop.
    `stop_by` is when a deadline of the host sends it to the last rung; `forced` names who skipped
    windows or cut them short ("operator" or "deadline"). `idle_at` is when a silent worker counts as drained.
    """

    cause: Cause
    rungs: tuple[Rung, ...]
    began_at: float
    rung_since: float
    extended_seconds: float = 0.0
    stop_by: float | None = None
    forced: str | None = None
    escalated: bool = False
    killed: bool = False
    drain_sent: bool = False
    idle_at: float | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ProbeState:
    """One running check: when it is asked next, whether an answer is awaited, and the streak so far."""

    next_at: float | None = None
    asked_at: float | None = None
    passes: int = 0
    failures: int = 0
    last_reason: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """One slot of a pool. All `*_at` and `since` are monotonic seconds.

    `deadline` is the moment at which the phase (or the rung) ends by itself. `exit` is set when the
    main process is gone and only the rest of its tree is awaited.
    """

    id: InstanceId
    goal: Goal
    phase: Phase = Phase.PENDING
    generation: int = 0
    since: float = 0.0
    deadline: float | None = None
    waiting_for: str = ""
    pid: int | None = None
    started_at: float | None = None
    ready: bool = False
    ready_at: float | None = None
    unready_reason: str = ""
    uptime_ready_at: float | None = None
    watchdog_seconds: float | None = None
    watchdog_at: float | None = None
    checks: Mapping[CheckKind, ProbeState] = field(default_factory=dict)
    stop: Stop | None = None
    pending_exit: ExitRecord | None = None
    signals_sent: frozenset[str] = frozenset()
    status_text: str = ""
    in_flight: int | None = None
    queue_depth: int | None = None
    said_drained: bool = False
    said_stopping: bool = False
    failures: int = 0
    starts: tuple[float, ...] = ()
    restarts: int = 0
    last_exit: ExitRecord | None = None
    finished: bool = False
    superseded: bool = False
    request_id: str = ""

    @property
    def has_process(self) -> bool:
        """Whether a process of this generation, or its tree, may be alive."""
        return self.phase in HAS_PROCESS

    @property
    def rung(self) -> Rung | None:
        """The rung of the stop ladder it is on."""
        return self.stop.rungs[0] if self.stop is not None and self.stop.rungs else None

    @property
    def at_goal(self) -> bool:
        """Whether it is where the operator wants it."""
        if self.goal is Goal.UP:
            return self.ready or (self.phase is Phase.STOPPED and self.finished)
        return self.phase is Phase.STOPPED

    def wake_at(self) -> float | None:
        """The earliest moment at which time alone changes something about it."""
        moments = [self.deadline, self.uptime_ready_at, self.watchdog_at]
        if self.stop is not None:
            moments.append(self.stop.idle_at)
        moments.extend(probe.next_at for probe in self.checks.values())
        return min((moment for moment in moments if moment is not None), default=None)


class RolloutState(StrEnum):
    """How a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A pool on its way from old generations to new ones.

    `waiting` are those still to be replaced, in turn order; `turns` those being replaced, with the
    generation each must leave behind. `wake_at` is the next moment at which time alone matters to it.
    """

    operation: str
    waiting: tuple[InstanceId, ...]
    turns: Mapping[InstanceId, int]
    progress_by: float
    wake_at: float | None
    state: RolloutState = RolloutState.RUNNING
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Pool:
    """A named set of identical instances. `available` opens the gate of those that depend on `ready`.

    It turns true when every wanted instance is ready, and false only when none is: the restart of
    one instance must not hold up the pools that depend on the others.
    """

    plan: PoolPlan
    goal: Goal
    available: bool = False
    rollout: Rollout | None = None

    @property
    def name(self) -> str:
        """The key in the manifest."""
        return self.plan.name


@dataclass(slots=True)
class Census:
    """Counts over the instances of one pool, kept up to date by each change so that nobody has to count.

    `going_down` are those with a process whose goal is not up, but for stuck ones, for which nobody waits.
    """

    wanted: int = 0
    ready: int = 0
    with_process: int = 0
    spawned: int = 0
    finished: int = 0
    at_goal: int = 0
    wanted_at_goal: int = 0
    going_down: int = 0
    holding: int = 0
    phases: dict[Phase, int] = field(default_factory=lambda: dict.fromkeys(Phase, 0))

    def count(self, instance: Instance, step: int) -> None:
        """Take an instance into the counts (`step` 1) or out of them (-1)."""
        stuck = instance.phase is Phase.STUCK
        self.phases[instance.phase] += step
        self.wanted += step * (instance.goal is Goal.UP)
        self.ready += step * instance.ready
        self.with_process += step * instance.has_process
        self.spawned += step * (instance.has_process or instance.finished)
        self.finished += step * instance.finished
        self.at_goal += step * instance.at_goal
        self.wanted_at_goal += step * (instance.goal is Goal.UP and instance.at_goal)
        self.going_down += step * (instance.has_process and instance.goal is not Goal.UP and not stuck)
        rung = instance.rung
        self.holding += step * (rung is not None and rung.kind is RungKind.HOLD)


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


@dataclass(frozen=True, slots=True)
class Operation:
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


@dataclass(frozen=True, slots=True)
class StepState:
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


HeapKey = InstanceId | str
"""Whom a deadline in the heap is about: an instance, `pool:NAME`, or `operation:ID`."""


@dataclass(slots=True)
class Host:
    """The whole state of one daemon. `revision` grows with every visible change.

    `heap` holds (moment, order, key); an entry is stale unless `moments[key]` still names it.
    `operations` keeps the active ones and the latest that ended; `active_operations` names, for each
    pool, those that concern it. `dependents` and `requirements` are transitive.
    """

    plan: HostPlan
    pools: dict[str, Pool]
    instances: dict[InstanceId, Instance]
    census: dict[str, Census]
    dependents: dict[str, tuple[str, ...]]
    requirements: dict[str, tuple[str, ...]]
    revision: int = 0
    with_process: int = 0
    shutdown: Shutdown | None = None
    halted: bool = False
    operations: dict[str, Operation] = field(default_factory=dict)
    steps: dict[str, dict[InstanceId, StepState]] = field(default_factory=dict)
    active_operations: dict[str, frozenset[str]] = field(default_factory=dict)
    finished_operations: deque[str] = field(default_factory=deque)
    heap: list[tuple[float, int, HeapKey]] = field(default_factory=list)
    moments: dict[HeapKey, tuple[float, int]] = field(default_factory=dict)
    heap_order: int = 0

    @property
    def goal(self) -> Goal:
        """Where the whole host should be: that of its pools where they all agree, else up."""
        if self.shutdown is not None:
            return Goal.DOWN
        goals = {pool.goal for pool in self.pools.values()}
        return goals.pop() if len(goals) == 1 else Goal.UP

    def instances_of(self, pool: str) -> Iterator[Instance]:
        """The instances of a pool by index."""
        instances = self.instances
        return (instances[InstanceId(pool, index)] for index in range(self.pools[pool].plan.instances))


def create(plan: HostPlan, intents: Mapping[Scope, Goal] | None = None, now: float = 0.0) -> Host:
    """A host on which nothing has started yet; `intents` are the operators' goals that outlived a restart.

    Scopes that name no pool or instance of this plan are ignored: the manifest has moved on.
    """
    intents = intents or {}
    pools: dict[str, Pool] = {}
    instances: dict[InstanceId, Instance] = {}
    census: dict[str, Census] = {}
    for name, pool_plan in plan.pools.items():
        goal = intents.get(Scope(name), Goal.UP)
        pools[name] = Pool(pool_plan, goal)
        census[name] = Census()
        for index in range(pool_plan.instances):
            own = intents.get(Scope(name, index), goal)
            instance = Instance(InstanceId(name, index), own, since=now)
            instances[instance.id] = instance
            census[name].count(instance, 1)
    requirements = {name: _requirements(plan, name) for name in plan.pools}
    dependents = {
        name: tuple(other for other, needed in requirements.items() if name in needed) for name in plan.pools
    }
    return Host(plan, pools, instances, census, dependents, requirements)


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
