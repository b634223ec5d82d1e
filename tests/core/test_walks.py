"""Random walks: after any events, in any order, repeated or late, what is written down agrees with itself."""

from collections.abc import Mapping
from random import Random

import pytest

from supervisor.core.effects import Accepted, Check, Effect, Forget, Kill, Moved, Refused, Signal, Spawn
from supervisor.core.events import (
    AbortRequested,
    Booted,
    CarryOn,
    CheckFailed,
    CheckKind,
    CheckPassed,
    DrainRequested,
    Event,
    Exited,
    Fact,
    MainMoved,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    ShutdownRequested,
    SignalRequested,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    Tick,
    Told,
    TreeGone,
    UnpauseRequested,
    Urgency,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.host import step
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import LEGAL_MOVES, Goal, Phase
from supervisor.core.plan import (
    Backoff,
    Condition,
    DrainPolicy,
    GiveUp,
    Kind,
    PoolPlan,
    ProbePolicy,
    Readiness,
    RestartRules,
    RolloutRules,
)
from supervisor.core.state import Census, Host
from tests.playbook import host_of, wish

SEEDS, STEPS = 24, 120
READY, UP = Condition.READY, RolloutRules(min_ready_seconds=1.0, progress_deadline_seconds=40.0)
PLANS = (
    PoolPlan("db", instances=2, drain=DrainPolicy("SIGUSR1", has_until=True, window_seconds=8), rollout=UP),
    PoolPlan(
        "web",
        instances=2,
        depends_on={"db": READY, "task": Condition.COMPLETED},
        readiness=Readiness.PROBE,
        readiness_probe=ProbePolicy(period_seconds=2.0),
        liveness_probe=ProbePolicy(period_seconds=3.0, failure_threshold=1),
        drain=DrainPolicy(has_action=True, settle_seconds=2, window_seconds=5),
        restart=RestartRules(give_up=GiveUp(3, 30.0)),
        rollout=UP,
    ),
    PoolPlan("job", readiness=Readiness.NOTIFY, watchdog_seconds=5.0, depends_on={"db": Condition.STARTED}),
    PoolPlan(
        "task", kind=Kind.TASK, min_uptime_seconds=0.0, restart=RestartRules(backoff=Backoff(jitter=0.0))
    ),
)
WHO = ("db/0", "db/1", "web/0", "web/1", "job/0", "task/0")
TARGETS = ("", "db", "web", "job", "task", *WHO)
STATUS = (ExitStatus(code=0), ExitStatus(code=1), ExitStatus(signal="SIGTERM"), ExitStatus(signal="SIGSEGV"))


def facts(key: InstanceId, generation: int) -> tuple[list[Fact], ...]:
    """Everything that can be said about a generation, true or not: its words, checks, and endings."""
    words: list[Fact] = [
        Told(key, generation, ready=True, watchdog=True),
        Told(key, generation, reloading=True, in_flight=1),
        Told(key, generation, stopping=True),
        Told(key, generation, in_flight=0),
        Told(key, generation, drained=True),
        Told(key, generation, watchdog_trigger=True),
        Told(key, generation, extend_seconds=9.0, watchdog_seconds=2.0),
    ]
    checks: list[Fact] = [
        *(CheckPassed(key, generation, kind) for kind in CheckKind),
        *(CheckFailed(key, generation, kind, "no") for kind in CheckKind),
    ]
    endings: list[Fact] = [
        *(Exited(key, generation, status, leftovers) for status in STATUS for leftovers in (0, 2)),
        Spawned(key, generation, 7),
        SpawnFailed(key, generation, "no such file"),
        *(TreeGone(key, generation) for _ in STATUS),
        MainMoved(key, generation, 8),
    ]
    return words, words, checks, endings


def wishes(target: str, name: str) -> list[Event]:
    """Everything that can be wished for."""
    one = wish(target, name)
    return [
        StartRequested(one),
        ResumeRequested(one),
        DrainRequested(one),
        DrainRequested(one, 4.0),
        StopRequested(one),
        StopRequested(one, Urgency.NOW),
        StopRequested(one, Urgency.KILL),
        RestartRequested(one),
        RestartRequested(one, only_failed=True),
        SignalRequested(one, "SIGHUP"),
        *(
            make(f"op{number}")
            for make in (AbortRequested, PauseRequested, UnpauseRequested)
            for number in (1, 2)
        ),
    ]


def answer(effect: Effect) -> Event | None:
    """What a healthy worker does about it."""
    match effect:
        case Spawn(instance, generation):
            return Spawned(instance, generation, 7)
        case Check(instance, generation, check):
            return CheckPassed(instance, generation, check)
        case Signal(instance, generation, "SIGTERM") | Kill(instance, generation):
            return Exited(instance, generation, ExitStatus(signal="SIGTERM"))
        case _:
            return None


def next_event(dice: Random, host: Host, answers: list[Event], number: int) -> Event:
    """Half of what happens is as it should be; the rest is wishes, time, and facts, a few of them late."""
    roll = dice.random()
    if answers and roll < 0.5:
        return answers.pop(0)
    if roll < 0.65:
        return dice.choice((Tick(most=1), Tick(most=32), CarryOn()))
    if roll < 0.66 and number > STEPS // 2:
        urgency, seconds = dice.choice(list(Urgency)), dice.choice((None, 3.0, 9.0, 60.0))
        return ShutdownRequested(wish("", f"op{number}"), urgency, seconds)
    if roll < 0.8:
        return dice.choice(wishes(dice.choice(TARGETS), f"op{number}"))
    alive = [key for key, one in host.instances.items() if one.has_process]
    key = dice.choice(alive or list(host.instances))
    return dice.choice(dice.choice(facts(key, host.instances[key].generation - (dice.random() < 0.1))))


def agrees(host: Host) -> None:
    """Every count, deadline and fact that follows from another one does."""
    for name in host.pools:
        counted = Census()
        for one in host.instances_of(name):
            counted.count(one, 1)
        assert host.census[name] == counted
    assert host.with_process == sum(one.has_process for one in host.instances.values())
    for key, one in host.instances.items():
        wake_at = one.wake_at()
        assert wake_at is None or host.moments[key][0] <= wake_at, f"{key} sleeps through {wake_at}"
        assert not one.ready or (one.phase is Phase.RUNNING and not one.said_stopping)
        on_the_ladder = one.phase in {Phase.DRAINING, Phase.STOPPING, Phase.STUCK}
        assert (one.stop is not None) == on_the_ladder
        assert one.has_process or (one.pid is None and not one.checks and one.pending_exit is None)
        assert one.goal is Goal.UP or one.phase not in {Phase.PENDING, Phase.BACKOFF, Phase.FAILED}
    for name, operation in host.operations.items():
        steps = [one.state for one in host.steps[name].values()]
        if operation.state.is_final:
            assert not {"waiting", "running"} & set(steps)
            assert all(name not in active for active in host.active_operations.values())
    for pool in host.pools.values():
        if pool.rollout is not None:
            assert not host.operations[pool.rollout.operation].state.is_final
            assert len(pool.rollout.turns) <= pool.plan.rollout.max_unavailable


def are_true(
    host: Host, before: Mapping[InstanceId, Instance], event: Event, effects: tuple[Effect, ...]
) -> None:
    """Acts are about the living, late facts change nothing, moves are on the map, wishes are answered."""
    phases = {key: one.phase for key, one in before.items()}
    for effect in effects:
        match effect:
            case Spawn(instance, generation):
                assert generation == before[instance].generation + 1
            case Signal(instance, generation) | Kill(instance, generation) | Check(instance, generation):
                assert generation == host.instances[instance].generation
            case Forget(instance, generation):
                assert generation == before[instance].generation
            case Moved(instance, _, source, target):
                assert source is phases[instance]
                assert target in LEGAL_MOVES[source]
                phases[instance] = target
            case _:
                pass
    assert phases == {key: one.phase for key, one in host.instances.items()}
    if isinstance(event, Fact) and event.generation != before[event.instance].generation:
        assert not effects
        assert host.instances == before
    is_wish = not isinstance(event, Fact | Tick | CarryOn | Booted)
    assert sum(isinstance(effect, Accepted | Refused) for effect in effects) == is_wish


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_written_down_agrees_with_itself(seed: int) -> None:
    """No event, true or false, breaks a count, loses a deadline, or addresses the dead."""
    dice, host, now = Random(seed), host_of(*PLANS), 0.0
    answers: list[Event] = [Tick()]
    event: Event = Booted()
    story: list[str] = []
    for number in range(STEPS):
        story.append(f"{now:8.2f} {event!r}")
        before = dict(host.instances)
        try:
            effects = step(host, event, now)
            agrees(host)
            are_true(host, before, event, effects)
        except Exception as problem:
            raise AssertionError("\n".join(story)) from problem
        answers.extend(made for made in map(answer, effects) if made is not None)
        now += dice.choice((0.0, 0.0, 0.5, 1.0, 6.0))
        event = next_event(dice, host, answers, number)
