"""What one instance is: its phase and goal, its ladder while it stops, and what is known of its process.

Values: whoever holds one holds a snapshot. What changes with every event is a tuple: a changed copy
costs a seventh of that of a dataclass, and whether anything changed is seen at once. Nothing here
decides anything, nor knows that other instances exist; see `state` for the host.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from supervisor.core.effects import Cause
from supervisor.core.events import CheckKind
from supervisor.core.exits import ExitRecord
from supervisor.core.identity import InstanceId
from supervisor.core.phases import HAS_PROCESS, Goal, Phase
from supervisor.core.plan import Target


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


class Stop(NamedTuple):
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


class ProbeState(NamedTuple):
    """One running check: when it is asked next, whether an answer is awaited, and the streak so far."""

    next_at: float | None = None
    asked_at: float | None = None
    passes: int = 0
    failures: int = 0
    last_reason: str = ""


NO_CHECKS: Mapping[CheckKind, ProbeState] = {}


class Instance(NamedTuple):
    """One slot of a pool. All `*_at` and `since` are monotonic seconds.

    `deadline` is the moment at which the phase (or the rung) ends by itself. `pending_exit` is set when
    the main process is gone and only the rest of its tree is awaited. `well_at` is when earlier failures
    are forgotten; `leaves_by` how far a worker that said STOPPING=1 may stretch its own end. `surge` marks
    an extra slot that exists only while a rollout needs it. What the counts of a pool see stands together
    at the beginning, because it is compared with every change: see `standing`.
    """

    id: InstanceId
    goal: Goal
    phase: Phase = Phase.PENDING
    ready: bool = False
    finished: bool = False
    surge: bool = False
    failures: int = 0
    generation: int = 0
    since: float = 0.0
    deadline: float | None = None
    waiting_for: str = ""
    pid: int | None = None
    started_at: float | None = None
    ready_at: float | None = None
    unready_reason: str = ""
    uptime_ready_at: float | None = None
    watchdog_seconds: float | None = None
    watchdog_at: float | None = None
    checks: Mapping[CheckKind, ProbeState] = NO_CHECKS
    stop: Stop | None = None
    pending_exit: ExitRecord | None = None
    signals_sent: frozenset[str] = frozenset()
    status_text: str = ""
    in_flight: int | None = None
    queue_depth: int | None = None
    said_drained: bool = False
    leaves_by: float | None = None
    well_at: float | None = None
    starts: tuple[float, ...] = ()
    restarts: int = 0
    last_exit: ExitRecord | None = None
    superseded: bool = False
    request_id: str = ""

    @property
    def has_process(self) -> bool:
        """Whether a process of this generation, or its tree, may be alive."""
        return self.phase in HAS_PROCESS

    @property
    def said_stopping(self) -> bool:
        """Whether the worker has said that it goes away by itself."""
        return self.leaves_by is not None

    @property
    def is_looping(self) -> bool:
        """Up again after failing more than once in a row, and not yet for long enough to be trusted."""
        return self.ready and self.failures > 1

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

    @property
    def standing(self) -> tuple[object, ...]:
        """All that the counts of its pool see of it: two that stand alike are counted alike."""
        counted = self[1:7]
        if self.stop is None:
            return counted
        rung = self.rung
        return (*counted, rung is not None and rung.kind is RungKind.HOLD)

    def aimed(self, goal: Goal, request_id: str) -> "Instance":
        """The same with another goal; for thousands at once, in half the time of `_replace`."""
        values = list(self)
        values[1], values[-1] = goal, request_id
        return tuple.__new__(Instance, values)

    def wake_at(self) -> float | None:
        """The earliest moment at which time alone changes something about it."""
        moments = [self.deadline, self.uptime_ready_at, self.watchdog_at, self.well_at]
        if self.stop is not None:
            moments.append(self.stop.idle_at)
        if self.checks:
            moments.extend(probe.next_at for probe in self.checks.values())
        return min([moment for moment in moments if moment is not None], default=None)
