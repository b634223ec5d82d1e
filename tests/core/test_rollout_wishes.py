"""What operators may do about a rollout: pause, abort, drain, stop, repeat, and the shutdown above all."""

from typing import Any

import pytest

from supervisor.core.events import (
    AbortRequested,
    DrainRequested,
    Exited,
    PauseRequested,
    RestartRequested,
    ShutdownRequested,
    StopRequested,
    UnpauseRequested,
)
from supervisor.core.host import next_deadline
from supervisor.core.plan import (
    PoolPlan,
)
from supervisor.core.state import OperationState
from tests.core.rollout_turns import BAD, OK, ends, goes, ready, web
from tests.playbook import named, running, wish


def test_it_may_be_paused_for_as_long_as_it_takes() -> None:
    """No new turn begins, nothing wakes the daemon, and the progress deadline starts anew afterwards."""
    book = goes(running(web(2, progress=60)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> PauseRequested("op1") << "accepted op1" >> PauseRequested("op1") << "accepted op1"
    ready(ends(book, "web/0"), "web/0")
    book.until(15)
    assert next_deadline(book.host) is None
    book.at(5000)
    assert book.host.operations["op1"].state == "paused"
    goes(book >> UnpauseRequested("op1"), "web/1") << "accepted op1"
    assert book
    rollout = book.host.pools["web"].rollout
    assert rollout is not None
    assert rollout.progress_by == 5060
    assert book.host.operations["op1"].state == "running"


def test_a_turn_that_fails_while_paused_halts_it() -> None:
    """Pause holds back new turns, not the truth."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> PauseRequested("op1") << "accepted op1"
    ends(book, "web/0") >> Exited(named("web/0"), 2, BAD) << "web/0 starting > backoff (exit)"
    assert book
    assert book.host.operations["op1"].state is OperationState.FAILED


def test_a_host_wide_restart_is_paused_everywhere() -> None:
    """One operation, all its pools; pools of other operations are let be."""
    book = running(web(2), PoolPlan("other", instances=2), PoolPlan("third", instances=2))
    book >> RestartRequested(wish("third", "op0"))
    book << "third/0 running > stopping (restart, stage-1)" << "SIGTERM main third/0#1" << "accepted op0"
    book >> RestartRequested(wish("web")) << "web/0 running > stopping (restart, stage-1)"
    book << "SIGTERM main web/0#1" << "accepted op1" >> PauseRequested("op1") << "accepted op1"
    states = {name: pool.rollout.state for name, pool in book.host.pools.items() if pool.rollout}
    assert states == {"web": "paused", "third": "running"}
    assert book


def test_an_abort_lets_turns_end_and_begins_no_more() -> None:
    """What is away comes back; who has not had a turn keeps its generation."""
    book = goes(running(web(3)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> AbortRequested("op1") << "accepted op1" >> AbortRequested("op1") << "accepted op1"
    ready(ends(book, "web/0"), "web/0")
    assert book.until(600)
    assert book.host.operations["op1"].state is OperationState.ABORTED
    assert book.instance("web/1").generation == 1


def test_an_abort_leaves_other_rollouts_alone() -> None:
    """Two pools, two operations."""
    book = running(web(2), PoolPlan("other"))
    goes(book >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    goes(book >> RestartRequested(wish("other", "op2")), "other/0") << "accepted op2"
    assert book >> AbortRequested("op1") << "accepted op1"
    assert book.host.pools["other"].rollout is not None


@pytest.mark.parametrize(("verb", "goal"), [(DrainRequested, "drained"), (StopRequested, "down")])
def test_a_drain_and_a_stop_go_before_a_restart(verb: Any, goal: str) -> None:
    """An instance whose turn it is and that is wanted away ends the rollout, which has not failed by that."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> verb(wish("web/0", "op2")) << "accepted op2"
    assert book
    assert book.host.operations["op1"].state is OperationState.ABORTED
    assert book.host.operations["op1"].message == f"halted: web/0 is wanted {goal} now; 1 left untouched"


def test_who_is_wanted_away_has_no_turn() -> None:
    """Its step is aborted, and the others have theirs."""
    book = goes(running(web(3)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> StopRequested(wish("web/1", "op2")) << "web/1 running > stopping (stop, stage-1)"
    book << "SIGTERM main web/1#1" << "accepted op2"
    book >> Exited(named("web/1"), 1, OK) << "web/1 stopping > stopped (exit)" << "operation op2"
    ready(ends(book, "web/0"), "web/0")
    goes(book.until(15), "web/2")
    ready(ends(book, "web/2"), "web/2").until(20) << "operation op1"
    assert book
    assert book.host.steps["op1"][named("web/1")].state == "aborted"
    operation = book.host.operations["op1"]
    assert (operation.state, operation.message) == (OperationState.ABORTED, "web/1: it is wanted down")


def test_a_repeated_wish_is_the_same_operation() -> None:
    """Whoever asks again is shown the rollout that runs; another one of the same pool is refused."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> RestartRequested(wish("web", "op2")) << "accepted op1"
    assert book >> RestartRequested(wish("web/1", "op3")) << "refused rollout-running"


def test_what_cannot_be_steered_is_refused() -> None:
    """Only a rollout that is under way can be paused or aborted."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> AbortRequested("op1") << "accepted op1"
    book >> PauseRequested("op1") << "refused operation-ended"
    book >> PauseRequested("nope") << "refused unknown-operation"
    book >> StopRequested(wish("web/1", "op2")) << "web/1 running > stopping (stop, stage-1)"
    book << "SIGTERM main web/1#1" << "accepted op2"
    assert book >> AbortRequested("op2") << "refused not-a-rollout"


def test_a_shutdown_goes_before_everything() -> None:
    """The rollout is over; what it took away does not come back."""
    book = goes(running(web(2)) >> RestartRequested(wish("web")), "web/0") << "accepted op1"
    book >> ShutdownRequested(wish("", "op2")) << "web/1 running > stopping (shutdown, stage-1)"
    book << "SIGTERM main web/1#1" << "accepted op2"
    book >> Exited(named("web/0"), 1, OK) << "web/0 stopping > stopped (exit)"
    assert book
    assert book.host.operations["op1"].message == "the host is shutting down"


def test_with_nothing_failed_there_is_nothing_to_do() -> None:
    """What serves is not touched."""
    book = running(web(2)) >> RestartRequested(wish("web"), only_failed=True) << "accepted op1"
    assert book
    operation = book.host.operations["op1"]
    assert (operation.state, operation.message) == (OperationState.SUCCEEDED, "nothing has failed")


def test_whoever_has_failed_is_tried_at_once() -> None:
    """Backoff and earlier failures do not count for an operator's restart."""
    book = running(web(2)) >> Exited(named("web/1"), 1, BAD) << "web/1 running > backoff (exit)"
    book >> RestartRequested(wish("web"), only_failed=True) << "web/1 backoff > pending (restart)"
    book << "accepted op1" << "spawn web/1#2 (restart)" << "web/1 pending > starting (restart)"
    assert book
    assert book.host.operations["op1"].total == 1
