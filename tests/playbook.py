"""Conversations with the core: `>>` says what happened, `<<` states what is asked for or reported.

    assert (
        Playbook(host).at(0) >> Booted() << ...
        .at(5) >> StopRequested(...) << "web/0 running > stopping (stop, stage-1)" << "SIGTERM main web/0#1"
    )

An expectation is an effect, or the sentence `say` makes of one. Acts, moves and answers must all be
stated, in their order; other reports only where the test is about them. What was not stated, or
stated and did not come, fails with the transcript of the whole conversation. `until` lets time pass:
the effects of every tick on the way belong to it.
"""

from collections.abc import Iterable, Mapping
from typing import Self

from supervisor.core.effects import (
    Accepted,
    Act,
    BackedOff,
    Check,
    Climbed,
    Effect,
    Ended,
    Extended,
    Forget,
    GoalChanged,
    Halt,
    Kill,
    Moved,
    OperationChanged,
    ProbeFailed,
    ReadyChanged,
    Refused,
    Release,
    ReleaseBarrier,
    Signal,
    Spawn,
    StopEnded,
    TasksReported,
)
from supervisor.core.events import Booted, CheckPassed, Event, Scope, Spawned, Tick, Told, Wish
from supervisor.core.host import next_deadline, step
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import HostPlan, PoolPlan, Readiness
from supervisor.core.state import Host, create

Expected = Effect | str
WATCHED = (Spawn, Signal, Kill, Check, Release, ReleaseBarrier, Halt, Moved, Accepted, Refused)
"""Effects that may not pass unstated."""

TICKS_AT_MOST = 1000


def say(effect: Effect) -> str:  # noqa: PLR0912 - one line for each kind of effect
    """The sentence by which tests and traces name an effect."""
    match effect:
        case Spawn(instance, generation, cause):
            return f"spawn {instance}#{generation} ({cause})"
        case Signal(instance, generation, signal, target):
            return f"{signal} {target} {instance}#{generation}"
        case Kill(instance, generation):
            return f"kill {instance}#{generation}"
        case Check(instance, generation, check):
            return f"check {check} {instance}#{generation}"
        case Forget(instance, generation):
            return f"forget {instance}#{generation}"
        case Release(instance):
            return f"release {instance}"
        case ReleaseBarrier(token):
            return f"release barrier {token}"
        case Halt(stuck):
            return "halt" + "".join(f", {one} is stuck" for one in stuck)
        case Moved():
            rung = f", {effect.rung}" if effect.rung else ""
            return f"{effect.instance} {effect.source} > {effect.target} ({effect.cause}{rung})"
        case Climbed():
            return f"{effect.instance} climbs {effect.source} > {effect.target or 'gone'} ({effect.outcome})"
        case ReadyChanged():
            return f"{effect.instance} " + ("ready" if effect.ready else f"unready: {effect.reason}")
        case Ended(instance, record):
            rung = f", {record.rung}" if record.rung else ""
            return f"{instance}#{record.generation} ended {record.exit_class} ({record.detail}{rung})"
        case StopEnded():
            return f"{effect.instance} stop {effect.outcome} after {effect.seconds:g} s"
        case Extended():
            return f"{effect.instance} gets {effect.seconds:g} s more"
        case ProbeFailed():
            return f"{effect.instance} {effect.check} failed: {effect.reason}"
        case BackedOff():
            return f"{effect.instance} waits {effect.seconds:g} s (attempt {effect.attempt})"
        case TasksReported():
            return f"{effect.instance} tasks {effect.completed}/{effect.failed}/{effect.cancelled}"
        case GoalChanged():
            return f"goal {effect.scope} {effect.goal}"
        case OperationChanged(operation):
            return f"operation {operation}"
        case Accepted(operation):
            return f"accepted {operation}"
        case Refused():
            return f"refused {effect.kind}"


