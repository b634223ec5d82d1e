"""What the daemon said, checked, cleaned and bounded: the only shapes the rest of the ctl reads.

An answer may come from a daemon of another version, so a missing or odd field becomes a plain default
here and never an exception later. Moments are turned into ages at the time the answer arrived:
`elapsed` seconds later an age has grown and the time left has shrunk by as much.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.cli.ctl.text import clean

LARGEST_LIST = 20000
"""Items of one list that are looked at."""

FINAL_STATES = frozenset({"succeeded", "failed", "aborted"})
TROUBLED = frozenset({"backoff", "failed", "stuck"})
SETTLED_STATUSES = frozenset({"healthy", "completed", "drained", "stopped"})
"""The words for a pool that is where the operator wants it."""


@dataclass(frozen=True, slots=True)
class ExitView:
    """How the last generation ended. `ago` is as of the answer."""

    generation: int
    exit_class: str
    detail: str
    rung: str
    ago: float
    uptime: float | None
    leftovers: int
    last_lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance. `deadline` is the time left on its phase or rung; None: no bound."""

    name: str
    pool: str
    phase: str
    goal: str
    ready: bool
    pid: int | None
    generation: int
    since: float
    uptime: float | None
    stage: str
    stage_signal: str
    stage_target: str
    stage_since: float | None
    deadline: float | None
    waiting_for: str
    unready_reason: str
    restarts: int
    failures: int
    status_text: str
    in_flight: int | None
    queue_depth: int | None
    last_exit: ExitView | None
    surge: bool = False

    @property
    def at_goal(self) -> bool:
        """Whether it is where the operator wants it, as far as the answer tells."""
        return self.ready or self.phase == "stopped" if self.goal == "up" else self.phase == "stopped"

    @property
    def word(self) -> str:
        """Where it is, in one word: the phase, or "drained" for what went away by a drain."""
        return "drained" if self.phase == "stopped" and self.goal == "drained" else self.phase


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A pool on its way to new generations."""

    operation: str
    state: str
    waiting: int
    turns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool and its instances."""

    name: str
    kind: str
    critical: bool
    goal: str
    status: str
    reasons: tuple[str, ...]
    wanted: int
    ready: int
    depends_on: tuple[tuple[str, str], ...]
    sockets: tuple[tuple[str, str], ...]
    rollout: RolloutView | None
    instances: tuple[InstanceView, ...]

    @property
    def settled(self) -> bool:
        """Whether the pool and each of its instances are at their goal, with no rollout on the way."""
        if self.status not in SETTLED_STATUSES or self.rollout is not None:
            return False
        return all(one.at_goal for one in self.instances)


@dataclass(frozen=True, slots=True)
class HostView:
    """The whole host. `shutdown` is the time left until it must be down; None: it is not shutting down."""

    name: str
    version: str
    revision: int
    ready: bool
    goal: str
    reasons: tuple[str, ...]
    uptime: float
    shutting_down: bool
    shutdown: float | None
    pools: tuple[PoolView, ...]

    def pool(self, name: str) -> PoolView | None:
        """The pool of that name."""
        return next((pool for pool in self.pools if pool.name == name), None)

    def instances(self) -> dict[str, InstanceView]:
        """Every instance by name."""
        return {one.name: one for pool in self.pools for one in pool.instances}

    @property
    def settled(self) -> bool:
        """Whether everything is at its goal."""
        return not self.shutting_down and all(pool.settled for pool in self.pools)


