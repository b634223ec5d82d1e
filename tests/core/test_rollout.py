"""Replacing generations: whose turn it is, what halts it, and what an operator may do meanwhile."""

import pytest

from supervisor.core.effects import Accepted, Effect, Refused, Signal, Spawn
from supervisor.core.events import (
    AbortRequested,
    Booted,
    Event,
    Exited,
    OperationWish,
    PauseRequested,
    RestartRequested,
    Scope,
    ShutdownRequested,
    Spawned,
    SpawnFailed,
    StopRequested,
    Tick,
    UnpauseRequested,
    Wish,
)
from supervisor.core.exits import ExitStatus
from supervisor.core.host import next_deadline, step
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Phase
from supervisor.core.plan import Backoff, Kind, PoolPlan, RestartRules, RolloutRules
from supervisor.core.state import Operation
from tests.playbook import host_of, running

POOL = Scope("a")
OK, BAD = ExitStatus(code=0), ExitStatus(code=1)


class Rolling:
    """A host whose pool `a` is up, and a clock; the test plays the world."""

    def __init__(
        self, instances: int = 3, *, max_unavailable: int = 1, min_ready: float = 5.0, others: int = 0
    ) -> None:
        rules = RolloutRules(max_unavailable, min_ready, progress_deadline_seconds=90.0)
        slow = RestartRules(backoff=Backoff(initial_seconds=500.0, max_seconds=500.0, jitter=0.0))
        pools = [PoolPlan("a", instances=instances, rollout=rules, restart=slow)]
        pools += [PoolPlan(f"b{index}", rollout=rules, restart=slow) for index in range(others)]
        self.host = running(*pools).host
        self.now = 10.0

    def tell(self, event: Event) -> tuple[Effect, ...]:
        """One event, now."""
        return step(self.host, event, self.now)

    def wait(self, seconds: float) -> list[Effect]:
        """Let time pass, deadline by deadline."""
        until, effects = self.now + seconds, list[Effect]()
        while (moment := next_deadline(self.host)) is not None and moment <= until:
            self.now = max(self.now, moment)
            effects.extend(step(self.host, Tick(), self.now))
        self.now = until
        return effects

    def restart(self, scope: Scope = POOL, name: str = "roll", *, only_failed: bool = False) -> Effect:
        """Ask for a restart; the answer."""
        effects = self.tell(RestartRequested(Wish(scope, name), only_failed))
        return next(effect for effect in effects if isinstance(effect, Accepted | Refused))

    def replace(self, key: InstanceId) -> None:
        """The old process goes, the new one comes and is ready."""
        self.tell(Exited(key, self.one(key).generation, OK))
        self.tell(Spawned(key, self.one(key).generation, 99))
        self.wait(1.0)

    def one(self, key: InstanceId) -> Instance:
        """The instance as it is."""
        return self.host.instances[key]

    @property
    def leaving(self) -> list[InstanceId]:
        """Those that are on their way out."""
        return [key for key, one in self.host.instances.items() if one.stop is not None]

    def operation(self, name: str = "roll") -> Operation:
        """The operation as it is."""
        return self.host.operations[name]


def a(index: int) -> InstanceId:
    """An instance of the pool."""
    return InstanceId("a", index)


def test_one_after_another_each_proven_first() -> None:
    """The next turn begins when the replacement has been ready for min_ready, and not before."""
    roll = Rolling()
    roll.restart()
    for index in range(3):
        assert roll.leaving == [a(index)]
        roll.replace(a(index))
        assert roll.one(a(index)).ready
        assert roll.leaving == []
        roll.wait(4.9)
        assert roll.leaving == []
        roll.wait(0.1)
    assert roll.operation().state == "succeeded"
    assert roll.host.pools["a"].rollout is None
    assert [one.generation for one in roll.host.instances.values()] == [2, 2, 2]


def test_as_many_at_a_time_as_may_be_unavailable() -> None:
    """Two may be unready, so two turns run; one that proves itself still takes its place."""
    roll = Rolling(5, max_unavailable=2)
    roll.restart()
    assert roll.leaving == [a(0), a(1)]
    roll.replace(a(0))
    assert roll.leaving == [a(1)]
    roll.wait(5.0)
    assert roll.leaving == [a(1), a(2)]