class Playbook:
    """One conversation. `assert` it: its truth is that nothing unstated is left over."""

    def __init__(self, host: Host, now: float = 0.0) -> None:
        self.host = host
        self.now = now
        self._left: list[Effect] = []
        self._transcript: list[str] = []

    def at(self, moment: float) -> Self:
        """What follows happens at this moment, monotonic seconds."""
        assert moment >= self.now, f"time goes back from {self.now:g} to {moment:g}"
        self.now = moment
        return self

    def __rshift__(self, event: Event) -> Self:
        """This happened."""
        self._nothing_left()
        self._take(event)
        return self

    def until(self, moment: float) -> Self:
        """Let time pass up to and including this moment."""
        self._nothing_left()
        for _ in range(TICKS_AT_MOST):
            due = next_deadline(self.host)
            if due is None or due > moment:
                return self.at(moment)
            self.at(max(self.now, due))._take(Tick())
        raise AssertionError(self._told(f"more than {TICKS_AT_MOST} ticks until {moment:g}"))

    def __lshift__(self, expected: Expected) -> Self:
        """This was asked for or reported in answer."""
        passed: list[Effect] = []
        for position, effect in enumerate(self._left):
            if expected == (say(effect) if isinstance(expected, str) else effect):
                self._transcript.append(f"{'':9}    << {say(effect)}")
                self._left = self._left[position + 1 :]
                return self
            if isinstance(effect, WATCHED):
                raise AssertionError(self._told(f"expected {_name(expected)}, got {say(effect)}"))
            passed.append(effect)
        told = ", ".join(map(say, passed)) or "nothing"
        raise AssertionError(self._told(f"expected {_name(expected)}, got {told}"))

    def __bool__(self) -> bool:
        """Whether everything that had to be stated was."""
        self._nothing_left()
        return True

    def instance(self, name: str) -> Instance:
        """An instance by its name, as it is now."""
        return self.host.instances[named(name)]

    def _take(self, event: Event) -> None:
        self._transcript.append(f"{self.now:9.3f} >> {event!r}")
        self._left.extend(step(self.host, event, self.now))

    def _nothing_left(self) -> None:
        unstated = [effect for effect in self._left if isinstance(effect, WATCHED)]
        if unstated:
            raise AssertionError(self._told(f"unstated: {say(unstated[0])}"))
        self._left = []

    def _told(self, problem: str) -> str:
        left = [f"{'':9}  ? << {say(effect)}" for effect in self._left]
        return "\n".join([problem, *self._transcript, *left])


def _name(expected: Expected) -> str:
    return expected if isinstance(expected, str) else say(expected)


# ── casts ────────────────────────────────────────────────────────────────────────────────────────


def named(name: str) -> InstanceId:
    """`emails/0` as an identity."""
    pool, _, index = name.partition("/")
    return InstanceId(pool, int(index))


def wish(target: str = "", operation: str = "op1") -> Wish:
    """A wish for the host (""), a pool or an instance."""
    pool, _, index = target.partition("/")
    return Wish(Scope(pool or None, int(index) if index else None), operation)


def host_of(
    *pools: PoolPlan,
    deadline: float = 300.0,
    intents: Mapping[Scope, Goal] | None = None,
    now: float = 0.0,
) -> Host:
    """A host with these pools on which nothing has started."""
    return create(HostPlan("h", {pool.name: pool for pool in pools}, deadline), intents, now)


def running(
    *pools: PoolPlan, deadline: float = 300.0, intents: Mapping[Scope, Goal] | None = None, now: float = 10.0
) -> Playbook:
    """A conversation that begins at `now` with everything up and ready; pids count from 100."""
    host = host_of(*pools, deadline=deadline, intents=intents)
    pending: list[Event] = [Booted()]
    clock, pid = 0.0, 99
    while pending or (next_deadline(host) is not None and not _all_ready(host)):
        if not pending:
            clock = max(clock, next_deadline(host) or 0.0)
            pending.append(Tick())
        for effect in step(host, pending.pop(0), clock):
            if isinstance(effect, Spawn):
                pid += 1
                pending.extend(_well(host.plan.pools[effect.instance.pool], effect, pid))
            elif isinstance(effect, Check):
                pending.append(CheckPassed(effect.instance, effect.generation, effect.check))
    assert clock <= now, f"it takes {clock:g} s until everybody is ready"
    return Playbook(host, now)


def _well(plan: PoolPlan, spawn: Spawn, pid: int) -> Iterable[Event]:
    yield Spawned(spawn.instance, spawn.generation, pid)
    if plan.readiness is Readiness.NOTIFY:
        yield Told(spawn.instance, spawn.generation, ready=True)


def _all_ready(host: Host) -> bool:
    return all(one.ready or one.goal is not Goal.UP for one in host.instances.values()) and not any(
        one.goal is not Goal.UP and one.phase is not Phase.STOPPED for one in host.instances.values()
    )


def acts(effects: Iterable[Effect]) -> list[str]:
    """The sentences of the acts among these effects."""
    return [say(effect) for effect in effects if isinstance(effect, Act)]