@dataclass(frozen=True, slots=True)
class StepView:
    """One instance in an operation."""

    instance: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class OperationView:
    """A tracked wish."""

    id: str
    kind: str
    target: str
    state: str
    done: int
    total: int
    started_at: str
    finished_at: str
    principal: str
    request_id: str
    message: str
    warning: str
    steps: tuple[StepView, ...]

    @property
    def final(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.state in FINAL_STATES

    @property
    def succeeded(self) -> bool:
        """Whether the goal was reached."""
        return self.state == "succeeded"


def host_view(answer: Mapping[str, Any]) -> HostView:
    """The answer of `/v1/status`."""
    shutdown = answer.get("shutdown")
    return HostView(
        name=clean(answer.get("name"), 200) or "pitboss",
        version=clean(answer.get("version"), 40),
        revision=_integer(answer.get("revision")) or 0,
        ready=answer.get("ready") is True,
        goal=clean(answer.get("goal"), 20) or "up",
        reasons=_texts(answer.get("reasons")),
        uptime=_number(answer.get("uptime_seconds")) or 0.0,
        shutting_down=isinstance(shutdown, Mapping),
        shutdown=_number(shutdown.get("deadline_seconds")) if isinstance(shutdown, Mapping) else None,
        pools=tuple(pool_view(pool) for pool in _mappings(answer.get("pools"))),
    )


def pool_view(answer: Mapping[str, Any]) -> PoolView:
    """One pool of an answer."""
    name = clean(answer.get("name"), 200)
    rollout = answer.get("rollout")
    return PoolView(
        name=name,
        kind=clean(answer.get("kind"), 20) or "service",
        critical=answer.get("critical") is not False,
        goal=clean(answer.get("goal"), 20) or "up",
        status=clean(answer.get("status"), 20) or "unknown",
        reasons=_texts(answer.get("reasons")),
        wanted=_integer(answer.get("wanted")) or 0,
        ready=_integer(answer.get("ready")) or 0,
        depends_on=_named(answer.get("depends_on"), 40),
        sockets=_named(answer.get("sockets"), 200),
        rollout=_rollout(rollout) if isinstance(rollout, Mapping) else None,
        instances=tuple(_instance(one, name) for one in _mappings(answer.get("instances"))),
    )


def operation_view(answer: Mapping[str, Any]) -> OperationView:
    """One operation of an answer."""
    return OperationView(
        id=clean(answer.get("id"), 200),
        kind=clean(answer.get("kind"), 40),
        target=clean(answer.get("target"), 200),
        state=clean(answer.get("state"), 20),
        done=_integer(answer.get("done")) or 0,
        total=_integer(answer.get("total")) or 0,
        started_at=clean(answer.get("started_at"), 40),
        finished_at=clean(answer.get("finished_at"), 40),
        principal=clean(answer.get("principal"), 200),
        request_id=clean(answer.get("request_id"), 200),
        message=clean(answer.get("message")),
        warning=clean(answer.get("warning")),
        steps=tuple(
            StepView(
                clean(step.get("instance"), 200), clean(step.get("state"), 20), clean(step.get("detail"))
            )
            for step in _mappings(answer.get("steps"))
        ),
    )


def _instance(answer: Mapping[str, Any], pool: str) -> InstanceView:
    last_exit = answer.get("last_exit")
    return InstanceView(
        name=clean(answer.get("name"), 200),
        pool=pool,
        phase=clean(answer.get("phase"), 20) or "unknown",
        goal=clean(answer.get("goal"), 20) or "up",
        ready=answer.get("ready") is True,
        pid=_integer(answer.get("pid")),
        generation=_integer(answer.get("generation")) or 0,
        since=_number(answer.get("since_seconds")) or 0.0,
        uptime=_number(answer.get("uptime_seconds")),
        stage=clean(answer.get("stage"), 40),
        stage_signal=clean(answer.get("stage_signal"), 20),
        stage_target=clean(answer.get("stage_target"), 20),
        stage_since=_number(answer.get("stage_since_seconds")),
        deadline=_number(answer.get("deadline_seconds")),
        waiting_for=clean(answer.get("waiting_for")),
        unready_reason=clean(answer.get("unready_reason")),
        restarts=_integer(answer.get("restarts")) or 0,
        failures=_integer(answer.get("failures")) or 0,
        status_text=clean(answer.get("status_text")),
        in_flight=_integer(answer.get("in_flight")),
        queue_depth=_integer(answer.get("queue_depth")),
        last_exit=_exit(last_exit) if isinstance(last_exit, Mapping) else None,
        surge=answer.get("surge") is True,
    )


def _exit(answer: Mapping[str, Any]) -> ExitView:
    return ExitView(
        generation=_integer(answer.get("generation")) or 0,
        exit_class=clean(answer.get("class"), 40),
        detail=clean(answer.get("detail")),
        rung=clean(answer.get("rung"), 40),
        ago=_number(answer.get("ago_seconds")) or 0.0,
        uptime=_number(answer.get("uptime_seconds")),
        leftovers=_integer(answer.get("leftovers")) or 0,
        last_lines=_texts(answer.get("last_lines")),
    )


def _rollout(answer: Mapping[str, Any]) -> RolloutView:
    return RolloutView(
        operation=clean(answer.get("operation"), 200),
        state=clean(answer.get("state"), 20),
        waiting=_integer(answer.get("waiting")) or 0,
        turns=_texts(answer.get("turns")),
    )


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return (
        [item for item in value[:LARGEST_LIST] if isinstance(item, Mapping)]
        if isinstance(value, list)
        else []
    )


def _named(value: object, longest: int) -> tuple[tuple[str, str], ...]:
    """The texts of a mapping by their names."""
    if not isinstance(value, Mapping):
        return ()
    return tuple((clean(key, 200), clean(text, longest)) for key, text in value.items())


def _texts(value: object) -> tuple[str, ...]:
    return tuple(clean(item) for item in value[:LARGEST_LIST]) if isinstance(value, list) else ()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # The comparison is also false for NaN, which JSON parsers let through.
    return float(value) if abs(value) < 1e12 else None


def _integer(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
