"""Everything that can happen, in the past tense.

Facts come from the world and carry the generation they are about; the host drops those of an older
one. Wishes come from an operator and change goals only; they carry who asked. `effects` is the
counterpart: everything that can be asked for.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from supervisor.core.exits import ExitStatus
from supervisor.core.identity import InstanceId


class CheckKind(StrEnum):
    """What a check is asked for: two probes, the drain's action, and the drain's end."""

    READINESS = "readiness"
    LIVENESS = "liveness"
    DRAIN = "drain"
    UNTIL = "until"


class Urgency(StrEnum):
    """How a stop is asked for: whole ladder, without the drain, or straight to the last rung."""

    NORMAL = "normal"
    NOW = "now"
    KILL = "kill"


# ── facts ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Spawned:
    """The process exists."""

    instance: InstanceId
    generation: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """There never was a process. `reason` reads "cannot run ./x: no such file"."""

    instance: InstanceId
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The main process ended. With `leftovers` > 0 the rest of its tree still lives: `TreeGone` follows."""

    instance: InstanceId
    generation: int
    status: ExitStatus
    leftovers: int = 0
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TreeGone:
    """Nothing of the generation is left. Comes only after an `Exited` with leftovers."""

    instance: InstanceId
    generation: int


@dataclass(frozen=True, slots=True)
class MainMoved:
    """The worker named another process of its own tree as its main one, and that was verified."""

    instance: InstanceId
    generation: int
    pid: int


@dataclass(frozen=True, slots=True)
class Told:
    """One sd_notify datagram from a process of this generation, parsed and bounded.

    Protocol: sd_notify(3). None and False mean: not said. `watchdog_seconds` is WATCHDOG_USEC,
    `extend_seconds` EXTEND_TIMEOUT_USEC. The counts are X_PITBOSS_*; tasks are increments since the
    worker's last message.
    """

    instance: InstanceId
    generation: int
    ready: bool = False
    reloading: bool = False
    stopping: bool = False
    watchdog: bool = False
    watchdog_trigger: bool = False
    watchdog_seconds: float | None = None
    extend_seconds: float | None = None
    status: str | None = None
    in_flight: int | None = None
    queue_depth: int | None = None
    drained: bool = False
    tasks_completed: int = 0
    tasks_failed: int = 0
    tasks_cancelled: int = 0
    task_seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class BarrierReached:
    """A worker asked to be told when everything it said before has been taken in (BARRIER=1)."""

    token: int


@dataclass(frozen=True, slots=True)
class CheckPassed:
    """A check that the core asked for succeeded."""

    instance: InstanceId
    generation: int
    check: CheckKind


@dataclass(frozen=True, slots=True)
class CheckFailed:
    """A check that the core asked for failed or timed out; `reason` is one line."""

    instance: InstanceId
    generation: int
    check: CheckKind
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; the earliest deadlines may be due, of which at most so many are handled.

    A thousand deadlines that fall on one moment must not hold the loop. With 0 none is handled: such a
    tick only shows that a step can be taken.
    """

    most: int = 8


@dataclass(frozen=True, slots=True)
class CarryOn:
    """Go on with what was begun for many instances; no deadline is handled.

    Whoever takes these until nothing is left tells all of them before hearing what that has led to. Without
    any, ticks do the same, in turn with deadlines.
    """


# ── wishes ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Scope:
    """What a wish is about: the host (no pool), a pool (no index), or one instance."""

    pool: str | None = None
    index: int | None = None

    def __str__(self) -> str:
        if self.pool is None:
            return "host"
        return self.pool if self.index is None else f"{self.pool}/{self.index}"


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wishes what for whom. `operation` is the id the operation will have if it is a new one."""

    scope: Scope
    operation: str
    request_id: str = ""
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Booted:
    """The daemon is up: move every instance towards its goal."""


@dataclass(frozen=True, slots=True)
class StartRequested:
    """Up again after a stop, or at once instead of after its backoff."""

    wish: Wish


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """Up again after a drain or a stop."""

    wish: Wish


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """Finish what you hold, take nothing new, and stay away until resumed.

    With `deadline_seconds` all windows are scaled so that the stop is over by then.
    """

    wish: Wish
    deadline_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Down, and stay down."""

    wish: Wish
    urgency: Urgency = Urgency.NORMAL


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """Replace the generations, as many at a time as the rollout rules allow."""

    wish: Wish
    only_failed: bool = False


@dataclass(frozen=True, slots=True)
class SignalRequested:
    """Send one signal now; changes no goal."""

    wish: Wish
    signal: str
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class AbortRequested:
    """Leave a rollout where it is: running turns finish, no new one begins."""

    operation: str
    wish: Wish = field(default_factory=lambda: Wish(Scope(), ""))


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """Begin no new turn of a rollout until it is resumed."""

    operation: str
    wish: Wish = field(default_factory=lambda: Wish(Scope(), ""))


@dataclass(frozen=True, slots=True)
class UnpauseRequested:
    """Go on with a paused rollout."""

    operation: str
    wish: Wish = field(default_factory=lambda: Wish(Scope(), ""))


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """Stop the whole host and end the daemon. None: the manifest's deadline."""

    wish: Wish
    urgency: Urgency = Urgency.NORMAL
    deadline_seconds: float | None = None


Fact = Spawned | SpawnFailed | Exited | TreeGone | MainMoved | Told | CheckPassed | CheckFailed
"""Events about one generation of one instance."""

OperatorWish = (
    StartRequested
    | ResumeRequested
    | DrainRequested
    | StopRequested
    | RestartRequested
    | SignalRequested
    | ShutdownRequested
)

OperationWish = AbortRequested | PauseRequested | UnpauseRequested

Event = Fact | OperatorWish | OperationWish | BarrierReached | Tick | CarryOn | Booted
