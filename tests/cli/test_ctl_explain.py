"""`explain` and `operations`: the story of one thing, and of what was asked for."""

import json
from typing import Any

import pytest

from tests.cli.ctl_runs import ctl
from tests.cli.stub_daemon import Stub, host, instance, last_exit, pool, succeed
from tests.cli.test_ctl_status import shop

BACKOFF = """\
✗ emails/2 is in backoff, not up yet

  goal         up
  phase        backoff for 3s, until 12s from now at the latest
  waiting for  its next attempt
  ready        no
  process      none, generation 7, 6 restarts, 6 failures in a row
  last exit    exit 1, 3s ago after running for 0s (failure, generation 1)
  last output  │ Traceback
               │ ValueError: no

What happens next
  It starts again in 12s, as generation 8. Each further failure makes the wait
  longer, up to a cap.

What you can do
  pitbossctl start emails/2  starts it at once instead of after the wait
  pitbossctl stop emails/2   gives it a rest: no more attempts
"""


def test_a_crash_loop_is_explained() -> None:
    """Why, since when, until when, the last lines, what follows and what helps; fits eighty columns."""
    with Stub(shop()) as stub:
        result = ctl(stub, "explain", "emails/2")
    assert result.stdout == BACKOFF
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "Nothing: it is up, ready, and may get work."),
        ({"ready": False, "unready_reason": "refused"}, "It gets no work until it is ready again"),
        (
            {"phase": "pending", "waiting_for": "db to be ready"},
            "It starts as soon as this holds: db to be ready.",
        ),
        (
            {"phase": "starting", "waiting_for": "READY=1", "deadline_seconds": 9.0},
            "longer than 9s, it is stopped",
        ),
        ({"phase": "draining", "stage": "settle"}, "so that load balancers can notice"),
        ({"phase": "draining", "stage": "drain", "deadline_seconds": 9.0}, "at the latest in 9s."),
        ({"phase": "draining", "stage": "hold"}, "It stays until the pools that depend on it are gone"),
        (
            {"phase": "stopping", "stage": "stage-2", "stage_signal": "SIGTERM", "stage_target": "all"},
            "SIGTERM went to every process of its tree",
        ),
        ({"phase": "stopping", "stage": "kill"}, "SIGKILL went to the whole tree"),
        ({"phase": "stopping", "stage": "sweep"}, "what it left behind was told to terminate"),
        ({"phase": "stopping", "stage": "new-rung"}, "It is on its way down."),
        ({"phase": "failed"}, "Nothing by itself: it has given up"),
        ({"phase": "stuck"}, "hangs in the kernel"),
        ({"phase": "stopped", "goal": "drained"}, "an operator drained it"),
        ({"phase": "stopped", "goal": "down"}, "an operator stopped it"),
        ({"phase": "levitating"}, "this daemon is newer than this pitbossctl"),
    ],
)
def test_each_phase_has_its_next_step(changes: dict[str, Any], told: str) -> None:
    """And a command wherever one helps."""
    one = instance("emails/0", **({"ready": "phase" not in changes} | changes))
    with Stub(host(pool("emails", [one]))) as stub:
        result = ctl(stub, "explain", "emails/0", columns=200)
    assert told in result.stdout
    assert result.exit_code == 0


def test_a_pool_is_explained_with_what_it_depends_on() -> None:
    """Reasons, dependencies and their state, and the instances that are not well."""
    web = pool(
        "web",
        [instance("web/0", phase="pending", ready=False, waiting_for="db to be ready", pid=None)],
        status="starting",
        reasons=["web/0 is pending, waiting for db to be ready"],
        depends_on={"db": "ready"},
    )
    with Stub(host(pool("db", [instance("db/0", ready=False)], status="degraded"), web)) as stub:
        text = ctl(stub, "explain", "web").stdout
    assert "depends on   db to be ready; it is degraded, 0/1 ready" in text
    assert "reasons      web/0 is pending, waiting for db to be ready" in text
    assert "web/0  pending" in text
    assert "pitbossctl explain web/0" in text


