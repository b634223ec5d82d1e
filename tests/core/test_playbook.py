"""The language of the conversations itself: what it lets pass, and what it tells when it does not."""

import pytest

from supervisor.core.effects import Cause, Spawn
from supervisor.core.events import Booted, Exited
from supervisor.core.exits import ExitStatus
from supervisor.core.plan import PoolPlan
from tests.playbook import Playbook, host_of, named, running

WEB = named("web/0")


def test_a_conversation_that_is_told_in_full_is_true() -> None:
    """Effects may be stated as values or as sentences."""
    assert (
        (Playbook(host_of(PoolPlan("web"))) >> Booted()).until(0)
        << Spawn(WEB, 1, Cause.BOOT)
        << "web/0 pending > starting (boot)"
    )


def test_an_act_that_was_not_stated_fails() -> None:
    """Nothing is done behind the test's back."""
    book = (Playbook(host_of(PoolPlan("web"))) >> Booted()).until(0)
    with pytest.raises(AssertionError, match=r"unstated: spawn web/0#1 \(boot\)"):
        assert book


def test_an_unstated_act_fails_at_the_next_event() -> None:
    """Each answer is told before the next event."""
    book = (Playbook(host_of(PoolPlan("web"))) >> Booted()).until(0)
    with pytest.raises(AssertionError, match="unstated: spawn"):
        book >> Booted()
    with pytest.raises(AssertionError, match="unstated: spawn"):
        book.until(1)


def test_what_does_not_come_fails_with_the_transcript() -> None:
    """The story so far is told, one line a move, and what was left of the answer."""
    book = (Playbook(host_of(PoolPlan("web"))) >> Booted()).until(0)
    with pytest.raises(AssertionError) as told:
        book << "kill web/0#1"
    lines = str(told.value).splitlines()
    assert lines[0] == "expected kill web/0#1, got spawn web/0#1 (boot)"
    assert lines[1] == "    0.000 >> Booted()"
    assert lines[-2].strip() == "? << spawn web/0#1 (boot)"


def test_a_report_may_be_skipped_but_not_invented() -> None:
    """Reports beside the point need no line; one that is stated must come."""
    book = running(PoolPlan("web"))
    book >> Exited(WEB, 1, ExitStatus(code=1)) << "web/0#1 ended failure (exit 1)"
    with pytest.raises(AssertionError, match="expected web/0 ready, got web/0 running > backoff"):
        book << "web/0 ready"
    assert book << "web/0 running > backoff (exit)"
    with pytest.raises(AssertionError, match="expected web/0 ready, got nothing"):
        book << "web/0 ready"
    book = running(PoolPlan("web")) >> Exited(WEB, 1, ExitStatus(code=1))
    with pytest.raises(AssertionError, match="expected kill web/0#1, got web/0 running > backoff"):
        book << "kill web/0#1"


def test_time_never_goes_back() -> None:
    """A conversation is told in order."""
    with pytest.raises(AssertionError, match="time goes back"):
        running(PoolPlan("web")).at(3)


def test_an_endless_conversation_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that is due again and again is a failure, not a test that hangs."""
    book = running(PoolPlan("web"))
    monkeypatch.setattr("tests.playbook.next_deadline", lambda host: 10.0)
    with pytest.raises(AssertionError, match="more than 1000 ticks"):
        book.until(11)


def test_the_cast_is_up_at_the_moment_asked_for() -> None:
    """`running` takes no longer than it says."""
    with pytest.raises(AssertionError, match="until everybody is ready"):
        running(PoolPlan("web", min_uptime_seconds=60), now=10)
    assert running(PoolPlan("web")).instance("web/0").pid == 100
