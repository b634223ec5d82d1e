"""A wish for many: what it says at once, how little of it one step carries out, and what may come between."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from supervisor.core import host as core
from supervisor.core import lifecycle
from supervisor.core.effects import Effect, Halt, Kill, Signal, Spawn
from supervisor.core.events import (
    Booted,
    DrainRequested,
    Event,
    Exited,
    RestartRequested,
    ResumeRequested,
    ShutdownRequested,
    SignalRequested,
    Spawned,
    StartRequested,
    StopRequested,
    Tick,
    Urgency,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import (
    Backoff,
    Condition,
    Kind,
    PoolPlan,
    RestartPolicy,
    RestartRules,
    RolloutRules,
    Stage,
    StopPolicy,
)
from supervisor.core.state import MOST_AT_ONCE, Host, OperationState
from supervisor.core.turn import Turn
from tests.playbook import host_of, running, wish

MANY = 300
STOP = StopPolicy((Stage(grace_seconds=5.0),))
WEB = PoolPlan("web", instances=MANY, stop=STOP, rollout=RolloutRules(max_unavailable=MANY))
API = PoolPlan("api", instances=MANY, depends_on={"web": Condition.READY}, stop=STOP)
CRASH = ExitStatus(code=1)


class Steps:
    """Steps a host and counts on how many instances each step has acted."""

    def __init__(self, host: Host, now: float, patch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.now = now
        self.most = 0
        self.effects: list[Effect] = []
        self._written: set[InstanceId] = set()
        real = Turn.put

        def put(turn: Turn, instance: Any) -> None:
            self._written.add(instance.id)
            real(turn, instance)

        patch.setattr(Turn, "put", put)

    def take(self, event: Event) -> tuple[Effect, ...]:
        """One step."""
        self._written.clear()
        effects = core.step(self.host, event, self.now)
        concerned = {one.instance for one in effects if isinstance(one, Signal | Kill | Spawn)}
        self.most = max(self.most, len(self._written | concerned))
        self.effects.extend(effects)
        return effects

    def rest(self, moment: float | None = None) -> None:
        """Take ticks until nothing is due at this moment."""
        self.now = self.now if moment is None else moment
        for _ in range(10 * MANY):
            due = core.next_deadline(self.host)
            if due is None or due > self.now:
                return
            self.take(Tick())
        raise AssertionError("it spins")

    def answer(self, reply: Callable[[Effect], Iterable[Event]]) -> None:
        """Let the world answer to everything that was asked for so far, and then to that."""
        while self.effects:
            for event in reply(self.effects.pop(0)):
                self.take(event)
            self.rest()


def well(effect: Effect) -> Iterable[Event]:
    """Processes start when they are asked to, and end at the first signal."""
    if isinstance(effect, Spawn):
        yield Spawned(effect.instance, effect.generation, 1000 + effect.instance.index)
    if isinstance(effect, Signal | Kill):
        yield Exited(effect.instance, effect.generation, ExitStatus(code=0))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Three hundred web and three hundred api that depend on them, all up."""
    return Steps(running(WEB, API).host, 10.0, monkeypatch)


WISHES = [
    StopRequested(wish("web")),
    StopRequested(wish("web"), Urgency.KILL),
    StopRequested(wish(), Urgency.NOW),
    DrainRequested(wish("web")),
    DrainRequested(wish(), deadline_seconds=4.0),
    RestartRequested(wish("web")),
    RestartRequested(wish()),
    SignalRequested(wish("web"), "SIGHUP"),
    ShutdownRequested(wish()),
    ShutdownRequested(wish(), Urgency.KILL),
]


@pytest.mark.parametrize("event", WISHES, ids=lambda event: f"{type(event).__name__}-{event.wish.scope}")
def test_no_step_acts_on_more_than_a_few(steps: Steps, event: Event) -> None:
    """Whatever is wished for hundreds, and whatever follows, goes in many small steps, to its end."""
    steps.take(event)
    steps.rest()
    steps.take(ShutdownRequested(wish("", "again"), deadline_seconds=1.0))
    steps.rest()
    steps.answer(well)
    for moment in (11.0, 16.0, 20.0, 40.0):
        steps.rest(moment)
        steps.answer(well)
    assert {one.phase for one in steps.host.instances.values()} == {Phase.STOPPED}
    assert steps.most <= 2 * MOST_AT_ONCE


