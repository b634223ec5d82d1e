"""`wait`: what counts as ready, drained and stopped, and when waiting is pointless."""

import json
from typing import Any

import pytest

from tests.cli.ctl_runs import ctl, on_terminal
from tests.cli.stub_daemon import Moment, Stub, host, instance, last_exit, pool


def change(name: str, **changes: Any) -> Moment:
    """The moment at which an instance changes."""
    return lambda stub: stub.instance(name).update(changes)


def together(*moments: Moment) -> Moment:
    """Several changes in one moment."""

    def moment(stub: Stub) -> None:
        for each in moments:
            each(stub)

    return moment


def well(stub: Stub) -> None:
    """The moment at which everything is up."""
    stub.pool("emails").update(status="healthy")
    stub.status.update(ready=True)


def starting() -> Stub:
    """A daemon whose pool is on its way up."""
    members = [
        instance("emails/0", phase="starting", ready=False, waiting_for="READY=1", deadline_seconds=60.0),
        instance("emails/1"),
    ]
    return Stub(
        host(pool("emails", members, status="starting"), ready=False, reasons=["emails/0 is starting"])
    )


@pytest.mark.parametrize("target", [[], ["emails"], ["emails/0"], ["emails", "emails/1"]])
def test_it_waits_until_ready(target: list[str]) -> None:
    """The host, a pool, an instance: exit 0 as soon as it is ready, and not before."""
    with starting() as stub:
        stub.script = [
            change("emails/0", unready_reason="its readiness probe"),
            together(change("emails/0", phase="running", ready=True), well),
        ]
        result = ctl(stub, "wait", *target)
    lines = result.stdout.splitlines()
    assert lines[-1] == f"✓ {(target or ['shop'])[-1]} ready"
    assert "emails/0 starting: generation 1, waiting for READY=1" in lines or target == ["emails/1"]
    assert result.exit_code == 0


def test_what_is_ready_already_needs_no_wait() -> None:
    """One request, one line."""
    with Stub() as stub:
        result = ctl(stub, "wait", "emails")
        assert len(stub.asked) == 1
    assert result.stdout == "✓ emails ready\n"


@pytest.mark.parametrize(
    ("word", "goal"), [("drained", "drained"), ("stopped", "down"), ("stopped", "drained")]
)
def test_it_waits_until_gone(word: str, goal: str) -> None:
    """Drained is stopped by a drain; stopped is either."""
    with Stub() as stub:
        stub.script = [
            together(
                *(change(f"emails/{index}", phase="draining", goal=goal, ready=False) for index in range(2))
            ),
            change("emails/0", phase="stopped"),
            change("emails/1", phase="stopped"),
        ]
        result = ctl(stub, "wait", "emails", "--for", word)
        assert not stub.script
    assert result.stdout.splitlines()[-1] == f"✓ emails {word}"
    assert result.exit_code == 0


def test_stopped_is_not_drained() -> None:
    """A stop does not count as a drain."""
    with Stub() as stub:
        for index in range(2):
            stub.instance(f"emails/{index}").update(phase="stopped", goal="down", ready=False)
        result = ctl(stub, "wait", "emails", "--for", "drained", "--timeout", "50ms")
    assert result.exit_code == 1


def test_a_timeout_says_what_is_missing() -> None:
    """Exit 1, with the instances that are not there and why."""
    with starting() as stub:
        result = ctl(stub, "wait", "--timeout", "100ms")
    assert result.stdout.splitlines()[-2:] == [
        "✗ emails not ready after 0s",
        "  emails/0 starting: waiting for READY=1",
    ]
    assert result.exit_code == 1


def test_what_has_failed_for_good_is_not_waited_for() -> None:
    """Exit 1 at once, although no time-out was given."""
    with starting() as stub:
        stub.script = [change("emails/0", phase="failed", last_exit=last_exit("exit 78"))]
        result = ctl(stub, "wait", "emails")
    assert (
        "  emails/0 has failed for good (exit 78); pitbossctl restart --failed emails/0 tries again"
        in result.stdout
    )
    assert result.exit_code == 1


def test_what_an_operator_took_down_does_not_become_ready() -> None:
    """Exit 1 at once, with the way back."""
    members = [instance("emails/0", phase="stopped", goal="drained", ready=False)]
    with Stub(host(pool("emails", members, goal="drained", status="drained"), ready=False)) as stub:
        result = ctl(stub, "wait", "emails")
    assert "an operator has drained emails; pitbossctl resume emails brings it back" in result.stdout
    assert result.exit_code == 1


def test_one_drained_instance_does_not_end_the_wait_for_its_pool() -> None:
    """The pool becomes ready without it."""
    with starting() as stub:
        stub.instance("emails/1").update(phase="stopped", goal="drained", ready=False)
        stub.script = [together(change("emails/0", phase="running", ready=True), well)]
        assert ctl(stub, "wait", "emails").exit_code == 0


def test_the_host_is_ready_without_pools_that_are_not_critical() -> None:
    """As /readyz has it."""
    members = [instance("extra/0", phase="failed", ready=False)]
    extra = pool("extra", members, status="unhealthy", critical=False)
    with Stub(host(pool("emails", [instance("emails/0")]), extra)) as stub:
        assert ctl(stub, "wait").exit_code == 0
        assert ctl(stub, "wait", "extra").exit_code == 1


def test_a_task_that_has_run_is_ready() -> None:
    """Completed counts as ready, for the pool and for its instance."""
    members = [instance("migrate/0", phase="stopped", ready=False)]
    with Stub(host(pool("migrate", members, status="completed", kind="task"))) as stub:
        assert ctl(stub, "wait", "migrate", "migrate/0").exit_code == 0


def test_as_json_it_says_what_is_pending() -> None:
    """One document, no progress."""
    with starting() as stub:
        result = ctl(stub, "wait", "emails", "--json", "--timeout", "100ms")
    assert json.loads(result.stdout) == {
        "for": "ready",
        "reached": False,
        "pending": ["emails"],
        "reason": None,
    }
    assert result.exit_code == 1


def test_on_a_terminal_it_moves_and_ctrl_c_ends_it() -> None:
    """A frame with what is missing; exit 130, and the cursor is back."""
    with starting() as stub:
        shown = on_terminal(stub, "wait", "emails", press=("waiting for READY=1", b"\x03"))
    assert "wait emails → ready" in shown.text
    assert "1/2 done" in shown.text
    assert shown.output.rindex("\x1b[?25h") > shown.output.rindex("\x1b[?25l")
    assert shown.exit_code == 130
