"""The JSON documents of the API as types: what `shapes` must return, and what `/openapi.json` says.

A `TypedDict` for each document, so that a field cannot be added, dropped or given another type in one
place only. A closed list of words is named by its enum. Nothing here makes a value.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NotRequired, TypedDict

from supervisor.core.exits import ExitClass
from supervisor.core.health import Status
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import Condition, Kind, Target
from supervisor.core.state import OperationState, RolloutState

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Age:
    """Seconds since a moment, or (`left`) until it; never below 0."""

    moment: float
    left: bool = False


HostStatus = Literal["healthy", "degraded", "unhealthy", "shutting-down"]
GoalWord = Annotated[str, Goal]

STEP_STATES = ("waiting", "running", "done", "failed", "aborted")
"""The words of `core.state.StepState`."""


class Livez(TypedDict):
    """Whether the loop turns."""

    status: Literal["ok", "failing"]


class Readyz(TypedDict):
    """Whether every critical pool is at its goal, and if not, why not."""

    ready: bool
    reasons: list[str]


class PoolHealth(TypedDict):
    """How one pool stands."""

    name: str
    status: Annotated[str, Status]
    critical: bool
    wanted: int
    ready: int
    reasons: list[str]


class Health(TypedDict):
    """How the host and each pool stand."""

    status: HostStatus
    ready: bool
    reasons: list[str]
    pools: list[PoolHealth]


LastExit = TypedDict(
    # Its name is a keyword of the language: this one cannot be written as a class.
    "LastExit",
    {
        "generation": int,
        "class": Annotated[str, ExitClass],
        "detail": str,
        "rung": str | None,
        "ago_seconds": Age,
        "uptime_seconds": float,
        "leftovers": int,
        "last_lines": list[str],
    },
)
LastExit.__doc__ = "The ending of one generation."


class Instance(TypedDict):
    """One instance."""

    name: str
    phase: Annotated[str, Phase]
    goal: GoalWord
    ready: bool
    pid: int | None
    generation: int
    since_seconds: Age
    uptime_seconds: Age | None
    stage: str | None
    stage_signal: str | None
    stage_target: Annotated[str, Target] | None
    stage_since_seconds: Age | None
    deadline_seconds: Age | None
    waiting_for: str | None
    unready_reason: str | None
    restarts: int
    failures: int
    status_text: str | None
    in_flight: int | None
    queue_depth: int | None
    last_exit: LastExit | None
    surge: bool


class InstanceAlone(Instance):
    """One instance with the revision of the host that it was read from."""

    revision: int


class Rollout(TypedDict):
    """How far a pool is on its way from old generations to new ones."""

    operation: str
    state: Annotated[str, RolloutState]
    waiting: int
    turns: list[str]
    surge: list[str]


class PoolHead(TypedDict):
    """One pool without its instances."""

    name: str
    kind: Annotated[str, Kind]
    critical: bool
    goal: GoalWord
    status: Annotated[str, Status]
    reasons: list[str]
    wanted: int
    ready: int
    instances_declared: int
    depends_on: dict[str, Annotated[str, Condition]]
    sockets: dict[str, str]
    rollout: Rollout | None


class Pool(PoolHead):
    """One pool with its instances."""

    instances: list[Instance]


class PoolAlone(Pool):
    """One pool with the revision of the host that it was read from."""

    revision: int


class Pools(TypedDict):
    """Every pool."""

    revision: int
    pools: list[Pool]


class Shutdown(TypedDict):
    """How long the host may still take, and the operation that tracks its end."""

    deadline_seconds: float
    operation: str


class HostHead(TypedDict):
    """The host without its pools."""

    name: str
    version: str
    revision: int
    ready: bool
    goal: GoalWord
    reasons: list[str]
    uptime_seconds: float
    shutdown: Shutdown | None


class Host(HostHead):
    """The whole host."""

    pools: list[Pool]


class Step(TypedDict):
    """What one instance has to do with an operation."""

    instance: str
    state: Annotated[str, STEP_STATES]
    detail: str


class OperationHead(TypedDict):
    """An operation without its steps. Times are RFC 3339 in UTC."""

    id: str
    kind: str
    target: str
    state: Annotated[str, OperationState]
    done: int
    total: int
    started_at: str
    finished_at: str | None
    request_id: str
    principal: str
    message: str


class Operation(OperationHead):
    """An operation with its steps."""

    steps: list[Step]


class Accepted(Operation):
    """The operation of a wish that was taken; a `warning` says why it may not outlive the daemon."""

    warning: NotRequired[str]


class Operations(TypedDict):
    """The latest operations, newest first."""

    operations: list[OperationHead]


class Failure(TypedDict):
    """A failed request, as RFC 9457 has it; `kind` is from a closed list."""

    type: str
    title: str
    status: int
    detail: str
    kind: str
    hint: str
    request_id: str