def test_to_start_hundreds_takes_many_steps(steps: Steps) -> None:
    """Boot, a resume, a start, and the gate that opens for all of another pool at one moment."""
    other = Steps(host_of(WEB, API), 0.0, pytest.MonkeyPatch())
    other.take(Booted())
    for moment in (0.0, 1.0, 2.0):
        other.rest(moment)
        other.answer(well)
    assert all(one.ready for one in other.host.instances.values())
    assert other.most <= 2 * MOST_AT_ONCE
    for down, up in ((DrainRequested, ResumeRequested), (StopRequested, StartRequested)):
        steps.take(down(wish("", f"{down.__name__}")))
        steps.rest()
        steps.answer(well)
        steps.take(up(wish("", f"{up.__name__}")))
        for moment in (steps.now, steps.now + 1, steps.now + 2):
            steps.rest(moment)
            steps.answer(well)
        assert all(one.ready for one in steps.host.instances.values())
    assert steps.most <= 2 * MOST_AT_ONCE


def test_windows_that_close_at_one_moment_close_in_many_steps(steps: Steps) -> None:
    """Three hundred that ignore SIGTERM are killed at their moment, a few in each step."""
    steps.take(StopRequested(wish("web")))
    steps.rest()
    steps.effects.clear()
    steps.rest(15.0)
    assert sum(isinstance(one, Kill) for one in steps.effects) == MANY
    assert steps.most <= MOST_AT_ONCE


def test_the_wish_itself_says_everything(steps: Steps) -> None:
    """All goals, the intent to remember, and the operation with all its steps: before anybody is told."""
    effects = steps.take(StopRequested(wish("web")))
    assert [type(one).__name__ for one in effects] == ["GoalChanged", "OperationChanged", "Accepted"]
    assert {one.goal for one in steps.host.instances_of("web")} == {Goal.DOWN}
    assert {one.phase for one in steps.host.instances_of("web")} == {Phase.RUNNING}
    assert steps.host.census["web"].wanted == 0
    assert steps.host.operations["op1"].total == MANY
    steps.rest()
    steps.answer(well)
    operation = steps.host.operations["op1"]
    assert (operation.state, operation.done) == (OperationState.SUCCEEDED, MANY)


def test_who_ends_before_it_is_told_finds_its_new_goal(steps: Steps) -> None:
    """A crash between the wish and its turn ends it: no backoff, no new start, and a step that is done."""
    steps.take(StopRequested(wish("web")))
    last = InstanceId("web", MANY - 1)
    steps.take(Exited(last, 1, CRASH))
    assert steps.host.instances[last].phase is Phase.STOPPED
    assert steps.host.steps["op1"][last].state == "done"
    steps.rest()
    assert not any(isinstance(one, Spawn | Signal) and one.instance == last for one in steps.effects)


def test_who_is_wanted_up_again_is_left_alone(steps: Steps) -> None:
    """A stop that is taken back stops only those that were told before; its operation says so of all."""
    steps.take(StopRequested(wish("web")))
    steps.take(Tick())
    steps.take(StartRequested(wish("web", "op2")))
    steps.rest()
    told = {one.instance for one in steps.effects if isinstance(one, Signal)}
    assert len(told) == MOST_AT_ONCE
    steps.answer(well)
    steps.rest(12.0)
    assert all(one.ready for one in steps.host.instances_of("web"))
    states = [steps.host.operations[name].state for name in ("op1", "op2")]
    assert states == [OperationState.ABORTED, OperationState.SUCCEEDED]


def test_a_stop_takes_back_a_start_that_has_begun(steps: Steps) -> None:
    """The other way round: who was not started yet stays down."""
    steps.take(StopRequested(wish("web")))
    steps.rest()
    steps.answer(well)
    steps.take(StartRequested(wish("web", "op2")))
    steps.take(StopRequested(wish("web", "op3")))
    steps.rest()
    assert not any(isinstance(one, Spawn) for one in steps.effects)
    assert {one.phase for one in steps.host.instances_of("web")} == {Phase.STOPPED}


