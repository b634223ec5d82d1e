"""The JSON objects of the HTTP API as typed dictionaries, so that scripts get completion and checking.

They describe what a daemon of this version sends; at run time they are plain dictionaries, and a
daemon of another version may leave keys out or add some. Durations are seconds.
"""

from typing import TypedDict


class LastExit(TypedDict, total=False):
    """How the previous generation of an instance ended."""

    generation: int
    detail: str
    rung: str | None
    ago_seconds: float
    uptime_seconds: float
    leftovers: int
    last_lines: list[str]


class InstanceStatus(TypedDict, total=False):
    """One slot of a pool: where it is, since when, until when, and what it waits for."""

    name: str
    phase: str
    goal: str
    ready: bool
    pid: int | None
    generation: int
    since_seconds: float
    uptime_seconds: float | None
    stage: str | None
    stage_signal: str | None
    stage_target: str | None
    stage_since_seconds: float | None
    deadline_seconds: float | None
    waiting_for: str | None
    unready_reason: str | None
    restarts: int
    failures: int
    status_text: str | None
    in_flight: int | None
    queue_depth: int | None
    last_exit: LastExit | None
    surge: bool
    revision: int


class RolloutStatus(TypedDict, total=False):
    """A pool on its way from old generations to new ones."""

    operation: str
    state: str
    waiting: int
    turns: list[str]
    surge: list[str]


class PoolStatus(TypedDict, total=False):
    """A pool and its instances."""

    name: str
    kind: str
    critical: bool
    goal: str
    status: str
    reasons: list[str]
    wanted: int
    ready: int
    instances_declared: int
    depends_on: dict[str, str]
    sockets: dict[str, str]
    rollout: RolloutStatus | None
    instances: list[InstanceStatus]
    revision: int


class ShutdownStatus(TypedDict, total=False):
    """The end of the host: the time left for it, and the operation that tracks it."""

    deadline_seconds: float
    operation: str


class HostStatus(TypedDict, total=False):
    """Everything about one daemon. `revision` grows with every visible change."""

    name: str
    version: str
    revision: int
    ready: bool
    goal: str
    reasons: list[str]
    uptime_seconds: float
    shutdown: ShutdownStatus | None
    pools: list[PoolStatus]


class PoolsStatus(TypedDict, total=False):
    """The pools without the host around them."""

    revision: int
    pools: list[PoolStatus]


class Step(TypedDict, total=False):
    """Where one instance is in an operation: waiting, running, done, failed or aborted, and why."""

    instance: str
    state: str
    detail: str


class Operation(TypedDict, total=False):
    """A tracked wish. `state` is pending, running, paused, succeeded, failed or aborted.

    Moments are RFC 3339 in UTC. `warning` comes only with the answer to the wish itself: the goal
    was taken but could not be written to disk.
    """

    id: str
    kind: str
    target: str
    state: str
    done: int
    total: int
    started_at: str
    finished_at: str | None
    request_id: str
    principal: str
    message: str
    steps: list[Step]
    warning: str


class Operations(TypedDict, total=False):
    """The operations the daemon remembers, newest first, without their steps."""

    operations: list[Operation]


class Readiness(TypedDict, total=False):
    """The answer of `/readyz`."""

    ready: bool
    reasons: list[str]


class Health(TypedDict, total=False):
    """The answer of `/health`: the aggregate, and each pool without its instances."""

    status: str
    ready: bool
    reasons: list[str]
    pools: list[PoolStatus]


FINAL_STATES = frozenset({"succeeded", "failed", "aborted"})
"""States of an operation after which nothing about it changes any more."""