def test_what_is_stuck_is_said_of_its_pool_too() -> None:
    """Who asked for the end is no help where the end does not come."""
    web = pool(
        "web", [instance("web/0", phase="stuck", ready=False, goal="down")], status="unhealthy", goal="down"
    )
    with Stub(host(web)) as stub:
        text = " ".join(ctl(stub, "explain", "web").stdout.split())
    assert "web/0 outlived SIGKILL: only the kernel can end it" in text
    assert "pitbossctl explain web/0" in text
    assert "pitbossctl start" not in text


def test_everything_is_explained_pool_by_pool() -> None:
    """--all: one section for each pool; as JSON a list."""
    with Stub(shop()) as stub:
        text = ctl(stub, "explain", "--all").stdout
        documents = json.loads(ctl(stub, "explain", "--all", "--json").stdout)
        one = json.loads(ctl(stub, "explain", "emails/2", "--json").stdout)
    assert text.count("What happens next") == 4
    assert [each["target"] for each in documents] == ["api", "emails", "migrate", "reports"]
    assert one["commands"][0]["command"] == "pitbossctl start emails/2"


def test_leftovers_and_the_rung_are_told() -> None:
    """What ended it, and what it left behind."""
    done = last_exit("SIGKILL", "signal", rung="kill", leftovers=3, generation=2)
    one = instance("emails/0", phase="stopped", goal="down", ready=False, pid=None, last_exit=done)
    with Stub(host(pool("emails", [one]))) as stub:
        text = ctl(stub, "explain", "emails/0").stdout
    assert "ended by the stop, on the rung kill" in text
    assert "it left 3 processes behind; they were swept" in text


def test_operations_are_listed_and_shown() -> None:
    """Newest first; with an id its steps; a failed one is exit 1."""
    with Stub() as stub:
        stub.accept("drain", "emails", {})
        stub.accept("restart", "emails", {})
        stub.operation("op-2", state="failed", message="emails/0: not ready within 60 s")
        succeed("op-1", "exit 0 on drain")(stub)
        listed = ctl(stub, "operations")
        shown = ctl(stub, "operations", "op-1")
        failed = ctl(stub, "operations", "show", "op-2")
        as_json = ctl(stub, "operations", "--json")
    lines = listed.stdout.splitlines()
    assert lines[0].split() == ["ID", "KIND", "TARGET", "STATE", "DONE", "AGE", "TOOK", "BY"]
    assert [line.split()[0] for line in lines[1:]] == ["op-2", "op-1"]
    assert max(map(len, lines)) <= 80
    assert shown.stdout.splitlines()[0] == "drain emails  succeeded  2/2 done, took 12s"
    assert "  emails/0  done    exit 0 on drain" in shown.stdout
    assert (listed.exit_code, shown.exit_code, failed.exit_code) == (0, 0, 1)
    assert [one["id"] for one in json.loads(as_json.stdout)["operations"]] == ["op-2", "op-1"]


@pytest.mark.parametrize(
    ("action", "state"), [("pause", "paused"), ("abort", "aborted"), ("resume", "running")]
)
def test_a_rollout_can_be_steered(action: str, state: str) -> None:
    """Exit 0: what was asked for has happened."""
    with Stub() as stub:
        stub.accept("restart", "emails", {})
        result = ctl(stub, "operations", action, "op-1")
        assert stub.asked == [("POST", f"/v1/operations/op-1/{action}", {})]
    assert result.stdout.startswith(f"restart emails  {state}")
    assert result.exit_code == 0


def test_an_operation_can_be_followed_again() -> None:
    """--wait ends as the verb itself would have ended."""
    with Stub() as stub:
        stub.accept("drain", "emails", {})
        result = ctl(stub, "operations", "op-1", "--wait")
    assert "✓ emails drained: 2 of 2 instances, 12s" in result.stdout
    assert result.exit_code == 0


@pytest.mark.parametrize("words", [["pause"], ["pause", "a", "b"], ["--wait"], ["show", "a", "b"]])
def test_operations_refuses_what_makes_no_sense(words: list[str]) -> None:
    """Usage: exit 2."""
    with Stub() as stub:
        assert ctl(stub, "operations", *words).exit_code == 2


def test_an_unknown_operation_is_exit_2() -> None:
    """A wrong name, like any other."""
    with Stub() as stub:
        result = ctl(stub, "operations", "op-9")
    assert "there is no operation op-9" in result.stderr
    assert result.exit_code == 2