def test_a_drain_that_has_begun_gives_no_more_time_than_the_shutdown_after_it(steps: Steps) -> None:
    """The deadline that comes first counts, in whichever order the two reach an instance."""
    steps.take(DrainRequested(wish("web"), deadline_seconds=200.0))
    steps.take(ShutdownRequested(wish("", "op2"), deadline_seconds=20.0))
    steps.rest()
    stops = [one.stop for one in steps.host.instances_of("web")]
    assert {stop and stop.stop_by for stop in stops} == {25.0}


def test_a_shutdown_halts_when_all_have_been_told() -> None:
    """Nothing runs, and still the end is not announced while there are some that wait to start."""
    host = host_of(WEB)
    core.step(host, Booted(), 0.0)
    assert not any(isinstance(one, Halt) for one in core.step(host, ShutdownRequested(wish()), 0.0))
    effects: list[Effect] = []
    while core.next_deadline(host) is not None:
        effects += core.step(host, Tick(), 0.0)
    assert isinstance(effects[-1], Halt)
    assert {one.phase for one in host.instances.values()} == {Phase.STOPPED}


def test_a_signal_is_not_for_the_process_that_came_after_it() -> None:
    """Who was replaced before its turn gets nothing."""
    rules = RestartRules(backoff=Backoff(0.0))
    book = running(PoolPlan("web", instances=MANY, restart=rules))
    last = InstanceId("web", MANY - 1)
    signals: list[Signal] = []
    story: list[tuple[float, Event]] = [
        (10.0, SignalRequested(wish("web"), "SIGHUP")),
        (10.1, Exited(last, 1, CRASH)),
        *[(10.2, Tick(1))] * (2 * MANY),
    ]
    for moment, event in story:
        effects = core.step(book.host, event, moment)
        signals += [one for one in effects if isinstance(one, Signal)]
    assert len(signals) == MANY - 1
    assert last not in {one.instance for one in signals}
    assert book.host.instances[last].generation == 2


def test_a_gate_that_flaps_is_looked_at_by_all(steps: Steps) -> None:
    """It opens again while the first few have started: those that wait longest come first."""
    host = host_of(PoolPlan("web"), API)
    host.most_at_once = 1
    core.step(host, Booted(), 0.0)
    spawned: list[InstanceId] = []

    def take(event: Event, now: float) -> None:
        spawned.extend(one.instance for one in core.step(host, event, now) if isinstance(one, Spawn))

    for _ in range(MANY + 1):
        take(Tick(), 0.0)
    web = InstanceId("web", 0)
    assert spawned == [web]
    for turn in range(1, 30):
        now = turn * 70.0
        take(Spawned(web, turn, 7), now)
        for moment in (now + 1, now + 2, now + 3):
            take(Tick(3), moment)
        take(Exited(web, turn, CRASH), now + 4)
        for _ in range(3):
            take(Tick(1), now + 69)
    started = {key for key in spawned if key.pool == "api"}
    assert len(started) >= 29