def test_one_that_is_down_by_itself_leaves_no_room() -> None:
    """Capacity that failed is missing capacity: the rollout waits for it, and says no at its deadline."""
    roll = Rolling(3)
    roll.tell(Exited(a(2), 1, BAD))
    roll.restart(Scope("a", 0))
    assert roll.leaving == []
    roll.wait(90.0)
    assert roll.operation().state == "failed"
    assert "no progress within 90 s" in roll.operation().message
    assert roll.one(a(0)).generation == 1


def test_the_broken_go_first() -> None:
    """To replace what does not serve costs nothing."""
    roll = Rolling(3)
    roll.tell(Exited(a(2), 1, BAD))
    assert roll.one(a(2)).phase is Phase.BACKOFF
    roll.restart()
    assert roll.one(a(2)).phase is Phase.STARTING
    assert roll.leaving == []
    roll.tell(Spawned(a(2), 2, 99))
    roll.wait(6.0)
    assert roll.leaving == [a(0)]


@pytest.mark.parametrize("how", ["exit", "spawn", "late"])
def test_the_first_that_does_not_stay_ready_halts_it(how: str) -> None:
    """Nobody else is touched, and the message names the one and why."""
    roll = Rolling()
    roll.restart()
    roll.tell(Exited(a(0), 1, OK))
    if how == "spawn":
        roll.tell(SpawnFailed(a(0), 2, "cannot run ./x: no such file"))
    else:
        roll.tell(Spawned(a(0), 2, 99))
        roll.wait(4.0 if how == "late" else 0.5)
        roll.tell(Exited(a(0), 2, BAD))
    assert roll.operation().state == "failed"
    assert "halted: a/0 did not stay ready" in roll.operation().message
    assert "2 left untouched" in roll.operation().message
    roll.wait(400.0)
    assert [roll.one(a(index)).generation for index in (1, 2)] == [1, 1]
    steps = {str(key): state.state for key, state in roll.host.steps["roll"].items()}
    assert steps == {"a/0": "failed", "a/1": "aborted", "a/2": "aborted"}


def test_one_that_is_never_ready_halts_it_as_soon_as_it_is_taken_down() -> None:
    """The verdict is the startup time-out; the rollout does not wait for the end of that stop."""
    roll = Rolling()
    roll.restart()
    roll.tell(Exited(a(0), 1, OK))
    roll.wait(60.0)
    assert roll.operation().state == "failed"
    assert "startup-timeout" in roll.operation().message


def test_one_that_outlives_sigkill_halts_it() -> None:
    """A stuck process keeps its slot, and the rest keeps serving."""
    roll = Rolling()
    roll.restart()
    roll.wait(36.0)
    assert roll.one(a(0)).phase is Phase.STUCK
    assert "outlived SIGKILL" in roll.operation().message


def test_a_stop_of_one_in_its_turn_ends_it() -> None:
    """Stop is above restart: the operator has changed their mind."""
    roll = Rolling()
    roll.restart()
    roll.tell(StopRequested(Wish(Scope("a", 0), "stop")))
    assert roll.operation().state == "aborted"
    assert "a/0 is wanted down now" in roll.operation().message


def test_one_that_is_not_wanted_any_more_is_passed_over() -> None:
    """A stop of one that waits takes it out of the queue, and the others are replaced."""
    roll = Rolling()
    roll.restart()
    roll.tell(StopRequested(Wish(Scope("a", 1), "stop")))
    roll.tell(Exited(a(1), 1, OK))
    roll.replace(a(0))
    roll.wait(5.0)
    assert roll.leaving == [a(2)] or roll.operation().state == "aborted"
    assert roll.host.steps["roll"][a(1)].state == "aborted"


def test_a_repeated_wish_is_the_same_operation() -> None:
    """Whoever asks again is shown the rollout that runs."""
    roll = Rolling()
    assert roll.restart() == Accepted("roll")
    assert roll.restart(name="again") == Accepted("roll")
    refused = roll.restart(Scope("a", 1), name="other")
    assert isinstance(refused, Refused)
    assert refused.kind == "rollout-running"


