"""What the operator declared, as far as decisions need it: policies, windows and relations.

The manifest becomes one `HostPlan`. All durations are seconds. What a process looks like (command,
environment, log files) is in `launch`; decisions never read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """A service runs until told otherwise; a task runs to completion once per boot."""

    SERVICE = "service"
    TASK = "task"


class Condition(StrEnum):
    """What a pool asks of another before it starts."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"


class Target(StrEnum):
    """Whom a signal addresses: the main process, or everything of the tree that is left."""

    MAIN = "main"
    ALL = "all"


class RestartPolicy(StrEnum):
    """Which exits are followed by a new start."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class Readiness(StrEnum):
    """Who says that a worker is ready."""

    UPTIME = "uptime"
    NOTIFY = "notify"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Stage:
    """One rung of the stop ladder: a signal, whom it addresses, and the grace window it opens."""

    signal: str = "SIGTERM"
    target: Target = Target.MAIN
    grace_seconds: float = 25.0


DEFAULT_STAGES = (Stage("SIGTERM", Target.MAIN, 25.0), Stage("SIGTERM", Target.ALL, 5.0))


@dataclass(frozen=True, slots=True)
class ProbePolicy:
    """How often a probe is asked and how many answers in a row change the verdict."""

    period_seconds: float = 10.0
    timeout_seconds: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1
    initial_delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """How a worker is told to take nothing new, and when it counts as drained.

    `signal` is set when the request is a signal; `has_action` when it is an HTTP call or a command
    that the runtime performs (`CheckKind.DRAIN`); neither when the worker is merely waited for.
    """

    signal: str | None = None
    has_action: bool = False
    has_until: bool = False
    settle_seconds: float = 0.0
    window_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class StopPolicy:
    """The ladder and the ceiling for a worker's own requests for more time."""

    stages: tuple[Stage, ...] = DEFAULT_STAGES
    extend_step_seconds: float = 60.0
    extend_total_seconds: float = 120.0

    @property
    def worst_case_seconds(self) -> float:
        """How long the ladder may take from its first stage on, without extensions."""
        swept = any(stage.target is Target.ALL for stage in self.stages)
        sweep = LINGER_SECONDS + (0.0 if swept else SWEEP_SECONDS)
        return sum(stage.grace_seconds for stage in self.stages) + sweep + KILL_SECONDS


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delay before the n-th start in a row that failed: initial * factor ** (n - 1), at most `max`.

    `jitter` is the share of the delay that is drawn: 1.0 is full jitter (anything from 0), 0.0 none.
    """

    initial_seconds: float = 0.5
    factor: float = 2.0
    max_seconds: float = 60.0
    jitter: float = 1.0
    reset_after_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """So many starts inside so many seconds mean: stop trying."""

    starts: int
    within_seconds: float


@dataclass(frozen=True, slots=True)
class RestartRules:
    """Which exits are restarted, and how fast."""

    policy: RestartPolicy = RestartPolicy.ALWAYS
    backoff: Backoff = field(default_factory=Backoff)
    give_up: GiveUp | None = None
    permanent_exit_codes: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class RolloutRules:
    """How a pool is replaced without losing capacity. At least one of the first two is above 0."""

    max_unavailable: int = 1
    min_ready_seconds: float = 5.0
    progress_deadline_seconds: float = 600.0
    max_surge: int = 0


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """One entry of the manifest."""

    name: str
    instances: int = 1
    kind: Kind = Kind.SERVICE
    critical: bool = True
    depends_on: Mapping[str, Condition] = field(default_factory=dict)
    startup_timeout_seconds: float = 60.0
    min_uptime_seconds: float = 1.0
    readiness: Readiness = Readiness.UPTIME
    readiness_probe: ProbePolicy | None = None
    liveness_probe: ProbePolicy | None = None
    watchdog_seconds: float | None = None
    restart: RestartRules = field(default_factory=RestartRules)
    drain: DrainPolicy | None = None
    stop: StopPolicy = field(default_factory=StopPolicy)
    rollout: RolloutRules = field(default_factory=RolloutRules)
    sockets: Mapping[str, str] = field(default_factory=dict)
    """What the pool listens on, by name and as it was written. It is shown; no decision reads it."""
    revision: str = ""

    @property
    def before_stages_seconds(self) -> float:
        """How long a stop may take until its first stage: a drain, or the first moments of a start."""
        drain = self.drain.settle_seconds + self.drain.window_seconds if self.drain else 0.0
        return max(drain, self.min_uptime_seconds if self.readiness is Readiness.UPTIME else 0.0)


KILL_SECONDS = 5.0
"""How long the tree may outlive SIGKILL before the instance is called stuck. A process in
uninterruptible sleep outlives it for as long as its device does; five seconds is what systemd's
final-sigterm and pebble's second kill delay centre on."""

LINGER_SECONDS = 0.2
"""How long a tree may take to end after its main process before it is called a leftover: uvicorn and
hypercorn are gone before their own resource tracker is."""

SWEEP_SECONDS = 5.0
"""Grace for what a main process left behind, where the ladder has no stage of its own for all."""


@dataclass(frozen=True, slots=True)
class HostPlan:
    """The whole manifest: every pool, and what holds for all of them. `pools` keeps file order."""

    name: str
    pools: Mapping[str, PoolPlan]
    shutdown_deadline_seconds: float = 300.0

    def worst_case_stop_seconds(self, pool: str) -> float:
        """How long one instance of a pool may take to stop without extensions, seconds.

        It holds for the worst: the main process ends just before its last window closes, and what it
        left behind outlives every signal.
        """
        plan = self.pools[pool]
        return plan.before_stages_seconds + plan.stop.worst_case_seconds