def test_a_poisoned_errand_is_put_off_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision that raises holds up one instance; the others are told at once, and it is tried again."""
    book = running(PoolPlan("web", instances=40))
    core.step(book.host, StopRequested(wish("web")), 10.0)
    real, ill = lifecycle.leave, InstanceId("web", 0)

    def leave(scene: Any, instance: Any, *args: Any) -> Any:
        return 1 / 0 if instance.id == ill else real(scene, instance, *args)

    monkeypatch.setattr(lifecycle, "leave", leave)
    with pytest.raises(ZeroDivisionError):
        core.step(book.host, Tick(1), 10.0)
    core.put_off(book.host, 11.0)
    for _ in range(40 // MOST_AT_ONCE + 1):
        core.step(book.host, Tick(), 10.0)
    phases = [one.phase for one in book.host.instances_of("web")]
    assert phases == [Phase.RUNNING, *[Phase.STOPPING] * 39]
    assert core.next_deadline(book.host) == 11.0
    monkeypatch.undo()
    core.step(book.host, Tick(), 11.0)
    assert book.host.instances[ill].phase is Phase.STOPPING
    assert not book.host.errands


def test_a_new_aim_changes_nothing_else() -> None:
    """The quick way to write a goal says the same as the slow one."""
    one = running(PoolPlan("web")).instance("web/0")
    assert one.aimed(Goal.DRAINED, "r") == one._replace(goal=Goal.DRAINED, request_id="r")


def test_a_host_of_nobody_boots() -> None:
    """No instance, nothing to look at."""
    host = host_of(PoolPlan("web", instances=0))
    assert core.step(host, Booted(), 0.0) == ()
    assert core.next_deadline(host) is None


def test_who_starts_in_a_step_is_replaced_in_a_later_one() -> None:
    """A restart that meets the boot of its pool tells nobody to go whose process does not exist yet."""
    host = host_of(PoolPlan("web", instances=2, rollout=RolloutRules(max_unavailable=2)))
    host.most_at_once = 1
    core.step(host, Booted(), 0.0)
    core.step(host, Tick(1), 0.0)
    core.step(host, Spawned(InstanceId("web", 0), 1, 7), 0.0)
    core.step(host, RestartRequested(wish("web")), 0.0)
    told: list[Signal | Spawn] = []
    for _ in range(4):
        effects = core.step(host, Tick(1), 0.0)
        acts = [one for one in effects if isinstance(one, Signal | Spawn)]
        assert len({type(one) for one in acts if one.instance.index == 1}) <= 1
        told += acts
    assert InstanceId("web", 1) in {one.instance for one in told if isinstance(one, Spawn)}
    assert InstanceId("web", 1) in {one.instance for one in told if isinstance(one, Signal)}


def test_a_surge_instance_may_go_before_its_turn() -> None:
    """The wish concerned it, and it is gone: nothing is left to tell."""
    rules = RolloutRules(max_surge=1, min_ready_seconds=0.0)
    book = running(PoolPlan("web", instances=2, rollout=rules)) >> RestartRequested(wish("web"))
    book.host.most_at_once = 1
    surge = InstanceId("web", 2)
    core.step(book.host, Spawned(surge, 1, 7), 10.0)
    core.step(book.host, DrainRequested(wish("web", "op2")), 10.0)
    core.step(book.host, Exited(surge, 1, CRASH), 10.0)
    assert surge not in book.host.instances
    for _ in range(5):
        core.step(book.host, Tick(1), 10.0)
    assert not book.host.errands
    assert book.host.operations["op2"].total == 3


def test_a_restart_that_waits_for_its_replacement_does_not_turn_without_end() -> None:
    """Nobody may go before the extra instance is ready; to find that out again and again helps nobody."""
    rules = RolloutRules(max_surge=1, max_unavailable=0)
    book = running(PoolPlan("web", instances=2, rollout=rules))
    book.host.most_at_once = 1
    core.step(book.host, RestartRequested(wish("web")), 10.0)
    for _ in range(5):
        core.step(book.host, Tick(1), 10.0)
    assert (core.next_deadline(book.host) or 0.0) > 10.0


@pytest.mark.parametrize("away", [DrainRequested, StopRequested])
def test_who_has_finished_and_is_wished_away_and_back_at_once_runs_again(away: Callable[..., Event]) -> None:
    """Also where both wishes come before anybody was looked at; a task runs once per boot all the same."""
    never = RestartRules(policy=RestartPolicy.NEVER)
    job = replace(WEB, restart=never)
    for plan, runs in ((job, MANY), (replace(job, kind=Kind.TASK), 0)):
        host = running(plan).host
        for key in tuple(host.instances):
            core.step(host, Exited(key, 1, ExitStatus(code=0)), 12.0)
        core.step(host, away(wish("", "op1")), 13.0)
        core.step(host, ResumeRequested(wish("", "op2")), 13.0)
        spawned = 0
        while (core.next_deadline(host) or 99.0) <= 13.0:
            spawned += sum(isinstance(effect, Spawn) for effect in core.step(host, Tick(), 13.0))
        assert spawned == runs
        assert host.census["web"].finished == MANY - runs


def test_a_signal_is_not_for_who_began_in_the_same_moment() -> None:
    """An instance that was replaced before its turn came gets nothing, however little time has passed."""
    host = running(replace(WEB, restart=RestartRules(backoff=Backoff(initial_seconds=0.0)))).host
    last = InstanceId("web", MANY - 1)
    core.step(host, SignalRequested(wish("web", "op1"), "SIGUSR1"), 12.0)
    core.step(host, Exited(last, 1, CRASH), 12.0)
    assert host.instances[last].generation == 2
    told = []
    while (core.next_deadline(host) or 99.0) <= 12.0:
        told += [one.instance for one in core.step(host, Tick(), 12.0) if isinstance(one, Signal)]
    assert sorted(told) == sorted(key for key in host.instances if key != last)
