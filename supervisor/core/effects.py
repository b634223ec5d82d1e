"""Everything the core can ask for or report.

Acts are imperative and are performed by the runtime; they return nothing, and their failure is a
later event. Reports are past tense and go to the observers (logs, metrics, journal, waiting
clients); nothing ever comes back from them.
"""

from dataclasses import dataclass
from enum import StrEnum

from supervisor.core.events import CheckKind, Scope
from supervisor.core.exits import ExitRecord
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import Target


class Cause(StrEnum):
    """Why something moved; one word that a log filter or a label can hold."""

    BOOT = "boot"
    GATE = "gate"
    SPAWN = "spawn"
    READY = "ready"
    EXIT = "exit"
    SPAWN_FAILED = "spawn-failed"
    STARTUP_TIMEOUT = "startup-timeout"
    LIVENESS = "liveness"
    WATCHDOG = "watchdog"
    RETRY = "retry"
    GAVE_UP = "gave-up"
    PERMANENT = "permanent"
    COMPLETED = "completed"
    START = "start"
    RESUME = "resume"
    DRAIN = "drain"
    STOP = "stop"
    RESTART = "restart"
    SHUTDOWN = "shutdown"
    WINDOW_CLOSED = "window-closed"
    DRAINED = "drained"
    LEFTOVERS = "leftovers"
    TREE_GONE = "tree-gone"
    OUTLIVED_KILL = "outlived-kill"
    SURGE = "surge"


# ── acts ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process of this generation. Answered by `Spawned` or `SpawnFailed`."""

    instance: InstanceId
    generation: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to the main process or to everything of the tree that is left."""

    instance: InstanceId
    generation: int
    signal: str
    target: Target


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL the whole tree, again and again until nothing is left of it."""

    instance: InstanceId
    generation: int


@dataclass(frozen=True, slots=True)
class Check:
    """Perform one check. Answered once, by `CheckPassed` or `CheckFailed`, within `timeout_seconds`."""

    instance: InstanceId
    generation: int
    check: CheckKind
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Forget:
    """The generation is over: release what is held for it (checks, pipes, control group)."""

    instance: InstanceId
    generation: int


@dataclass(frozen=True, slots=True)
class Release:
    """The slot itself is gone: release what is kept over its generations (log file, notify socket)."""

    instance: InstanceId


@dataclass(frozen=True, slots=True)
class ReleaseBarrier:
    """Everything the worker said before its barrier has been taken in."""

    token: int


@dataclass(frozen=True, slots=True)
class Halt:
    """The shutdown is complete: every instance is stopped, or named in `stuck`."""

    stuck: tuple[InstanceId, ...]


Act = Spawn | Signal | Kill | Check | Forget | Release | ReleaseBarrier | Halt

# ── reports ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Moved:
    """A change of phase. `deadline_seconds` is how long the new phase may last, if it is bounded.

    `request_id` is that of the wish behind it, if there was one.
    """

    instance: InstanceId
    generation: int
    source: Phase
    target: Phase
    cause: Cause
    detail: str = ""
    rung: str | None = None
    deadline_seconds: float | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Climbed:
    """A rung of the stop ladder was left for the next, inside a phase or across a change of it.

    `outcome` is how the one that was left ended: "exit", "drained", "window-closed", "hurried",
    "released", "cancelled", "stuck". `target` is None when the ladder ended.
    """

    instance: InstanceId
    generation: int
    source: str
    seconds: float
    outcome: str
    target: str | None = None
    window_seconds: float | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ReadyChanged:
    """An instance became ready or unready; `start_seconds` when it was for the first time in its life."""

    instance: InstanceId
    generation: int
    ready: bool
    reason: str
    start_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A generation is over, with its record."""

    instance: InstanceId
    record: ExitRecord


@dataclass(frozen=True, slots=True)
class StopEnded:
    """A stop is over: "clean", "escalated" (a later stage was needed), "killed" or "stuck"."""

    instance: InstanceId
    generation: int
    outcome: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Extended:
    """A worker was granted more time."""

    instance: InstanceId
    generation: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """One answer of a probe was negative; the verdict may not have changed yet."""

    instance: InstanceId
    generation: int
    check: CheckKind
    reason: str


@dataclass(frozen=True, slots=True)
class BackedOff:
    """A start was put off."""

    instance: InstanceId
    seconds: float
    attempt: int


@dataclass(frozen=True, slots=True)
class TasksReported:
    """A worker said how many tasks it has ended, and how long each took."""

    instance: InstanceId
    completed: int
    failed: int
    cancelled: int
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GoalChanged:
    """An operator's intent; the journal keeps it over a restart of the daemon.

    With an index it is about one instance; without, about the pool and all its instances.
    """

    scope: Scope
    goal: Goal
    request_id: str = ""
    principal: str = ""


@dataclass(frozen=True, slots=True)
class OperationChanged:
    """An operation was made, moved on, or ended; read it from the host by its id."""

    operation: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a wish: the operation that tracks it, which may have existed before."""

    operation: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to a wish that cannot be; `kind` is from the closed list in the HTTP reference."""

    kind: str
    message: str
    hint: str


Report = (
    Moved
    | Climbed
    | ReadyChanged
    | Ended
    | StopEnded
    | Extended
    | ProbeFailed
    | BackedOff
    | TasksReported
    | GoalChanged
    | OperationChanged
    | Accepted
    | Refused
)

Effect = Act | Report