def test_a_pause_begins_no_new_turn() -> None:
    """The turn under way ends by itself; the progress deadline rests, and counts anew afterwards."""
    roll = Rolling()
    roll.restart()
    assert Accepted("roll") in roll.tell(PauseRequested("roll"))
    assert roll.operation().state == "paused"
    assert Accepted("roll") in roll.tell(PauseRequested("roll"))
    roll.replace(a(0))
    roll.wait(500.0)
    assert roll.leaving == []
    assert next_deadline(roll.host) is None
    roll.tell(UnpauseRequested("roll"))
    assert roll.leaving == [a(1)]
    assert roll.operation().state == "running"


def test_an_abort_leaves_the_rest_alone() -> None:
    """Turns under way end by themselves; a second abort changes nothing; anything else is refused."""
    roll = Rolling()
    roll.restart()
    roll.tell(AbortRequested("roll"))
    assert roll.operation().state == "aborted"
    roll.replace(a(0))
    roll.wait(100.0)
    assert [one.generation for one in roll.host.instances.values()] == [2, 1, 1]
    assert Accepted("roll") in roll.tell(AbortRequested("roll"))
    assert _refusal(roll, PauseRequested("roll")) == "operation-ended"
    assert _refusal(roll, PauseRequested("nope")) == "unknown-operation"
    roll.tell(StopRequested(Wish(Scope("a"), "stop")))
    assert _refusal(roll, AbortRequested("stop")) == "not-a-rollout"


def _refusal(roll: Rolling, event: OperationWish) -> str:
    return next(effect.kind for effect in roll.tell(event) if isinstance(effect, Refused))


def test_the_whole_host_rolls_pool_by_pool_at_once() -> None:
    """One operation; each pool keeps its own limit."""
    roll = Rolling(2, others=1)
    roll.restart(Scope())
    assert roll.leaving == [a(0), InstanceId("b0", 0)]
    roll.replace(a(0))
    roll.replace(InstanceId("b0", 0))
    roll.wait(5.0)
    assert roll.host.pools["b0"].rollout is None
    roll.replace(a(1))
    roll.wait(5.0)
    assert roll.operation().state == "succeeded"


def test_a_failure_in_one_pool_ends_the_restart_of_the_host() -> None:
    """Nobody is touched after a failure, in no pool."""
    roll = Rolling(3, others=2)
    roll.restart(Scope())
    roll.tell(Exited(InstanceId("b0", 0), 1, OK))
    roll.tell(SpawnFailed(InstanceId("b0", 0), 2, "cannot run it"))
    assert roll.operation().state == "failed"
    assert all(pool.rollout is None for pool in roll.host.pools.values())
    assert roll.one(a(1)).generation == 1


def test_only_the_failed() -> None:
    """What serves is not touched; with nothing failed there is nothing to do."""
    roll = Rolling()
    roll.restart(name="none", only_failed=True)
    assert roll.operation("none").state == "succeeded"
    assert roll.operation("none").message == "nothing has failed"
    roll.tell(Exited(a(1), 1, BAD))
    effects = roll.tell(RestartRequested(Wish(Scope("a"), "roll"), only_failed=True))
    assert [effect.instance for effect in effects if isinstance(effect, Spawn)] == [a(1)]
    assert not any(isinstance(effect, Signal) for effect in effects)


def test_a_shutdown_ends_it() -> None:
    """Shutdown is above everything."""
    roll = Rolling()
    roll.restart()
    roll.tell(ShutdownRequested(Wish(Scope(), "end")))
    assert roll.operation().state == "aborted"
    assert roll.operation().message == "the host is shutting down"


def test_a_task_is_replaced_when_it_has_completed() -> None:
    """For what runs to completion, that is what ready means."""
    host = host_of(PoolPlan("t", kind=Kind.TASK, restart=RestartRules()))
    key = InstanceId("t", 0)
    step(host, Booted(), 0.0)
    step(host, Tick(), 0.0)
    step(host, Spawned(key, 1, 10), 0.0)
    step(host, Exited(key, 1, OK), 0.5)
    assert host.instances[key].finished
    step(host, RestartRequested(Wish(Scope("t"), "roll")), 1.0)
    step(host, Spawned(key, 2, 11), 1.0)
    step(host, Exited(key, 2, OK), 1.5)
    assert host.operations["roll"].state == "succeeded"
