"""Waits that are broken off: Ctrl-C, a daemon that restarts, forgets, hangs up or ends as it was asked to."""

import signal

import pytest

from tests.cli.ctl_moments import emails, gone, rung
from tests.cli.ctl_runs import command, ctl
from tests.cli.stub_daemon import succeed


def test_ctrl_c_ends_the_wait_and_not_the_operation() -> None:
    """Exit 130; says that it goes on, and how to follow it."""
    with emails() as stub:
        stub.on["drain emails"] = [rung("emails/0", "draining", "drain", 600.0)]
        process = command(stub, "drain", "emails")
        assert process.stdout is not None
        assert process.stdout.readline() == "drain emails: 2 instances, operation op-1\n"
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines() == [
        "pitbossctl: drain emails goes on, 0 of 2 done",
        "  follow it again: pitbossctl operations op-1 --wait",
    ]


def test_a_daemon_that_restarts_meanwhile_is_followed_again() -> None:
    """Its revision counts from the start again; the operation is still known."""
    with emails() as stub:
        stub.on["drain emails"] = [
            lambda now: now.status.update(revision=1000),
            lambda now: now.status.update(revision=1001),
            gone("emails/0"),
            succeed("op-1"),
        ]
        assert ctl(stub, "drain", "emails").exit_code == 0


def test_a_daemon_that_forgot_the_operation_is_an_error() -> None:
    """Unknown operation: exit 2 would be the user's fault, but the wait ends anyway with the reason."""
    with emails() as stub:
        stub.on["drain emails"] = [lambda now: now.operations.clear()]
        result = ctl(stub, "drain", "emails")
    assert "there is no operation op-1" in result.stderr
    assert result.exit_code != 0


def test_shutdown_is_reached_when_the_daemon_is_gone() -> None:
    """No answer any more is the goal here, not an error."""
    with emails() as stub:
        stub.on["shutdown host"] = [rung("emails/0", "stopping", "stage-1", 25.0)]
        process = command(stub, "shutdown")
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdout.readline().startswith("emails/0 stopping: stage-1")
        stub.close()
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "shop is down: pitbossd has ended after" in output


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # httpcore's, of a refused connect
def test_shutdown_waits_until_the_daemon_hangs_up() -> None:
    """Its operation ends first; another daemon may be started only when this one is gone."""
    with emails() as stub:
        stub.on["shutdown host"] = [succeed("op-1"), lambda now: now.close()]
        result = ctl(stub, "shutdown")
        assert not stub.script
    assert "✓ host down: 3 of 3 instances, 12s" in result.stdout
    assert result.exit_code == 0


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # httpcore's, of a refused connect
def test_losing_the_daemon_is_exit_69(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other wait ends with what is known and what to do."""
    monkeypatch.setattr("supervisor.cli.ctl.follow.LOST_SECONDS", 0.5)
    with emails() as stub:
        stub.on["drain emails"] = [lambda now: now.close()]
        result = ctl(stub, "drain", "emails")
    assert result.exit_code == 69
    assert "cannot follow the operation any further" in result.stderr
    assert "pitbossd does not answer; trying again" in result.stdout
